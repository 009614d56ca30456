"""Tensors that many operations read, such as a state of a cell, and their gradients, which are summed up in place.

With autograd alone each reader makes a gradient of its own, which is written, read again and added. Here a reader is
given the numbers, which have no gradient, and a token, which has one; backward, it adds its part to what is collected
and hands nothing to the token. When all readers of a token have run, autograd runs the token's own gradient, which
hands on what was collected. Many readers want the gradient of the same sum times their own weight: that it is wanted is
noted, and one pass computes all of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from supernet.execution.fused.bindings import addresses, at, dense, loaded, once
from supernet.execution.fused.norms import norm_gradients, serves_norm, statistics_of


def serves_sharing(x: Tensor) -> bool:
    """Says whether gradients of readers of x can be collected: where all of them run compiled, in float32 on a CPU.

    Args:
        x: what is read, (batch, channels, height, width).

    Returns:
        True where `Shared(x)` can be used.

    Example:
        >>> serves_sharing(torch.zeros(1, 4, 8, 8, dtype=torch.float64))
        False
    """
    return serves_norm(x) and not torch.is_autocast_enabled("cpu")


@dataclass
class Collected:
    """What the readers of a tensor have given so far, within one backward pass.

    Args:
        through_relu: the gradient by the ReLU of the tensor, (batch, channels, height, width); None: no reader yet.
        weighted: weights and gradients (batch, channels, height, width), to be added.
        task: the backward pass; what an older one has left, as where the tensor's own gradient was not wanted, is void.
    """

    through_relu: Tensor | None = None
    weighted: list[tuple[float, Tensor]] = field(default_factory=list)
    task: int = -1

    def add_through_relu(self, gradient: Tensor) -> None:
        """Adds a gradient by the ReLU of the tensor.

        Args:
            gradient: (batch, channels, height, width); it may be changed from now on.
        """
        found = self.now()
        found.through_relu = gradient if found.through_relu is None else found.through_relu.add_(gradient)

    def now(self) -> Collected:
        """Returns itself, empty where a new backward pass has begun."""
        task = torch._C._current_graph_task_id()
        if task != self.task:
            self.through_relu, self.weighted, self.task = None, [], task
        return self


class Shared:
    """A tensor that many read, or its batch norm.

    Args:
        x: (batch, channels, height, width).
        eps: of the batch norm that its readers see, by the batch's own statistics; None: they see x.

    Example:
        >>> x = torch.ones(1, 4, 2, 2, requires_grad=True)
        >>> shared = Shared(x, None)
        >>> shared.numbers.requires_grad, shared.token.requires_grad
        (False, True)
    """

    def __init__(self, x: Tensor, eps: float | None) -> None:
        self.x, self.eps, self.collected = dense(x), eps, Collected()

    @cached_property
    def numbers(self) -> Tensor:
        """The tensor without its gradient, channels-last."""
        return self.x.detach()

    @cached_property
    def statistics(self) -> Tensor:
        """(3, channels) as `norms.statistics_of` gives them; without a norm such that the norm changes nothing."""
        if self.eps is not None:
            return statistics_of(self.numbers, self.eps)
        nothing = self.numbers.new_zeros(3, self.x.shape[1])
        nothing[1:] = 1.0
        return nothing

    @cached_property
    def token(self) -> Tensor:
        """Stands for the tensor where a reader's gradient is to be found: a scalar of no meaning."""
        statistics = None if self.eps is None else self.statistics
        token: Tensor = _Token.apply(self.x, statistics, self.collected)
        return token


class _Token(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, statistics: Tensor | None, collected: Collected) -> Tensor:
        ctx.collected = collected
        ctx.set_materialize_grads(False)  # readers hand on nothing
        ctx.save_for_backward(x, statistics)
        return x.new_zeros(())

    @staticmethod
    @once
    def backward(ctx: Any, nothing: Tensor | None) -> tuple[Tensor | None, ...]:
        x, statistics = ctx.saved_tensors
        found = ctx.collected.now()
        through_relu, weighted = found.through_relu, found.weighted
        found.through_relu, found.weighted = None, []
        if through_relu is None and not weighted:
            return None, None, None
        total = _gathered(through_relu, x, weighted)
        if statistics is None:
            return total, None, None
        return norm_gradients(total, x, statistics, None, True)[0], None, None


def _gathered(through_relu: Tensor | None, x: Tensor, weighted: Sequence[tuple[float, Tensor]]) -> Tensor:
    """The gradient by x from those by its ReLU and by weights times x."""
    total = torch.empty_like(x) if through_relu is None else through_relu
    gradients = addresses([gradient for _, gradient in weighted])
    weights = (ctypes.c_float * len(weighted))(*(weight for weight, _ in weighted))
    number = ctypes.c_int64(x.numel())
    loaded().gather(at(through_relu), at(x), gradients, weights, len(weighted), number, at(total))
    return total
