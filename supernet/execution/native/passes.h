// The loops of passes.cpp, written once and included once for each instruction set (instructions.h): which serve how many
// channels. With four or eight, a vector takes several pixels.

#include "narrow.h"
#include "products.h"
#include "wide.h"
#include "wide_norms.h"

namespace INSTRUCTIONS {

static const int LANES = WIDEST < 8 ? WIDEST : 8;

INLINE bool narrow(int64_t channels) { return channels == 4 || channels == 8; }

// Strided outputs of four channels come a pixel at a time.
#define CHOOSE(in_narrow, in_wide, ...)                                                                                \
  if (!narrow(s.channels)) K == 3 ? in_wide<WIDEST, 3>(__VA_ARGS__) : in_wide<WIDEST, 5>(__VA_ARGS__);                 \
  else if (s.channels == 8) K == 3 ? in_narrow<LANES, 8, 3>(__VA_ARGS__) : in_narrow<LANES, 8, 5>(__VA_ARGS__);        \
  else if (s.stride > 1) K == 3 ? in_narrow<4, 4, 3>(__VA_ARGS__) : in_narrow<4, 4, 5>(__VA_ARGS__);                   \
  else K == 3 ? in_narrow<LANES, 4, 3>(__VA_ARGS__) : in_narrow<LANES, 4, 5>(__VA_ARGS__);
#define BY_CHANNELS(in_narrow, in_wide, ...)                                                                           \
  if (!narrow(C)) in_wide<WIDEST>(C, __VA_ARGS__);                                                                     \
  else C == 4 ? in_narrow<LANES, 4>(__VA_ARGS__) : in_narrow<LANES, 8>(__VA_ARGS__);

INLINE void forward(const Shape &s, int K, const float *x, const float *slope, const float *level,
                    const float *depthwise, const float *pointwise, float *y, int64_t from, int64_t to) {
  CHOOSE(forward_images, wide_forward_images, s, x, slope, level, depthwise, pointwise, y, from, to)
}

INLINE void backward(const Shape &s, int K, const float *g, const float *x, const float *slope, const float *level,
                     const float *depthwise, const float *pointwise, float *dx, int how, float *sums, int64_t from, int64_t to) {
  CHOOSE(backward_images, wide_backward_images, s, g, x, slope, level, depthwise, pointwise, dx, how, sums, from, to)
}

INLINE void any_moments(int C, const float *x, const float *g, const float *at, double *sums, int64_t from, int64_t to) {
  BY_CHANNELS(moments, wide_moments, x, g, at, sums, from, to)
}

INLINE void any_linear(int C, const float *x, const float *g, const float *abc, float *out, int64_t from, int64_t to) {
  BY_CHANNELS(linear, wide_linear, x, g, abc, out, from, to)
}

INLINE void any_total(int C, const float *const *xs, int number, const float *slopes, const float *level, float *out,
                      int64_t from, int64_t to) {
  BY_CHANNELS(total, wide_total, xs, number, slopes, level, out, from, to)
}

// out = relu where x > 0 (null: none), and the weighted gs. `out` may be `relu`.
INLINE void gathered(const float *relu, const float *x, const float *const *gs, const float *weights, int number,
                     float *out, int64_t from, int64_t to) {
  typedef typename Vector<WIDEST>::type vector;
  const vector zero = {};
  int64_t i = from;
  for (; i + WIDEST <= to; i += WIDEST) {
    vector sum = relu ? (load<WIDEST>(x + i) <= zero ? zero : load<WIDEST>(relu + i)) : zero;
    for (int n = 0; n < number; n++) sum += weights[n] * load<WIDEST>(gs[n] + i);
    store<WIDEST>(out + i, sum);
  }
  for (; i < to; i++) {
    float sum = relu && !(x[i] <= 0.0f) ? relu[i] : 0.0f;
    for (int n = 0; n < number; n++) sum += weights[n] * gs[n][i];
    out[i] = sum;
  }
}

// A pooling of 3 x 3 pixels with a frame of one: the largest (`mean`: the mean of those inside the image), for N channels
// from c on. `x` and `y` are those of one image.
template <int N>
INLINE void pool_vector(const Shape &s, bool mean, const float *x, float *y, int64_t c) {
  typedef typename Vector<N>::type vector;
  for (int64_t row = 0; row < s.out_rows; row++)
    for (int64_t column = 0; column < s.out_columns; column++) {
      const int64_t top = row * s.stride - 1, left = column * s.stride - 1;
      const int64_t low = std::max<int64_t>(top, 0), high = std::min(top + 3, s.rows);
      const int64_t first = std::max<int64_t>(left, 0), last = std::min(left + 3, s.columns);
      vector found = load<N>(x + (low * s.columns + first) * s.channels + c);
      for (int64_t h = low; h < high; h++)
        for (int64_t w = h == low ? first + 1 : first; w < last; w++) {
          const vector here = load<N>(x + (h * s.columns + w) * s.channels + c);
          if (mean) found += here;
          else found = here > found || here != here ? here : found;
        }
      if (mean) found = found / (float)((high - low) * (last - first));
      store<N>(y + (row * s.out_columns + column) * s.channels + c, found);
    }
}

// Adds to dx what y's gradient g gives: of a maximum all of it to the first pixel that has it.
template <int N>
INLINE void unpool_vector(const Shape &s, bool mean, const float *x, const float *y, const float *g, float *dx, int64_t c) {
  typedef typename Vector<N>::type vector;
  const vector zero = {};
  for (int64_t row = 0; row < s.out_rows; row++)
    for (int64_t column = 0; column < s.out_columns; column++) {
      const int64_t top = row * s.stride - 1, left = column * s.stride - 1, at = (row * s.out_columns + column) * s.channels + c;
      const int64_t low = std::max<int64_t>(top, 0), high = std::min(top + 3, s.rows);
      const int64_t first = std::max<int64_t>(left, 0), last = std::min(left + 3, s.columns);
      vector left_over = load<N>(g + at);
      if (mean) left_over = left_over / (float)((high - low) * (last - first));
      const vector largest = mean ? zero : load<N>(y + at);
      for (int64_t h = low; h < high; h++)
        for (int64_t w = first; w < last; w++) {
          const int64_t from = (h * s.columns + w) * s.channels + c;
          const vector given = mean ? left_over : load<N>(x + from) == largest ? left_over : zero;
          if (!mean) left_over = load<N>(x + from) == largest ? zero : left_over;
          store<N>(dx + from, load<N>(dx + from) + given);
        }
    }
}

// y of images from .. to, or, with g, their dx, which is set.
INLINE void pooled(const Shape &s, bool mean, const float *x, float *y, const float *g, float *dx, int64_t from, int64_t to) {
  const int64_t in = s.rows * s.columns * s.channels, out = s.out_rows * s.out_columns * s.channels;
  for (int64_t b = from; b < to; b++) {
    int64_t c = 0;
    if (g) std::fill(dx + b * in, dx + (b + 1) * in, 0.0f);
    for (; c + WIDEST <= s.channels; c += WIDEST)
      g ? unpool_vector<WIDEST>(s, mean, x + b * in, y + b * out, g + b * out, dx + b * in, c)
        : pool_vector<WIDEST>(s, mean, x + b * in, y + b * out, c);
    for (; c + 4 <= s.channels; c += 4)
      g ? unpool_vector<4>(s, mean, x + b * in, y + b * out, g + b * out, dx + b * in, c)
        : pool_vector<4>(s, mean, x + b * in, y + b * out, c);
    for (; c < s.channels; c++)
      g ? unpool_vector<1>(s, mean, x + b * in, y + b * out, g + b * out, dx + b * in, c)
        : pool_vector<1>(s, mean, x + b * in, y + b * out, c);
  }
}

INLINE void pointwise_forward(int64_t in, int64_t out, const float *x, bool relu, const float *weight, float *y,
                              int64_t from, int64_t to) {
  wide_pointwise<WIDEST>(in, out, x, relu, weight, y, from, to);
}

INLINE void pointwise_backward(int64_t in, int64_t out, const float *g, const float *x, bool relu, const float *weight,
                               float *dx, float *sums, int64_t from, int64_t to) {
  wide_pointwise_backward<WIDEST>(in, out, g, x, relu, weight, dx, sums, from, to);
}

#undef CHOOSE
#undef BY_CHANNELS
}  // namespace INSTRUCTIONS
