// What the parts of the stand-in share: streams, captures and the account of what was asked of the device.
#pragma once
#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace standin {

struct Graph {
  size_t nodes = 0;
};

struct Stream;

struct Capture {
  unsigned long long id;
  cudaStreamCaptureMode mode;
  Graph* graph;
  std::vector<Stream*> streams;  // on which it is under way: its origin, and those that have joined it
  bool invalidated = false;
};

struct Stream {
  Capture* capture = nullptr;   // that is under way on it
  bool origin = false;          // whether the capture began here, and has not spread here by an event
};

struct Event {
  Capture* capture = nullptr;   // in which it was last recorded
};

// cuBLAS' and cuDNN's handles: what they launch goes to their stream.
struct Handle {
  cudaStream_t stream = nullptr;
};

struct Account {
  std::vector<std::string> journal;  // what CUDA prohibits during a capture, or what is strange
  long total = 0, captured = 0, beside = 0;
};

extern std::recursive_mutex mutex;
extern Account account;
extern std::map<Stream*, Capture*> origins;  // captures that are under way, by the stream on which they began

bool counting();               // whether nobody wants numbers, so that copies on the device are only counted
int device_count();
cudaError_t fail(cudaError_t error);
void note(const std::string& what);
void launch(const std::string& kernel, cudaStream_t stream);

// The host waits for the device, "everything" unless for a stream that does not capture. True: that is not allowed now.
bool wait(const char* call, bool everything = true);

// A call that CUDA does not allow while a stream captures, "potentially" unless this thread has relaxed it.
bool prohibited(const char* call, bool potentially);

}  // namespace standin
