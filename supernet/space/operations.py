"""The candidate operations: one plain dictionary from the field's names to factories.

A factory takes the `Site` an operation is to stand at and returns a module that maps (batch, channels_in, height,
width) to (batch, channels_out, height / stride, width / stride). To add one, write a factory and an entry below (or
pass your own dictionary to a chooser).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError


@dataclass(frozen=True)
class Site:
    """Where an operation goes: what it is given and has to make, and how it normalises.

    Args:
        channels_in: of what comes in.
        channels_out: of what goes out; the same on the edges of a cell.
        stride: by what height and width are divided.
        affine: batch norms learn scale and shift (they do not in a search network, where the architecture weights
            already scale each operation).
        pool_norm: pooling is followed by a batch norm (DARTS' search network).
    """

    channels_in: int
    channels_out: int
    stride: int = 1
    affine: bool = True
    pool_norm: bool = False


Operation = Callable[[Site], nn.Module]


class Zero(nn.Module):
    """The operation "none": zeros of the right size.

    Args:
        stride: by what height and width are divided.
        channels: of what goes out (None: as many as come in).

    Example:
        >>> Zero(stride=2)(torch.ones(1, 3, 8, 8)).shape
        torch.Size([1, 3, 4, 4])
    """

    def __init__(self, stride: int, channels: int | None = None) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        return _of_the_size(x, self.stride, self.channels).mul(0.0)


class Noise(nn.Module):
    """Standard normal noise of the right size, whatever comes in (RobustDARTS, Zela et al. 2020, space S4).

    It is drawn from torch's global generator, in training and in evaluation.

    Args:
        stride: by what height and width are divided.
        channels: of what goes out (None: as many as come in).
    """

    def __init__(self, stride: int, channels: int | None = None) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(_of_the_size(x, self.stride, self.channels))


def _of_the_size(x: Tensor, stride: int, channels: int | None) -> Tensor:
    """A tensor of the size that an operation of this stride and width makes of `x`."""
    strided = x[..., ::stride, ::stride]
    return strided if channels in (None, x.shape[1]) else strided[:, :1].expand(-1, channels, -1, -1)


class FactorizedReduce(nn.Module):
    """Halves height and width with two 1x1 convolutions on the even and the odd pixels, half the channels each.

    Args:
        channels_in: of what comes in.
        channels_out: of what goes out, two or more.
        affine: the batch norm learns scale and shift.

    Example:
        >>> FactorizedReduce(4, 6)(torch.ones(1, 4, 7, 7)).shape
        torch.Size([1, 6, 4, 4])
    """

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
    """ReLU, 1x1 convolution, batch norm: what a cell does to each of its two inputs first.

    Args:
        channels_in: of what comes in.
        channels_out: of what goes out.
        affine: the batch norm learns scale and shift.

    Returns:
        The module; height and width stay.
    """
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out, affine=affine),
    )


def _skip(site: Site) -> nn.Module:
    """Nothing where that is possible; else the cheapest convolution that makes the size or the width."""
    if site.stride > 1:
        return FactorizedReduce(site.channels_in, site.channels_out, site.affine)
    if site.channels_in == site.channels_out:
        return nn.Identity()
    return relu_conv_norm(site.channels_in, site.channels_out, site.affine)


def _pool(pool: nn.Module, site: Site) -> nn.Module:
    if site.channels_in != site.channels_out:
        raise InputError(
            f"pooling makes as many channels as it is given, not {site.channels_out} of {site.channels_in}; leave it "
            "out where the width changes"
        )
    return nn.Sequential(pool, nn.BatchNorm2d(site.channels_out, affine=False)) if site.pool_norm else pool


def _max_pool(site: Site) -> nn.Module:
    return _pool(nn.MaxPool2d(3, site.stride, padding=1), site)


def _avg_pool(site: Site) -> nn.Module:
    return _pool(nn.AvgPool2d(3, site.stride, padding=1, count_include_pad=False), site)


def _depthwise_separable(site: Site, kernel: int, dilation: int = 1) -> list[nn.Module]:
    channels, padding = site.channels_in, dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, site.stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, site.channels_out, 1, bias=False),
        nn.BatchNorm2d(site.channels_out, affine=site.affine),
    ]


def _sep_conv(kernel: int) -> Operation:
    def build(site: Site) -> nn.Module:
        first, second = replace(site, channels_out=site.channels_in), replace(site, stride=1)
        return nn.Sequential(*_depthwise_separable(first, kernel), *_depthwise_separable(second, kernel))

    return build


def _dil_conv(kernel: int) -> Operation:
    return lambda site: nn.Sequential(*_depthwise_separable(site, kernel, dilation=2))


def _nor_conv(kernel: int) -> Operation:
    """ReLU, convolution, batch norm (NAS-Bench-201)."""
    return lambda site: nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(site.channels_in, site.channels_out, kernel, site.stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(site.channels_out, affine=site.affine),
    )


def _conv_7x1_1x7(site: Site) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(site.channels_in, site.channels_in, (1, 7), (1, site.stride), (0, 3), bias=False),
        nn.Conv2d(site.channels_in, site.channels_out, (7, 1), (site.stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(site.channels_out, affine=site.affine),
    )


OPERATIONS: dict[str, Operation] = {
    "none": lambda site: Zero(site.stride, site.channels_out),
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
    "noise": lambda site: Noise(site.stride, site.channels_out),
}
