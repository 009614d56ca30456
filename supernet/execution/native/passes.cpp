// Separable convolutions and batch norms, channels-last float32: x (batch, rows, columns, channels).
// PyTorch's own read and write every intermediate result, and with few channels fill a part of a register.
//
// Plain C++ with GCC's and Clang's vector types, as in depthwise.cpp.

#define LOOPS "passes.h"
#include "instructions.h"

#include <cmath>

// Sums over all pixels, for each channel: of x - at and of its square; with g, of g and of g (x - at). Each thread has
// a part of the `floats` numbers, whole pixels, and the parts are added in the threads' order, not as they get ready:
// as many threads give the same sum to the last digit.
static void sums_of(int64_t floats, int C, const float *x, const float *g, const float *at, double *sums) {
  const int threads = omp_get_max_threads();
  const int64_t pixels = floats / C;
  std::vector<double> parts(threads * 2 * C, 0.0);
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++)
    DISPATCH(any_moments, C, x, g, at, parts.data() + t * 2 * C, pixels * t / threads * C,
             pixels * (t + 1) / threads * C);
  for (int i = 0; i < 2 * C; i++) {
    sums[i] = 0.0;
    for (int t = 0; t < threads; t++) sums[i] += parts[t * 2 * C + i];
  }
}

// out = a x + b g + c of each channel; abc (3, channels).
static void apply(int64_t floats, int C, const float *x, const float *g, const float *abc, float *out) {
  const int threads = omp_get_max_threads();
  const int64_t pixels = floats / C;
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++)
    DISPATCH(any_linear, C, x, g, abc, out, pixels * t / threads * C, pixels * (t + 1) / threads * C);
}

// A norm's dx = steep (g - mean(g) - (x - mean) inverse^2 mean(g (x - mean))) as a line abc[0] x + abc[C] g + abc[2 C].
static void line_of(double mean, double inverse, double scale, double of_g, double of_both, double count, int C,
                    float *abc) {
  const double steep = scale * inverse;
  abc[C] = steep;
  abc[0] = -steep * inverse * inverse * of_both / count;
  // With abc[0] as it was rounded to a float: the constant has to fit the factor that x is multiplied by.
  abc[2 * C] = -steep * of_g / count - (double)abc[0] * mean;
}

// How many images of a tensor are done at a time: what is made of them, or all who read them, finds them in a cache.
static int64_t images_at_once(const Shape &s) {
  return std::max<int64_t>(1, 65536 / (s.rows * s.columns * s.channels));
}

// Means and sums of squared distances from them, of the pixels that were seen so far: seen (1 + 2 channels).
// Those of some more pixels of y are made around the mean of a few of them, for squares to be small, and merged.
static void see(const float *y, int64_t C, int64_t from, int64_t to, double *seen) {
  const int64_t pixels = to - from, sample = std::min<int64_t>(pixels, 16);
  std::vector<float> centre(C);
  std::vector<double> sums(2 * C, 0.0);
  for (int64_t i = 0; i < sample; i++)
    for (int64_t c = 0; c < C; c++) sums[c] += y[(from + pixels * i / sample) * C + c];
  for (int64_t c = 0; c < C; c++) centre[c] = sums[c] / sample, sums[c] = 0.0;
  DISPATCH(any_moments, C, y, nullptr, centre.data(), sums.data(), from * C, to * C);
  const double before = seen[0], all = before + pixels;
  seen[0] = all;
  for (int64_t c = 0; c < C; c++) {
    const double off = sums[c] / pixels, apart = centre[c] + off - seen[1 + c];
    seen[1 + C + c] += std::max(sums[C + c] - off * sums[c], 0.0) + apart * apart * before * pixels / all;
    seen[1 + c] += apart * pixels / all;
  }
}

// What a norm needs to know, as `norm_statistics`, of what the threads have seen, each `step` doubles after the other.
static void settle(const double *seen, int64_t step, int threads, int64_t C, double eps, float *statistics) {
  std::vector<double> all(seen, seen + 1 + 2 * C);
  for (int t = 1; t < threads; t++) {
    const double *more = seen + t * step, before = all[0];
    if (more[0] == 0.0) continue;
    all[0] += more[0];
    for (int64_t c = 0; c < C; c++) {
      const double apart = more[1 + c] - all[1 + c];
      all[1 + C + c] += more[1 + C + c] + apart * apart * before * more[0] / all[0];
      all[1 + c] += apart * more[0] / all[0];
    }
  }
  for (int64_t c = 0; c < C; c++) {
    const double variance = all[1 + C + c] / all[0];
    statistics[c] = all[1 + c];
    statistics[C + c] = variance;
    statistics[2 * C + c] = 1.0 / std::sqrt(variance + eps);
  }
}

