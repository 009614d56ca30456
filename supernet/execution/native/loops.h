// The loops of depthwise.cpp, written once and included once for each instruction set (instructions.h).

namespace INSTRUCTIONS {

// One output column at the image's border: taps outside the image are left out.
template <int N, int K>
INLINE void weight_border(const Shape &s, const float *line, const float *slope, typename Vector<N>::type *sums,
                          int64_t column) {
  const auto gradient = load<N>(slope + column * s.channels);
  for (int j = 0; j < K; j++) {
    const int64_t w = column * s.stride - s.padding + j * s.dilation;
    if (w >= 0 && w < s.columns) sums[j] += load<N>(line + w * s.channels) * gradient;
  }
}

// Adds one image's share of the weight gradient for channels c .. c + N to sums[tap].
template <int N, int K>
INLINE void weight_image(const Shape &s, const float *x, const float *g, typename Vector<N>::type *sums) {
  const int64_t C = s.channels, W = s.columns;
  for (int64_t row = 0; row < s.out_rows; row++) {
    const int64_t top = row * s.stride - s.padding;
    for (int i = 0; i < K; i++) {
      const int64_t h = top + i * s.dilation;
      if (h < 0 || h >= s.rows) continue;
      // Output columns whose K taps all lie inside the image; the few others are treated one tap at a time.
      const int64_t reach = (K - 1) * s.dilation - s.padding;
      int64_t low = (s.padding + s.stride - 1) / s.stride, high = (W - 1 - reach) >= 0 ? (W - 1 - reach) / s.stride + 1 : 0;
      if (high > s.out_columns) high = s.out_columns;
      if (low > high) low = high = 0;
      const float *line = x + h * W * C, *slope = g + row * s.out_columns * C;
      for (int64_t column = 0; column < low; column++) weight_border<N, K>(s, line, slope, sums + i * K, column);
      typename Vector<N>::type now[K];
      for (int j = 0; j < K; j++) now[j] = sums[i * K + j];
      for (int64_t column = low; column < high; column++) {
        const auto gradient = load<N>(slope + column * C);
        const float *taps = line + (column * s.stride - s.padding) * C;
        for (int j = 0; j < K; j++) now[j] += load<N>(taps + j * s.dilation * C) * gradient;
      }
      for (int j = 0; j < K; j++) sums[i * K + j] = now[j];
      for (int64_t column = high; column < s.out_columns; column++)
        weight_border<N, K>(s, line, slope, sums + i * K, column);
    }
  }
}

template <int N, int K>
INLINE void weight_images(const Shape &s, const float *x, const float *g, float *dw, int64_t from, int64_t to) {
  for (int64_t block = 0; block < s.channels; block += N) {
    const int64_t c = block + N > s.channels ? s.channels - N : block;
    typename Vector<N>::type sums[K * K];
    memset(sums, 0, sizeof sums);
    for (int64_t b = from; b < to; b++)
      weight_image<N, K>(s, x + b * s.rows * s.columns * s.channels + c,
                         g + b * s.out_rows * s.out_columns * s.channels + c, sums);
    for (int tap = 0; tap < K * K; tap++) store<N>(dw + tap * s.channels + c, sums[tap]);
  }
}

// dx = 0, then every output pixel hands its gradient back to the K x K pixels that it was made of.
template <int N, int K>
INLINE void input_images(const Shape &s, const float *g, const float *weight, float *dx, int64_t from, int64_t to) {
  const int64_t C = s.channels, size = s.rows * s.columns * C;
  for (int64_t b = from; b < to; b++) {
    float *image = dx + b * size;
    memset(image, 0, size * sizeof(float));
    for (int64_t block = 0; block < C; block += N) {
      const int64_t c = block + N > C ? C - N : block;
      typename Vector<N>::type kernel[K * K];
      for (int tap = 0; tap < K * K; tap++) kernel[tap] = load<N>(weight + tap * C + c);
      if (block + N > C) {  // overlapping channels were handed back already
        const int64_t done = block - c;
        for (int tap = 0; tap < K * K; tap++) {
          float lanes[N];
          store<N>(lanes, kernel[tap]);
          for (int64_t lane = 0; lane < done; lane++) lanes[lane] = 0.0f;
          kernel[tap] = load<N>(lanes);
        }
      }
      for (int64_t row = 0; row < s.out_rows; row++)
        for (int64_t column = 0; column < s.out_columns; column++) {
          const auto gradient = load<N>(g + ((b * s.out_rows + row) * s.out_columns + column) * C + c);
          for (int i = 0; i < K; i++) {
            const int64_t h = row * s.stride - s.padding + i * s.dilation;
            if (h < 0 || h >= s.rows) continue;
            for (int j = 0; j < K; j++) {
              const int64_t w = column * s.stride - s.padding + j * s.dilation;
              if (w < 0 || w >= s.columns) continue;
              float *at = image + (h * s.columns + w) * C + c;
              store<N>(at, load<N>(at) + gradient * kernel[i * K + j]);
            }
          }
        }
    }
  }
}

template <int N>
INLINE void weight_any(const Shape &s, int K, const float *x, const float *g, float *dw, int64_t from, int64_t to) {
  if (K == 3) weight_images<N, 3>(s, x, g, dw, from, to);
  else weight_images<N, 5>(s, x, g, dw, from, to);
}

template <int N>
INLINE void input_any(const Shape &s, int K, const float *g, const float *w, float *dx, int64_t from, int64_t to) {
  if (K == 3) input_images<N, 3>(s, g, w, dx, from, to);
  else input_images<N, 5>(s, g, w, dx, from, to);
}

INLINE void weight_gradient(const Shape &s, int K, const float *x, const float *g, float *dw, int64_t from, int64_t to) {
  if (s.channels >= WIDEST) weight_any<WIDEST>(s, K, x, g, dw, from, to);
  else if (s.channels >= 4) weight_any<4>(s, K, x, g, dw, from, to);
  else weight_any<1>(s, K, x, g, dw, from, to);
}

INLINE void input_gradient(const Shape &s, int K, const float *g, const float *w, float *dx, int64_t from, int64_t to) {
  if (s.channels >= WIDEST) input_any<WIDEST>(s, K, g, w, dx, from, to);
  else if (s.channels >= 4) input_any<4>(s, K, g, w, dx, from, to);
  else input_any<1>(s, K, g, w, dx, from, to);
}

}  // namespace INSTRUCTIONS
