// What CUDA's headers want from a host compiler. NVIDIA's own file is not among the packages that PyTorch brings.
#pragma once
#define __no_return__ __attribute__((noreturn))
#define __noinline__ __attribute__((noinline))
#define __forceinline__ __inline__ __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(a) __align__(a)
#define __thread__ __thread
#define __import__
#define __export__
#define CUDARTAPI
#define CUDARTAPI_CDECL
#define _CRTIMP
#define __location__(a)
#define __host__
#define __device__
#define __global__
#define __shared__
#define __constant__
#define __managed__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __cudart_builtin__
#define __specialization_static
#define __cluster_dims__(...)
#define __grid_constant__
#define __CUDA_ARCH_HAS_FEATURE__(x) 0