extern "C" {

// y: a depthwise convolution (channels, K, K) of x, or of ReLU(slope x + level) where they are given, then a 1x1
// convolution (channels, channels).
void separable(const float *x, const float *slope, const float *level, const float *depthwise, const float *pointwise,
               float *y, int K, const int64_t *shape) {
  // The sizes come as a plain array of int64, which Python can make without knowing the struct.
  Shape s;
  memcpy(&s, shape, sizeof s);
  const int threads = omp_get_max_threads();
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++)
    DISPATCH(forward, s, K, x, slope, level, depthwise, pointwise, y, s.batch * t / threads,
             s.batch * (t + 1) / threads);
}

// From its output's gradient g: dx (by slope x + level where they are given) and the gradients of both weights, one
// after the other in dw. Either may be null; x is needed for dw and for the ReLU.
void separable_gradients(const float *g, const float *x, const float *slope, const float *level,
                         const float *depthwise, const float *pointwise, float *dx, float *dw, int K,
                         const int64_t *shape) {
  Shape s;
  memcpy(&s, shape, sizeof s);
  const int threads = omp_get_max_threads();
  // Threads share the images. Of dx each writes its own, but all add to the same weights: a copy for each thread.
  const int64_t size = s.channels * (K * K + s.channels);
  std::vector<float> parts(dw ? threads * size : 0, 0.0f);
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++)
    DISPATCH(backward, s, K, g, x, slope, level, depthwise, pointwise, dx, 0,
             dw ? parts.data() + t * size : nullptr, s.batch * t / threads, s.batch * (t + 1) / threads);
  // In the threads' order, so that as many threads give the same sum to the last digit.
  for (int64_t i = 0; dw && i < size; i++) {
    dw[i] = 0.0f;
    for (int t = 0; t < threads; t++) dw[i] += parts[t * size + i];
  }
}

// y (pixels, out): a 1x1 convolution, weight (out, in), of x (pixels, in), or of its ReLU.
void pointwise(const float *x, int relu, const float *weight, float *y, int64_t pixels, int64_t in, int64_t out) {
  const int threads = omp_get_max_threads();
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++)
    DISPATCH(pointwise_forward, in, out, x, relu, weight, y, pixels * t / threads, pixels * (t + 1) / threads);
}

// From its output's gradient g: dx and dw (out, in). Either may be null; x is needed for dw and for the ReLU.
void pointwise_gradients(const float *g, const float *x, int relu, const float *weight, float *dx, float *dw,
                         int64_t pixels, int64_t in, int64_t out) {
  const int threads = omp_get_max_threads();
  const int64_t size = in * out;
  // As above: threads share the pixels, and each adds to weights' gradients of its own.
  std::vector<float> parts(dw ? threads * size : 0, 0.0f);
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++)
    DISPATCH(pointwise_backward, in, out, g, x, relu, weight, dx, dw ? parts.data() + t * size : nullptr,
             pixels * t / threads, pixels * (t + 1) / threads);
  for (int64_t i = 0; dw && i < size; i++) {
    dw[i] = 0.0f;
    for (int t = 0; t < threads; t++) dw[i] += parts[t * size + i];
  }
}

// Of the batch: mean, variance (biased), 1 / sqrt(variance + eps), each (channels,), in `statistics`.
void norm_statistics(const float *x, int64_t floats, int C, double eps, float *statistics) {
  std::vector<double> sums(2 * C), near(C, 0.0);
  std::vector<float> centre(C);
  const int64_t pixels = floats / C, sample = std::min<int64_t>(pixels, 64);
  const double count = pixels;
  // Squares are summed around a point near the mean: E(x^2) - E(x)^2 would lose all digits where the mean is large. The
  // mean of some pixels is near enough; where it is not, the sums say so, and are made again around what they found.
  for (int64_t i = 0; i < sample; i++)
    for (int c = 0; c < C; c++) near[c] += x[pixels * i / sample * C + c];
  for (int c = 0; c < C; c++) centre[c] = near[c] / sample;
  for (bool far = true; far;) {
    sums_of(floats, C, x, nullptr, centre.data(), sums.data());
    far = false;
    for (int c = 0; c < C; c++) {
      const double off = sums[c] / count, squared = sums[C + c] / count;
      // A tenth of the squares at most is to be taken off again; what is within rounding of the mean stays there.
      if (off * off > 0.1 * squared && centre[c] + (float)off != centre[c]) far = true;
    }
    for (int c = 0; c < C && far; c++) centre[c] += sums[c] / count;
  }
  for (int c = 0; c < C; c++) {
    // The centre is a float, and `off` what rounding has left of the distance to the mean.
    const double off = sums[c] / count, variance = sums[C + c] / count - off * off;
    statistics[c] = centre[c] + off;
    statistics[C + c] = variance;
    statistics[2 * C + c] = 1.0 / std::sqrt(variance + eps);
  }
}

