// The run-time compiler: a library of its own, because PyTorch asks for it by its name. It compiles to nothing.
#include <cstdlib>
#include <cstring>

namespace {
constexpr int kPlenty = 16;
}

extern "C" {

int nvrtcVersion(int* major, int* minor) {
  *major = STANDIN_MAJOR;
  *minor = 0;
  return 0;
}
int nvrtcCreateProgram(void** program, const char*, const char*, int, const char* const*, const char* const*) {
  *program = calloc(1, kPlenty);
  return 0;
}
int nvrtcGetLoweredName(void*, const char*, const char** name) {
  *name = "compiled at run time";
  return 0;
}
#define SIZED(name, bytes)                  \
  int name(void*, size_t* size) {           \
    *size = bytes;                          \
    return 0;                               \
  }
SIZED(nvrtcGetCUBINSize, kPlenty)
SIZED(nvrtcGetPTXSize, kPlenty)
SIZED(nvrtcGetProgramLogSize, 1)
#define EMPTY(name, bytes)                  \
  int name(void*, char* text) {             \
    memset(text, 0, bytes);                 \
    return 0;                               \
  }
EMPTY(nvrtcGetCUBIN, kPlenty)
EMPTY(nvrtcGetPTX, kPlenty)
EMPTY(nvrtcGetProgramLog, 1)
int nvrtcCompileProgram(void*, int, const char* const*) { return 0; }
int nvrtcDestroyProgram(void**) { return 0; }
int nvrtcAddNameExpression(void*, const char*) { return 0; }
const char* nvrtcGetErrorString(int) { return "an error of the stand-in"; }

}  // extern "C"
