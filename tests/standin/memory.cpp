// Device memory is the host's: what is allocated, copied and filled.
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "state.h"

using namespace standin;

namespace standin {
extern thread_local int current_device;
}

namespace {

struct Segment {
  size_t size;
  int device;
  bool live;
};
std::map<uintptr_t, Segment> segments;  // what was allocated on devices, by address; freed ones are known as such
std::map<uintptr_t, size_t> pinned;     // page-locked memory of the host
using Lock = std::lock_guard<std::recursive_mutex>;

uintptr_t address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

template <class Map>
auto entry_with(Map& map, uintptr_t at) {  // the last one that begins at or before `at`
  auto found = map.upper_bound(at);
  return found == map.begin() ? map.end() : std::prev(found);
}

size_t bytes() {
  const char* limit = getenv("STANDIN_BYTES");
  return limit ? strtoull(limit, nullptr, 10) : 80ull << 30;
}

size_t used() {
  size_t sum = 0;
  for (auto& [at, segment] : segments) sum += segment.live ? segment.size : 0;
  return sum;
}

// What is done to memory at once: not while it is captured, for a replay does it then; nor on the device for no numbers.
bool now(cudaStream_t handle, bool on_device = true) {
  auto* stream = reinterpret_cast<Stream*>(handle);
  return !(stream && stream->capture) && !(counting() && on_device);
}

}  // namespace

extern "C" {

// Whether [pointer, pointer + size) lies within memory that is allocated on a device now.
int standin_live(const void* pointer, size_t size) {
  Lock lock(mutex);
  auto found = entry_with(segments, address(pointer));
  return found != segments.end() && found->second.live &&
         address(pointer) + size <= found->first + found->second.size;
}

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  Lock lock(mutex);
  *total = bytes();
  *available = *total - used();
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t size) {
  if (prohibited("cudaMalloc", true)) return fail(cudaErrorStreamCaptureUnsupported);
  Lock lock(mutex);
  *pointer = nullptr;
  if (used() + size > bytes()) return fail(cudaErrorMemoryAllocation);
  // Memory that nobody touches takes no room: networks of any size can be counted.
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return fail(cudaErrorMemoryAllocation);
  auto next = segments.lower_bound(address(at));
  while (next != segments.end() && next->first < address(at) + size) next = segments.erase(next);
  segments[address(at)] = {size, current_device, true};
  *pointer = at;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  if (!pointer) return cudaSuccess;
  if (prohibited("cudaFree", true)) return fail(cudaErrorStreamCaptureUnsupported);
  Lock lock(mutex);
  auto found = segments.find(address(pointer));
  if (found == segments.end()) return fail(cudaErrorInvalidValue);
  found->second.live = false;
  munmap(pointer, found->second.size);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned) {
  if (prohibited("cudaHostAlloc", true)) return fail(cudaErrorStreamCaptureUnsupported);
  if (posix_memalign(pointer, 4096, size)) return fail(cudaErrorMemoryAllocation);
  Lock lock(mutex);
  pinned[address(*pointer)] = size;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
  Lock lock(mutex);
  pinned.erase(address(pointer));
  free(pointer);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  memset(attributes, 0, sizeof *attributes);
  Lock lock(mutex);
  auto found = entry_with(segments, address(pointer));
  auto host = entry_with(pinned, address(pointer));
  if (found != segments.end() && found->second.live && address(pointer) < found->first + found->second.size) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->device = found->second.device;
    attributes->devicePointer = const_cast<void*>(pointer);
  } else if (host != pinned.end() && address(pointer) < host->first + host->second) {
    attributes->type = cudaMemoryTypeHost;
    attributes->hostPointer = const_cast<void*>(pointer);
  } else {
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = -1;
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  if (wait("cudaMemcpy")) return fail(cudaErrorStreamCaptureUnsupported);
  memmove(to, from, size);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t handle) {
  auto* stream = reinterpret_cast<Stream*>(handle);
  if (stream && stream->capture && kind != cudaMemcpyDeviceToDevice) {
    cudaPointerAttributes host;
    cudaPointerGetAttributes(&host, kind == cudaMemcpyHostToDevice ? from : to);
    bool pageable = host.type == cudaMemoryTypeUnregistered;
    note(pageable ? "a captured copy from or to pageable memory" : "a captured copy between host and device");
  }
  launch("memcpy", handle);
  if (now(handle, kind == cudaMemcpyDeviceToDevice)) memmove(to, from, size);
  return cudaSuccess;
}

cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, cudaStream_t stream) {
  launch("memcpy peer", stream);
  if (now(stream)) memmove(to, from, size);
  return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  launch("memcpy2d", stream);
  if (!now(stream, kind == cudaMemcpyDeviceToDevice)) return cudaSuccess;
  for (size_t row = 0; row < height; ++row)
    memmove(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
  return cudaSuccess;
}

cudaError_t cudaMemset(void* at, int value, size_t size) {
  if (!counting()) memset(at, value, size);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* at, int value, size_t size, cudaStream_t stream) {
  launch("memset", stream);
  if (now(stream)) memset(at, value, size);
  return cudaSuccess;
}

}  // extern "C"
