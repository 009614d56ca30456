"""A CUDA GPU where there is none: PyTorch's own CUDA build runs, every line of it but the kernels.

    python -m tests.standin SCRIPT.py ...           numbers are right: the CPU does each operation, on the same memory
    python -m tests.standin --count SCRIPT.py ...   kernels do nothing: fast, for launches, waits, host time
    python -m tests.standin -m experiments.pipeline experiment=quick runtime.device=cuda runtime.graphs=true
    python -m tests.standin --gpus 2 --bytes 1000000000 ...

A library, preloaded, stands in for the CUDA runtime, cuBLAS and cuDNN (`*.cpp`; `building` compiles it at first use).
Device memory is the host's. The caching allocator, its private pools, streams, generators, autograd's threads, fused
optimisers, CUDA graphs and warnings are PyTorch's own. The library keeps `account` of launches, of waits and of what
CUDA prohibits during a capture. A dispatch mode (`emulation`) does each operation once more on the CPU, on the same
memory; a replayed graph (`graphs`) does its operations again at the recorded addresses, so that a pool that is reused
too early shows, and memory that was given back raises. Random numbers (`draws`) depend on a generator's seed and
offset, as on a GPU, and are those of a CPU generator of that seed.

What it cannot show: kernels themselves, Triton's (SUPERNET_TRITON=0 tells the library to do without), cuDNN's choice of
algorithms, times on the device, races between streams. It needs Linux, g++, nm and PyTorch's CUDA build from PyPI,
whose packages bring the headers.
"""