// out = sum_i slopes[i] xs[i] + level of each channel; slopes (number, channels).
void sum_of_norms(const float *const *xs, int number, int64_t floats, int C, const float *slopes, const float *level,
                  float *out) {
  const int threads = omp_get_max_threads();
  const int64_t pixels = floats / C;
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++)
    DISPATCH(any_total, C, xs, number, slopes, level, out, pixels * t / threads * C,
             pixels * (t + 1) / threads * C);
}

// Of a batch norm with `scale` (null: 1), from its output's gradient g: dx (null: not wanted) and, in dw, the gradients
// of scale and shift, each (channels,).
void norm_gradients(const float *g, const float *x, const float *statistics, const float *scale, int64_t floats,
                           int C, float *dx, float *dw) {
  std::vector<double> sums(2 * C);
  std::vector<float> abc(3 * C);
  const double count = floats / C;
  sums_of(floats, C, x, g, statistics, sums.data());
  for (int c = 0; c < C; c++) {
    const double inverse = statistics[2 * C + c];
    line_of(statistics[c], inverse, scale ? scale[c] : 1.0, sums[c], sums[C + c], count, C, abc.data() + c);
    dw[c] = sums[C + c] * inverse;
    dw[C + c] = sums[c];
  }
  if (dx) apply(floats, C, x, g, abc.data(), dx);
}

// Of a sum of norms, total = sum_n scales[n] (xs[n] - mean) inverse, from its gradient g: each dxs[n] (null: not wanted)
// and in dw (number, 2, channels) the gradients of scale and shift of each. `statistics` (number, 3, channels); scales
// (number,). Some pixels at a time: g, which all have in common, is read from the nearest cache but once.
void sum_of_norms_gradients(const float *g, const float *const *xs, const float *statistics, const float *scales,
                            int number, int64_t floats, int C, float *const *dxs, float *dw) {
  const int threads = omp_get_max_threads();
  const int64_t pixels = floats / C, at_once = std::max<int64_t>(1, 8192 / C);
  const double count = pixels;
  std::vector<double> parts((int64_t)threads * number * 2 * C, 0.0);
  std::vector<float> abc((int64_t)number * 3 * C);
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++) {
    const int64_t end = pixels * (t + 1) / threads;
    for (int64_t p = pixels * t / threads; p < end; p += at_once)
      for (int n = 0; n < number; n++)
        DISPATCH(any_moments, C, xs[n], g, statistics + n * 3 * C, parts.data() + ((int64_t)t * number + n) * 2 * C,
                 p * C, std::min(p + at_once, end) * C);
  }
  for (int n = 0; n < number; n++)
    for (int c = 0; c < C; c++) {
      double of_g = 0.0, of_both = 0.0;
      for (int t = 0; t < threads; t++) {
        const double *part = parts.data() + ((int64_t)t * number + n) * 2 * C;
        of_g += part[c], of_both += part[C + c];
      }
      const float *own = statistics + n * 3 * C;
      line_of(own[c], own[2 * C + c], scales[n], of_g, of_both, count, C, abc.data() + n * 3 * C + c);
      dw[n * 2 * C + c] = of_both * own[2 * C + c];
      dw[(n * 2 + 1) * C + c] = of_g;
    }
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++) {
    const int64_t end = pixels * (t + 1) / threads;
    for (int64_t p = pixels * t / threads; p < end; p += at_once)
      for (int n = 0; n < number; n++)
        if (dxs[n])
          DISPATCH(any_linear, C, xs[n], g, abc.data() + n * 3 * C, dxs[n], p * C, std::min(p + at_once, end) * C);
  }
}

