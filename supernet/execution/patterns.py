"""What an operation is made of, read from its modules: what can be evaluated together with others of its kind.

Nothing is known by name. An operation of one's own that is built like a separable convolution or a normalised pooling
is recognised as one, and anything that is not exactly so is not recognised.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import nn

from supernet.space.operations import FactorizedReduce, Zero


@dataclass(frozen=True)
class Layer:
    """ReLU, depthwise convolution, 1x1 convolution, batch norm."""

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
class Nothing:
    """Zeros, whatever comes in."""


@dataclass(frozen=True)
class Skip:
    """What comes in."""


@dataclass(frozen=True)
class Separable:
    """One or more `Layer`s, one after the other."""

    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Pooling:
    """Pooling and a batch norm; poolings with one `key` compute the same."""

    pool: nn.Module
    norm: nn.BatchNorm2d
    key: Hashable


@dataclass(frozen=True)
class Reduction:
    """`FactorizedReduce`: ReLU, 1x1 convolutions of even and of odd pixels, batch norm."""

    module: FactorizedReduce

    @property
    def norm(self) -> nn.BatchNorm2d:
        return self.module.norm


@dataclass(frozen=True)
class Unknown:
    """Anything else."""

    module: nn.Module


Known = Nothing | Skip | Separable | Pooling | Reduction
Operation = Known | Unknown


def recognise(module: nn.Module, channels: int) -> Operation:
    """What `module`, an operation on `channels` channels, is made of."""
    if type(module) is Zero:
        return Nothing()
    if type(module) is nn.Identity:
        return Skip()
    if type(module) is FactorizedReduce and _reduces(module, channels):
        return Reduction(module)
    if type(module) is nn.Sequential:
        parts = list(module)
        layers = [_layer(parts[i : i + 4], channels) for i in range(0, len(parts), 4)]
        if layers and all(layers):
            return Separable(tuple(layer for layer in layers if layer))
        if len(parts) == 2 and type(parts[0]) in (nn.MaxPool2d, nn.AvgPool2d) and (norm := _norm(parts[1], channels)):
            settings = {k: v for k, v in vars(parts[0]).items() if not k.startswith("_") and k != "training"}
            if not settings.get("return_indices"):
                return Pooling(parts[0], norm, (type(parts[0]), *sorted((k, str(v)) for k, v in settings.items())))
    return Unknown(module)


def norms_of(operation: Operation) -> list[nn.BatchNorm2d]:
    """The batch norms of an operation, in the order in which they are used."""
    if isinstance(operation, Separable):
        return [layer.norm for layer in operation.layers]
    return [operation.norm] if isinstance(operation, Pooling | Reduction) else []


def stride_of(operation: Operation) -> int | None:
    """How much smaller an operation makes a picture; None where it is not known."""
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


def _layer(parts: list[nn.Module], channels: int) -> Layer | None:
    if len(parts) != 4 or type(parts[0]) is not nn.ReLU or parts[0].inplace:
        return None
    _, depthwise, pointwise, last = parts
    norm = _norm(last, channels)
    if norm is None or not (_plain(depthwise, channels) and _plain(pointwise, channels)):
        return None
    assert isinstance(depthwise, nn.Conv2d)
    assert isinstance(pointwise, nn.Conv2d)
    (side, width), (dilation, across), (stride, sideways) = (
        depthwise.kernel_size,
        depthwise.dilation,
        depthwise.stride,
    )
    keeps_its_centre = side % 2 == 1 and depthwise.padding == (dilation * (side - 1) // 2,) * 2
    square = side == width and dilation == across and stride == sideways
    if not (keeps_its_centre and square and depthwise.groups == channels and _one_by_one(pointwise, channels, 1)):
        return None
    return Layer(depthwise, pointwise, norm)


def _plain(module: nn.Module, channels: int) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.bias is None
        and module.padding_mode == "zeros"
        and module.in_channels == channels == module.out_channels
    )


def _one_by_one(convolution: nn.Conv2d, channels: int, stride: int) -> bool:
    return (
        type(convolution) is nn.Conv2d
        and convolution.bias is None
        and convolution.kernel_size == (1, 1)
        and convolution.stride == (stride, stride)
        and convolution.padding == (0, 0)
        and convolution.groups == 1
        and convolution.in_channels == channels
    )


def _reduces(module: FactorizedReduce, channels: int) -> bool:
    halves = [module.even, module.odd]
    return (
        all(_one_by_one(half, channels, 2) for half in halves)
        and sum(half.out_channels for half in halves) == channels
        and type(module.relu) is nn.ReLU
        and not module.relu.inplace
        and _norm(module.norm, channels) is not None
    )


def _norm(module: nn.Module, channels: int) -> nn.BatchNorm2d | None:
    """`module` if it is a batch norm without scale and shift that averages its statistics exponentially."""
    if type(module) is not nn.BatchNorm2d or module.affine or module.momentum is None:
        return None
    return module if module.running_mean is not None and module.num_features == channels else None
