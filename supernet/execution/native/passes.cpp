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
    DISPATCH(backward, s, K, g, x, slope, level, depthwise, pointwise, dx,
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
  std::vector<double> sums(2 * C);
  std::vector<float> centre(x, x + C);  // any pixel: numbers near the mean have small squares
  const double count = floats / C;
  // Twice: the first pass finds the mean, and the second sums squares around it. E(x^2) - E(x)^2 in one pass would lose
  // all digits where the mean is large.
  for (int pass = 0; pass < 2; pass++) {
    sums_of(floats, C, x, nullptr, centre.data(), sums.data());
    for (int c = 0; c < C && pass == 0; c++) centre[c] += sums[c] / count;
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
  // dx = steep (g - mean(g) - (x - mean) inverse^2 mean(g (x - mean))), which is abc[0] x + abc[1] g + abc[2].
  for (int c = 0; c < C; c++) {
    const double inverse = statistics[2 * C + c], steep = (scale ? scale[c] : 1.0) * inverse;
    dw[c] = sums[C + c] * inverse;
    dw[C + c] = sums[c];
    abc[C + c] = steep;
    abc[c] = -steep * inverse * inverse * sums[C + c] / count;
    // With abc[0] as it was rounded to a float: the constant has to fit the factor that x is multiplied by.
    abc[2 * C + c] = -steep * sums[c] / count - (double)abc[c] * statistics[c];
  }
  if (dx) apply(floats, C, x, g, abc.data(), dx);
}
}
