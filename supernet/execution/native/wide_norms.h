// Sums over pixels and sums of norms for any number of channels, for passes.cpp.

namespace INSTRUCTIONS {

// Numbers of channels repeat after `period` vectors: repeats of (channels,) values as they lie in memory.
template <int N> INLINE int64_t period(int64_t channels) {
  int64_t vectors = 1;
  while (vectors * N % channels) vectors++;
  return vectors;
}

template <int N> INLINE std::vector<float> repeated(const float *values, int64_t channels) {
  std::vector<float> all(period<N>(channels) * N);
  for (size_t i = 0; i < all.size(); i++) all[i] = values[i % channels];
  return all;
}

template <int N, int VECTORS>
INLINE void moments_block(const float *x, const float *g, const float *at, int64_t pitch, int64_t rows, double *first,
                          double *second) {
  typename Vector<N>::type centre[VECTORS], one[VECTORS] = {}, two[VECTORS] = {};
  for (int v = 0; v < VECTORS; v++) centre[v] = load<N>(at + v * N);
  for (int64_t row = 0; row < rows; row++)
    for (int v = 0; v < VECTORS; v++) {
      const int64_t i = row * pitch + v * N;
      const auto d = load<N>(x + i) - centre[v], weight = g ? load<N>(g + i) : d;
      one[v] += weight;
      two[v] += weight * d;
    }
  for (int v = 0; v < VECTORS; v++)
    for (int lane = 0; lane < N; lane++) {
      first[v * N + lane] += one[v][lane];
      second[v * N + lane] += two[v][lane];
    }
}

// As moments in narrow.h.
template <int N>
INLINE void wide_moments(int64_t C, const float *x, const float *g, const float *at, double *sums, int64_t from,
                         int64_t to) {
  const std::vector<float> centre = repeated<N>(at, C);
  const int64_t vectors = period<N>(C), pitch = vectors * N;
  std::vector<double> first(pitch, 0.0), second(pitch, 0.0);
  while (from + pitch <= to) {  // not too many numbers in one sum of floats, and those in the nearest cache
    const int64_t rows = std::min((to - from) / pitch, std::max<int64_t>(1, 8192 / pitch));
    for (int64_t v = 0, width; v < vectors; v += width) {
      width = vectors - v < 4 ? 1 : 4;
      const float *at_x = x + from + v * N, *at_g = g ? g + from + v * N : nullptr;
      if (width == 4) moments_block<N, 4>(at_x, at_g, &centre[v * N], pitch, rows, &first[v * N], &second[v * N]);
      else moments_block<N, 1>(at_x, at_g, &centre[v * N], pitch, rows, &first[v * N], &second[v * N]);
    }
    from += rows * pitch;
  }
  for (int64_t i = 0; i < pitch; i++) sums[i % C] += first[i], sums[C + i % C] += second[i];
  for (int64_t c = 0; from < to; from++, c = (c + 1) % C) {
    const float d = x[from] - at[c], weight = g ? g[from] : d;
    sums[c] += weight;
    sums[C + c] += weight * d;
  }
}

// As linear in narrow.h.
template <int N>
INLINE void wide_linear(int64_t C, const float *x, const float *g, const float *abc, float *out, int64_t from,
                        int64_t to) {
  const std::vector<float> a = repeated<N>(abc, C), b = repeated<N>(abc + C, C), c = repeated<N>(abc + 2 * C, C);
  const int64_t pitch = a.size();
  int64_t i = from;
  for (; i + pitch <= to; i += pitch)
    for (int64_t v = 0; v < pitch; v += N)
      store<N>(out + i + v,
               load<N>(x + i + v) * load<N>(&a[v]) + (load<N>(g + i + v) * load<N>(&b[v]) + load<N>(&c[v])));
  for (int64_t k = 0; i < to; i++, k = (k + 1) % C) out[i] = x[i] * a[k] + g[i] * b[k] + c[k];
}

// As total in narrow.h.
template <int N>
INLINE void wide_total(int64_t C, const float *const *xs, int number, const float *slopes, const float *level,
                       float *out, int64_t from, int64_t to) {
  const std::vector<float> base = repeated<N>(level, C);
  const int64_t pitch = base.size();
  std::vector<float> a(number * pitch);
  for (int64_t n = 0; n < number; n++)
    for (int64_t i = 0; i < pitch; i++) a[n * pitch + i] = slopes[n * C + i % C];
  int64_t i = from;
  for (; i + pitch <= to; i += pitch)
    for (int64_t v = 0; v < pitch; v += N) {
      auto sum = load<N>(&base[v]);
      for (int n = 0; n < number; n++) sum += load<N>(xs[n] + i + v) * load<N>(&a[n * pitch + v]);
      store<N>(out + i + v, sum);
    }
  for (int64_t k = 0; i < to; i++, k = (k + 1) % C) {
    out[i] = base[k];
    for (int n = 0; n < number; n++) out[i] += xs[n][i] * a[n * pitch + k];
  }
}

}  // namespace INSTRUCTIONS
