"""Sets how a network computes: its precision and memory format, determinism, and the use of CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from supernet.execution.cuda_graphs import Capture, Graphed
from supernet.runtime.run import Run


def settle_numerics(deterministic: bool) -> None:
    """Says for the whole process how PyTorch computes.

    Args:
        deterministic: the same numbers every time; otherwise cuDNN may try which of its kernels are the fastest.

    Example:
        >>> settle_numerics(deterministic=True)
        >>> torch.are_deterministic_algorithms_enabled()
        True
        >>> settle_numerics(deterministic=False)
    """
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # On, PyTorch fills all memory before use, for programs that read what they have not written. Nothing here does,
    # and it is 60 to 160 % more kernels a step on a GPU.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    # TF32, PyTorch's default in convolutions, keeps 10 of float32's 23 bits: the finite differences of second order
    # do not survive such rounding.
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def numerics_settled(deterministic: bool) -> Iterator[None]:
    """Within it PyTorch computes as `settle_numerics` says; afterwards as before.

    Args:
        deterministic: the same numbers every time.

    Example:
        >>> with numerics_settled(deterministic=True):
        ...     torch.are_deterministic_algorithms_enabled()
        True
    """
    cudnn, fill = torch.backends.cudnn, torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings = cudnn.benchmark, cudnn.allow_tf32, fill.fill_uninitialized_memory  # type: ignore[attr-defined]
    settle_numerics(deterministic)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark, cudnn.allow_tf32, fill.fill_uninitialized_memory = settings  # type: ignore[attr-defined]


class Accelerated:
    """Makes a network compute in the precision of a run, and replay CUDA graphs if the run says so.

    It is a context manager that may be entered many times, one after the other: within it `network` runs so, outside as
    itself. Parameters, architecture weights and losses are always float32. With `run.precision` "bfloat16" only
    activations are bfloat16 (autocast), images are kept with the channels of a pixel side by side (channels_last), and
    outputs are float32 again. With "tf32" a GPU rounds what convolutions and matrix products multiply to 10 of 23 bits
    while the context is open, so that backward passes belong into it. With `run.graphs` passes on a GPU are replayed
    from CUDA graphs (`cuda_graphs`); a CPU has none and computes as without.

    Two more context managers are for use inside it: `exact`, for passes that need float32, and `unrecorded`, for
    passes that are differentiated twice.

    Args:
        network: on its device already; its first argument is images (batch, channels, height, width).
        run: its device, precision and graphs count.
        capture: records a pass in place of CUDA, for tests.

    Example:
        >>> network = nn.Conv2d(3, 4, 1)
        >>> accelerated = Accelerated(network, Run(precision="bfloat16"))
        >>> images = torch.randn(2, 3, 8, 8)
        >>> with accelerated:
        ...     rounded = network(images)
        ...     with accelerated.exact():
        ...         exact = network(images)
        >>> rounded.dtype, torch.equal(rounded, exact), torch.equal(exact, network(images))
        (torch.float32, False, True)
    """

    def __init__(self, network: nn.Module, run: Run, capture: Capture | None = None) -> None:
        self._network = network
        plain: Callable[..., Any] = network.forward
        rounded = _in_bfloat16(plain, run.device) if run.precision == "bfloat16" else plain

        def replayed(forward: Callable[..., Any]) -> Callable[..., Any]:
            on = run.graphs if capture else run.records
            return Graphed(network, forward, capture) if on else forward

        self._forward = replayed(rounded)
        self._exact = self._forward if rounded is plain else replayed(plain)
        self._unrecorded, self._plain = rounded, plain
        self._changes, self._recording = self._forward is not plain, True
        self._tf32, self._before = run.precision == "tf32", (False, False)

    def __enter__(self) -> None:
        if self._tf32:
            self._before = _set_tf32(True, True)
        if self._changes:
            # An attribute of the instance hides the method of its class, until it is deleted again.
            self._network.forward = self._forward  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        if self._tf32:
            _set_tf32(*self._before)
        if self._changes:
            del self._network.forward

    @property
    def recorded(self) -> int:
        """How many graphs there are, those of `exact` included."""
        return sum(each.recorded for each in {self._forward, self._exact} if isinstance(each, Graphed))

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Within it passes are float32, whatever the run's precision is."""
        before = _set_tf32(False, False) if self._tf32 else None
        try:
            with self._instead(self._exact if self._recording else self._plain):
                yield
        finally:
            if before is not None:
                _set_tf32(*before)

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Within it passes are not replayed from graphs: they can be differentiated twice, or are part of a graph."""
        before, self._recording = self._recording, False
        try:
            with self._instead(self._unrecorded):
                yield
        finally:
            self._recording = before

    @contextmanager
    def _instead(self, forward: Callable[..., Any]) -> Iterator[None]:
        before = vars(self._network).get("forward")
        if before is None:  # not within `with accelerated`: the network runs as itself
            yield
            return
        self._network.forward = forward  # type: ignore[method-assign]
        try:
            yield
        finally:
            self._network.forward = before


def _set_tf32(convolutions: bool, products: bool) -> tuple[bool, bool]:
    """Says whether a GPU may round what it multiplies, and returns what was said before."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32, matmul.allow_tf32 = convolutions, products
    return before


def _in_bfloat16(plain: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    def forward(images: Tensor, *more: Any) -> Any:
        images = images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images
        # Without the cache: it would keep a graph's copies of weights beyond the graph.
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            output = plain(images, *more)
        return pytree.tree_map(lambda value: value.float(), output)

    return forward
