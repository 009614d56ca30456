"""The candidate operations: one plain dictionary from the field's names to factories.

A factory takes the `Site` an operation is to stand at and returns a module that maps (batch, channels, height,
width) to (batch, channels, height / stride, width / stride). To add one, write a factory and an entry below (or
pass your own dictionary to a chooser).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Site:
    """Where an operation goes: its channels and stride, and how it normalises.

    `affine`: batch norms learn scale and shift (they do not in a search network, where the architecture weights
    already scale each operation). `pool_norm`: pooling is followed by a batch norm (DARTS' search network).
    `optional`: the place may stay empty, so that "none" can be kept (NAS-Bench-201; DARTS leaves out edges instead).
    """

    channels: int
    stride: int = 1
    affine: bool = True
    pool_norm: bool = False
    optional: bool = False


Operation = Callable[[Site], nn.Module]


class Zero(nn.Module):
    """The operation "none": zeros of the right size."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :: self.stride, :: self.stride].mul(0.0)


class Noise(nn.Module):
    """Standard normal noise of the right size, whatever comes in (RobustDARTS, Zela et al. 2020, space S4).

    It is drawn from torch's global generator, in training and in evaluation.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x[..., :: self.stride, :: self.stride])


class FactorizedReduce(nn.Module):
    """Halves height and width with two 1x1 convolutions on the even and the odd pixels, half the channels each."""

    def __init__(self, channels_in: int, channels_out: int, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out - channels_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.halves(self.relu(x)))

    def halves(self, x: Tensor) -> Tensor:
        """Both convolutions of what the ReLU gave, before the norm."""
        # An odd size has one odd pixel fewer than even ones: repeat the border so that both halves agree.
        pad = (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)
        odd = x if pad == (0, 0, 0, 0) else nn.functional.pad(x, pad, mode="replicate")
        return torch.cat([self.even(x), self.odd(odd[:, :, 1:, 1:])], dim=1)


def relu_conv_norm(channels_in: int, channels_out: int, affine: bool = True) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm: what a cell does to each of its two inputs first."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out, affine=affine),
    )


def _skip(site: Site) -> nn.Module:
    return nn.Identity() if site.stride == 1 else FactorizedReduce(site.channels, site.channels, site.affine)


def _pool(pool: nn.Module, site: Site) -> nn.Module:
    return nn.Sequential(pool, nn.BatchNorm2d(site.channels, affine=False)) if site.pool_norm else pool


def _max_pool(site: Site) -> nn.Module:
    return _pool(nn.MaxPool2d(3, site.stride, padding=1), site)


def _avg_pool(site: Site) -> nn.Module:
    return _pool(nn.AvgPool2d(3, site.stride, padding=1, count_include_pad=False), site)


def _depthwise_separable(site: Site, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    channels, padding = site.channels, dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=site.affine),
    ]


def _sep_conv(kernel: int) -> Operation:
    def build(site: Site) -> nn.Module:
        first = _depthwise_separable(site, kernel, site.stride)
        return nn.Sequential(*first, *_depthwise_separable(site, kernel, 1))

    return build


def _dil_conv(kernel: int) -> Operation:
    return lambda site: nn.Sequential(*_depthwise_separable(site, kernel, site.stride, dilation=2))


def _nor_conv(kernel: int) -> Operation:
    """ReLU, convolution, batch norm (NAS-Bench-201)."""
    return lambda site: nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(site.channels, site.channels, kernel, site.stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(site.channels, affine=site.affine),
    )


def _conv_7x1_1x7(site: Site) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(site.channels, site.channels, (1, 7), (1, site.stride), (0, 3), bias=False),
        nn.Conv2d(site.channels, site.channels, (7, 1), (site.stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(site.channels, affine=site.affine),
    )


OPERATIONS: dict[str, Operation] = {
    "none": lambda site: Zero(site.stride),
    "max_pool_3x3": _max_pool,
    "avg_pool_3x3": _avg_pool,
    "skip_connect": _skip,
    "sep_conv_3x3": _sep_conv(3),
    "sep_conv_5x5": _sep_conv(5),
    "sep_conv_7x7": _sep_conv(7),
    "dil_conv_3x3": _dil_conv(3),
    "dil_conv_5x5": _dil_conv(5),
    "conv_7x1_1x7": _conv_7x1_1x7,
    "nor_conv_1x1": _nor_conv(1),
    "nor_conv_3x3": _nor_conv(3),
    "noise": lambda site: Noise(site.stride),
}


def _thinned(x: Tensor, shape: Sequence[int], probability: float) -> Tensor:
    """`x` times a mask of `shape` that is 0 with `probability`, and otherwise so large that the mean stays."""
    mask = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(1.0 - probability)
    return x * (mask / (1.0 - probability))


def _set_probability(network: nn.Module, kind: type[SkipDropout] | type[DropPath], probability: float) -> None:
    for module in network.modules():
        if isinstance(module, kind):
            module.probability = probability


class SkipDropout(nn.Module):
    """An identity whose values are dropped one by one while training, the rest rescaled (P-DARTS, Chen et al. 2019).

    So the operations beside a skip connection have to learn, too. `probability` in [0, 1) is set from outside
    (`set_skip_dropout`): it is a function of the epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.probability = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return x
        # Drawn in the order of the values, not of their places in memory: all executors drop the same.
        return _thinned(x, x.shape, self.probability)


def dropped(skip: Operation) -> Operation:
    """`skip` with dropout where it is an identity; where it has convolutions (stride 2), as it is."""

    def build(site: Site) -> nn.Module:
        operation = skip(site)
        return SkipDropout() if isinstance(operation, nn.Identity) else operation

    return build


def set_skip_dropout(network: nn.Module, probability: float) -> None:
    """Sets the probability of every SkipDropout in `network`."""
    _set_probability(network, SkipDropout, probability)


class DropPath(nn.Module):
    """Zeroes its input for a random part of the batch while training and rescales the rest (FractalNet; DARTS 4.1).

    `probability` in [0, 1) is set from outside (`set_drop_path`): it is a function of the epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.probability = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return x
        return _thinned(x, (x.shape[0], 1, 1, 1), self.probability)


def set_drop_path(network: nn.Module, probability: float) -> None:
    """Sets the probability of every DropPath in `network`."""
    _set_probability(network, DropPath, probability)
