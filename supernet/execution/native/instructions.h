// Includes the loops of LOOPS once for each instruction set, of which DISPATCH takes the best when the library is loaded.
// In LOOPS, INSTRUCTIONS names the set, INLINE has its target and WIDEST is how many floats its registers hold.
// (Compilers lower vector types before they inline, so every function needs the target.)

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads() { return 1; }
#endif

struct Shape {
  int64_t batch, channels, rows, columns, out_rows, out_columns, stride, dilation, padding;
};

// What becomes of a separable convolution's dx: it is added to what is there; the ReLU's derivative is left to others.
enum { ADDED = 1, UNMASKED = 2 };

// Floats from the start of a cache line on: aligned vectors cross none.
struct alignas(64) Line {
  float numbers[16];
};
struct Buffer {
  std::vector<Line> lines;
  explicit Buffer(int64_t floats) : lines((floats + 15) / 16, Line()) {}
  float *data() { return lines.empty() ? nullptr : lines[0].numbers; }
};

#define INSTRUCTIONS plain
#define INLINE static inline
#define WIDEST 4
#include "vectors.h"
#include LOOPS
#undef INSTRUCTIONS
#undef INLINE
#undef WIDEST

#if defined(__x86_64__)
#define INSTRUCTIONS avx2
#define INLINE __attribute__((target("avx2,fma"))) static inline
#define WIDEST 8
#include "vectors.h"
#include LOOPS
#undef INSTRUCTIONS
#undef INLINE
#undef WIDEST
#define INSTRUCTIONS avx512
#define INLINE __attribute__((target("avx512f,avx512vl,avx2,fma"))) static inline
#define WIDEST 16
#include "vectors.h"
#include LOOPS

static int best() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return 2;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
}
static const int BEST = best();
#define DISPATCH(name, ...)                                                                                            \
  (BEST == 2 ? avx512::name(__VA_ARGS__) : BEST == 1 ? avx2::name(__VA_ARGS__) : plain::name(__VA_ARGS__))
#else
static const int BEST = 0;
#define DISPATCH(name, ...) plain::name(__VA_ARGS__)
#endif
