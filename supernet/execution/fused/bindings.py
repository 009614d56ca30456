"""Helpers for calls of the compiled functions: channels-last tensors, settings of a convolution and of a norm."""

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
    """Brings a tensor to channels-last order, which all compiled passes read; one that has it is returned as it is.

    Args:
        x: (batch, channels, height, width).

    Returns:
        The same numbers in the same shape, the channels of a pixel side by side in memory.

    Example:
        >>> dense(torch.zeros(1, 2, 3, 4)).stride()
        (24, 1, 8, 2)
    """
    return x.contiguous(memory_format=torch.channels_last)


def room(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Makes an uninitialised tensor in channels-last order for a compiled pass to write into.

    Args:
        like: a tensor of the wanted dtype and device.
        shape: the (batch, channels, height, width) of the result.

    Returns:
        A tensor of `shape`; its numbers are whatever was in memory.

    Example:
        >>> room(torch.zeros(1), (1, 2, 3, 4)).stride()
        (24, 1, 8, 2)
    """
    return torch.empty(*shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Window:
    """How a depthwise convolution moves over a picture, in pixels.

    Args:
        stride: (rows, columns) from one output to the next.
        padding: (rows, columns) of zeros on each side.
        dilation: (rows, columns) from one tap of the kernel to the next.
    """

    stride: _Sizes
    padding: _Sizes
    dilation: _Sizes


@dataclass(frozen=True)
class Norm:
    """The settings of a batch norm by the batch's own statistics, whose running ones move on the way.

    Args:
        mean: the running mean (channels,), which is changed in place; None where none is wanted.
        variance: the running (unbiased) variance (channels,), likewise.
        momentum: the share of the batch's statistics in the new running ones, from 0 to 1.
        eps: what is added to the variance before its root is taken.
        known: the batch's statistics as `norms.statistics_of` gives them; None where they are to be found.
        after: the eps of the norm that comes after the convolutions, and room for what it needs to know, (3, channels);
            compiled passes alone fill it. None where there is none.
    """

    mean: Tensor | None
    variance: Tensor | None
    momentum: float
    eps: float
    known: Tensor | None = None
    after: tuple[float, Tensor] | None = None


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a gradient that cannot be differentiated itself: it raises an error on the attempt.

    PyTorch's own `once_differentiable` does not: where `torch.autograd.grad` asks for a second gradient, it leaves the
    part out silently.

    Args:
        backward: the `backward` of an autograd function: (its context, gradients of the outputs) -> gradients.

    Returns:
        The same function, which raises RuntimeError where a graph is made of the backward pass (`create_graph=True`).

    Example:
        >>> doubled = once(lambda ctx, gradient: 2 * gradient)
        >>> with torch.no_grad():  # a backward pass runs so, unless it is to be differentiated
        ...     doubled(None, torch.tensor(3.0))
        tensor(6.)
        >>> doubled(None, torch.tensor(3.0))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        RuntimeError: the fused executor cannot be differentiated twice; ...
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
    """Returns the compiled functions, where they are known to serve.

    Returns:
        The library.

    Raises:
        AssertionError: it was not compiled, so that the caller should not have asked.
    """
    found = library()
    assert found is not None, "asked for only where they serve"
    return found


def compiled(gradient: Tensor, weight: Tensor, window: Window) -> ctypes.CDLL | None:
    """Finds the compiled functions, where they serve: square kernels of 3 or 5 in float32 on a CPU.

    Args:
        gradient: any tensor of the convolution's dtype and device, such as its input or the gradient of its output.
        weight: of a depthwise convolution, (channels, 1, rows, columns).
        window: how the kernel moves; each of its settings has to be the same for rows and columns.

    Returns:
        The library; None where it does not serve, or where there is none.

    Example:
        >>> moves = Window(stride=(1, 1), padding=(3, 3), dilation=(1, 1))
        >>> compiled(torch.zeros(1, 4, 8, 8), torch.zeros(4, 1, 7, 7), moves) is None  # a kernel of 7
        True
    """
    square = all(len(set(pair)) == 1 for pair in (window.stride, window.padding, window.dilation, weight.shape[2:]))
    served = square and weight.shape[2] in (3, 5) and weight.dtype == gradient.dtype == torch.float32
    return library() if served and gradient.device.type == "cpu" else None


def sizes(x: _Sizes, gradient: _Sizes, window: Window) -> Any:
    """Packs the sizes of a convolution as the compiled part wants them (`Shape` in native/instructions.h).

    Args:
        x: the shape of the input, (batch, channels, height, width).
        gradient: the shape of the output, and so of its gradient.
        window: how the kernel moves, the same way in rows and columns.

    Returns:
        A C array of nine int64: the shape of x, height and width of the output, stride, dilation and padding.

    Example:
        >>> list(sizes((1, 4, 8, 8), (1, 4, 5, 5), Window(stride=(2, 2), padding=(3, 3), dilation=(1, 1))))
        [1, 4, 8, 8, 5, 5, 2, 1, 3]
    """
    values = (*x, *gradient[2:], window.stride[0], window.dilation[0], window.padding[0])
    return (ctypes.c_int64 * len(values))(*values)


def at(tensor: Tensor | None) -> ctypes.c_void_p:
    """Says where the numbers of a tensor lie, as an argument of a compiled function.

    Args:
        tensor: any tensor, which has to live until the call has returned; None where the function is given none.

    Returns:
        Its address, or the null pointer.

    Example:
        >>> at(None).value is None
        True
    """
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def addresses(tensors: Sequence[Tensor | None]) -> Any:
    """Says where the numbers of tensors lie, as an argument of a compiled function.

    Args:
        tensors: any, which have to live until the call has returned; None where the function is given none.

    Returns:
        A C array of addresses.

    Example:
        >>> list(addresses([None, None]))
        [None, None]
    """
    return (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))
