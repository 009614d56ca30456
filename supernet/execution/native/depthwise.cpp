// Gradients of depthwise convolutions for channels-last float32 tensors: x (batch, rows, columns, channels), one
// kernel of K x K taps a channel. PyTorch's own take 5 to 50 times longer where the convolution is dilated or 5x5.
//
// Vectors of N channels (16, 8, 4 or 1, by the processor) stay in registers over a whole image; where the channels are no multiple of
// N, the last vector overlaps the one before it and computes the same sums again. Plain C++ with GCC's and Clang's
// vector types, compiled for three instruction sets, of which the best is chosen when the library is loaded.

#define LOOPS "loops.h"
#include "instructions.h"

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
