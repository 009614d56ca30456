"""Binary gates: an edge runs its drawn operation alone, and still gives the gradient of every option's weight.

ProxylessNAS (Cai, Zhu and Han 2019, section 3.2). The output of an edge is sum_j g_j o_j(x), with gates g of which one
is 1 and the others are 0. So dL/dg_j = <dL/dout, o_j(x)>, which needs what the other operations would have given, but
nothing that they would keep for a gradient of their own: their parameters and x get none through a gate of 0. They run
in the backward pass, one after the other, and what they give is forgotten at once. The memory of an edge is that of one
path, and its time that of one path and one forward pass of each other operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from supernet.runtime.errors import InputError


def gated_path(weights: Tensor, on: Sequence[bool], candidates: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The sum of the candidates that are on, each times its weight, with the full gradient of all weights.

    It is `choices.weighted_sum` with the memory of `choices.single_path`. The gradient cannot be differentiated again.

    Args:
        weights: (candidates,), of which those that are off are 0.
        on: which of them are not zero.
        candidates: modules that give tensors of one shape.
        x: what each is given.

    Returns:
        A tensor of the shape that the candidates give.

    Raises:
        InputError: no candidate is on; and later, where the result is differentiated twice.

    Example:
        >>> weights = torch.tensor([1.0, 0.0], requires_grad=True)
        >>> out = gated_path(weights, [True, False], [nn.ReLU(), nn.Identity()], torch.tensor([-3.0, 4.0]))
        >>> out.sum().backward()
        >>> out.tolist(), weights.grad  # ReLU would give 0 + 4, the identity -3 + 4
        ([0.0, 4.0], tensor([4., 1.]))
    """
    if not any(on):
        raise InputError("gates: all weights of an edge are zero; one operation needs to be on")
    given = [op(x) if runs else None for op, runs in zip(candidates, on, strict=True)]
    terms = [w * out for w, out in zip(weights.detach(), given, strict=True) if out is not None]
    total = sum(terms[1:], terms[0])
    others = [_Frozen.of(op) if out is None else None for op, out in zip(candidates, given, strict=True)]
    kept = [out.detach() for out in given if out is not None]
    gated: Tensor = _Gates.apply(total, weights, x, others, *kept)
    return gated


@dataclass(frozen=True)
class _Frozen:
    """A module with the parameters that it has now: by the backward pass others may be in their places.

    Args:
        module: the operation.
        parameters: by name, as they are now.
    """

    module: nn.Module
    parameters: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module) -> _Frozen:
        return cls(module, dict(module.named_parameters()))

    def __call__(self, x: Tensor) -> Tensor:
        """Runs the module; its running statistics stay as they are, because the operation is no part of the path."""
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        out: Tensor = functional_call(self.module, {**self.parameters, **buffers}, (x,))
        return out


class _Gates(torch.autograd.Function):
    """Passes the sum on, and gives each weight the inner product of the gradient and what its operation gives."""

    @staticmethod
    def forward(
        ctx: Any, total: Tensor, weights: Tensor, x: Tensor, others: Sequence[_Frozen | None], *kept: Tensor
    ) -> Tensor:
        ctx.save_for_backward(weights, x, *kept)
        kind = x.device.type
        ctx.others = others
        ctx.autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        return total.view_as(total)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if torch.is_grad_enabled():
            raise InputError("gates: their gradient cannot be differentiated again; use the first-order architect")
        weights, x, *kept = ctx.saved_tensors
        given, products = iter(kept), []
        with torch.autocast(*ctx.autocast):
            for other in ctx.others:
                out = next(given) if other is None else other(x)
                products.append((gradient * out).sum(dtype=weights.dtype))
        return (gradient, torch.stack(products), None, None, *(None for _ in kept))
