"""Sums of batch norms and of shared tensors in compiled passes (`native/passes.cpp`).

All norms that end at a node are one sum, sum_i w_i BN(y_i) = sum_i (a_i y_i + b_i) with a_i = w_i / deviation_i. A skip
connection is a norm that changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from supernet.execution.fused.bindings import addresses, at, dense, loaded, once
from supernet.execution.fused.norms import extent, statistics_of, unbiased
from supernet.execution.fused.sharing import Collected, Shared


def sum_of_norms(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor | None],
    eps: Sequence[float],
    shared: Sequence[Shared] = (),
    known: Sequence[Tensor | None] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes sum_i weights[i] BN(xs[i]) by the batch's statistics in one pass: all norms that end at a node.

    Args:
        xs: (batch, channels, height, width), all of one shape.
        weights: one for each of `shared`, then one for each of `xs`, 0-dimensional; None stands for 1.
        eps: that of the norm of each of `xs`.
        shared: tensors of the same shape that others read, too, or their norms, which are added.
        known: the statistics of each of `xs` as `norms.statistics_of` gives them; None, or left out: they are found.

    Returns:
        The sum, of the shape of one x and channels-last; the means and the (unbiased) variances of `xs`, each
        (number of xs, channels), which have no gradient.
    """
    weighted = [weight is not None for weight in weights]
    given = [weight for weight in weights if weight is not None]
    stacked = torch.stack(given) if given else None
    read = [(s.numbers, s.statistics, s.collected) for s in shared]
    tokens = (s.token for s in shared)
    wanted = list(zip(eps, known or [None] * len(eps), strict=True))
    total, means, variances = _SumOfNorms.apply(stacked, weighted, wanted, read, *tokens, *xs)
    return total, means, variances


class _SumOfNorms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weights: Tensor | None,
        weighted: list[bool],
        wanted: list[tuple[float, Tensor | None]],
        shared: list[tuple[Tensor, Tensor, Collected]],
        *tensors: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = [dense(x) for x in tensors[len(shared) :]]
        xs = [*(numbers for numbers, _, _ in shared), *own]
        found = [statistics_of(x, eps) if known is None else known for x, (eps, known) in zip(own, wanted, strict=True)]
        statistics = torch.stack([*(known for _, known, _ in shared), *found])
        means, variances, inverses = statistics.unbind(1)
        scales = _scales(weights, weighted, xs[0])
        slopes = inverses * scales[:, None]
        level = -(slopes * means).sum(0)  # the constants of all lines are added beforehand
        total = torch.empty_like(xs[0])
        loaded().sum_of_norms(addresses(xs), len(xs), *extent(total), at(slopes), at(level), at(total))
        ctx.weighted, ctx.collected = weighted, [collected for _, _, collected in shared]
        ctx.factors = scales[: len(shared)].tolist()
        ctx.save_for_backward(statistics, scales, *xs)
        means, variances = means[len(shared) :], unbiased(variances[len(shared) :], total)
        ctx.mark_non_differentiable(means, variances)
        ctx.set_materialize_grads(False)
        return total, means, variances

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor | None, *unused: None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * len(ctx.needs_input_grad)
        statistics, scales, *xs = ctx.saved_tensors
        gradient = dense(gradient)
        wanted, shared = ctx.needs_input_grad[4:], len(ctx.collected)
        for collected, factor, needed in zip(ctx.collected, ctx.factors, wanted[:shared], strict=True):
            if needed:
                collected.now().weighted.append((factor, gradient))
        of_xs = [torch.empty_like(x) if w else None for x, w in zip(xs[shared:], wanted[shared:], strict=True)]
        # Each term is a batch norm whose scale is its weight. By scale and shift of each:
        slopes = gradient.new_empty(len(xs), 2, gradient.shape[1])
        parts = at(gradient), addresses(xs), at(statistics), at(scales), len(xs), *extent(gradient)
        loaded().sum_of_norms_gradients(*parts, addresses([None] * shared + of_xs), at(slopes))
        of_weights = None
        if ctx.needs_input_grad[0]:
            # A weight is the scale of all channels of its norm, so that its gradient is the sum of theirs.
            of_weights = slopes[:, 0].sum(1)[torch.tensor(ctx.weighted)]
        return of_weights, None, None, None, *[None] * shared, *of_xs


def _scales(weights: Tensor | None, weighted: Sequence[bool], like: Tensor) -> Tensor:
    """Returns one scale for each norm: its weight, or 1 where it has none."""
    scales = like.new_ones(len(weighted))
    if weights is not None:
        scales[torch.tensor(weighted)] = weights.to(scales.dtype)
    return scales
