"""The candidate operations: one plain dictionary from the field's names to factories.

A factory takes the `Site` an operation is to stand at and returns a module that maps (batch, channels, height,
width) to (batch, channels, height / stride, width / stride). To add one, write a factory and an entry below (or
pass your own dictionary to a chooser).
"""

from __future__ import annotations

from collections.abc import Callable
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
