// Gradients of depthwise convolutions for channels-last float32 tensors: x (batch, rows, columns, channels), one
// kernel of K x K taps a channel. PyTorch's own take 5 to 50 times longer where the convolution is dilated or 5x5.
//
// Vectors of N channels (16, 8, 4 or 1, by the processor) stay in registers over a whole image; where the channels are no multiple of
// N, the last vector overlaps the one before it and computes the same sums again. Plain C++ with GCC's and Clang's
// vector types, compiled for three instruction sets, of which the best is chosen when the library is loaded.

#include <cstdint>
#include <cstring>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads() { return 1; }
static int omp_get_thread_num() { return 0; }
#endif

struct Shape {
  int64_t batch, channels, rows, columns, out_rows, out_columns, stride, dilation, padding;
};

#define INSTRUCTIONS plain
#define INLINE static inline
#define WIDEST 4
#include "loops.h"
#undef INSTRUCTIONS
#undef INLINE
#undef WIDEST

#if defined(__x86_64__)
#define INSTRUCTIONS avx2
#define INLINE __attribute__((target("avx2,fma"))) static inline
#define WIDEST 8
#include "loops.h"
#undef INSTRUCTIONS
#undef INLINE
#undef WIDEST
#define INSTRUCTIONS avx512
#define INLINE __attribute__((target("avx512f,avx512vl,avx2,fma"))) static inline
#define WIDEST 16
#include "loops.h"

static int best() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return 2;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
}
static const int BEST = best();
#define DISPATCH(name, ...)                                                                                            \
  (BEST == 2 ? avx512::name(__VA_ARGS__) : BEST == 1 ? avx2::name(__VA_ARGS__) : plain::name(__VA_ARGS__))
#else
#define DISPATCH(name, ...) plain::name(__VA_ARGS__)
#endif

extern "C" {

// dw (K, K, channels) from x and the output's gradient g; the sums of threads are added in their order.
void depthwise_weight_gradient(const float *x, const float *g, float *dw, int K, const int64_t *shape) {
  Shape s;
  memcpy(&s, shape, sizeof s);
  const int threads = omp_get_max_threads();
  const int64_t size = K * K * s.channels;
  std::vector<float> parts(threads * size, 0.0f);
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++)
    DISPATCH(weight_gradient, s, K, x, g, parts.data() + t * size, s.batch * t / threads, s.batch * (t + 1) / threads);
  for (int64_t i = 0; i < size; i++) {
    float sum = 0.0f;
    for (int t = 0; t < threads; t++) sum += parts[t * size + i];
    dw[i] = sum;
  }
}

// dx (batch, rows, columns, channels) from g and the weight (K, K, channels).
void depthwise_input_gradient(const float *g, const float *weight, float *dx, int K, const int64_t *shape) {
  Shape s;
  memcpy(&s, shape, sizeof s);
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < s.batch; b++) DISPATCH(input_gradient, s, K, g, weight, dx, b, b + 1);
}
}
