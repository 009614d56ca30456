"""Batch norms by the batch's own statistics in compiled passes (`native/passes.cpp`)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from supernet.execution.fused.bindings import CHANNELS, addresses, at, dense, loaded, once
from supernet.execution.native import library


def serves_norm(x: Tensor) -> bool:
    """Says whether batch norms run compiled: in float32, on a CPU, with a fitting number of channels.

    Args:
        x: what is normalised, (batch, channels, height, width).

    Returns:
        True where the other functions of this module can be called with x.

    Example:
        >>> serves_norm(torch.zeros(1, 4, 8, 8, dtype=torch.bfloat16))
        False
    """
    fits = x.shape[1] in CHANNELS and x.dtype == torch.float32 and x.device.type == "cpu"
    return fits and library() is not None


def norm(
    x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float, known: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes a batch norm by the batch's own statistics, and can be differentiated once.

    Args:
        x: (batch, channels, height, width).
        scale: (channels,); None is 1.
        shift: (channels,); None is 0.
        eps: what is added to the variance before its root is taken.
        known: the statistics of x as `statistics_of` gives them; None: they are found.

    Returns:
        The norm of x, of its shape and channels-last; the means and the (unbiased) variances, each (channels,), which
        have no gradient.
    """
    out, mean, variance = _BatchNorm.apply(x, scale, shift, eps, known)
    return out, mean, variance


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float, known: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = dense(x)
        statistics = statistics_of(x, eps) if known is None else known
        slope, level = line(statistics, scale, shift)
        out = torch.empty_like(x)
        # One norm is a sum of one, and the shift is already in the level.
        loaded().sum_of_norms(addresses([x]), 1, *extent(x), at(slope), at(level), at(out))
        ctx.save_for_backward(x, scale, statistics)
        mean, variance = statistics[0], unbiased(statistics[1], x)
        ctx.mark_non_differentiable(mean, variance)  # they move running statistics and nothing else
        return out, mean, variance

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, statistics = ctx.saved_tensors
        dx, slopes = norm_gradients(dense(gradient), x, statistics, scale, ctx.needs_input_grad[0])
        affine = (s if needed else None for s, needed in zip(slopes, ctx.needs_input_grad[1:3], strict=True))
        return dx, *affine, None, None


def unbiased(variance: Tensor, x: Tensor) -> Tensor:
    """Corrects a variance for running statistics: PyTorch keeps unbiased ones, while a norm divides by the biased one.

    Args:
        variance: the mean square of the distances from the mean, (channels,) or (number, channels).
        x: what it is the variance of, (batch, channels, height, width).

    Returns:
        The variance times n / (n - 1) for n pixels in the batch; times 1 where there is one pixel alone.

    Example:
        >>> unbiased(torch.tensor([3.0]), torch.zeros(2, 1, 1, 2))  # 4 pixels
        tensor([4.])
    """
    count = x.numel() // x.shape[1]
    return variance * (count / max(count - 1, 1))  # one pixel has no unbiased variance; 0 stays 0


def line(statistics: Tensor, scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """Writes a batch norm whose statistics are known as the line slope x + level, which a pass computes on its way.

    Args:
        statistics: (3, channels) as `statistics_of` gives them.
        scale: (channels,); None is 1.
        shift: (channels,); None is 0.

    Returns:
        Slope and level, each (channels,).

    Example:
        >>> line(torch.tensor([[6.0], [4.0], [0.5]]), None, None)  # mean 6, deviation 2: (x - 6) / 2
        (tensor([0.5000]), tensor([-3.]))
    """
    slope = statistics[2] if scale is None else statistics[2] * scale
    return slope, -statistics[0] * slope if shift is None else shift - statistics[0] * slope


def extent(x: Tensor) -> tuple[ctypes.c_int64, int]:
    """Says how large a tensor is, as arguments of a compiled function.

    Args:
        x: (batch, channels, height, width).

    Returns:
        The number of values and the number of channels.

    Example:
        >>> values, channels = extent(torch.zeros(2, 3, 4, 5))
        >>> values.value, channels
        (120, 3)
    """
    return ctypes.c_int64(x.numel()), x.shape[1]


def statistics_of(x: Tensor, eps: float) -> Tensor:
    """Computes what a batch norm needs to know of its batch.

    Args:
        x: (batch, channels, height, width), channels-last.
        eps: what is added to the variance before its root is taken.

    Returns:
        (3, channels): mean, (biased) variance and 1 / sqrt(variance + eps).
    """
    found = x.new_empty(3, x.shape[1])
    loaded().norm_statistics(at(x), *extent(x), ctypes.c_double(eps), at(found))
    return found


def norm_gradients(
    gradient: Tensor, x: Tensor, statistics: Tensor, scale: Tensor | None, needed: bool
) -> tuple[Tensor | None, Tensor]:
    """Computes the gradients of a batch norm by the batch's own statistics.

    Args:
        gradient: by the norm of x, (batch, channels, height, width), channels-last.
        x: what was normalised, of the same shape, channels-last.
        statistics: (3, channels) as `statistics_of` gives them.
        scale: (channels,); None is 1.
        needed: whether the gradient by x is wanted.

    Returns:
        The gradient by x, or None; and those by scale and shift, (2, channels).
    """
    dx, slopes = torch.empty_like(x) if needed else None, x.new_empty(2, x.shape[1])
    parts = at(gradient), at(x), at(statistics), at(scale)
    loaded().norm_gradients(*parts, *extent(x), at(dx), at(slopes))
    return dx, slopes
