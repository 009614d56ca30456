// Products of pixels with matrices for wide.h: blocks of 4 pixels (or rows) by up to 3 vectors, whose sums stay in registers;
// of 8 pixels (or rows) by 1 vector: a sum waits for itself, so that there have to be some at a time.

namespace INSTRUCTIONS {

template <int N> INLINE int64_t padded(int64_t channels) { return (channels + N - 1) / N * N; }

// A matrix (depth, columns), in panels of `vectors` vectors of columns, one row of a panel after the other.
template <int N> struct Panels {
  Buffer numbers;
  int64_t depth, vectors;
};

// How many of the vectors that are left go into the next panel: 3, or what avoids a last one of 1.
INLINE int64_t panel(int64_t left) { return left == 4 ? 2 : left < 3 ? left : 3; }

// entry(row, column) of the matrix (depth, columns) is at matrix[row * down + column * right].
template <int N> INLINE Panels<N> pack(const float *matrix, int64_t depth, int64_t columns, int64_t down, int64_t right) {
  const int64_t vectors = padded<N>(columns) / N;
  Panels<N> panels{Buffer(depth * vectors * N), depth, vectors};
  float *to = panels.numbers.data();
  for (int64_t first = 0, width; first < vectors; first += width) {
    width = panel(vectors - first);
    for (int64_t row = 0; row < depth; row++, to += width * N)
      for (int64_t i = 0; i < width * N && first * N + i < columns; i++)
        to[i] = matrix[row * down + (first * N + i) * right];
  }
  return panels;
}

template <int N, int COLUMNS, int PIXELS>
INLINE void multiply_block(const float *a, int64_t a_step, const float *b, int64_t depth, float *out, int64_t out_step) {
  typename Vector<N>::type sums[PIXELS][COLUMNS] = {};
  for (int64_t k = 0; k < depth; k++, b += COLUMNS * N)
    for (int p = 0; p < PIXELS; p++) {
      const float factor = a[p * a_step + k];
      for (int c = 0; c < COLUMNS; c++) sums[p][c] += factor * load<N>(b + c * N);
    }
  for (int p = 0; p < PIXELS; p++)
    for (int c = 0; c < COLUMNS; c++) store<N>(out + p * out_step + c * N, sums[p][c]);
}

template <int N, int COLUMNS>
INLINE void multiply_panel(const float *a, int64_t a_step, int64_t pixels, const float *b, int64_t depth, float *out,
                           int64_t out_step) {
  constexpr int AT_ONCE = COLUMNS == 1 ? 8 : 4;
  int64_t p = 0;
  for (; p + AT_ONCE <= pixels; p += AT_ONCE)
    multiply_block<N, COLUMNS, AT_ONCE>(a + p * a_step, a_step, b, depth, out + p * out_step, out_step);
  for (; p < pixels; p++)
    multiply_block<N, COLUMNS, 1>(a + p * a_step, a_step, b, depth, out + p * out_step, out_step);
}

// out (pixels, padded columns) = a (pixels, depth) times the matrix.
template <int N>
INLINE void multiply(const float *a, int64_t a_step, int64_t pixels, Panels<N> &matrix, float *out,
                     int64_t out_step) {
  const float *b = matrix.numbers.data();
  for (int64_t first = 0, width; first < matrix.vectors; first += width, b += matrix.depth * width * N) {
    width = panel(matrix.vectors - first);
    if (width == 3) multiply_panel<N, 3>(a, a_step, pixels, b, matrix.depth, out + first * N, out_step);
    else if (width == 2) multiply_panel<N, 2>(a, a_step, pixels, b, matrix.depth, out + first * N, out_step);
    else multiply_panel<N, 1>(a, a_step, pixels, b, matrix.depth, out + first * N, out_step);
  }
}

template <int N, int COLUMNS, int ROWS>
INLINE void outer_block(const float *g, int64_t g_step, const float *z, int64_t step, int64_t pixels, float *sums) {
  typename Vector<N>::type now[ROWS][COLUMNS];
  for (int r = 0; r < ROWS; r++)
    for (int c = 0; c < COLUMNS; c++) now[r][c] = load<N>(sums + r * step + c * N);
  for (int64_t p = 0; p < pixels; p++, g += g_step, z += step)
    for (int r = 0; r < ROWS; r++)
      for (int c = 0; c < COLUMNS; c++) now[r][c] += g[r] * load<N>(z + c * N);
  for (int r = 0; r < ROWS; r++)
    for (int c = 0; c < COLUMNS; c++) store<N>(sums + r * step + c * N, now[r][c]);
}

template <int N, int COLUMNS>
INLINE void outer_panel(const float *g, int64_t channels, const float *z, int64_t step, int64_t pixels, float *sums) {
  constexpr int AT_ONCE = COLUMNS == 1 ? 8 : 4;
  int64_t c = 0;
  for (; c + AT_ONCE <= channels; c += AT_ONCE)
    outer_block<N, COLUMNS, AT_ONCE>(g + c, channels, z, step, pixels, sums + c * step);
  for (; c < channels; c++) outer_block<N, COLUMNS, 1>(g + c, channels, z, step, pixels, sums + c * step);
}

// sums (channels, step) += g (pixels, channels) transposed, times z (pixels, step).
template <int N>
INLINE void add_outer(const float *g, int64_t channels, const float *z, int64_t step, int64_t pixels, float *sums) {
  for (int64_t first = 0, width; first < step / N; first += width) {
    width = panel(step / N - first);
    if (width == 3) outer_panel<N, 3>(g, channels, z + first * N, step, pixels, sums + first * N);
    else if (width == 2) outer_panel<N, 2>(g, channels, z + first * N, step, pixels, sums + first * N);
    else outer_panel<N, 1>(g, channels, z + first * N, step, pixels, sums + first * N);
  }
}

}  // namespace INSTRUCTIONS
