"""How a network's passes run: in which precision and memory format, repeatably or not, and whether as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from supernet.execution.cuda_graphs import Capture, Graphed
from supernet.runtime.run import Run


def settle_numerics(deterministic: bool) -> None:
    """Says for the whole process how PyTorch computes: `deterministic` gives the same numbers every time.

    With that PyTorch would fill all memory before use, 60 to 160 % more kernels a step on a GPU, for those who read
    what they have not written; nothing here does, so it is off. Float32 is float32 in convolutions, too, and not TF32,
    PyTorch's default, with 10 of its 23 bits: the finite differences of second order do not survive such rounding.
    """
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = False


class Accelerated:
    """Within it (`with accelerated:`, as often as wanted) `network` runs as `run.precision` and `run.graphs` say.

    To be made when the network is on its device. Parameters, architecture weights and losses are float32 always. In
    bfloat16, activations are (autocast), and pictures (batch, channels, height, width) are kept with their channels
    side by side (channels_last); what comes out is float32 again. Graphs are for GPUs; elsewhere passes run as ever,
    unless a test's `capture` stands in for CUDA's. Within `exact` and `unrecorded`, which are for use inside, some
    passes run otherwise.
    """

    def __init__(self, network: nn.Module, run: Run, capture: Capture | None = None) -> None:
        self._network = network
        plain: Callable[..., Any] = network.forward
        rounded = _in_bfloat16(plain, run.device) if run.precision == "bfloat16" else plain

        def recorded(forward: Callable[..., Any]) -> Callable[..., Any]:
            on = run.graphs and (capture or run.device.type == "cuda")
            return Graphed(network, forward, capture) if on else forward

        self._forward = recorded(rounded)
        self._exact = self._forward if rounded is plain else recorded(plain)
        self._unrecorded = rounded
        self._changes = self._forward is not plain

    def __enter__(self) -> None:
        if self._changes:
            self._network.forward = self._forward  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        if self._changes:
            del self._network.forward

    @property
    def recorded(self) -> int:
        """How many graphs there are, those of `exact` included."""
        return sum(each.recorded for each in {self._forward, self._exact} if isinstance(each, Graphed))

    def exact(self) -> AbstractContextManager[None]:
        """Within it passes are float32 whatever the run's precision."""
        return self._instead(self._exact)

    def unrecorded(self) -> AbstractContextManager[None]:
        """Within it passes are no graphs, which cannot be differentiated twice."""
        return self._instead(self._unrecorded)

    @contextmanager
    def _instead(self, forward: Callable[..., Any]) -> Iterator[None]:
        before = vars(self._network).get("forward")
        if before is None:  # outside: the network runs as itself
            yield
            return
        self._network.forward = forward  # type: ignore[method-assign]
        try:
            yield
        finally:
            self._network.forward = before


def _in_bfloat16(plain: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    def forward(images: Tensor, *more: Any) -> Any:
        images = images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images
        # Without the cache: it would keep a graph's copies of weights beyond the graph.
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            output = plain(images, *more)
        return pytree.tree_map(lambda value: value.float(), output)

    return forward
