// A CUDA runtime without a GPU: devices, streams, events, kernels that do nothing, captures and graphs.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "state.h"

using namespace standin;

namespace standin {
thread_local int current_device = 0;
}

namespace {

std::unordered_map<const void*, std::string> kernels;  // names by the host's functions that stand for them
unsigned long long captures = 0;
using Lock = std::lock_guard<std::recursive_mutex>;

Stream* stream_of(cudaStream_t handle) { return reinterpret_cast<Stream*>(handle); }
Event* event_of(cudaEvent_t handle) { return reinterpret_cast<Event*>(handle); }

void launch_function(const void* function, cudaStream_t stream) {
  auto found = kernels.find(function);
  launch(found == kernels.end() ? "kernel" : found->second, stream);
}

struct Configuration {
  dim3 grid, block;
  size_t shared;
  void* stream;
};
thread_local std::vector<Configuration> configurations;  // of launches by <<<...>>> that are being made

}  // namespace

extern "C" {

// --- Devices -------------------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* number) {
  *number = device_count();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) return fail(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

// The sizes of an H100: PyTorch chooses kernels and grids by them.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* made, int device) {
  memset(made, 0, sizeof *made);
  snprintf(made->name, sizeof made->name, "Stand-in %d", device);
  made->major = 9;
  made->multiProcessorCount = 132;
  made->maxThreadsPerMultiProcessor = 2048;
  made->maxThreadsPerBlock = 1024;
  made->maxBlocksPerMultiProcessor = 32;
  made->warpSize = 32;
  made->sharedMemPerBlock = 48 << 10;
  made->sharedMemPerBlockOptin = 227 << 10;
  made->sharedMemPerMultiprocessor = 228 << 10;
  made->regsPerBlock = made->regsPerMultiprocessor = 65536;
  made->maxGridSize[0] = 2147483647;
  made->maxGridSize[1] = made->maxGridSize[2] = 65535;
  made->maxThreadsDim[0] = made->maxThreadsDim[1] = 1024;
  made->maxThreadsDim[2] = 64;
  size_t available;
  cudaMemGetInfo(&available, &made->totalGlobalMem);
  made->totalConstMem = 65536;
  made->l2CacheSize = 50 << 20;
  made->memoryBusWidth = 5120;
  made->textureAlignment = 512;
  made->unifiedAddressing = made->concurrentKernels = made->cooperativeLaunch = made->canMapHostMemory = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp of;
  cudaGetDeviceProperties(&of, device);
  const std::map<int, int> values = {
      {cudaDevAttrMultiProcessorCount, of.multiProcessorCount},
      {cudaDevAttrMaxThreadsPerBlock, of.maxThreadsPerBlock},
      {cudaDevAttrMaxThreadsPerMultiProcessor, of.maxThreadsPerMultiProcessor},
      {cudaDevAttrMaxSharedMemoryPerBlock, static_cast<int>(of.sharedMemPerBlock)},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, static_cast<int>(of.sharedMemPerBlockOptin)},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, static_cast<int>(of.sharedMemPerMultiprocessor)},
      {cudaDevAttrComputeCapabilityMajor, of.major},
      {cudaDevAttrComputeCapabilityMinor, of.minor},
      {cudaDevAttrWarpSize, of.warpSize},
      {cudaDevAttrMaxGridDimX, of.maxGridSize[0]},
      {cudaDevAttrMaxGridDimY, of.maxGridSize[1]},
      {cudaDevAttrMaxGridDimZ, of.maxGridSize[2]},
  };
  auto found = values.find(attribute);
  *value = found == values.end() ? 0 : found->second;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* able, int, int) {
  *able = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int device) {
  snprintf(id, size, "0000:%02x:00.0", device);
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    default: return "an error of the stand-in";
  }
}
const char* cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }

// --- Streams and events --------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = reinterpret_cast<cudaStream_t>(new Stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) {
  *priority = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
