"""Poolings of 3 x 3 pixels in compiled passes, which keep no places of maxima: the gradient finds them again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from supernet.execution.fused.bindings import Window, at, dense, loaded, once, room, sizes
from supernet.execution.fused.sharing import serves_sharing


def pool(module: nn.Module, x: Tensor) -> Tensor:
    """Computes a pooling, compiled where that serves: 3 x 3 pixels, a frame of one, in float32 on a CPU.

    Args:
        module: an average or maximum pooling without hooks, which would not be called: one with hooks is not
            recognised (`patterns.Recognised.operation`), and so does not come here.
        x: (batch, channels, height, width).

    Returns:
        What the module computes.

    Example:
        >>> pool(nn.MaxPool2d(3, 1, 1), torch.eye(4).expand(1, 4, 4, 4))[0, 0]
        tensor([[1., 1., 1., 0.],
                [1., 1., 1., 1.],
                [1., 1., 1., 1.],
                [0., 1., 1., 1.]])
    """
    if not (serves_sharing(x) and _three_by_three(module)):
        pooled: Tensor = module(x)
        return pooled
    stride, _ = _pair(module.stride)
    out: Tensor = _Pool.apply(x, isinstance(module, nn.AvgPool2d), stride)
    return out


def _three_by_three(module: nn.Module) -> bool:
    if type(module) not in (nn.MaxPool2d, nn.AvgPool2d) or module.ceil_mode:
        return False
    usual = (
        not module.count_include_pad and module.divisor_override is None
        if type(module) is nn.AvgPool2d
        else (_pair(module.dilation) == (1, 1) and not module.return_indices)
    )
    return (
        usual
        and _pair(module.kernel_size) == (3, 3)
        and _pair(module.padding) == (1, 1)
        and len({*_pair(module.stride)}) == 1
    )


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: bool, stride: int) -> Tensor:
        x = dense(x)
        rows, columns = ((size - 1) // stride + 1 for size in x.shape[2:])
        out = room(x, (*x.shape[:2], rows, columns))
        ctx.mean, ctx.shape, ctx.window = mean, x.shape, Window((stride, stride), (1, 1), (1, 1))
        loaded().pool(int(mean), at(x), at(out), at(None), at(None), sizes(x.shape, out.shape, ctx.window))
        ctx.save_for_backward(*(() if mean else (x, out)))
        return out

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = dense(gradient)
        x, out = ctx.saved_tensors or (None, None)
        dx = room(gradient, ctx.shape)
        numbers = sizes(ctx.shape, gradient.shape, ctx.window)
        loaded().pool(int(ctx.mean), at(x), at(out), at(gradient), at(dx), numbers)
        return dx, None, None