// out = relu where x > 0 (null: none), plus sum_n weights[n] gs[n]; `out` may be `relu`.
void gather(const float *relu, const float *x, const float *const *gs, const float *weights, int number, int64_t floats,
            float *out) {
  const int threads = omp_get_max_threads();
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++)
    DISPATCH(gathered, relu, x, gs, weights, number, out, floats * t / threads, floats * (t + 1) / threads);
}

// `separable` of the ReLU of a batch norm of x with scale and shift (null: 1 and 0), whose running mean and variance
// (null: none) move by `momentum`. kept (5, channels): mean, variance, 1 / sqrt(variance + eps), which are given where
// `known`; slope and level. Of y what a norm with next_eps needs to know, statistics (3, channels).
void norm_relu_separable(const float *x, const float *scale, const float *shift, float *mean, float *variance,
                         double momentum, double eps, int known, const float *depthwise, const float *pointwise,
                         float *y, float *kept, double next_eps, float *statistics, int K, const int64_t *shape) {
  Shape s;
  memcpy(&s, shape, sizeof s);
  const int64_t C = s.channels, pixels = s.batch * s.rows * s.columns, at_once = images_at_once(s), each = 1 + 2 * C;
  if (!known) norm_statistics(x, pixels * C, C, eps, kept);
  const float unbiased = (double)pixels / std::max<int64_t>(pixels - 1, 1), share = momentum;
  float *slope = kept + 3 * C, *level = kept + 4 * C;
  for (int64_t c = 0; c < C; c++) {
    slope[c] = kept[2 * C + c] * (scale ? scale[c] : 1.0f);
    level[c] = (shift ? shift[c] : 0.0f) - kept[c] * slope[c];
    if (mean) mean[c] += share * (kept[c] - mean[c]);
    if (variance) variance[c] += share * (kept[C + c] * unbiased - variance[c]);
  }
  const int threads = omp_get_max_threads();
  const int64_t made = s.out_rows * s.out_columns;
  std::vector<double> seen(threads * each, 0.0);
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++) {
    const int64_t end = s.batch * (t + 1) / threads;
    for (int64_t b = s.batch * t / threads; b < end; b += at_once) {
      const int64_t stop = std::min(b + at_once, end);
      DISPATCH(forward, s, K, x, slope, level, depthwise, pointwise, y, b, stop);
      see(y, C, b * made, stop * made, seen.data() + t * each);
    }
  }
  settle(seen.data(), each, threads, C, next_eps, statistics);
}

// Its gradients: dx; in dnorm (2, channels) those by scale and shift; in dw those of both weights, one after the other.
// dx may be null where neither it nor dnorm is wanted, dw where it is not.
void norm_relu_separable_gradients(const float *g, const float *x, const float *scale, const float *kept,
                                   const float *depthwise, const float *pointwise, float *dx, float *dnorm, float *dw,
                                   int K, const int64_t *shape) {
  Shape s;
  memcpy(&s, shape, sizeof s);
  const int threads = omp_get_max_threads();
  const int64_t C = s.channels, size = C * (K * K + C), pixels = s.rows * s.columns, at_once = images_at_once(s);
  std::vector<float> parts(dw ? threads * size : 0, 0.0f), abc(3 * C);
  std::vector<double> sums(threads * 2 * C, 0.0);
  // dx is first the gradient by what the norm makes, of which the sums are those that the norm's own gradients begin with.
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++) {
    const int64_t end = s.batch * (t + 1) / threads;
    for (int64_t b = s.batch * t / threads; b < end; b += at_once) {
      const int64_t stop = std::min(b + at_once, end);
      DISPATCH(backward, s, K, g, x, kept + 3 * C, kept + 4 * C, depthwise, pointwise, dx, 0,
               dw ? parts.data() + t * size : nullptr, b, stop);
      if (dx) DISPATCH(any_moments, C, x, dx, kept, sums.data() + t * 2 * C, b * pixels * C, stop * pixels * C);
    }
  }
  for (int64_t i = 0; dw && i < size; i++) {
    dw[i] = 0.0f;
    for (int t = 0; t < threads; t++) dw[i] += parts[t * size + i];
  }
  if (!dx) return;
  for (int64_t c = 0; c < C; c++) {
    double of_g = 0.0, of_both = 0.0;
    for (int t = 0; t < threads; t++) of_g += sums[t * 2 * C + c], of_both += sums[t * 2 * C + C + c];
    const double inverse = kept[2 * C + c];
    line_of(kept[c], inverse, scale ? scale[c] : 1.0, of_g, of_both, s.batch * pixels, C, abc.data() + c);
    dnorm[c] = of_both * inverse;
    dnorm[C + c] = of_g;
  }
  apply(s.batch * pixels * C, C, x, dx, abc.data(), dx);
}