// To wait for another stream than the capturing one is allowed.
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  bool captures = stream && stream_of(stream)->capture;
  return wait("cudaStreamSynchronize", captures) ? fail(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  return wait("cudaDeviceSynchronize") ? fail(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event_of(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Lock lock(mutex);
  event_of(event)->capture = stream ? stream_of(stream)->capture : nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}
// A stream that waits for an event of a capture becomes a part of it.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Lock lock(mutex);
  Capture* capture = event_of(event)->capture;
  for (auto& [origin, under_way] : origins)
    if (stream && under_way == capture && !stream_of(stream)->capture) {
      stream_of(stream)->capture = capture;
      capture->streams.push_back(stream_of(stream));
    }
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  return prohibited("cudaEventQuery", true) ? fail(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return wait("cudaEventSynchronize") ? fail(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1.0f;
  return cudaSuccess;
}

// --- Captures and graphs -------------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  Lock lock(mutex);
  Stream* stream = stream_of(handle);
  if (!stream || stream->capture) return fail(cudaErrorIllegalState);
  stream->capture = new Capture{++captures, mode, new Graph, {stream}};
  stream->origin = true;
  origins[stream] = stream->capture;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  Lock lock(mutex);
  Stream* stream = stream_of(handle);
  *graph = nullptr;
  if (!stream || !stream->origin) return fail(cudaErrorStreamCaptureUnmatched);
  Capture* capture = stream->capture;
  origins.erase(stream);
  for (Stream* each : capture->streams) each->capture = nullptr;
  stream->origin = false;
  if (capture->invalidated) return fail(cudaErrorStreamCaptureInvalidated);
  *graph = reinterpret_cast<cudaGraph_t>(capture->graph);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  Lock lock(mutex);
  Capture* capture = handle ? stream_of(handle)->capture : nullptr;
  *status = !capture               ? cudaStreamCaptureStatusNone
            : capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData** edges, size_t* number) {
  Lock lock(mutex);
  cudaStreamIsCapturing(handle, status);
  Capture* capture = handle ? stream_of(handle)->capture : nullptr;
  if (id) *id = capture ? capture->id : 0;
  if (graph) *graph = capture ? reinterpret_cast<cudaGraph_t>(capture->graph) : nullptr;
  if (dependencies) *dependencies = nullptr;
  if (edges) *edges = nullptr;
  if (number) *number = 0;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* number) {
  *number = graph ? reinterpret_cast<Graph*>(graph)->nodes : 0;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  *made = reinterpret_cast<cudaGraphExec_t>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t stream) {
  launch("graph launch", stream);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }
cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void*, cudaHostFn_t, unsigned, unsigned) {
  *object = static_cast<cudaUserObject_t>(malloc(8));
  return cudaSuccess;
}

// --- Kernels -------------------------------------------------------------------------------------------------------

void** __cudaRegisterFatBinary(void*) {
  static void* binary;
  return &binary;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
char __cudaInitModule(void**) { return 0; }
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, void*, void*, void*, void*,
                            int*) {
  kernels[function] = name;
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  auto last = configurations.back();
  configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared = last.shared;
  *static_cast<void**>(stream) = last.stream;
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* function, dim3, dim3, void**, size_t, cudaStream_t stream) {
  launch_function(function, stream);
  return cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* configuration, const void* function, void**) {
  launch_function(function, configuration->stream);
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, size_t, cudaStream_t stream) {
  launch_function(reinterpret_cast<const void*>(kernel), stream);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->binaryVersion = attributes->ptxVersion = 90;
  attributes->maxDynamicSharedSizeBytes = 48 << 10;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
  *blocks = 2;
  return cudaSuccess;
}
cudaError_t cudaGetSymbolAddress(void** pointer, const void*) {
  static char room[1 << 16];
  *pointer = room;
  return cudaSuccess;
}
static int nothing() { return 0; }
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = reinterpret_cast<void*>(nothing);
  if (result) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

}  // extern "C"
