// cuBLAS, cuDNN and the driver, as far as PyTorch asks them something. Nothing is computed: each call that would launch
// something is counted, on the stream of its handle. All that is not here answers 0.
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cudnn.h>

#include <cstdlib>
#include <cstring>

#include "state.h"

using standin::Handle;

namespace {
constexpr int kPlenty = 16;

template <class T>
void make(T* handle) {  // an object that nobody looks into
  *handle = static_cast<T>(calloc(1, kPlenty));
}

template <class Performance>
cudnnStatus_t one_algorithm(int* found, Performance* result) {
  memset(result, 0, sizeof *result);
  *found = 1;
  result->algo = static_cast<decltype(result->algo)>(1);
  result->determinism = CUDNN_DETERMINISTIC;
  result->mathType = CUDNN_FMA_MATH;
  return CUDNN_STATUS_SUCCESS;
}
}  // namespace

extern "C" {

void standin_library_launch(const char* kernel, const void* handle);
void standin_stream_launch(const char* kernel, void* stream);

// --- cuBLAS --------------------------------------------------------------------------------------------------------

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = reinterpret_cast<cublasHandle_t>(new Handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  reinterpret_cast<Handle*>(handle)->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t, cublasMath_t* mode) {
  *mode = CUBLAS_DEFAULT_MATH;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t, cublasPointerMode_t* mode) {
  *mode = CUBLAS_POINTER_MODE_HOST;
  return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion() { return CUBLAS_VERSION; }
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t, cudaDataType_t) {
  make(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType, uint64_t, uint64_t, int64_t) {
  make(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
  make(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int,
                                              cublasLtMatmulHeuristicResult_t result[], int* found) {
  memset(result, 0, sizeof *result);
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void*,
                              cublasLtMatrixLayout_t, const void*, cublasLtMatrixLayout_t, const void*, const void*,
                              cublasLtMatrixLayout_t, void*, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t*,
                              void*, size_t, cudaStream_t stream) {
  standin_stream_launch("cublasLtMatmul", stream);
  return CUBLAS_STATUS_SUCCESS;
}

// --- cuDNN ---------------------------------------------------------------------------------------------------------

size_t cudnnGetVersion() { return CUDNN_VERSION; }
size_t cudnnGetCudartVersion() { return CUDART_VERSION; }
const char* cudnnGetErrorString(cudnnStatus_t) { return "an error of the stand-in"; }
cudnnStatus_t cudnnGetProperty(libraryPropertyType type, int* value) {
  *value = type == MAJOR_VERSION ? CUDNN_MAJOR : type == MINOR_VERSION ? CUDNN_MINOR : CUDNN_PATCHLEVEL;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  *handle = reinterpret_cast<cudnnHandle_t>(new Handle);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  reinterpret_cast<Handle*>(handle)->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

#define MADE(name, type)              \
  cudnnStatus_t name(type* made) {    \
    make(made);                       \
    return CUDNN_STATUS_SUCCESS;      \
  }
MADE(cudnnCreateTensorDescriptor, cudnnTensorDescriptor_t)
MADE(cudnnCreateFilterDescriptor, cudnnFilterDescriptor_t)
MADE(cudnnCreateConvolutionDescriptor, cudnnConvolutionDescriptor_t)
MADE(cudnnCreatePoolingDescriptor, cudnnPoolingDescriptor_t)
MADE(cudnnCreateActivationDescriptor, cudnnActivationDescriptor_t)
MADE(cudnnCreateDropoutDescriptor, cudnnDropoutDescriptor_t)

using Tensor = const cudnnTensorDescriptor_t;
using Filter = const cudnnFilterDescriptor_t;
using Convolution = const cudnnConvolutionDescriptor_t;
using Values = const void*;

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t, Tensor, Filter, Convolution, Tensor, const int,
                                                     int* found, cudnnConvolutionFwdAlgoPerf_t* result) {
  return one_algorithm(found, result);
}
cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(cudnnHandle_t, Filter, Tensor, Convolution, Tensor,
                                                          const int, int* found,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* result) {
  return one_algorithm(found, result);
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(cudnnHandle_t, Tensor, Tensor, Convolution, Filter,
                                                            const int, int* found,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* result) {
  return one_algorithm(found, result);
}
cudnnStatus_t cudnnFindConvolutionForwardAlgorithmEx(cudnnHandle_t, Tensor, Values, Filter, Values, Convolution,
                                                     Tensor, void*, const int, int* found,
                                                     cudnnConvolutionFwdAlgoPerf_t* result, void*, size_t) {
  return one_algorithm(found, result);
}
cudnnStatus_t cudnnFindConvolutionBackwardDataAlgorithmEx(cudnnHandle_t, Filter, Values, Tensor, Values, Convolution,
                                                          Tensor, void*, const int, int* found,
                                                          cudnnConvolutionBwdDataAlgoPerf_t* result, void*, size_t) {
  return one_algorithm(found, result);
}
cudnnStatus_t cudnnFindConvolutionBackwardFilterAlgorithmEx(cudnnHandle_t, Tensor, Values, Tensor, Values,
                                                            Convolution, Filter, void*, const int, int* found,
                                                            cudnnConvolutionBwdFilterAlgoPerf_t* result, void*,
                                                            size_t) {
  return one_algorithm(found, result);
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, Tensor, Filter, Convolution, Tensor,
                                                      cudnnConvolutionFwdAlgo_t, size_t* size) {
  *size = 0;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(cudnnHandle_t, Filter, Tensor, Convolution, Tensor,
                                                           cudnnConvolutionBwdDataAlgo_t, size_t* size) {
  *size = 0;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(cudnnHandle_t, Tensor, Tensor, Convolution, Filter,
                                                             cudnnConvolutionBwdFilterAlgo_t, size_t* size) {
  *size = 0;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, Values, Tensor, Values, Filter, Values, Convolution,
                                      cudnnConvolutionFwdAlgo_t, void*, size_t, Values, Tensor, void*) {
  standin_library_launch("cudnnConvolutionForward", handle);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, Values, Filter, Values, Tensor, Values, Convolution,
                                           cudnnConvolutionBwdDataAlgo_t, void*, size_t, Values, Tensor, void*) {
  standin_library_launch("cudnnConvolutionBackwardData", handle);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, Values, Tensor, Values, Tensor, Values,
                                             Convolution, cudnnConvolutionBwdFilterAlgo_t, void*, size_t, Values,
                                             Filter, void*) {
  standin_library_launch("cudnnConvolutionBackwardFilter", handle);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(cudnnHandle_t, cudnnBatchNormMode_t,
                                                                       cudnnBatchNormOps_t, Tensor, Tensor, Tensor,
                                                                       Tensor, const cudnnActivationDescriptor_t,
                                                                       size_t* size) {
  *size = 0;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(cudnnHandle_t, cudnnBatchNormMode_t,
                                                                cudnnBatchNormOps_t, Tensor, Tensor, Tensor, Tensor,
                                                                Tensor, Tensor, const cudnnActivationDescriptor_t,
                                                                size_t* size) {
  *size = 0;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(cudnnHandle_t, cudnnBatchNormMode_t,
                                                                   cudnnBatchNormOps_t,
                                                                   const cudnnActivationDescriptor_t, Tensor,
                                                                   size_t* size) {
  *size = 0;
  return CUDNN_STATUS_SUCCESS;
}

// --- The driver ----------------------------------------------------------------------------------------------------

int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) { return cudaDriverGetVersion(version); }
int cuDeviceGet(int* device, int number) {
  *device = number;
  return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  return cudaDeviceGetAttribute(value, static_cast<cudaDeviceAttr>(attribute), device);
}
int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return 0;
}
int cuCtxGetCurrent(void** context) {
  static int room;
  *context = &room;
  return 0;
}
int cuModuleLoadData(void** module, const void*) {
  make(module);
  return 0;
}
int cuModuleGetFunction(void** function, void*, const char*) {
  make(function);
  return 0;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, size_t) {
  *blocks = 2;
  return 0;
}
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void* stream, void**,
                   void**) {
  standin_stream_launch("a kernel compiled at run time", stream);
  return 0;
}

}  // extern "C"
