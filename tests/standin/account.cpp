// The account, and how Python reads it.
#include <cstdio>
#include <cstdlib>

#include "state.h"

namespace standin {

std::recursive_mutex mutex;
Account account;
std::map<Stream*, Capture*> origins;

namespace {
constexpr size_t kLongest = 1000;  // entries of the journal
bool paused = false;
void (*waited)(const char*) = nullptr;  // tells Python of a wait, which knows the line
thread_local cudaError_t last = cudaSuccess;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;
using Lock = std::lock_guard<std::recursive_mutex>;
}  // namespace

bool counting() {
  static const bool on = getenv("STANDIN_COUNT") != nullptr;
  return on;
}

int device_count() {
  const char* number = getenv("STANDIN_GPUS");
  return number ? atoi(number) : 1;
}

cudaError_t fail(cudaError_t error) {
  last = error;
  return error;
}

void note(const std::string& what) {
  Lock lock(mutex);
  if (account.journal.size() < kLongest) account.journal.push_back(what);
}

void launch(const std::string& kernel, cudaStream_t handle) {
  Lock lock(mutex);
  if (paused) return;
  ++account.total;
  auto* stream = reinterpret_cast<Stream*>(handle);
  if (stream && stream->capture) {
    ++account.captured;
    ++stream->capture->graph->nodes;
  } else if (!origins.empty() && thread_mode != cudaStreamCaptureModeRelaxed) {
    ++account.beside;
    note("a kernel beside the capturing stream: " + kernel);
  }
}

bool prohibited(const char* call, bool potentially) {
  Lock lock(mutex);
  bool any = false;
  for (auto& [stream, capture] : origins) {
    bool relaxed = thread_mode == cudaStreamCaptureModeRelaxed || capture->mode == cudaStreamCaptureModeRelaxed;
    if (potentially && relaxed) continue;
    capture->invalidated = any = true;
  }
  if (any) note(std::string("prohibited during a capture: ") + call);
  return any;
}

bool wait(const char* call, bool everything) {
  if (everything && prohibited(call, false)) return true;
  {
    Lock lock(mutex);
    if (paused) return false;
  }
  if (waited) waited(call);  // without the lock: it takes Python's
  return false;
}

}  // namespace standin

using namespace standin;

extern "C" {

cudaError_t cudaGetLastError() {
  auto error = last;
  last = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last; }

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(thread_mode, *mode);
  return cudaSuccess;
}

long standin_launches() { return account.total; }
long standin_captured() { return account.captured; }
long standin_beside() { return account.beside; }
void standin_on_wait(void (*told)(const char*)) { waited = told; }
void standin_note(const char* what) { note(what); }

// While paused nothing is counted: what is launched is no part of the program.
void standin_pause(int on) {
  Lock lock(mutex);
  paused = on;
}

void standin_clear() {
  Lock lock(mutex);
  account = Account{};
}

int standin_journal(int number, char* out, int size) {
  Lock lock(mutex);
  if (number >= static_cast<int>(account.journal.size())) return 0;
  snprintf(out, size, "%s", account.journal[number].c_str());
  return 1;
}

void standin_library_launch(const char* kernel, const void* handle) {
  launch(kernel, static_cast<const Handle*>(handle)->stream);
}
void standin_stream_launch(const char* kernel, void* stream) { launch(kernel, static_cast<cudaStream_t>(stream)); }

}  // extern "C"
