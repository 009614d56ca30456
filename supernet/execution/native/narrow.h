// The loops of passes.cpp for 4 and 8 channels.
//
// Vectors of N floats are taken just as numbers lie in memory: one holds N / C pixels, or C / N hold a pixel. What belongs
// to channels (taps, scales) is repeated for the pixels of a vector, or has a vector for each part of a pixel. An image is
// first copied into a frame of zeros as wide as the padding, with room for BLOCK vectors more at the end of each row: no
// loop needs to know of borders, and rows may end within a block.

namespace INSTRUCTIONS {

static const int BLOCK = 4;

// How many vectors a pixel takes.
template <int N, int C> struct Pixel { static const int VECTORS = C > N ? C / N : 1; };

// Where a convolution of C channels finds its numbers: sizes of an image's frame, and taps in vectors.
template <int N, int C, int K> struct Layer {
  static const int M = Pixel<N, C>::VECTORS;
  typedef typename Vector<N>::type vector;
  int64_t pitch, size, step;  // floats in a row of the frame, in the frame, and between what whole vectors or pixels read
  vector taps[K * K * M], across[C * M], back[C * M];  // across[c]: what channel c gives to each; back: transposed
};

template <int N, int C, int K>
INLINE void prepare(const Shape &s, const float *depthwise, const float *pointwise, Layer<N, C, K> &layer) {
  layer.pitch = (s.columns + 2 * s.padding + BLOCK * N) * C;
  layer.size = (s.rows + 2 * s.padding + 1) * layer.pitch;
  constexpr int M = Layer<N, C, K>::M;
  layer.step = N * M * s.stride;
  for (int m = 0; m < M; m++)
    for (int i = 0; i < N; i++) {
      const int lane = (m * N + i) % C;
      for (int tap = 0; tap < K * K; tap++) layer.taps[tap * M + m][i] = depthwise[lane * K * K + tap];
      for (int c = 0; c < C; c++) {
        layer.across[c * M + m][i] = pointwise[lane * C + c];
        layer.back[c * M + m][i] = pointwise[c * C + lane];
      }
    }
}

// Channel c of each pixel, in all of that pixel's lanes; `v` are the vectors of a pixel, or one of several.
template <int C, int c, int N, size_t... I>
INLINE typename Vector<N>::type channel(const typename Vector<N>::type *v, std::index_sequence<I...>) {
  constexpr int in = C > N ? N : C;
  return typename Vector<N>::type{v[c / in][I / in * in + c % in]...};
}

// Part m of a pixel's product with a matrix of columns.
template <int N, int C, size_t... c>
INLINE typename Vector<N>::type product(const typename Vector<N>::type *v, const typename Vector<N>::type *columns,
                                        int m, std::index_sequence<c...>) {
  typename Vector<N>::type sum = {};
  ((sum += channel<C, c, N>(v, std::make_index_sequence<N>()) * columns[c * Pixel<N, C>::VECTORS + m]), ...);
  return sum;
}

template <int N, int C, size_t... c>
INLINE void outer(typename Vector<N>::type g, const typename Vector<N>::type *v, typename Vector<N>::type *sums, int m,
                  std::index_sequence<c...>) {
  ((sums[c * Pixel<N, C>::VECTORS + m] += g * channel<C, c, N>(v, std::make_index_sequence<N>())), ...);
}

// Copies an image into the frame; with `slope`, as ReLU(slope x + level) of each channel (NaN stays).
template <int N, int C>
INLINE void enframe(const Shape &s, const float *x, const float *slope, const float *level, float *frame,
                    int64_t pitch) {
  const int64_t width = s.columns * C, whole = width / N * N;
  constexpr int M = Pixel<N, C>::VECTORS;
  float a[N * M], b[N * M];
  for (int i = 0; slope && i < N * M; i++) a[i] = slope[i % C], b[i] = level[i % C];
  const typename Vector<N>::type zero = {};
  for (int64_t row = 0; row < s.rows; row++, x += width) {
    float *to = frame + (row + s.padding) * pitch + s.padding * C;
    if (!slope) {
      memcpy(to, x, width * sizeof(float));
      continue;
    }
    for (int64_t i = 0; i < whole; i += N) {
      const auto y = load<N>(x + i) * load<N>(a + i % (N * M)) + load<N>(b + i % (N * M));
      store<N>(to + i, y < zero ? zero : y);
    }
    for (int64_t i = whole; i < width; i++) to[i] = std::max(x[i] * a[i % C] + b[i % C], 0.0f);
  }
}

// A block of a depthwise convolution's outputs, the first of which reads the frame from `at` on.
template <int N, int C, int K>
INLINE void convolve(const float *at, int64_t down, int64_t right, int64_t step, const typename Vector<N>::type *taps,
                     typename Vector<N>::type *sums) {
  constexpr int M = Pixel<N, C>::VECTORS;
  typename Vector<N>::type now[BLOCK] = {};
  for (int i = 0; i < K; i++)
    for (int j = 0; j < K; j++) {
      const float *from = at + i * down + j * right;
      for (int v = 0; v < BLOCK; v++)
        now[v] += load<N>(from + v / M * step + v % M * N) * taps[(i * K + j) * M + v % M];
    }
  for (int v = 0; v < BLOCK; v++) sums[v] = now[v];
}

// Outputs of images from .. to: y (batch, out_rows, out_columns, C).
template <int N, int C, int K>
INLINE void forward_images(const Shape &s, const float *x, const float *slope, const float *level,
                           const float *depthwise, const float *pointwise, float *y, int64_t from, int64_t to) {
  constexpr int M = Pixel<N, C>::VECTORS;
  Layer<N, C, K> layer;
  prepare<N, C, K>(s, depthwise, pointwise, layer);
  std::vector<float> frame(layer.size, 0.0f), line((s.out_columns + BLOCK * N) * C);
  const int64_t width = s.out_columns * C, pitch = layer.pitch;
  const bool whole = width % (BLOCK * N) == 0;
  for (int64_t b = from; b < to; b++) {
    enframe<N, C>(s, x + b * s.rows * s.columns * C, slope, level, frame.data(), pitch);
    for (int64_t row = 0; row < s.out_rows; row++) {
      float *end = y + (b * s.out_rows + row) * width, *out = whole ? end : line.data();
      for (int64_t i = 0; i < width; i += BLOCK * N) {
        typename Vector<N>::type z[BLOCK];
        convolve<N, C, K>(frame.data() + row * s.stride * pitch + i * s.stride, s.dilation * pitch, s.dilation * C,
                          layer.step, layer.taps, z);
        for (int v = 0; v < BLOCK; v++)
          store<N>(out + i + v * N, product<N, C>(z + v / M * M, layer.across, v % M, std::make_index_sequence<C>()));
      }
      if (!whole) memcpy(end, out, width * sizeof(float));
    }
  }
}

// Sums over images from .. to of both weights' gradients, depthwise (C, K, K) and pointwise (C, C), where `sums` is
// given; their dx, where it is given (times the derivative of the ReLU, with `slope`).
template <int N, int C, int K>
INLINE void backward_images(const Shape &s, const float *g, const float *x, const float *slope, const float *level,
                            const float *depthwise, const float *pointwise, float *dx, int how, float *sums,
                            int64_t from, int64_t to) {
  typedef typename Vector<N>::type vector;
  constexpr int M = Pixel<N, C>::VECTORS, U = M > 1 ? M : 2;  // U: two sums for each tap; one would wait for itself
  Layer<N, C, K> layer;
  prepare<N, C, K>(s, depthwise, pointwise, layer);
  vector mirrored[K * K * M], dtaps[K * K * M] = {}, dacross[C * M] = {};
  for (int tap = 0; tap < K * K; tap++)
    for (int m = 0; m < M; m++) mirrored[tap * M + m] = layer.taps[(K * K - 1 - tap) * M + m];
  const int64_t pitch = layer.pitch, width = s.columns * C, out_width = s.out_columns * C;
  const int64_t down = s.dilation * pitch, right = s.dilation * C, corner = s.padding * (pitch + C);
  std::vector<float> frame(layer.size, 0.0f), inner(layer.size, 0.0f);  // x, and the gradient between both convolutions
  std::vector<float> gradient((s.out_columns + BLOCK * N) * C, 0.0f), line((s.columns + BLOCK * N) * C);
  for (int64_t b = from; b < to; b++) {
    if (x) enframe<N, C>(s, x + b * s.rows * s.columns * C, slope, level, frame.data(), pitch);
    for (int64_t row = 0; row < s.out_rows; row++) {
      memcpy(gradient.data(), g + (b * s.out_rows + row) * out_width, out_width * sizeof(float));
      float *middle = inner.data() + corner + row * s.stride * pitch;
      for (int64_t i = 0; i < out_width; i += N * M) {
        vector pixel[M];
        for (int m = 0; m < M; m++) pixel[m] = load<N>(gradient.data() + i + m * N);
        for (int m = 0; m < M; m++)
          store<N>(middle + i * s.stride + m * N,
                   product<N, C>(pixel, layer.back, m, std::make_index_sequence<C>()));
      }
      if (!sums) continue;
      const float *seen = frame.data() + row * s.stride * pitch;
      for (int64_t i = 0; i < out_width; i += BLOCK * N) {
        vector z[BLOCK];
        convolve<N, C, K>(seen + i * s.stride, down, right, layer.step, layer.taps, z);
        for (int v = 0; v < BLOCK; v++)
          outer<N, C>(load<N>(gradient.data() + i + v * N), z + v / M * M, dacross, v % M,
                      std::make_index_sequence<C>());
      }
      for (int i = 0; i < K; i++) {
        vector now[U * K] = {};
        for (int64_t at = 0; at < out_width; at += U * N)
          for (int u = 0; u < U; u++) {
            const int64_t to = at * s.stride + u / M * layer.step + u % M * N;
            const vector slope_here = load<N>(middle + to);
            for (int j = 0; j < K; j++) now[u * K + j] += load<N>(seen + i * down + j * right + to) * slope_here;
          }
        for (int u = 0; u < U; u++)
          for (int j = 0; j < K; j++) dtaps[(i * K + j) * M + u % M] += now[u * K + j];
      }
    }
    for (int64_t row = 0; dx && row < s.rows; row++) {
      for (int64_t i = 0; i < width; i += BLOCK * N) {
        vector d[BLOCK];
        convolve<N, C, K>(inner.data() + row * pitch + i, down, right, N * M, mirrored, d);
        const float *h = frame.data() + corner + row * pitch + i;
        const vector zero = {};
        for (int v = 0; v < BLOCK; v++)
          store<N>(line.data() + i + v * N, !slope || !x || how & UNMASKED ? d[v] : load<N>(h + v * N) <= zero ? zero : d[v]);
      }
      float *end = dx + (b * s.rows + row) * width;
      if (how & ADDED) {
        for (int64_t i = 0; i < width; i++) end[i] += line[i];
      } else {
        memcpy(end, line.data(), width * sizeof(float));
      }
    }
  }
  for (int i = 0; sums && i < N * M; i++) {
    for (int tap = 0; tap < K * K; tap++) sums[i % C * K * K + tap] += dtaps[tap * M + i / N][i % N];
    for (int c = 0; c < C; c++) sums[C * K * K + i % C * C + c] += dacross[c * M + i / N][i % N];
  }
}

// The sums over floats from .. to of x - at, (x - at)^2 or, with g, of g and g (x - at), for each channel.
template <int N, int C>
INLINE void moments(const float *x, const float *g, const float *at, double *sums, int64_t from, int64_t to) {
  typedef typename Vector<N>::type vector;
  constexpr int M = Pixel<N, C>::VECTORS;
  float centre[N * M];
  for (int i = 0; i < N * M; i++) centre[i] = at[i % C];
  while (from < to) {  // not too many numbers in one sum of floats
    const int64_t end = from + 256 * N < to ? from + 256 * N : to;
    vector first[4] = {}, second[4] = {};
    int64_t i = from;
    for (; i + 4 * N <= end; i += 4 * N)
      for (int v = 0; v < 4; v++) {
        const vector d = load<N>(x + i + v * N) - load<N>(centre + v % M * N), weight = g ? load<N>(g + i + v * N) : d;
        first[v] += weight;
        second[v] += weight * d;
      }
    for (int v = 0; v < 4; v++)
      for (int lane = 0; lane < N; lane++) {
        sums[(v * N + lane) % C] += first[v][lane];
        sums[C + (v * N + lane) % C] += second[v][lane];
      }
    for (; i < end; i++) {
      const float d = x[i] - centre[i % C], weight = g ? g[i] : d;
      sums[i % C] += weight;
      sums[C + i % C] += weight * d;
    }
    from = end;
  }
}

// out = a x + b g + c of each channel, over floats from .. to.
template <int N, int C>
INLINE void linear(const float *x, const float *g, const float *abc, float *out, int64_t from, int64_t to) {
  constexpr int R = N * Pixel<N, C>::VECTORS;
  float a[R], b[R], c[R];
  for (int i = 0; i < R; i++) a[i] = abc[i % C], b[i] = abc[C + i % C], c[i] = abc[2 * C + i % C];
  int64_t i = from;
  for (; i + R <= to; i += R)
    for (int v = 0; v < R; v += N)
      store<N>(out + i + v, load<N>(x + i + v) * load<N>(a + v) + (load<N>(g + i + v) * load<N>(b + v) + load<N>(c + v)));
  for (; i < to; i++) out[i] = x[i] * a[i % C] + g[i] * b[i % C] + c[i % C];
}

// out = sum_n slopes[n] xs[n] + level of each channel, over floats from .. to.
template <int N, int C>
INLINE void total(const float *const *xs, int number, const float *slopes, const float *level, float *out,
                  int64_t from, int64_t to) {
  constexpr int M = Pixel<N, C>::VECTORS, R = N * M;
  std::vector<float> repeated((number + 1) * R);
  for (int n = 0; n <= number; n++)
    for (int i = 0; i < R; i++) repeated[n * R + i] = n < number ? slopes[n * C + i % C] : level[i % C];
  const float *a = repeated.data(), *b = a + number * R;
  int64_t i = from;
  for (; i + BLOCK * N <= to; i += BLOCK * N) {
    typename Vector<N>::type sum[BLOCK];
    for (int v = 0; v < BLOCK; v++) sum[v] = load<N>(b + v % M * N);
    for (int n = 0; n < number; n++)
      for (int v = 0; v < BLOCK; v++) sum[v] += load<N>(xs[n] + i + v * N) * load<N>(a + n * R + v % M * N);
    for (int v = 0; v < BLOCK; v++) store<N>(out + i + v * N, sum[v]);
  }
  for (; i < to; i++) {
    out[i] = b[i % C];
    for (int n = 0; n < number; n++) out[i] += xs[n][i] * a[n * R + i % C];
  }
}

}  // namespace INSTRUCTIONS
