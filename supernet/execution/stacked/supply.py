"""Stacks the parameters, the architecture weights and the statistics that a pass of a cell needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.execution.stacked.packing import reorder, spread, stack
from supernet.execution.stacked.plan import Plan
from supernet.execution.stacked.planning import open_choice
from supernet.execution.triton import Statistics
from supernet.space.cells import Cell


class Supply:
    """Parameters, weights and statistics of one pass, stacked and given out in the order in which groups ask.

    `depthwise` (by bucket), `pointwise` and `scales` are iterators, of which each layer takes the next.

    Args:
        plan: that of the cell.
        cell: its choices hold the architecture weights of this pass.
        like: a state of the cell, on the device of the pass.
    """

    def __init__(self, plan: Plan, cell: Cell, like: Tensor) -> None:
        self._plan, norms = plan, plan.norms
        precision = norms[0].running_mean.dtype if norms else like.dtype  # type: ignore[union-attr]
        # Parameters are stacked in their own precision, and autograd adds their gradients up in it.
        with torch.autocast(like.device.type, enabled=False):
            self.depthwise = {bucket: self._kernels(bucket) for bucket in plan.kernels}
            self.pointwise = iter(
                stack([m.weight for m in plan.pointwise]).split(plan.pointwise_sizes) if plan.pointwise else ()
            )
            order, inverse = plan.scale_order(like.device)
            weights = spread(_weights(cell, plan), order, inverse, plan.channels).to(precision)
        self.scales = iter(weights.split(plan.scale_sizes))
        self._training = bool(norms and norms[0].training)
        self._tracking = bool(norms and norms[0].track_running_stats)
        self._given = 0  # how many norms `norms` has given out
        self._statistics = torch.empty(0)
        self._parts: Iterator[tuple[Tensor | None, Tensor | None]] = iter([(None, None)] * len(plan.norm_sizes))
        if norms and (self._tracking or not self._training):
            with torch.no_grad():
                # One copy of all running statistics: `normalise` moves slices of it, `remember` writes it back.
                self._statistics = torch.cat(_running(norms))
                parts = self._statistics.split(plan.norm_sizes * 2)
            self._parts = zip(parts[: len(plan.norm_sizes)], parts[len(plan.norm_sizes) :], strict=True)

    def normalise(self, x: Tensor) -> Tensor:
        """Computes the batch norm of a stack, scaled by the weights of what it ends.

        Args:
            x: (batch, branches x channels, height, width), the next stack that the plan normalises.

        Returns:
            A tensor of the same shape.
        """
        mean, variance = next(self._parts)
        norm = self._plan.norms[0]
        return F.batch_norm(x, mean, variance, next(self.scales), None, self._training, norm.momentum, norm.eps)  # type: ignore[arg-type]

    def norms(self, count: int) -> tuple[int, ...]:
        """Gives out the numbers of the next norms, for those that normalise by `statistics` themselves.

        Args:
            count: how many.
        """
        self._given += count
        return tuple(range(self._given - count, self._given))

    def statistics(self) -> Statistics:
        """Says how the norms behave in training mode; they move in place what `remember` keeps."""
        norm = self._plan.norms[0] if self._plan.norms else None
        moved = self._statistics if self._tracking and self._training else None
        return Statistics(norm.eps, norm.momentum, moved) if norm else Statistics(0.0, 0.0, None)  # type: ignore[arg-type]

    @torch.no_grad()
    def remember(self) -> None:
        """Writes the running statistics back into the norms, as each would have done it."""
        if not (self._training and self._tracking):
            return
        norms = self._plan.norms
        torch._foreach_copy_(_running(norms), self._statistics.split(self._plan.channels))
        torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)  # type: ignore[misc,arg-type,return-value]

    def _kernels(self, bucket: tuple[int, int]) -> Iterator[Tensor]:
        """The depthwise kernels of one frame, one tensor (branches x channels, 1, side, side) for each convolution."""
        kernels, channels, side = self._plan.kernels[bucket], self._plan.channels, bucket[0]
        rows = [stack([m.weight for m in kind.modules]) for kind in kernels.kinds]
        if len(rows) > 1 or kernels.kinds[0].kernel[0] != side:
            # Kernels of all sides and dilations as rows of one matrix: each is put into the middle of the frame.
            rows = [stack([kind.framed(own.flatten(1), bucket) for kind, own in zip(kernels.kinds, rows, strict=True)])]
        if kernels.order:  # stacked by kind, and wanted layer after layer
            order, inverse = kernels.orders(channels, rows[0].device)
            rows = [reorder(rows[0].flatten(1), order, inverse)]
        joined = rows[0] if rows[0].dim() == 4 else rows[0].view(-1, 1, side, side)
        return iter(joined.split(kernels.sizes))


def _running(norms: Sequence[nn.BatchNorm2d]) -> list[Tensor]:
    """All running means, then all running variances."""
    return [norm.running_mean for norm in norms] + [norm.running_var for norm in norms]  # type: ignore[misc,arg-type,return-value]


def _weights(cell: Cell, plan: Plan) -> list[Tensor]:
    """All edges' weights, one after the other, each times the weight of its edge where the inputs are relaxed."""
    weights = [open_choice(cell.edges[name]).weights for incoming in cell.incoming for _, name in incoming]  # type: ignore[union-attr]
    given = [total.weights for total in cell.totals]
    if all(shares is None for shares in given):
        return weights  # type: ignore[return-value]
    one = weights[0].new_ones(1)  # type: ignore[union-attr]
    shares = [one.expand(len(edges)) if own is None else own for own, edges in zip(given, cell.incoming, strict=True)]
    return [stack(weights) * stack(shares).index_select(0, plan.edge_of(one.device))]  # type: ignore[arg-type]
