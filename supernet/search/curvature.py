"""Second derivatives in the alphas alone, at a price that can be paid every epoch.

PyTorch differentiates a grouped convolution a second time group by group, and the kernel's part of it even where nobody
asks. But where only the alphas vary, a convolution is a linear map of its images: its derivative is the adjoint map,
and the derivative of that is the map itself again. Both are one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

Window = tuple[Any, Any, Any, int]
"""Stride, padding, dilation, groups."""


class _Map(Function):
    """A convolution as a linear map of its images (batch, channels, height, width); the kernel is a constant."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: Tensor, window: Window) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.window, ctx.size = window, images.shape
        return F.conv2d(images, kernel, None, *window)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (kernel,) = ctx.saved_tensors
        return _Adjoint.apply(slopes[0], kernel, ctx.window, ctx.size), None, None


class _Adjoint(Function):
    """What takes the gradient of a `_Map`'s output to that of its input."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, kernel: Tensor, window: Window, size: torch.Size) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.window = window
        return conv2d_input(size, kernel, slope, *window)

    @staticmethod
    def backward(ctx: Any, *curves: Tensor) -> tuple[Tensor, None, None, None]:
        (kernel,) = ctx.saved_tensors
        return _Map.apply(curves[0], kernel, ctx.window), None, None, None


class LinearConvolutions(TorchFunctionMode):
    """Within it convolutions whose kernel is a constant and that have no bias are cheap to differentiate twice."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.conv2d and len(args) == 7 and not kwargs:
            images, kernel, bias, *window = args
            if bias is None and not kernel.requires_grad and not isinstance(window[1], str):
                return _Map.apply(images, kernel, tuple(window))
        return func(*args, **(kwargs or {}))
