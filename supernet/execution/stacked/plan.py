"""In which groups, stacks and order the executor `stacked` evaluates a cell; `planning.py` finds it.

A *branch* is one candidate operation of one edge. Branches whose edges leave the same states are one *edge group*. In
a group, separable convolutions of the same kernels are a *tower*: a *layer* of it is one depthwise convolution, one
1x1 convolution and one norm for all branches side by side on the channel axis. What else reads a state in one way, such
as its max pooling, is a *shared read*: it is computed once and goes to several nodes.

The plan holds no tensors. It lists modules in the order in which the groups ask for their parameters, so that a pass
can stack all parameters of one kind at once, at its beginning, and give out slices.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from supernet.execution.patterns import Structure, Unknown
from supernet.execution.stacked.packing import embedding, permutation, repeated, selection
from supernet.execution.stacked.stackable import Stackable
from supernet.space.operations import FactorizedReduce

Bucket = tuple[int, int]
"""Side and dilation of the depthwise kernels of one convolution."""


@dataclass(frozen=True)
class Branch:
    """One candidate operation of one edge; `place` is that of its weight among all weights of the cell."""

    place: int
    source: int
    target: int
    module: nn.Module
    operation: Stackable

    def alone(self) -> Branch:
        """The branch as one that is run by itself."""
        return replace(self, operation=Unknown(self.module))


@dataclass(frozen=True)
class Layer:
    """One layer of a tower of `branches` convolutions; the last ones end with it and go to `targets`."""

    bucket: Bucket
    stride: int
    branches: int
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Tower:
    """Separable convolutions whose kernels fit into the same frames, layer by layer.

    `reads`: (source, how many branches in a row read it).
    """

    reads: tuple[tuple[int, int], ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class SharedRead:
    """What reads one source in one way and goes to `targets`: factorised reductions, a pooling or another module."""

    source: int
    targets: tuple[int, ...]
    alone: nn.Module | None = None
    reductions: tuple[FactorizedReduce, ...] = ()


@dataclass(frozen=True)
class EdgeGroup:
    """All edges that leave `sources`. `rectified`: the sources whose ReLU is needed."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    rectified: tuple[int, ...]
    towers: tuple[Tower, ...]
    normed: tuple[SharedRead, ...]
    plain: tuple[SharedRead, ...]


@dataclass
class Kind:
    """Depthwise convolutions of one kernel (side, dilation)."""

    kernel: Bucket
    modules: list[nn.Conv2d] = field(default_factory=list)

    def embedding(self, frame: int, like: Tensor) -> Tensor:
        """The matrix that puts such kernels into a frame."""
        return embedding(*self.kernel, frame, like.device, like.dtype)


@dataclass
class Kernels:
    """All depthwise convolutions of one bucket, by kind; `order`: how the layers want them, () where it is the same."""

    kinds: list[Kind]
    order: tuple[int, ...]
    sizes: list[int]  # channels of each layer

    def orders(self, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The order of the kernels of all channels, and its inverse."""
        return permutation(self.order, channels, device)


@dataclass(frozen=True)
class Plan:
    """How a cell is evaluated: its groups, and modules in the order in which groups ask for their tensors."""

    channels: int
    options: tuple[int, ...]  # of each edge
    groups: tuple[EdgeGroup, ...]
    kernels: dict[Bucket, Kernels]
    pointwise: list[nn.Conv2d]
    pointwise_sizes: list[int]
    norms: list[nn.BatchNorm2d]
    norm_sizes: list[int]
    places: tuple[int, ...]  # of the weight of each branch of each scaled stack; -1: of none
    scale_sizes: list[int]
    structure: Structure  # of the edges

    def fits(self, channels: int) -> bool:
        """Whether the cell still consists of the modules that the plan was made for."""
        return channels == self.channels and self.structure.unchanged()

    def edge_of(self, device: torch.device) -> Tensor:
        """Of each weight of the cell the number of its edge."""
        return repeated(self.options, device)

    def scale_order(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """`order` and `inverse` of `packing.spread`."""
        return selection(self.places, sum(self.options), self.channels, device)
