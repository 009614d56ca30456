"""Separable convolutions and batch norms of 4, 8 or 16 channels: what partial channels leave of 16, 32 and 64.

With so few channels PyTorch's own kernels fill half a register at best, and what lies between them is read and written
more often than it is computed with. Here one compiled pass (`native/narrow.cpp`) does

* norm, ReLU, depthwise and 1x1 convolution: only the norm's statistics need a pass of their own;
* both convolutions' gradients, for which everything in between is computed again;
* the sum of all norms that end at a node: sum_i w_i BN(y_i) = sum_i (a_i y_i + b_i), with a_i = w_i / deviation_i.

`serves` and `serves_norm` say where; elsewhere, and without the compiled part, `kernels.py` and PyTorch do the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from supernet.native import library
from supernet.space.compiled import Norm, Window, at, compiled, dense, once, sizes

CHANNELS = (4, 8, 16)


def serves(x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> bool:
    """Whether a separable convolution of x runs compiled: kernels of 3 or 5 that keep their centre, stride 1 or 2."""
    channels, (_, _, kernel, _) = x.shape[1], depthwise.shape
    centred = window.padding[0] == window.dilation[0] * (kernel - 1) // 2
    fits = channels in CHANNELS and channels == len(depthwise) == len(pointwise) and pointwise.dtype == x.dtype
    return fits and centred and window.stride[0] <= 2 and compiled(x, depthwise, window) is not None


def serves_norm(x: Tensor) -> bool:
    """Whether norms of x (batch, channels, height, width) run compiled."""
    fits = x.shape[1] in CHANNELS and x.dtype == torch.float32 and x.device.type == "cpu"
    return fits and library() is not None


def separable(x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> Tensor:
    """`kernels.separable`, where `serves` says so."""
    out: Tensor = _Separable.apply(x, depthwise, pointwise, window)
    return out


def norm_relu_separable(
    x: Tensor, scale: Tensor | None, shift: Tensor | None, depthwise: Tensor, pointwise: Tensor, norm: Norm, w: Window
) -> Tensor:
    """`kernels.norm_relu_separable`, where `serves` says so."""
    out: Tensor = _NormReluSeparable.apply(x, scale, shift, depthwise, pointwise, norm, w)
    return out


def sum_of_norms(
    xs: Sequence[Tensor], weights: Sequence[Tensor | None], eps: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """sum_i weights[i] BN(xs[i]) by the batch's statistics, channels-last; None stands for 1.

    xs: (batch, channels, height, width), all of one shape. weights: 0-dimensional. Also returns means and (unbiased)
    variances, each (number of xs, channels).
    """
    weighted = [weight is not None for weight in weights]
    given = [weight for weight in weights if weight is not None]
    stacked = torch.stack(given) if given else None
    total, means, variances = _SumOfNorms.apply(stacked, weighted, tuple(eps), *xs)
    return total, means, variances


class _Separable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> Tensor:
        x = dense(x)
        ctx.window, ctx.shape = window, x.shape
        ctx.save_for_backward(x if any(ctx.needs_input_grad[1:3]) else None, depthwise, pointwise)
        return _forward(x, None, None, depthwise, pointwise, window)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, depthwise, pointwise = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        return *_gradients(gradient, x, ctx.shape, None, None, depthwise, pointwise, ctx.window, wanted), None


class _NormReluSeparable(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        depthwise: Tensor,
        pointwise: Tensor,
        norm: Norm,
        window: Window,
    ) -> Tensor:
        x = dense(x)
        statistics = _statistics(x, norm.eps)
        if norm.mean is not None and norm.variance is not None:
            norm.mean.lerp_(statistics[0], norm.momentum)
            norm.variance.lerp_(_unbiased(statistics[1], x), norm.momentum)
        slope = statistics[2] if scale is None else statistics[2] * scale
        level = -statistics[0] * slope if shift is None else shift - statistics[0] * slope
        ctx.window = window
        ctx.save_for_backward(x, scale, depthwise, pointwise, statistics, slope, level)
        return _forward(x, slope, level, depthwise, pointwise, window)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, depthwise, pointwise, statistics, slope, level = ctx.saved_tensors
        wanted = (any(ctx.needs_input_grad[:3]), *ctx.needs_input_grad[3:5])
        dh, *rest = _gradients(gradient, x, x.shape, slope, level, depthwise, pointwise, ctx.window, wanted)
        dx = of_scale = of_shift = None
        if dh is not None:
            dx, slopes = _norm_gradients(dh, x, statistics, scale, ctx.needs_input_grad[0])
            of_scale, of_shift = (
                s if needed else None for s, needed in zip(slopes, ctx.needs_input_grad[1:3], strict=True)
            )
        return dx, of_scale, of_shift, *rest, None, None


class _SumOfNorms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weights: Tensor | None, weighted: list[bool], eps: tuple[float, ...], *tensors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        xs = [dense(x) for x in tensors]
        statistics = torch.stack([_statistics(x, e) for x, e in zip(xs, eps, strict=True)])
        means, variances, inverses = statistics.unbind(1)
        scales = _scales(weights, weighted, xs[0])
        slopes = inverses * scales[:, None]
        level = -(slopes * means).sum(0)
        total = torch.empty_like(xs[0])
        addresses = (ctypes.c_void_p * len(xs))(*(x.data_ptr() for x in xs))
        _library().narrow_sum(addresses, len(xs), *_extent(xs[0]), at(slopes), at(level), at(total))
        ctx.weighted = weighted
        ctx.save_for_backward(statistics, scales, *xs)
        variances = _unbiased(variances, xs[0])
        ctx.mark_non_differentiable(means, variances)
        return total, means, variances

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        statistics, scales, *xs = ctx.saved_tensors
        gradient = dense(gradient)
        all_scales = scales[:, None].expand(-1, gradient.shape[1]).contiguous()
        of_xs, of_scales = [], []
        for x, own, scale, needed in zip(xs, statistics, all_scales, ctx.needs_input_grad[3:], strict=True):
            dx, slopes = _norm_gradients(gradient, x, own, scale, needed)
            of_xs.append(dx)
            of_scales.append(slopes[0])
        of_weights = None
        if ctx.needs_input_grad[0]:
            of_weights = torch.stack([s for s, has in zip(of_scales, ctx.weighted, strict=True) if has]).sum(1)
        return of_weights, None, None, *of_xs


def _scales(weights: Tensor | None, weighted: Sequence[bool], like: Tensor) -> Tensor:
    """The weights, with 1 where there is none."""
    scales = like.new_ones(len(weighted))
    if weights is not None:
        scales[torch.tensor(weighted)] = weights.to(scales.dtype)
    return scales


def _unbiased(variance: Tensor, x: Tensor) -> Tensor:
    count = x.numel() // x.shape[1]
    return variance * (count / max(count - 1, 1))


def _extent(x: Tensor) -> tuple[ctypes.c_int64, int]:
    """How many numbers, and of how many channels."""
    return ctypes.c_int64(x.numel()), x.shape[1]


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None, "asked for only where `serves` or `serves_norm` says so"
    return found


def _forward(
    x: Tensor, slope: Tensor | None, level: Tensor | None, depthwise: Tensor, pointwise: Tensor, window: Window
) -> Tensor:
    """The convolutions of x, or of ReLU(slope x + level)."""
    rows, columns = ((size - 1) // window.stride[0] + 1 for size in x.shape[2:])
    out = torch.empty_like(x) if window.stride[0] == 1 else dense(x.new_empty(*x.shape[:2], rows, columns))
    taps, across = depthwise.detach().contiguous(), pointwise.detach().contiguous()
    numbers = sizes(tuple(x.shape), tuple(out.shape), window)
    kernel = depthwise.shape[2]
    _library().narrow_separable(at(x), at(slope), at(level), at(taps), at(across), at(out), kernel, numbers)
    return out


def _gradients(
    gradient: Tensor,
    x: Tensor | None,
    shape: torch.Size,
    slope: Tensor | None,
    level: Tensor | None,
    depthwise: Tensor,
    pointwise: Tensor,
    window: Window,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """By slope x + level, or x, of `shape`, and both weights. x is needed for the weights' and the ReLU alone."""
    gradient = dense(gradient)
    taps, across = depthwise.contiguous(), pointwise.contiguous()
    dx = dense(gradient.new_empty(shape)) if wanted[0] else None
    dw = gradient.new_empty(taps.numel() + across.numel()) if any(wanted[1:]) else None
    numbers, kernel = sizes(tuple(shape), tuple(gradient.shape), window), depthwise.shape[2]
    parts = (at(part) for part in (gradient, x, slope, level, taps, across, dx, dw))
    _library().narrow_separable_gradients(*parts, kernel, numbers)
    if dw is None:
        return dx, None, None
    of_taps, of_across = dw.split([taps.numel(), across.numel()])
    return dx, of_taps.view(depthwise.shape), of_across.view(pointwise.shape)


def _statistics(x: Tensor, eps: float) -> Tensor:
    """(3, channels): mean, variance and 1 / sqrt(variance + eps) of a channels-last x."""
    found = x.new_empty(3, x.shape[1])
    _library().narrow_statistics(at(x), *_extent(x), ctypes.c_double(eps), at(found))
    return found


def _norm_gradients(
    gradient: Tensor, x: Tensor, statistics: Tensor, scale: Tensor | None, needed: bool
) -> tuple[Tensor | None, Tensor]:
    """By x, and (2, channels) by scale and shift."""
    dx, slopes = torch.empty_like(x) if needed else None, x.new_empty(2, x.shape[1])
    parts = at(gradient), at(x), at(statistics), at(scale)
    _library().narrow_norm_gradients(*parts, *_extent(x), at(dx), at(slopes))
    return dx, slopes
