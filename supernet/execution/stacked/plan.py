"""The plan by which the executor `stacked` evaluates a cell: groups, stacks and order; `planning.py` makes it.

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
"""Side and dilation of the depthwise kernels of one convolution; 0: each has its own (`Plan.own_taps`)."""


@dataclass(frozen=True)
class Branch:
    """One candidate operation of one edge.

    Args:
        place: that of its weight among all weights of the cell.
        source: the state that the edge reads, from 0; inputs come first.
        target: the node that the edge leads to, numbered as states.
        module: the candidate itself.
        operation: what it is made of, or `Unknown` where it is run by itself.
    """

    place: int
    source: int
    target: int
    module: nn.Module
    operation: Stackable

    def alone(self) -> Branch:
        """Returns the branch as one that is run by itself."""
        return replace(self, operation=Unknown(self.module))


@dataclass(frozen=True)
class Layer:
    """One layer of a tower: a depthwise convolution, a 1x1 convolution and a norm for all branches that get so far.

    Args:
        bucket: side and dilation of the depthwise convolution.
        stride: of the depthwise convolution, in pixels.
        branches: how many there are.
        targets: the nodes of those that end with this layer, which are the last ones in the stack.
        kinds: side and dilation of each branch's own depthwise kernel.
    """

    bucket: Bucket
    stride: int
    branches: int
    targets: tuple[int, ...]
    kinds: tuple[Bucket, ...]


@dataclass(frozen=True)
class Tower:
    """Separable convolutions whose kernels fit into the same frames, layer by layer.

    Args:
        reads: (source, how many branches in a row read it).
        layers: the first one has all branches; the others, those that go on.
    """

    reads: tuple[tuple[int, int], ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class SharedRead:
    """A module that reads one source and goes to several nodes: a pooling, factorised reductions or another.

    Args:
        source: the state that is read.
        targets: the nodes that it goes to.
        alone: the pooling or the other module; None for skip connections and factorised reductions.
        reductions: the factorised reductions, one for each of `targets`.
    """

    source: int
    targets: tuple[int, ...]
    alone: nn.Module | None = None
    reductions: tuple[FactorizedReduce, ...] = ()


@dataclass(frozen=True)
class EdgeGroup:
    """All edges that leave a set of states, such as the inputs of the cell; they are evaluated together.

    Args:
        sources: these states.
        targets: the nodes that the edges lead to, in rising order.
        towers: the separable convolutions.
        normed: poolings with their norms, and factorised reductions.
        plain: skip connections, and modules that are run by themselves.
    """

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    towers: tuple[Tower, ...]
    normed: tuple[SharedRead, ...]
    plain: tuple[SharedRead, ...]


@dataclass
class Kind:
    """Depthwise convolutions of one kernel.

    Args:
        kernel: side and dilation.
        modules: the convolutions, in the order in which layers ask for them.
    """

    kernel: Bucket
    modules: list[nn.Conv2d] = field(default_factory=list)

    def framed(self, flat: Tensor, bucket: Bucket) -> Tensor:
        """Puts such kernels into the frames of a bucket.

        Args:
            flat: (kernels, side^2).
            bucket: side and dilation of the frames.

        Returns:
            (kernels, side of the frame^2), with zeros around the kernels.
        """
        side, dilation = (self.kernel[0], 1) if bucket[1] == 0 else self.kernel
        if self.kernel == bucket or (bucket[1] == 0 and side == bucket[0]):
            return flat
        return flat @ embedding(side, dilation, bucket[0], flat.device, flat.dtype)


@dataclass
class Kernels:
    """All depthwise convolutions of one bucket, by kind.

    Args:
        kinds: the convolutions of each kernel.
        order: for each branch of all layers its place among `kinds`, () where they are in this order already.
        sizes: the channels of each layer.
    """

    kinds: list[Kind]
    order: tuple[int, ...]
    sizes: list[int]  # channels of each layer

    def orders(self, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Returns the order of the kernels of all channels, and its inverse, as `packing.reorder` wants them.

        Args:
            channels: of each branch.
            device: of the results.
        """
        return permutation(self.order, channels, device)


@dataclass(frozen=True)
class Plan:
    """How a cell is evaluated: its groups, and modules in the order in which groups ask for their tensors.

    Args:
        channels: of each branch.
        options: how many each edge has.
        groups: in the order in which they are evaluated.
        kernels: the depthwise convolutions of each bucket.
        pointwise: the 1x1 convolutions of all layers, one layer after the other.
        pointwise_sizes: the output channels of each layer.
        norms: the batch norms of all stacks, one stack after the other.
        norm_sizes: the channels of each stack.
        places: for each branch of each scaled stack the place of its weight, -1 for none, which is the scale 1.
        scale_sizes: the channels of each scaled stack.
        structure: what the edges were built of.
        own_taps: whether towers are for kernels that read no more than their own taps, and end all at once.
    """

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
    own_taps: bool = False

    def fits(self, channels: int) -> bool:
        """Says whether the cell still consists of the modules that the plan was made for.

        Args:
            channels: that its edges operate on now.
        """
        return channels == self.channels and self.structure.unchanged()

    def edge_of(self, device: torch.device) -> Tensor:
        """Returns the number of its edge for each weight of the cell, int64 on `device`."""
        return repeated(self.options, device)

    def scale_order(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Returns `order` and `inverse` of `packing.spread`, int64 on `device`."""
        return selection(self.places, sum(self.options), self.channels, device)
