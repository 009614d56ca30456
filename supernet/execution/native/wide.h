// The loops of passes.cpp for any number of channels.
//
// Vectors hold N channels of one pixel. Inside, pixels are PADDED(C) floats apart, a whole number of vectors, and what
// belongs to the channels that are not there is zero. An image is copied into a frame of zeros as wide as the padding, so
// that no loop needs to know of borders; some rows at a time go through the depthwise convolution and the product with
// the 1x1 convolution's matrix while they are in the nearest cache.

namespace INSTRUCTIONS {

// Sizes of a frame in floats, and how much is done at a time.
struct Frame {
  int64_t pixel, pitch, size, down, right, corner, rows;  // rows: of outputs, at a time
};

template <int N> INLINE Frame frame_of(const Shape &s) {
  Frame f;
  f.pixel = padded<N>(s.channels);
  f.pitch = (s.columns + 2 * s.padding) * f.pixel;
  f.size = (s.rows + 2 * s.padding) * f.pitch;
  f.down = s.dilation * f.pitch, f.right = s.dilation * f.pixel;
  f.corner = s.padding * (f.pitch + f.pixel);
  f.rows = std::max<int64_t>(1, std::min(s.out_rows, 64 / s.out_columns));
  return f;
}

// Copies an image into the frame; with `slope`, as ReLU(slope x + level) of each channel (NaN stays).
template <int N>
INLINE void fill_frame(const Shape &s, const Frame &f, const float *x, const float *slope, const float *level,
                       float *frame) {
  const int64_t C = s.channels, whole = C / N * N;
  const typename Vector<N>::type zero = {};
  for (int64_t row = 0; row < s.rows; row++) {
    float *to = frame + f.corner + row * f.pitch;
    for (int64_t column = 0; column < s.columns; column++, x += C, to += f.pixel) {
      int64_t c = 0;
      for (; c < whole; c += N) {
        auto y = load<N>(x + c);
        if (slope) {
          y = y * load<N>(slope + c) + load<N>(level + c);
          y = y < zero ? zero : y;
        }
        store<N>(to + c, y);
      }
      for (; c < C; c++) {
        const float y = slope ? x[c] * slope[c] + level[c] : x[c];
        to[c] = slope && y < 0.0f ? 0.0f : y;
      }
    }
  }
}

// A depthwise convolution's outputs at PIXELS pixels of a row, for the N channels that start at `at`.
template <int N, int K, int PIXELS>
INLINE void slide_block(const float *at, const Frame &f, int64_t step, const float *taps, float *out) {
  typename Vector<N>::type now[PIXELS] = {};
  for (int i = 0; i < K; i++)
    for (int j = 0; j < K; j++) {
      const auto tap = load<N>(taps + (i * K + j) * f.pixel);
      const float *from = at + i * f.down + j * f.right;
      for (int p = 0; p < PIXELS; p++) now[p] += load<N>(from + p * step) * tap;
    }
  for (int p = 0; p < PIXELS; p++) store<N>(out + p * f.pixel, now[p]);
}

// Adds (FIRST: sets) what a row of K taps gives to outputs `step` floats apart, each of which reads from its own place on,
// and so shares K - 1 of the numbers it reads with the next: they stay in registers.
template <int N, int K, bool FIRST>
INLINE void slide_along(const float *at, int64_t step, int64_t outputs, const float *taps, int64_t tap_step, float *out) {
  typename Vector<N>::type tap[K], window[K];
  for (int j = 0; j < K; j++) tap[j] = load<N>(taps + j * tap_step);
  for (int j = 0; j + 1 < K; j++) window[j] = load<N>(at + j * step);
  at += (K - 1) * step;
  for (int64_t p = 0; p < outputs; p += K)
#pragma GCC unroll 5
    for (int u = 0; u < K; u++) {
      if (p + u >= outputs) break;
      window[(u + K - 1) % K] = load<N>(at);
      auto sum = window[u] * tap[0];
      if (!FIRST) sum += load<N>(out);
      for (int j = 1; j < K; j++) sum += window[(u + j) % K] * tap[j];
      store<N>(out, sum);
      at += step, out += step;
    }
}

// A row of it: out (columns, pixel) from the frame at `at`, where outputs are `step` floats apart; taps (K, K, pixel).
template <int N, int K>
INLINE void slide(const float *at, const Frame &f, int64_t step, int64_t columns, const float *taps, float *out) {
  for (int64_t c = 0; c < f.pixel; c += N) {
    if (K == 5 && step == f.pixel && columns >= K - 1) {  // each output shares what it reads; with three taps that does not pay
      const int64_t dilation = f.right / f.pixel;
      for (int64_t r = 0; r < dilation && r < columns; r++)
        for (int i = 0; i < K; i++) {
          const float *from = at + i * f.down + r * step + c, *row = taps + i * K * f.pixel + c;
          float *to = out + r * step + c;
          const int64_t outputs = (columns - r + dilation - 1) / dilation;
          if (i == 0) slide_along<N, K, true>(from, f.right, outputs, row, f.pixel, to);
          else slide_along<N, K, false>(from, f.right, outputs, row, f.pixel, to);
        }
      continue;
    }
    int64_t p = 0;
    for (; p + 8 <= columns; p += 8)
      slide_block<N, K, 8>(at + p * step + c, f, step, taps + c, out + p * f.pixel + c);
    for (; p + 4 <= columns; p += 4)
      slide_block<N, K, 4>(at + p * step + c, f, step, taps + c, out + p * f.pixel + c);
    for (; p < columns; p++) slide_block<N, K, 1>(at + p * step + c, f, step, taps + c, out + p * f.pixel + c);
  }
}

// Adds a row's share of the taps' gradients, of ROWS rows of taps, for N channels.
template <int N, int K, int ROWS>
INLINE void slope_block(const float *seen, const float *g, const Frame &f, int64_t step, int64_t columns, float *sums) {
  typename Vector<N>::type now[ROWS * K];
  for (int t = 0; t < ROWS * K; t++) now[t] = load<N>(sums + t * f.pixel);
  for (int64_t p = 0; p < columns; p++, seen += step, g += step) {
    const auto here = load<N>(g);
    for (int i = 0; i < ROWS; i++)
      for (int j = 0; j < K; j++) now[i * K + j] += load<N>(seen + i * f.down + j * f.right) * here;
  }
  for (int t = 0; t < ROWS * K; t++) store<N>(sums + t * f.pixel, now[t]);
}

template <int N, int K>
INLINE void add_slopes(const float *seen, const float *g, const Frame &f, int64_t step, int64_t columns, float *sums) {
  constexpr int ROWS = K == 3 ? 3 : 2;
  for (int64_t c = 0; c < f.pixel; c += N) {
    int i = 0;
    for (; i + ROWS <= K; i += ROWS)
      slope_block<N, K, ROWS>(seen + i * f.down + c, g + c, f, step, columns, sums + i * K * f.pixel + c);
    for (; i < K; i++) slope_block<N, K, 1>(seen + i * f.down + c, g + c, f, step, columns, sums + i * K * f.pixel + c);
  }
}

template <int N> INLINE void unpad(const float *from, int64_t step, int64_t channels, int64_t pixels, float *to) {
  for (int64_t p = 0; p < pixels; p++) memcpy(to + p * channels, from + p * step, channels * sizeof(float));
}

template <int N> INLINE void add_unpadded(const float *from, int64_t step, int64_t channels, int64_t pixels, float *to) {
  for (int64_t p = 0; p < pixels; p++, from += step, to += channels) {
    int64_t c = 0;
    for (; c + N <= channels; c += N) store<N>(to + c, load<N>(to + c) + load<N>(from + c));
    for (; c < channels; c++) to[c] += from[c];
  }
}

// (K, K, pixel) from (channels, K, K), the first tap last where `mirrored`.
INLINE Buffer tap_vectors(const Shape &s, const Frame &f, int K, const float *depthwise, bool mirrored) {
  Buffer taps(K * K * f.pixel);
  for (int t = 0; t < K * K; t++)
    for (int64_t c = 0; c < s.channels; c++)
      taps.data()[(mirrored ? K * K - 1 - t : t) * f.pixel + c] = depthwise[c * K * K + t];
  return taps;
}

// Outputs of images from .. to: y (batch, out_rows, out_columns, channels).
template <int N, int K>
INLINE void wide_forward_images(const Shape &s, const float *x, const float *slope, const float *level,
                                const float *depthwise, const float *pointwise, float *y, int64_t from, int64_t to) {
  const Frame f = frame_of<N>(s);
  const int64_t C = s.channels, line = s.out_columns * f.pixel;
  Buffer taps = tap_vectors(s, f, K, depthwise, false);
  Panels<N> across = pack<N>(pointwise, C, C, 1, C);
  Buffer frame(f.size), z(f.rows * line), out(f.rows * line);
  for (int64_t b = from; b < to; b++) {
    fill_frame<N>(s, f, x + b * s.rows * s.columns * C, slope, level, frame.data());
    for (int64_t row = 0, rows; row < s.out_rows; row += rows) {
      rows = std::min(f.rows, s.out_rows - row);
      for (int64_t r = 0; r < rows; r++)
        slide<N, K>(frame.data() + (row + r) * s.stride * f.pitch, f, s.stride * f.pixel, s.out_columns, taps.data(),
                    z.data() + r * line);
      float *end = y + (b * s.out_rows + row) * s.out_columns * C;
      float *product = C == f.pixel ? end : out.data();
      multiply<N>(z.data(), f.pixel, rows * s.out_columns, across, product, f.pixel);
      if (C != f.pixel) unpad<N>(product, f.pixel, C, rows * s.out_columns, end);
    }
  }
}

// As backward_images in narrow.h.
template <int N, int K>
INLINE void wide_backward_images(const Shape &s, const float *g, const float *x, const float *slope, const float *level,
                                 const float *depthwise, const float *pointwise, float *dx, int how, float *sums,
                                 int64_t from, int64_t to) {
  const Frame f = frame_of<N>(s);
  const int64_t C = s.channels, line = s.out_columns * f.pixel, step = s.stride * f.pixel;
  Buffer taps = tap_vectors(s, f, K, depthwise, false), back = tap_vectors(s, f, K, depthwise, true);
  Panels<N> across = pack<N>(pointwise, C, C, C, 1);
  Buffer frame(x ? f.size : 0), inner(f.size), z(std::max(f.rows * line, s.columns * f.pixel));
  Buffer dtaps(sums ? K * K * f.pixel : 0), dacross(sums ? C * f.pixel : 0);
  for (int64_t b = from; b < to; b++) {
    if (x) fill_frame<N>(s, f, x + b * s.rows * s.columns * C, slope, level, frame.data());
    const float *gradient = g + b * s.out_rows * s.out_columns * C;
    for (int64_t row = 0, rows; row < s.out_rows; row += rows, gradient += rows * s.out_columns * C) {
      rows = std::min(f.rows, s.out_rows - row);
      for (int64_t r = 0; r < rows; r++)
        multiply<N>(gradient + r * s.out_columns * C, C, s.out_columns, across,
                    inner.data() + f.corner + (row + r) * s.stride * f.pitch, step);
      for (int64_t r = 0; sums && r < rows; r++) {
        const float *seen = frame.data() + (row + r) * s.stride * f.pitch;
        slide<N, K>(seen, f, step, s.out_columns, taps.data(), z.data() + r * line);
        add_slopes<N, K>(seen, inner.data() + f.corner + (row + r) * s.stride * f.pitch, f, step, s.out_columns,
                         dtaps.data());
      }
      if (sums) add_outer<N>(gradient, C, z.data(), f.pixel, rows * s.out_columns, dacross.data());
    }
    for (int64_t row = 0; dx && row < s.rows; row++) {
      slide<N, K>(inner.data() + row * f.pitch, f, f.pixel, s.columns, back.data(), z.data());
      if (slope && x && !(how & UNMASKED)) {
        const float *h = frame.data() + f.corner + row * f.pitch;
        const typename Vector<N>::type zero = {};
        for (int64_t i = 0; i < s.columns * f.pixel; i += N)
          store<N>(z.data() + i, load<N>(h + i) <= zero ? zero : load<N>(z.data() + i));
      }
      float *end = dx + (b * s.rows + row) * s.columns * C;
      if (how & ADDED) add_unpadded<N>(z.data(), f.pixel, C, s.columns, end);
      else unpad<N>(z.data(), f.pixel, C, s.columns, end);
    }
  }
  for (int64_t c = 0; sums && c < C; c++) {
    for (int tap = 0; tap < K * K; tap++) sums[c * K * K + tap] += dtaps.data()[tap * f.pixel + c];
    for (int64_t i = 0; i < C; i++) sums[C * K * K + c * C + i] += dacross.data()[c * f.pixel + i];
  }
}

static const int64_t AT_ONCE = 32;  // pixels

template <int N> INLINE void pad(const float *x, int64_t channels, int64_t pixels, bool relu, float *to, int64_t step) {
  const typename Vector<N>::type zero = {};
  for (int64_t p = 0; p < pixels; p++, x += channels, to += step) {
    int64_t c = 0;
    for (; c + N <= channels; c += N) {
      const auto y = load<N>(x + c);
      store<N>(to + c, relu ? (y < zero ? zero : y) : y);
    }
    for (; c < channels; c++) to[c] = relu && x[c] < 0.0f ? 0.0f : x[c];
  }
}

// A 1x1 convolution, weight (out, in), of x, or of its ReLU, at pixels from .. to: y (pixels, out).
template <int N>
INLINE void wide_pointwise(int64_t in, int64_t out, const float *x, bool relu, const float *weight, float *y,
                           int64_t from, int64_t to) {
  Panels<N> across = pack<N>(weight, in, out, 1, in);
  const int64_t wide_in = padded<N>(in), wide_out = padded<N>(out);
  Buffer a(AT_ONCE * wide_in), product(AT_ONCE * wide_out);
  for (; from < to; from += AT_ONCE) {
    const int64_t pixels = std::min(AT_ONCE, to - from);
    const float *at = x + from * in;
    if (relu) pad<N>(at, in, pixels, relu, a.data(), wide_in), at = a.data();
    multiply<N>(at, relu ? wide_in : in, pixels, across, product.data(), wide_out);
    unpad<N>(product.data(), wide_out, out, pixels, y + from * out);
  }
}

// From its output's gradient g: dx (null: not wanted), and into sums (out, in; null: not wanted) what these pixels give.
template <int N>
INLINE void wide_pointwise_backward(int64_t in, int64_t out, const float *g, const float *x, bool relu,
                                    const float *weight, float *dx, float *sums, int64_t from, int64_t to) {
  Panels<N> back = pack<N>(weight, out, in, in, 1);
  const int64_t wide_in = padded<N>(in);
  const typename Vector<N>::type zero = {};
  Buffer h(AT_ONCE * wide_in), d(AT_ONCE * wide_in), dweight(sums ? out * wide_in : 0);
  for (; from < to; from += AT_ONCE) {
    const int64_t pixels = std::min(AT_ONCE, to - from);
    if (x) pad<N>(x + from * in, in, pixels, relu, h.data(), wide_in);
    if (sums) add_outer<N>(g + from * out, out, h.data(), wide_in, pixels, dweight.data());
    if (!dx) continue;
    multiply<N>(g + from * out, out, pixels, back, d.data(), wide_in);
    for (int64_t i = 0; relu && i < pixels * wide_in; i += N)
      store<N>(d.data() + i, load<N>(h.data() + i) <= zero ? zero : load<N>(d.data() + i));
    unpad<N>(d.data(), wide_in, in, pixels, dx + from * in);
  }
  for (int64_t o = 0; sums && o < out; o++)
    for (int64_t i = 0; i < in; i++) sums[o * in + i] += dweight.data()[o * wide_in + i];
}

}  // namespace INSTRUCTIONS
