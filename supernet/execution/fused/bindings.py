"""What calls of the compiled part share: tensors in its order, the settings of a convolution and of a norm."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from supernet.execution.native import library

_Sizes = tuple[int, ...]

CHANNELS = range(4, 1025)
"""The numbers of channels that the compiled passes are for."""


def dense(x: Tensor) -> Tensor:
    """`x` (batch, channels, height, width) in channels-last order."""
    return x.contiguous(memory_format=torch.channels_last)


def room(like: Tensor, shape: Sequence[int]) -> Tensor:
    """An uninitialised tensor (batch, channels, height, width) in channels-last order."""
    return torch.empty(*shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Window:
    """How a depthwise convolution moves: its stride, padding and dilation, each (rows, columns)."""

    stride: _Sizes
    padding: _Sizes
    dilation: _Sizes


@dataclass(frozen=True)
class Norm:
    """A batch norm by the batch's own statistics, whose running ones (None: not wanted) move by `momentum`."""

    mean: Tensor | None
    variance: Tensor | None
    momentum: float
    eps: float


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For a gradient that cannot be differentiated itself: raises where somebody tries.

    PyTorch's own `once_differentiable` does not: where `torch.autograd.grad` asks for a second gradient, it leaves the
    part out without a word.
    """

    @wraps(backward)
    def checked(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the fused executor cannot be differentiated twice; run the network within "
                "supernet.execution.modes.running(network, reference)"
            )
        return backward(ctx, *gradients)

    return checked


def loaded() -> ctypes.CDLL:
    """The compiled functions, where they are known to serve."""
    found = library()
    assert found is not None, "asked for only where they serve"
    return found


def compiled(gradient: Tensor, weight: Tensor, window: Window) -> ctypes.CDLL | None:
    """The compiled functions, where they serve: square kernels of 3 or 5 in float32 on a CPU."""
    square = all(len(set(pair)) == 1 for pair in (window.stride, window.padding, window.dilation, weight.shape[2:]))
    served = square and weight.shape[2] in (3, 5) and weight.dtype == gradient.dtype == torch.float32
    return library() if served and gradient.device.type == "cpu" else None


def sizes(x: _Sizes, gradient: _Sizes, window: Window) -> Any:
    """A convolution's input and output shapes, stride, dilation and padding."""
    values = (*x, *gradient[2:], window.stride[0], window.dilation[0], window.padding[0])
    return (ctypes.c_int64 * len(values))(*values)


def at(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where the numbers of a tensor lie."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
