"""Separable and 1x1 convolutions and their gradients in compiled passes: the fast backend of `functions.py`.

PyTorch's own kernels read and write what lies between them, and fill half a register where channels are few or no
multiple of a vector: 4, 8 and 16 (what partial channels leave of 16, 32 and 64), 36. Here one compiled pass
(`native/passes.cpp`) does

* norm, ReLU, depthwise and 1x1 convolution: only the norm's statistics need a pass of their own;
* both convolutions' gradients, for which everything in between is computed again;
* all first convolutions of a state's ReLU, and the sum of their gradients by it;
* ReLU and 1x1 convolution, and their gradients.

Sums that the next norm, or the last one's gradient, needs are made on the way, while what is summed is in a cache.

`serves` and `serves_pointwise` say where; elsewhere, and without the compiled part, `torch_kernels.py` and PyTorch do
the same. All x and gradients are channels-last: the compiled part is given addresses, and reads rows of channels.
Norms by themselves are in `norms.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from supernet.execution.fused.bindings import CHANNELS, Norm, Window, addresses, at, compiled, loaded, room, sizes
from supernet.execution.fused.norms import serves_norm


def serves(x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> bool:
    """Says whether a separable convolution runs compiled: kernels of 3 or 5 that keep their centre, stride 1 or 2.

    Args:
        x: (batch, channels, height, width).
        depthwise: (channels, 1, side, side).
        pointwise: (channels out, channels, 1, 1); there have to be as many channels out as in.
        window: how the depthwise kernel moves.

    Returns:
        True where the functions of this module can be called with these.

    Example:
        >>> window = Window(stride=(1, 1), padding=(1, 1), dilation=(1, 1))
        >>> x, depthwise, pointwise = torch.zeros(1, 2, 8, 8), torch.zeros(2, 1, 3, 3), torch.zeros(2, 2, 1, 1)
        >>> serves(x, depthwise, pointwise, window)  # two channels are too few
        False
    """
    # The compiled part has one number of channels for all three, and a frame of zeros as wide as half the kernel.
    channels, (_, _, kernel, _) = x.shape[1], depthwise.shape
    centred = window.padding[0] == window.dilation[0] * (kernel - 1) // 2
    fits = channels in CHANNELS and channels == len(depthwise) == len(pointwise) and pointwise.dtype == x.dtype
    return fits and centred and window.stride[0] <= 2 and compiled(x, depthwise, window) is not None


def serves_pointwise(x: Tensor, weight: Tensor) -> bool:
    """Says whether a 1x1 convolution runs compiled: in float32, on a CPU, with a fitting number of channels in and out.

    Args:
        x: (batch, channels, height, width).
        weight: (channels out, channels, 1, 1).

    Returns:
        True where `pointwise` and `pointwise_gradients` can be called with these.

    Example:
        >>> serves_pointwise(torch.zeros(1, 4, 8, 8), torch.zeros(2, 4, 1, 1))  # two channels out are too few
        False
    """
    fits = len(weight) in CHANNELS and weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return fits and serves_norm(x)


def separable(x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> Tensor:
    """Computes a depthwise convolution and a 1x1 convolution in one pass, without writing what lies between them.

    Args:
        x: (batch, channels, height, width), channels-last, as in all functions here.
        depthwise: (channels, 1, side, side).
        pointwise: (channels, channels, 1, 1).
        window: how the depthwise kernel moves.

    Returns:
        (batch, channels, height / stride, width / stride), rounded up, channels-last.
    """
    return _forward(x, None, None, depthwise, pointwise, window)


def separable_gradients(
    gradient: Tensor,
    x: Tensor | None,
    shape: torch.Size,
    depthwise: Tensor,
    pointwise: Tensor,
    window: Window,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Computes the gradients of `separable` in one pass.

    Args:
        gradient: by the output of `separable`, of its shape, channels-last.
        x: what was convolved; it is needed for the weights' gradients alone, and None will do otherwise.
        shape: the shape of x, (batch, channels, height, width).
        depthwise: (channels, 1, side, side).
        pointwise: (channels, channels, 1, 1).
        window: how the depthwise kernel moves.
        wanted: whether the gradient by x, by `depthwise` and by `pointwise` is wanted.

    Returns:
        The gradients by x, `depthwise` and `pointwise`, each of its shape; None where one was not computed.
    """
    return _gradients(gradient, x, shape, None, None, depthwise, pointwise, window, wanted)


@dataclass(frozen=True)
class Convolutions:
    """The weights and the window of a separable convolution.

    Args:
        depthwise: (channels, 1, side, side).
        pointwise: (channels, channels, 1, 1).
        window: how the depthwise kernel moves.
        eps: of the norm that comes next.
    """

    depthwise: Tensor
    pointwise: Tensor
    window: Window
    eps: float


