"""Compiles the preloaded library, once for each content of its sources and each PyTorch."""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("account.cpp", "memory.cpp", "runtime.cpp", "libraries.cpp")
LIBRARY = "libstandin.so"
_OURS = re.compile(r"^(?!cuFile)(cuda|__cuda|cublas|cudnn|cusparse|cusolver|nvrtc|cu[A-Z])")
_COMPUTES = re.compile(r"^cublas(?!Lt).*(gemm|Gemm|gemv|dot|trsm)|^cudnn.*Execute")


def site_packages() -> Path | None:
    """The folder that PyTorch is installed in; None where there is none."""
    found = importlib.util.find_spec("torch")
    return Path(found.origin).parents[1] if found and found.origin else None


def why_not() -> str | None:
    """What is missing here for the stand-in, in words; None: nothing."""
    site = site_packages()
    if platform.system() != "Linux":
        return "the stand-in for CUDA needs Linux"
    if missing := [tool for tool in ("g++", "nm") if shutil.which(tool) is None]:
        return f"the stand-in for CUDA needs {' and '.join(missing)}"
    if site is None or not list(site.glob("torch/lib/libtorch_cuda.so")) or not _headers(site):
        return "the stand-in for CUDA needs PyTorch's CUDA build with its nvidia packages"
    return None


def preloaded(folder: Path) -> str:
    """What is loaded before all else: what `build` made, as the dynamic linker wants it."""
    return " ".join(map(str, [folder / LIBRARY, *folder.glob("lib/libnvrtc.so.*")]))


def build() -> Path:
    """The folder that the compiled library is in; compiles it where that was not done yet.

    Raises:
        RuntimeError: it cannot be compiled here, and why.
    """
    if (reason := why_not()) is not None:
        raise RuntimeError(reason)
    site = site_packages()
    assert site is not None
    folder = _cache() / _key(site)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as room:
            made = Path(room) / "made"
            _compile(site, made)
            try:
                made.rename(folder)  # whole or not at all, whoever else compiles it now
            except OSError:
                if not folder.exists():
                    raise
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "supernet-standin"


def _key(site: Path) -> str:
    parts = [path.read_bytes() for path in sorted(HERE.glob("*.cpp")) + sorted(HERE.glob("*.h"))]
    parts += [path.read_bytes() for path in sorted(HERE.glob("host/*/*"))]
    parts += [(site / "torch/version.py").read_bytes(), str(site).encode(), Path(__file__).read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _cuda_major(site: Path) -> int:
    """The version of CUDA that this PyTorch is built for."""
    found = re.search(r"^cuda.*= '(\d+)\.", (site / "torch/version.py").read_text(), re.MULTILINE)
    if not found:
        raise RuntimeError("this PyTorch is built without CUDA")
    return int(found[1])


def _headers(site: Path) -> list[Path]:
    """Folders of NVIDIA's headers; older packages have one folder for each library."""
    return [folder for folder in sorted(site.glob("nvidia/*/include")) if any(folder.iterdir())]


def _compile(site: Path, folder: Path) -> None:
    (folder / "lib").mkdir(parents=True)
    include = [f"-I{HERE}", f"-I{HERE / 'host'}", *(f"-I{path}" for path in _headers(site))]
    objects = [folder / f"{Path(name).stem}.o" for name in SOURCES]
    for name, made in zip(SOURCES, objects, strict=True):
        _run("g++", "-O1", "-fPIC", "-std=c++17", "-w", "-c", HERE / name, *include, "-o", made)
    wanted = {name for name in _symbols(site.glob("torch/lib/lib*.so"), "U", "-D") if _OURS.match(name)}
    rest = folder / "rest.cpp"
    rest.write_text(_answers(wanted - _symbols(objects, "T", "-g")))
    _run("g++", "-O1", "-fPIC", "-w", "-c", rest, "-o", folder / "rest.o")
    library = folder / LIBRARY
    _run("g++", "-shared", f"-Wl,-soname,{LIBRARY}", "-o", library, *objects, folder / "rest.o", "-lpthread")
    # The driver is opened by its name; a library with that name that leads to this one.
    driver = ["-shared", "-Wl,--no-as-needed", f"-L{folder}", f"-l:{LIBRARY}", "-Wl,-soname,libcuda.so.1"]
    _run("g++", "-x", "c++", os.devnull, *driver, "-o", folder / "lib" / "libcuda.so.1")
    major = _cuda_major(site)
    compiler = folder / "lib" / f"libnvrtc.so.{major}"
    versions = folder / "versions"
    versions.write_text(f"{compiler.name} {{ global: *; }};")
    _run(
        "g++",
        "-shared",
        "-fPIC",
        "-O1",
        f"-DSTANDIN_MAJOR={major}",
        f"-Wl,-soname,{compiler.name}",
        f"-Wl,--version-script={versions}",
        HERE / "compiler.cpp",
        "-o",
        compiler,
    )


def _answers(names: Iterable[str]) -> str:
    """C functions that succeed; those that compute are counted, on the stream of the handle they are given."""
    rows = ['extern "C" void standin_library_launch(const char*, const void*);', 'extern "C" {']
    for name in sorted(names):
        count = f'standin_library_launch("{name}", handle); ' if _COMPUTES.search(name) else ""
        rows.append(f"int {name}({'const void* handle' if count else ''}) {{ {count}return 0; }}")
    return "\n".join([*rows, "}", ""])


def _symbols(files: Iterable[Path], kind: str, option: str) -> set[str]:
    """Names in object files that are wanted (U) or defined (T)."""
    found = set()
    for file in files:
        rows = (row.split() for row in _run("nm", option, file).splitlines())
        found |= {row[-1].split("@")[0] for row in rows if len(row) > 1 and row[-2] == kind}
    return found


def _run(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed: {done.stderr}")
    return done.stdout