// Several of `separable` of the ReLU of one x; of each: its K, its shape, its weights, its y, and of y what a norm with
// its eps needs to know, statistics (number, 3, channels).
void relu_separables(const float *x, int number, const int *Ks, const int64_t *shapes, const float *const *depthwise,
                     const float *const *pointwise, float *const *ys, const double *eps, float *statistics) {
  std::vector<Shape> all(number);
  memcpy(all.data(), shapes, number * sizeof(Shape));
  const int64_t C = all[0].channels, batch = all[0].batch, at_once = images_at_once(all[0]), each = 1 + 2 * C;
  const std::vector<float> ones(C, 1.0f), zeros(C, 0.0f);
  const int threads = omp_get_max_threads();
  std::vector<double> seen(threads * number * each, 0.0);
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++) {
    const int64_t end = batch * (t + 1) / threads;
    for (int64_t b = batch * t / threads; b < end; b += at_once)
      for (int n = 0; n < number; n++) {
        const int64_t stop = std::min(b + at_once, end), pixels = all[n].out_rows * all[n].out_columns;
        DISPATCH(forward, all[n], Ks[n], x, ones.data(), zeros.data(), depthwise[n], pointwise[n], ys[n], b, stop);
        see(ys[n], C, b * pixels, stop * pixels, seen.data() + (t * number + n) * each);
      }
  }
  for (int n = 0; n < number; n++)
    settle(seen.data() + n * each, number * each, threads, C, eps[n], statistics + n * 3 * C);
}

// Their gradients, from those by each y: the sum of all by the ReLU of x in dx (null: not wanted) and those of both
// weights of each, one after the other, in dws[n] (null: not wanted). x is needed for the latter alone.
void relu_separables_gradients(const float *const *gs, const float *x, int number, const int *Ks, const int64_t *shapes,
                               const float *const *depthwise, const float *const *pointwise, float *dx,
                               float *const *dws) {
  std::vector<Shape> all(number);
  memcpy(all.data(), shapes, number * sizeof(Shape));
  const int64_t C = all[0].channels, batch = all[0].batch, at_once = images_at_once(all[0]);
  const std::vector<float> ones(C, 1.0f), zeros(C, 0.0f);
  const int threads = omp_get_max_threads();
  std::vector<int64_t> starts(number + 1, 0);
  for (int n = 0; n < number; n++) starts[n + 1] = starts[n] + (dws[n] ? C * (Ks[n] * Ks[n] + C) : 0);
  std::vector<float> parts(threads * starts[number], 0.0f);
#pragma omp parallel for schedule(static, 1)
  for (int t = 0; t < threads; t++) {
    const int64_t end = batch * (t + 1) / threads;
    for (int64_t b = batch * t / threads; b < end; b += at_once)
      for (int n = 0; n < number; n++)
        DISPATCH(backward, all[n], Ks[n], gs[n], dws[n] ? x : nullptr, ones.data(), zeros.data(), depthwise[n],
                 pointwise[n], dx, n ? UNMASKED | ADDED : UNMASKED,
                 dws[n] ? parts.data() + t * starts[number] + starts[n] : nullptr, b, std::min(b + at_once, end));
  }
  for (int n = 0; n < number; n++)
    for (int64_t i = starts[n]; i < starts[n + 1]; i++) {
      float sum = 0.0f;
      for (int t = 0; t < threads; t++) sum += parts[t * starts[number] + i];
      dws[n][i - starts[n]] = sum;
    }
}

// A pooling of 3 x 3 pixels with a frame of one, the mean counting pixels of the image alone: y, or, with y's gradient g,
// dx. A mean's gradient needs neither x nor y.
void pool(int mean, const float *x, float *y, const float *g, float *dx, const int64_t *shape) {
  Shape s;
  memcpy(&s, shape, sizeof s);
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < s.batch; b++) DISPATCH(pooled, s, mean != 0, x, y, g, dx, b, b + 1);
}
}
