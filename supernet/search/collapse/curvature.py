"""Second derivatives with respect to the alphas alone, cheap enough for every epoch.

PyTorch differentiates a grouped convolution a second time group by group, and the kernel's part of it even where it
is not needed. But where only the alphas vary, a convolution is a linear map of its images: its derivative is the
adjoint map, and the derivative of that is the map itself again. Both are one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
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
    """The derivative of a `_Map`: maps the gradient of its output to the gradient of its input."""

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


def lambda_max(loss: Tensor, alphas: Sequence[Tensor], iterations: int = 100, tolerance: float = 1e-4) -> float:
    """Finds the largest eigenvalue of the Hessian of a loss in the alphas (RobustDARTS, Zela et al. 2020, section 3).

    A sharp rise of it goes before a collapse. The method is that of Lanczos (1950): it wants far fewer products with
    the Hessian than power iteration, and an eigenvalue that is larger in size and negative does not mislead it. The
    estimate comes from below.

    Args:
        loss: a scalar that can be differentiated twice in the alphas: it has to be built on the reference executor.
        alphas: of any shapes.
        iterations: how many exact products with the Hessian are taken, at most.
        tolerance: Lanczos' method stops where a product changes the estimate by less than this part of it.

    Returns:
        The eigenvalue; 0 for a linear loss; NaN where second derivatives are not finite.

    Example:
        >>> a, b = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
        >>> round(lambda_max(3 * a**2 - 10 * b**2, [a, b]), 3)  # the eigenvalues are 6 and -20
        6.0
    """
    slope = torch.autograd.grad(loss, alphas, create_graph=True, allow_unused=True, materialize_grads=True)
    flat = torch.cat([s.flatten() for s in slope])
    if not flat.requires_grad:  # a linear loss
        return 0.0

    def product(vector: Tensor) -> Tensor:
        found = torch.autograd.grad(flat, alphas, vector, retain_graph=True, allow_unused=True, materialize_grads=True)
        return torch.cat([f.flatten() for f in found])

    start = torch.randn(len(flat), generator=torch.Generator().manual_seed(0)).to(flat)
    basis = (start / start.norm()).unsqueeze(0)
    projected = torch.zeros(0, 0, dtype=torch.float64)
    value = 0.0
    for number in range(min(iterations, len(flat))):
        moved = product(basis[-1])
        projected = nn.functional.pad(projected, (0, 1, 0, 1))
        projected[:, -1] = projected[-1] = (basis @ moved).double().cpu()
        if not projected.isfinite().all():  # second derivatives overflow before the loss does
            return math.nan
        ritz = torch.linalg.eigvalsh(projected)
        before, value = value, ritz[-1].item()
        for _ in range(2):  # once is not enough in floating point
            moved = moved - basis.T @ (basis @ moved)
        exhausted = moved.norm().item() <= 10 * torch.finfo(flat.dtype).eps * ritz.abs().max().item()
        if exhausted or (number and abs(value - before) <= tolerance * abs(value)):
            break
        basis = torch.cat([basis, (moved / moved.norm()).unsqueeze(0)])
    return value
