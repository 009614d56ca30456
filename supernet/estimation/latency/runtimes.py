"""What runs a network where its latency is measured: ONNX Runtime, which runs on devices, or PyTorch itself.

A runtime makes a `Program` of a module: a function without arguments that runs it once on an input of one fixed shape.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from supernet.estimation.latency.machine import processors
from supernet.estimation.latency.onnx_programs import Timed, check_installed, onnx_programs
from supernet.runtime.errors import InputError

_MOST_THREADS = 10_000  # of all programs together; systems stop at some ten thousand, and a process then hangs

Program = Callable[[], object]
"""Runs a module once and returns when it is done."""


class Runtime(Protocol):
    """Makes programs whose runs are timed."""

    @property
    def name(self) -> str:
        """Its name, such as "onnxruntime"."""
        ...

    @property
    def threads(self) -> int:
        """How many threads of the processor it uses."""
        ...

    def settings(self) -> Mapping[str, str]:
        """All on which its times depend, besides the machine: versions, device, threads, precision."""
        ...

    def programs(self, modules: Iterable[tuple[str, Timed]]) -> Iterator[tuple[str, Program]]:
        """Makes a program of each module.

        Args:
            modules: in float32, each with a name and the shapes of its inputs.

        Yields:
            Each name with its program, in the given order.

        Raises:
            InputError: a module cannot be run.
        """
        ...


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime on the processor: what many devices run, and faster than PyTorch without compilation.

    Batch norms are folded, activations are fused into convolutions and channels are blocked, so that other networks
    are fast than in PyTorch. Which ones are depends on its version.

    Args:
        threads: from 1 to the processors that this process may use. They do not spin while they wait.

    Raises:
        InputError: `threads` is out of its range, or the packages for ONNX are not installed.

    Example:
        >>> made = dict(OnnxRuntime().programs([("relu", (nn.ReLU(), ((1, 2),)))]))
        >>> made["relu"]()[0].shape
        (1, 2)
    """

    threads: int = 1
    name = "onnxruntime"

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        check_installed()

    def settings(self) -> Mapping[str, str]:
        """Versions, device, threads, precision."""
        import onnx
        import onnxruntime
        import onnxscript

        return {
            "runtime": self.name,
            "onnxruntime": onnxruntime.__version__,
            "onnx": onnx.__version__,
            "onnxscript": onnxscript.__version__,
            **_versions(self.threads, "cpu"),
        }

    def programs(self, modules: Iterable[tuple[str, Timed]]) -> Iterator[tuple[str, Program]]:
        """Exports the modules and opens a session for each, with threads of its own."""
        for number, (name, shapes, model) in enumerate(onnx_programs(modules), start=1):
            if number * (self.threads - 1) > _MOST_THREADS:
                raise InputError(
                    f"threads={self.threads}: {number} programs or more would start over {_MOST_THREADS:,} threads "
                    "together; give each fewer threads"
                )
            yield name, self.program(model, shapes)

    def program(self, model: bytes, shapes: Sequence[tuple[int, ...]]) -> Program:
        """Opens a session of one serialised model, with random numbers as its inputs.

        Args:
            model: an ONNX model.
            shapes: of its inputs in their order, the batch first.

        Returns:
            The program; it returns the outputs.
        """
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        draw = np.random.default_rng(0)
        given = zip(session.get_inputs(), shapes, strict=True)
        feed = {each.name: draw.standard_normal(shape, dtype=np.float32) for each, shape in given}
        return lambda: session.run(None, feed)


@dataclass(frozen=True)
class EagerTorch:
    """PyTorch without compilation.

    Args:
        device: "cpu" or "cuda".
        threads: from 1 to the processors that this process may use.

    Raises:
        InputError: there is no such device, or `threads` is out of its range.

    Example:
        >>> made = dict(EagerTorch().programs([("relu", (nn.ReLU(), ((1, 2),)))]))
        >>> made["relu"]().shape
        torch.Size([1, 2])
    """

    device: str = "cpu"
    threads: int = 1
    name = "torch"

    def __post_init__(self) -> None:
        _check_threads(self.threads)
        if self.device not in ("cpu", "cuda"):
            raise InputError(f"device={self.device}: needs cpu or cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device=cuda: PyTorch sees no GPU here; device=cpu")

    def settings(self) -> Mapping[str, str]:
        """Versions, device, threads, precision."""
        device = "cpu" if self.device == "cpu" else torch.cuda.get_device_name()
        cuda = {} if self.device == "cpu" else {"cuda": str(torch.version.cuda)}
        return {"runtime": self.name, **cuda, **_versions(self.threads, device)}

    def programs(self, modules: Iterable[tuple[str, Timed]]) -> Iterator[tuple[str, Program]]:
        """Puts the modules on the device; a program waits until the device is done."""
        torch.set_num_threads(self.threads)
        for name, (module, shapes) in modules:
            yield name, self._program(module, shapes)

    def _program(self, module: nn.Module, shapes: Sequence[tuple[int, ...]]) -> Program:
        generator = torch.Generator().manual_seed(0)
        inputs = [torch.randn(shape, generator=generator).to(self.device) for shape in shapes]
        network = module.eval().to(self.device)

        @torch.inference_mode()
        def run() -> object:
            output = network(*inputs)
            if self.device == "cuda":
                torch.cuda.synchronize()
            return output

        return run


def runtime_of(runtime: str, device: str = "cpu", threads: int = 1) -> Runtime:
    """Makes a runtime by its name.

    Args:
        runtime: "onnxruntime" or "torch".
        device: "cpu", or for "torch" also "cuda".
        threads: from 1 to the processors that this process may use.

    Returns:
        The runtime.

    Raises:
        InputError: there is no such runtime or device, or `threads` is out of its range.

    Example:
        >>> runtime_of("torch", threads=1)
        EagerTorch(device='cpu', threads=1)
    """
    if runtime not in _RUNTIMES:
        raise InputError(f"runtime={runtime}: no such runtime; known: {', '.join(_RUNTIMES)}")
    return _RUNTIMES[runtime](device, threads)


def _onnxruntime(device: str, threads: int) -> Runtime:
    if device != "cpu":
        raise InputError(f"device={device}: ONNX Runtime is measured on the processor; use cpu, or torch for cuda")
    return OnnxRuntime(threads)


_RUNTIMES: Mapping[str, Callable[[str, int], Runtime]] = {"onnxruntime": _onnxruntime, "torch": EagerTorch}


def _versions(threads: int, device: str) -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device,
        "threads": str(threads),
        "precision": "float32",
    }


def _check_threads(threads: int) -> None:
    most = processors()
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= most:
        allowed = "1, the only processor" if most == 1 else f"a whole number from 1 to {most}, the processors"
        raise InputError(f"threads={str(threads)[:40]}: needs {allowed} that can be used here")
