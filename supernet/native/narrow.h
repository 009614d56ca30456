// The loops of narrow.cpp, written once and included once for each instruction set (instructions.h).
//
// A vector holds N / C pixels of C channels, C at most N, just as they lie in memory; what belongs to channels (taps,
// scales) is repeated for each pixel. An image is first copied into a frame of zeros as wide as the padding, with room
// for BLOCK vectors more at the end of each row: no loop needs to know of borders, and rows may end within a block.

namespace INSTRUCTIONS {

static const int BLOCK = 4;

// Where a convolution of C channels finds its numbers: sizes of an image's frame, and taps in vectors.
template <int N, int C, int K> struct Layer {
  typedef typename Vector<N>::type vector;
  int64_t pitch, size, step;       // floats in a row of the frame, in the frame, and between vectors of outputs
  vector taps[K * K], across[C], back[C];  // depthwise taps; across[c]: what channel c gives to each; back: transposed
};

template <int N, int C, int K>
INLINE void prepare(const Shape &s, const float *depthwise, const float *pointwise, Layer<N, C, K> &layer) {
  layer.pitch = (s.columns + 2 * s.padding + BLOCK * N) * C;
  layer.size = (s.rows + 2 * s.padding + 1) * layer.pitch;
  layer.step = N * s.stride;
  float lanes[N];
  for (int tap = 0; tap < K * K; tap++) {
    for (int i = 0; i < N; i++) lanes[i] = depthwise[i % C * K * K + tap];
    layer.taps[tap] = load<N>(lanes);
  }
  for (int c = 0; c < C; c++) {
    for (int i = 0; i < N; i++) lanes[i] = pointwise[i % C * C + c];
    layer.across[c] = load<N>(lanes);
    for (int i = 0; i < N; i++) lanes[i] = pointwise[c * C + i % C];
    layer.back[c] = load<N>(lanes);
  }
}

// Channel c of each pixel, in all of that pixel's lanes.
template <int C, int c, int N, size_t... I>
INLINE typename Vector<N>::type channel(typename Vector<N>::type v, std::index_sequence<I...>) {
  return typename Vector<N>::type{v[I / C * C + c]...};
}

template <int N, int C, size_t... c>
INLINE typename Vector<N>::type product(typename Vector<N>::type v, const typename Vector<N>::type *columns,
                                        std::index_sequence<c...>) {
  typename Vector<N>::type sum = {};
  ((sum += channel<C, c, N>(v, std::make_index_sequence<N>()) * columns[c]), ...);
  return sum;
}

template <int N, int C, size_t... c>
INLINE void outer(typename Vector<N>::type g, typename Vector<N>::type v, typename Vector<N>::type *sums,
                  std::index_sequence<c...>) {
  ((sums[c] += g * channel<C, c, N>(v, std::make_index_sequence<N>())), ...);
}

// Copies an image into the frame; with `slope`, as ReLU(slope x + level) of each channel.
template <int N, int C>
INLINE void enframe(const Shape &s, const float *x, const float *slope, const float *level, float *frame,
                    int64_t pitch) {
  const int64_t width = s.columns * C, whole = width / N * N;
  float a[N], b[N];
  for (int i = 0; slope && i < N; i++) a[i] = slope[i % C], b[i] = level[i % C];
  const typename Vector<N>::type zero = {};
  for (int64_t row = 0; row < s.rows; row++, x += width) {
    float *to = frame + (row + s.padding) * pitch + s.padding * C;
    if (!slope) {
      memcpy(to, x, width * sizeof(float));
      continue;
    }
    for (int64_t i = 0; i < whole; i += N) {
      const auto y = load<N>(x + i) * load<N>(a) + load<N>(b);
      store<N>(to + i, y > zero ? y : zero);
    }
    for (int64_t i = whole; i < width; i++) {
      const float y = x[i] * a[i % C] + b[i % C];
      to[i] = y > 0.0f ? y : 0.0f;
    }
  }
}

// A block of a depthwise convolution's outputs, the first of which reads the frame from `at` on.
template <int N, int C, int K>
INLINE void convolve(const float *at, int64_t down, int64_t right, int64_t step, const typename Vector<N>::type *taps,
                     typename Vector<N>::type *sums) {
  typename Vector<N>::type now[BLOCK] = {};
  for (int i = 0; i < K; i++)
    for (int j = 0; j < K; j++) {
      const auto tap = taps[i * K + j];
      const float *from = at + i * down + j * right;
      for (int v = 0; v < BLOCK; v++) now[v] += load<N>(from + v * step) * tap;
    }
  for (int v = 0; v < BLOCK; v++) sums[v] = now[v];
}

// Outputs of images from .. to: y (batch, out_rows, out_columns, C).
template <int N, int C, int K>
INLINE void forward_images(const Shape &s, const float *x, const float *slope, const float *level,
                           const float *depthwise, const float *pointwise, float *y, int64_t from, int64_t to) {
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
          store<N>(out + i + v * N, product<N, C>(z[v], layer.across, std::make_index_sequence<C>()));
      }
      if (!whole) memcpy(end, out, width * sizeof(float));
    }
  }
}

