"""How a network's passes run: in which precision and memory format, and whether as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from supernet.runtime.graphs import Capture, Graphed
from supernet.runtime.run import Run


class Passes:
    """Within it (`with passes:`, as often as wanted) `network` runs as `run.precision` and `run.graphs` say.

    To be made when the network is on its device. Parameters, architecture weights and losses are float32 always. In
    bfloat16, activations are (autocast), and pictures (batch, channels, height, width) are kept with their channels
    side by side (channels_last); what comes out is float32 again. Graphs are for GPUs; elsewhere passes run as ever,
    unless a test's `capture` stands in for CUDA's.
    """

    def __init__(self, network: nn.Module, run: Run, capture: Capture | None = None) -> None:
        self._network = network
        self._layers: list[Callable[..., Any]] = []
        forward: Callable[..., Any] = network.forward
        if run.precision == "bfloat16":
            forward = _in_bfloat16(forward, run.device)
            self._layers.append(forward)
        if run.graphs and (capture or run.device.type == "cuda"):
            self._layers.append(Graphed(network, forward, capture))

    def __enter__(self) -> None:
        if self._layers:
            self._network.forward = self._layers[-1]  # type: ignore[method-assign,assignment]

    def __exit__(self, *_: object) -> None:
        if self._layers:
            del self._network.forward


def _in_bfloat16(plain: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    def forward(images: Tensor, *more: Any) -> Any:
        images = images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images
        # Without the cache: it would keep a graph's copies of weights beyond the graph.
        with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
            output = plain(images, *more)
        return pytree.tree_map(lambda value: value.float(), output)

    return forward
