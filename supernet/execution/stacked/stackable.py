"""Which of the recognised operations can be stacked: those that keep the width, and whose norms are like each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from supernet.execution.patterns import Chain, Nothing, Operation, Pooling, Reduction, SeparableStep, Skip, Unknown


@dataclass(frozen=True)
class SeparableLayer:
    """ReLU, depthwise convolution, 1x1 convolution, batch norm.

    Args:
        depthwise: with a square kernel that keeps its centre.
        pointwise: of as many channels in as out.
        norm: without scale and shift.

    Example:
        >>> layer = SeparableLayer(nn.Conv2d(4, 4, 3, dilation=2, groups=4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        >>> layer.kernel, layer.frame
        ((3, 2), 5)
    """

    depthwise: nn.Conv2d
    pointwise: nn.Conv2d
    norm: nn.BatchNorm2d

    @property
    def kernel(self) -> tuple[int, int]:
        """Side and dilation of the depthwise kernel."""
        return self.depthwise.kernel_size[0], self.depthwise.dilation[0]

    @property
    def frame(self) -> int:
        """Side of the square of pixels that the depthwise kernel spans."""
        side, dilation = self.kernel
        return (side - 1) * dilation + 1


@dataclass(frozen=True)
class Separable:
    """Separable layers, one after the other.

    Args:
        layers: one or more.
    """

    layers: tuple[SeparableLayer, ...]


Stackable = Nothing | Skip | Separable | Pooling | Reduction | Unknown


def stackable(operation: Operation, module: nn.Module, channels: int) -> Stackable:
    """Brings an operation into the form in which it is stacked with others.

    Args:
        operation: what `module` is made of, as `recognise` says.
        module: the operation itself.
        channels: those of the cell.

    Returns:
        The form. It is `Unknown`, to be run by itself, where the operation does not map `channels` channels to as many,
        or where its norms are not plain ones: without scale and shift, which the architecture weights take the place
        of, and with statistics.

    Example:
        >>> from supernet.execution.patterns import recognise
        >>> from supernet.space.operations import OPERATIONS, Site
        >>> searched = OPERATIONS["sep_conv_3x3"](Site(8, 8, affine=False))
        >>> len(stackable(recognise(searched), searched, channels=8).layers)
        2
        >>> final = OPERATIONS["sep_conv_3x3"](Site(8, 8))  # its norms learn scale and shift
        >>> type(stackable(recognise(final), final, channels=8)).__name__
        'Unknown'
    """
    if isinstance(operation, Nothing | Skip):
        return operation
    if isinstance(operation, Pooling) and operation.norm is not None and _plain(operation.norm, channels):
        return operation
    if isinstance(operation, Reduction) and _plain(operation.norm, channels):
        halves = (operation.module.even, operation.module.odd)
        made = sum(half.out_channels for half in halves)
        return operation if made == channels and all(h.in_channels == channels for h in halves) else Unknown(module)
    if isinstance(operation, Chain) and (layers := _layers(operation, channels)):
        return Separable(layers)
    return Unknown(module)


def norms_of(operation: Stackable) -> list[nn.BatchNorm2d]:
    """Lists the batch norms of an operation, which have to be like each other within a stack.

    Args:
        operation: as `stackable` gives it.

    Returns:
        The norms, in the order in which they are used.
    """
    if isinstance(operation, Separable):
        return [layer.norm for layer in operation.layers]
    if isinstance(operation, Pooling):
        assert operation.norm is not None, "a pooling without a norm is not stacked"
        return [operation.norm]
    return [operation.norm] if isinstance(operation, Reduction) else []


def stride_of(operation: Stackable) -> int | None:
    """Says by what an operation divides height and width, because what is stacked must be of one size.

    Args:
        operation: as `stackable` gives it.

    Returns:
        The stride; None where it is not known.

    Example:
        >>> stride_of(Skip()), stride_of(Unknown(nn.Conv2d(4, 4, 1)))
        (1, None)
    """
    if isinstance(operation, Skip):
        return 1
    if isinstance(operation, Reduction):
        return 2
    if isinstance(operation, Pooling):
        return int(operation.pool.stride) if isinstance(operation.pool.stride, int) else None
    if isinstance(operation, Separable):
        first, *others = (layer.depthwise.stride[0] for layer in operation.layers)
        return first if all(stride == 1 for stride in others) else None
    return None


def _layers(chain: Chain, channels: int) -> tuple[SeparableLayer, ...]:
    """The layers of a chain that has nothing else in it; otherwise none."""
    steps: list[SeparableStep] = [step for step in chain.steps if isinstance(step, SeparableStep)]
    between = [step.norm for step in steps[1:]]
    if len(steps) < len(chain.steps) or not steps or steps[0].norm is not None or None in between:
        return ()
    norms: Sequence[nn.BatchNorm2d | None] = (*between, chain.norm)
    layers = [SeparableLayer(s.depthwise, s.pointwise, n) for s, n in zip(steps, norms, strict=True) if n is not None]
    return tuple(layers) if all(_fits(layer, channels) for layer in layers) else ()


def _fits(layer: SeparableLayer, channels: int) -> bool:
    """Whether a layer keeps the width, and its kernel is square and keeps its centre."""
    depthwise, pointwise = layer.depthwise, layer.pointwise
    (side, width), (dilation, across), (stride, sideways) = (
        depthwise.kernel_size,
        depthwise.dilation,
        depthwise.stride,
    )
    centred = side % 2 == 1 and depthwise.padding == (dilation * (side - 1) // 2,) * 2
    square = side == width and dilation == across and stride == sideways
    keeps = depthwise.groups == channels == pointwise.in_channels == pointwise.out_channels
    return centred and square and keeps and _plain(layer.norm, channels)


def _plain(norm: nn.BatchNorm2d, channels: int) -> bool:
    return not norm.affine and norm.running_mean is not None and norm.num_features == channels