// Sums over images from .. to of both weights' gradients, depthwise (C, K, K) and pointwise (C, C), where `sums` is
// given; their dx, where it is given (times the derivative of the ReLU, with `slope`).
template <int N, int C, int K>
INLINE void backward_images(const Shape &s, const float *g, const float *x, const float *slope, const float *level,
                            const float *depthwise, const float *pointwise, float *dx, float *sums, int64_t from,
                            int64_t to) {
  typedef typename Vector<N>::type vector;
  Layer<N, C, K> layer;
  prepare<N, C, K>(s, depthwise, pointwise, layer);
  vector mirrored[K * K], dtaps[K * K] = {}, dacross[C] = {};
  for (int tap = 0; tap < K * K; tap++) mirrored[tap] = layer.taps[K * K - 1 - tap];
  const int64_t pitch = layer.pitch, width = s.columns * C, out_width = s.out_columns * C;
  const int64_t down = s.dilation * pitch, right = s.dilation * C, corner = s.padding * (pitch + C);
  std::vector<float> frame(layer.size, 0.0f), inner(layer.size, 0.0f);  // x, and the gradient between both convolutions
  std::vector<float> gradient((s.out_columns + BLOCK * N) * C, 0.0f), line((s.columns + BLOCK * N) * C);
  for (int64_t b = from; b < to; b++) {
    if (x) enframe<N, C>(s, x + b * s.rows * s.columns * C, slope, level, frame.data(), pitch);
    for (int64_t row = 0; row < s.out_rows; row++) {
      memcpy(gradient.data(), g + (b * s.out_rows + row) * out_width, out_width * sizeof(float));
      float *middle = inner.data() + corner + row * s.stride * pitch;
      for (int64_t i = 0; i < out_width; i += N)
        store<N>(middle + i * s.stride,
                 product<N, C>(load<N>(gradient.data() + i), layer.back, std::make_index_sequence<C>()));
      if (!sums) continue;
      const float *seen = frame.data() + row * s.stride * pitch;
      for (int64_t i = 0; i < out_width; i += BLOCK * N) {
        vector z[BLOCK];
        convolve<N, C, K>(seen + i * s.stride, down, right, layer.step, layer.taps, z);
        for (int v = 0; v < BLOCK; v++)
          outer<N, C>(load<N>(gradient.data() + i + v * N), z[v], dacross, std::make_index_sequence<C>());
      }
      for (int i = 0; i < K; i++) {
        vector now[2 * K] = {};  // two sums for each tap: one would wait for itself
        for (int64_t at = 0; at < out_width; at += 2 * N) {
          const float *taps = seen + i * down + at * s.stride;
          const vector first = load<N>(middle + at * s.stride), second = load<N>(middle + at * s.stride + layer.step);
          for (int j = 0; j < K; j++) {
            now[j] += load<N>(taps + j * right) * first;
            now[K + j] += load<N>(taps + j * right + layer.step) * second;
          }
        }
        for (int j = 0; j < K; j++) dtaps[i * K + j] += now[j] + now[K + j];
      }
    }
    for (int64_t row = 0; dx && row < s.rows; row++) {
      for (int64_t i = 0; i < width; i += BLOCK * N) {
        vector d[BLOCK];
        convolve<N, C, K>(inner.data() + row * pitch + i, down, right, N, mirrored, d);
        const float *h = frame.data() + corner + row * pitch + i;
        const vector zero = {};
        for (int v = 0; v < BLOCK; v++)
          store<N>(line.data() + i + v * N, !slope || !x ? d[v] : load<N>(h + v * N) > zero ? d[v] : zero);
      }
      memcpy(dx + (b * s.rows + row) * width, line.data(), width * sizeof(float));
    }
  }
  for (int i = 0; sums && i < N; i++) {
    for (int tap = 0; tap < K * K; tap++) sums[i % C * K * K + tap] += dtaps[tap][i];
    for (int c = 0; c < C; c++) sums[C * K * K + i % C * C + c] += dacross[c][i];
  }
}