def relu_separables(x: Tensor, all_of: Sequence[Convolutions]) -> tuple[list[Tensor], Tensor]:
    """Computes several of `separable` of the ReLU of x, which is not written, and reads x from memory but once.

    Args:
        x: (batch, channels, height, width), channels-last.
        all_of: one or more.

    Returns:
        For each (batch, channels, height / stride, width / stride), rounded up, channels-last; and what their norms
        need to know, (number, 3, channels), as `norms.statistics_of` would find it.
    """
    outs, statistics = [_outputs(x, one.window) for one in all_of], x.new_empty(len(all_of), 3, x.shape[1])
    numbers, kept = _described(x.shape, all_of, outs)
    eps = (ctypes.c_double * len(all_of))(*(one.eps for one in all_of))
    loaded().relu_separables(at(x), len(outs), *numbers, addresses(outs), eps, at(statistics))
    del kept
    return outs, statistics


def relu_separables_gradients(
    gradients: Sequence[Tensor],
    x: Tensor | None,
    shape: torch.Size,
    all_of: Sequence[Convolutions],
    wanted: bool,
    weights_wanted: Sequence[bool],
) -> tuple[Tensor | None, list[tuple[Tensor | None, Tensor | None]]]:
    """Computes the gradients of `relu_separables`, that by the ReLU of x in place of that by x.

    Args:
        gradients: by each output, of its shape, channels-last.
        x: what the ReLU was taken of; it is needed for the weights' gradients alone, and None will do otherwise.
        shape: the shape of x, (batch, channels, height, width).
        all_of: as in `relu_separables`.
        wanted: whether the gradient by the ReLU of x is wanted.
        weights_wanted: of each, whether its weights' gradients are wanted.

    Returns:
        The gradient by the ReLU of x; of each those by `depthwise` and `pointwise`. None where one is not wanted.
    """
    numbers, kept = _described(shape, all_of, gradients)
    dx = room(gradients[0], shape) if wanted else None
    dws = [
        gradients[0].new_empty(one.depthwise.numel() + one.pointwise.numel()) if needed else None
        for one, needed in zip(all_of, weights_wanted, strict=True)
    ]
    given = addresses(gradients), at(x), len(gradients)
    loaded().relu_separables_gradients(*given, *numbers, at(dx), addresses(dws))
    del kept
    parted = [_parted(dw, one.depthwise, one.pointwise) for dw, one in zip(dws, all_of, strict=True)]
    return dx, parted


def _described(
    shape: torch.Size, all_of: Sequence[Convolutions], outs: Sequence[Tensor]
) -> tuple[tuple[Any, ...], list[Tensor]]:
    """Kernels' sides, sizes and weights as arguments, and the tensors that have to live until the call has returned."""
    sides = (ctypes.c_int * len(all_of))(*(one.depthwise.shape[2] for one in all_of))
    extents = [
        size
        for one, out in zip(all_of, outs, strict=True)
        for size in (*shape, *out.shape[2:], one.window.stride[0], one.window.dilation[0], one.window.padding[0])
    ]
    taps = [one.depthwise.detach().contiguous() for one in all_of]
    across = [one.pointwise.detach().contiguous() for one in all_of]
    arrays = (ctypes.c_int64 * len(extents))(*extents), addresses(taps), addresses(across)
    return (sides, *arrays), [*taps, *across]


