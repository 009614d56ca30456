"""Separable and 1x1 convolutions in compiled passes.

PyTorch's own kernels read and write what lies between them, and fill half a register where channels are few or no
multiple of a vector: 4, 8 and 16 (what partial channels leave of 16, 32 and 64), 36. Here one compiled pass
(`native/passes.cpp`) does

* norm, ReLU, depthwise and 1x1 convolution: only the norm's statistics need a pass of their own;
* both convolutions' gradients, for which everything in between is computed again;
* ReLU and 1x1 convolution, and their gradients.

`serves` and `serves_pointwise` say where; elsewhere, and without the compiled part, `torch_kernels.py` and PyTorch do
the same. Norms by themselves are in `norms.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from supernet.execution.fused.bindings import CHANNELS, Norm, Window, at, compiled, dense, loaded, once, room, sizes
from supernet.execution.fused.norms import line, norm_gradients, serves_norm, statistics_of, unbiased


def serves(x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> bool:
    """Whether a separable convolution of x runs compiled: kernels of 3 or 5 that keep their centre, stride 1 or 2."""
    channels, (_, _, kernel, _) = x.shape[1], depthwise.shape
    centred = window.padding[0] == window.dilation[0] * (kernel - 1) // 2
    fits = channels in CHANNELS and channels == len(depthwise) == len(pointwise) and pointwise.dtype == x.dtype
    return fits and centred and window.stride[0] <= 2 and compiled(x, depthwise, window) is not None


def serves_pointwise(x: Tensor, weight: Tensor) -> bool:
    """Whether a 1x1 convolution of x with weight (out, in, 1, 1) runs compiled."""
    fits = len(weight) in CHANNELS and weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return fits and serves_norm(x)


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


def pointwise(x: Tensor, weight: Tensor, *, relu: bool) -> Tensor:
    """The 1x1 convolution of x, or of its ReLU, with weight (out, in, 1, 1), channels-last."""
    out: Tensor = _Pointwise.apply(x, weight, relu)
    return out


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
        statistics = statistics_of(x, norm.eps)
        if norm.mean is not None and norm.variance is not None:
            norm.mean.lerp_(statistics[0], norm.momentum)
            norm.variance.lerp_(unbiased(statistics[1], x), norm.momentum)
        slope, level = line(statistics, scale, shift)
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
            dx, slopes = norm_gradients(dh, x, statistics, scale, ctx.needs_input_grad[0])
            of_scale, of_shift = (
                s if needed else None for s, needed in zip(slopes, ctx.needs_input_grad[1:3], strict=True)
            )
        return dx, of_scale, of_shift, *rest, None, None


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, relu: bool) -> Tensor:
        x = dense(x)
        ctx.relu, ctx.shape = relu, x.shape
        ctx.save_for_backward(x if relu or ctx.needs_input_grad[1] else None, weight)
        out, across = room(x, (len(x), len(weight), *x.shape[2:])), weight.detach().contiguous()
        loaded().pointwise(at(x), int(relu), at(across), at(out), *_extents(x, weight))
        return out

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient, across = dense(gradient), weight.contiguous()
        dx = room(gradient, ctx.shape) if ctx.needs_input_grad[0] else None
        dw = torch.empty_like(across) if ctx.needs_input_grad[1] else None
        given = at(gradient), at(x), int(ctx.relu), at(across)
        loaded().pointwise_gradients(*given, at(dx), at(dw), *_extents(gradient, weight))
        return dx, dw, None


def _extents(x: Tensor, weight: Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64, ctypes.c_int64]:
    """Pixels, channels in, channels out."""
    return ctypes.c_int64(x.numel() // x.shape[1]), ctypes.c_int64(weight.shape[1]), ctypes.c_int64(len(weight))


def _forward(
    x: Tensor, slope: Tensor | None, level: Tensor | None, depthwise: Tensor, pointwise: Tensor, window: Window
) -> Tensor:
    """The convolutions of x, or of ReLU(slope x + level)."""
    rows, columns = ((size - 1) // window.stride[0] + 1 for size in x.shape[2:])
    out = torch.empty_like(x) if window.stride[0] == 1 else room(x, (*x.shape[:2], rows, columns))
    taps, across = depthwise.detach().contiguous(), pointwise.detach().contiguous()
    numbers = sizes(tuple(x.shape), tuple(out.shape), window)
    kernel = depthwise.shape[2]
    loaded().separable(at(x), at(slope), at(level), at(taps), at(across), at(out), kernel, numbers)
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
    dx = room(gradient, shape) if wanted[0] else None
    dw = gradient.new_empty(taps.numel() + across.numel()) if any(wanted[1:]) else None
    numbers, kernel = sizes(tuple(shape), tuple(gradient.shape), window), depthwise.shape[2]
    parts = (at(part) for part in (gradient, x, slope, level, taps, across, dx, dw))
    loaded().separable_gradients(*parts, kernel, numbers)
    if dw is None:
        return dx, None, None
    of_taps, of_across = dw.split([taps.numel(), across.numel()])
    return dx, of_taps.view(depthwise.shape), of_across.view(pointwise.shape)