// The sums over floats from .. to of x - at, (x - at)^2 or, with g, of g and g (x - at), for each channel.
template <int N, int C>
INLINE void moments(const float *x, const float *g, const float *at, double *sums, int64_t from, int64_t to) {
  typedef typename Vector<N>::type vector;
  float centre[N];
  for (int i = 0; i < N; i++) centre[i] = at[i % C];
  while (from < to) {  // not too many numbers in one sum of floats
    const int64_t end = from + 256 * N < to ? from + 256 * N : to;
    vector first[4] = {}, second[4] = {};
    int64_t i = from;
    for (; i + 4 * N <= end; i += 4 * N)
      for (int v = 0; v < 4; v++) {
        const vector d = load<N>(x + i + v * N) - load<N>(centre), weight = g ? load<N>(g + i + v * N) : d;
        first[v] += weight;
        second[v] += weight * d;
      }
    const vector ones = (first[0] + first[1]) + (first[2] + first[3]);
    const vector twos = (second[0] + second[1]) + (second[2] + second[3]);
    for (int lane = 0; lane < N; lane++) sums[lane % C] += ones[lane], sums[C + lane % C] += twos[lane];
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
  float a[N], b[N], c[N];
  for (int i = 0; i < N; i++) a[i] = abc[i % C], b[i] = abc[C + i % C], c[i] = abc[2 * C + i % C];
  int64_t i = from;
  for (; i + N <= to; i += N)
    store<N>(out + i, load<N>(x + i) * load<N>(a) + (load<N>(g + i) * load<N>(b) + load<N>(c)));
  for (; i < to; i++) out[i] = x[i] * a[i % C] + g[i] * b[i % C] + c[i % C];
}

// out = sum_n slopes[n] xs[n] + level of each channel, over floats from .. to.
template <int N, int C>
INLINE void total(const float *const *xs, int number, const float *slopes, const float *level, float *out,
                  int64_t from, int64_t to) {
  std::vector<float> repeated((number + 1) * N);
  for (int n = 0; n <= number; n++)
    for (int i = 0; i < N; i++) repeated[n * N + i] = n < number ? slopes[n * C + i % C] : level[i % C];
  const float *a = repeated.data(), *b = a + number * N;
  int64_t i = from;
  for (; i + BLOCK * N <= to; i += BLOCK * N) {
    typename Vector<N>::type sum[BLOCK];
    for (int v = 0; v < BLOCK; v++) sum[v] = load<N>(b);
    for (int n = 0; n < number; n++)
      for (int v = 0; v < BLOCK; v++) sum[v] += load<N>(xs[n] + i + v * N) * load<N>(a + n * N);
    for (int v = 0; v < BLOCK; v++) store<N>(out + i + v * N, sum[v]);
  }
  for (; i < to; i++) {
    out[i] = b[i % C];
    for (int n = 0; n < number; n++) out[i] += xs[n][i] * a[n * N + i % C];
  }
}

static const int LANES = WIDEST < 8 ? WIDEST : 8;

// Strided outputs come one pixel at a time.
#define CHOOSE(function, ...)                                                                                          \
  if (s.channels == 4) {                                                                                               \
    if (s.stride > 1) K == 3 ? function<4, 4, 3>(__VA_ARGS__) : function<4, 4, 5>(__VA_ARGS__);                        \
    else K == 3 ? function<LANES, 4, 3>(__VA_ARGS__) : function<LANES, 4, 5>(__VA_ARGS__);                             \
  } else {                                                                                                             \
    K == 3 ? function<8, 8, 3>(__VA_ARGS__) : function<8, 8, 5>(__VA_ARGS__);                                          \
  }

INLINE void narrow_forward(const Shape &s, int K, const float *x, const float *slope, const float *level,
                           const float *depthwise, const float *pointwise, float *y, int64_t from, int64_t to) {
  CHOOSE(forward_images, s, x, slope, level, depthwise, pointwise, y, from, to)
}

INLINE void narrow_backward(const Shape &s, int K, const float *g, const float *x, const float *slope,
                            const float *level, const float *depthwise, const float *pointwise, float *dx, float *sums,
                            int64_t from, int64_t to) {
  CHOOSE(backward_images, s, g, x, slope, level, depthwise, pointwise, dx, sums, from, to)
}
#undef CHOOSE

INLINE void narrow_moments(int C, const float *x, const float *g, const float *at, double *sums, int64_t from,
                           int64_t to) {
  C == 4 ? moments<LANES, 4>(x, g, at, sums, from, to) : moments<8, 8>(x, g, at, sums, from, to);
}

INLINE void narrow_linear(int C, const float *x, const float *g, const float *abc, float *out, int64_t from,
                          int64_t to) {
  C == 4 ? linear<LANES, 4>(x, g, abc, out, from, to) : linear<8, 8>(x, g, abc, out, from, to);
}

INLINE void narrow_total(int C, const float *const *xs, int number, const float *slopes, const float *level, float *out,
                         int64_t from, int64_t to) {
  C == 4 ? total<LANES, 4>(xs, number, slopes, level, out, from, to) : total<8, 8>(xs, number, slopes, level, out, from, to);
}

}  // namespace INSTRUCTIONS