def norm_relu_separable(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    depthwise: Tensor,
    pointwise: Tensor,
    norm: Norm,
    window: Window,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Computes `separable` of the ReLU of the batch norm of x, in one pass after that for the statistics.

    Args:
        x: (batch, channels, height, width), channels-last.
        scale: of the norm, (channels,); None is 1.
        shift: of the norm, (channels,); None is 0.
        depthwise: (channels, 1, side, side).
        pointwise: (channels, channels, 1, 1).
        norm: the norm's settings; its running statistics are moved.
        window: how the depthwise kernel moves.

    Returns:
        The convolutions' output, (batch, channels, height / stride, width / stride), rounded up; and what the gradients
        need, (5, channels): the statistics, and the norm as a line (`norms.line`), slope and level.
    """
    out, kept = _outputs(x, window), x.new_empty(5, x.shape[1])
    taps, across = depthwise.detach().contiguous(), pointwise.detach().contiguous()
    if norm.known is not None:
        kept[:3] = norm.known
    next_eps, found = norm.after or (0.0, x.new_empty(3, x.shape[1]))
    given = at(x), at(scale), at(shift), at(norm.mean), at(norm.variance)
    settings = ctypes.c_double(norm.momentum), ctypes.c_double(norm.eps), int(norm.known is not None)
    made = at(taps), at(across), at(out), at(kept), ctypes.c_double(next_eps), at(found)
    loaded().norm_relu_separable(*given, *settings, *made, depthwise.shape[2], sizes(x.shape, out.shape, window))
    return out, (kept,)


def norm_relu_separable_gradients(
    gradient: Tensor,
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    depthwise: Tensor,
    pointwise: Tensor,
    kept: Sequence[Tensor],
    eps: float,
    window: Window,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Computes the gradients of `norm_relu_separable`, and all that lies between x and the output again.

    Args:
        gradient: by the output, of its shape, channels-last.
        x: what was normalised, (batch, channels, height, width), channels-last.
        scale: of the norm, (channels,); None is 1.
        shift: of the norm, (channels,); None is 0.
        depthwise: (channels, 1, side, side).
        pointwise: (channels, channels, 1, 1).
        kept: what `norm_relu_separable` gave for the gradients.
        eps: that of the norm.
        window: how the depthwise kernel moves.
        wanted: whether the gradient by x, `scale`, `shift`, `depthwise` and `pointwise` is wanted.

    Returns:
        The gradients by these five, each of its shape; None where one was not computed.
    """
    (kept_numbers,) = kept
    taps, across = depthwise.contiguous(), pointwise.contiguous()
    of_norm = any(wanted[:3])  # all of the norm's begin with that of what the norm makes
    dx = torch.empty_like(x) if of_norm else None
    slopes = x.new_empty(2, x.shape[1]) if of_norm else None
    dw = gradient.new_empty(taps.numel() + across.numel()) if any(wanted[3:]) else None
    given = at(gradient), at(x), at(scale), at(kept_numbers), at(taps), at(across)
    made = at(dx), at(slopes), at(dw), depthwise.shape[2], sizes(x.shape, gradient.shape, window)
    loaded().norm_relu_separable_gradients(*given, *made)
    of_affine = (slopes[i] if slopes is not None and needed else None for i, needed in enumerate(wanted[1:3]))
    return dx if wanted[0] else None, *of_affine, *_parted(dw, depthwise, pointwise)


def pointwise(x: Tensor, weight: Tensor, relu: bool) -> Tensor:
    """Computes a 1x1 convolution of x, or of its ReLU, which is then not written.

    Args:
        x: (batch, channels, height, width), channels-last.
        weight: (channels out, channels, 1, 1).
        relu: whether the ReLU of x is convolved.

    Returns:
        (batch, channels out, height, width), channels-last.
    """
    # Row by row, as the compiled part reads it; a weight that lies so already is not copied.
    out, across = room(x, (len(x), len(weight), *x.shape[2:])), weight.detach().contiguous()
    loaded().pointwise(at(x), int(relu), at(across), at(out), *_extents(x, weight))
    return out


def pointwise_gradients(
    gradient: Tensor, x: Tensor | None, shape: torch.Size, weight: Tensor, relu: bool, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Computes the gradients of `pointwise` in one pass.

    Args:
        gradient: by the output of `pointwise`, of its shape, channels-last.
        x: what was convolved; it is needed for the weight's gradient and the ReLU alone, and None will do otherwise.
        shape: the shape of x, (batch, channels, height, width).
        weight: (channels out, channels, 1, 1).
        relu: whether the ReLU of x was convolved.
        wanted: whether the gradient by x and by `weight` is wanted.

    Returns:
        The gradients by x and `weight`, each of its shape; None where one is not wanted.
    """
    across = weight.contiguous()
    dx = room(gradient, shape) if wanted[0] else None
    dw = torch.empty_like(across) if wanted[1] else None
    given = at(gradient), at(x), int(relu), at(across)
    loaded().pointwise_gradients(*given, at(dx), at(dw), *_extents(gradient, weight))
    return dx, dw


def _extents(x: Tensor, weight: Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64, ctypes.c_int64]:
    """Pixels, channels in, channels out."""
    return ctypes.c_int64(x.numel() // x.shape[1]), ctypes.c_int64(weight.shape[1]), ctypes.c_int64(len(weight))


def _outputs(x: Tensor, window: Window) -> Tensor:
    """Room for what a depthwise convolution makes of x."""
    # A kernel that keeps its centre has an output at each pixel where the stride stops.
    rows, columns = ((size - 1) // window.stride[0] + 1 for size in x.shape[2:])
    return torch.empty_like(x) if window.stride[0] == 1 else room(x, (*x.shape[:2], rows, columns))


def _parted(dw: Tensor | None, depthwise: Tensor, pointwise: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of both weights, which lie one after the other."""
    if dw is None:
        return None, None
    taps = depthwise.numel()
    return dw[:taps].view(depthwise.shape), dw[taps:].view(pointwise.shape)


def _forward(
    x: Tensor, slope: Tensor | None, level: Tensor | None, depthwise: Tensor, pointwise: Tensor, window: Window
) -> Tensor:
    """The convolutions of x, or of ReLU(slope x + level)."""
    out = _outputs(x, window)
    # The compiled part reads weights in the order (out, in, rows, columns), and the engine has them channels-last.
    taps, across = depthwise.detach().contiguous(), pointwise.detach().contiguous()
    numbers = sizes(x.shape, out.shape, window)
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
    taps, across = depthwise.contiguous(), pointwise.contiguous()
    dx = room(gradient, shape) if wanted[0] else None
    # Both weights' gradients or none: they come out of one pass, and the second costs next to nothing.
    dw = gradient.new_empty(taps.numel() + across.numel()) if any(wanted[1:]) else None
    numbers, kernel = sizes(shape, gradient.shape, window), depthwise.shape[2]
    parts = (at(part) for part in (gradient, x, slope, level, taps, across, dx))
    loaded().separable_gradients(*parts, at(dw), kernel, numbers)
    return dx, *_parted(dw, depthwise, pointwise)
