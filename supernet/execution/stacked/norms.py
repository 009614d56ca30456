"""Norms that are never written: read as the next convolution loads them, or while they are added up into nodes.

Both functions are Triton's kernels (`execution/triton/norms.py`, `depthwise.py`), for what `triton.serves` says yes to,
in training mode. What they keep for the gradient is what comes in, and mean and inverse deviation of its channels. They
can be differentiated any number of times: the second time by their plain twins. Statistics are sums in float32, in
another order than cuDNN's, so that results differ from it in the last digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from supernet.execution.stacked.depthwise import Frame, branches_of, gradients_of_twin, plain_depthwise
from supernet.execution.stacked.packing import stack
from supernet.execution.triton import MOST, Statistics


@dataclass(frozen=True)
class Piece:
    """A stack, of which branches take blocks to nodes.

    Args:
        stack: (batch, blocks x channels, height, width).
        reads: for each branch which block it takes; every block is taken by some branch.
        targets: for each branch the node that it goes to.
        norms: for each branch which of the cell's norms is its own; None where the stack is not normalised.
    """

    stack: Tensor
    reads: tuple[int, ...]
    targets: tuple[int, ...]
    norms: tuple[int, ...] | None


def norm_relu_depthwise(
    x: Tensor, kernels: Tensor, frame: Frame, norms: tuple[int, ...], statistics: Statistics
) -> Tensor:
    """Computes a depthwise convolution of the ReLU of the batch norm of a stack, whose blocks each have their norm.

    Args:
        x: (batch, branches x channels, height, width).
        kernels: (branches x channels, 1, side, side), as `depthwise` wants them.
        frame: how they move.
        norms: for each branch which of the cell's norms is its own.
        statistics: of the norms.

    Returns:
        (batch, branches x channels, height / stride, width / stride).
    """
    with torch.autocast(x.device.type, enabled=False):
        return _NormReluDepthwise.apply(frame, norms, statistics, kernels.contiguous(), x.contiguous())


def add_up(
    pieces: Sequence[Piece], scales: Sequence[Tensor], targets: Sequence[int], statistics: Statistics
) -> list[Tensor]:
    """Computes for each node the sum of scale x block over its branches; blocks of normalised stacks by their norm.

    Args:
        pieces: the stacks, with as many channels a block.
        scales: (branches x channels,) float32 for each piece.
        targets: the nodes, at most `MOST`; to each of them goes a branch.
        statistics: of the norms.

    Returns:
        (batch, channels, height, width) for each of `targets`.
    """
    totals: dict[int, Tensor] = {}
    for start in range(0, len(pieces), MOST):
        part, vectors = pieces[start : start + MOST], scales[start : start + MOST]
        # Only nodes that these pieces go to: the others would be zeros, written, added and without a derivative.
        reached = [target for target in targets if any(target in piece.targets for piece in part)]
        tensors = [piece.stack.to(pieces[0].stack.dtype).contiguous() for piece in part]
        with torch.autocast(tensors[0].device.type, enabled=False):
            made = _AddUp.apply(_terms(part, vectors, reached), statistics, stack(list(vectors)).contiguous(), *tensors)
        for target, total in zip(reached, made, strict=True):
            totals[target] = totals[target] + total if target in totals else total
    return [totals[target] for target in targets]


def _terms(pieces: Sequence[Piece], scales: Sequence[Tensor], targets: Sequence[int]) -> Any:
    from supernet.execution.triton.norms import Terms

    channels = len(scales[0]) // len(pieces[0].targets)
    branches = tuple(
        (number, block, targets.index(target), norm)
        for number, piece in enumerate(pieces)
        for block, target, norm in zip(
            piece.reads, piece.targets, piece.norms or (-1,) * len(piece.targets), strict=True
        )
    )
    blocks = tuple(piece.stack.shape[1] // channels for piece in pieces)
    return Terms(blocks, tuple(piece.norms is not None for piece in pieces), branches, len(targets))


class _NormReluDepthwise(Function):
    @staticmethod
    def forward(
        ctx: Any, frame: Frame, norms: tuple[int, ...], statistics: Statistics, kernels: Tensor, x: Tensor
    ) -> Tensor:
        from supernet.execution.triton import depthwise as convolutions
        from supernet.execution.triton import norms as compiled

        branches = tuple((0, number, 0, norm) for number, norm in enumerate(norms))
        ctx.terms = compiled.Terms((len(norms),), (True,), branches, 1, side_by_side=True)
        line = compiled.lines([x], None, ctx.terms, statistics)
        ctx.frame, ctx.branches, ctx.eps = frame, branches_of([x], [1], kernels, frame), statistics.eps
        ctx.save_for_backward(kernels, x, line.mean, line.inverse, line.level)
        norm = line.mean, line.inverse
        return convolutions.forward(convolutions.Convolution([x], kernels, ctx.branches, relu=True, norm=norm))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        from supernet.execution.triton import depthwise as convolutions
        from supernet.execution.triton import norms as compiled

        kernels, x, mean, inverse, level = ctx.saved_tensors
        needs = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # to be differentiated again

            def twin(kernels: Tensor, x: Tensor) -> list[Tensor]:
                read = _plain_norm(x, ctx.eps)
                return [plain_depthwise([read], [1], kernels.to(x.dtype), ctx.frame, relu=True)]

            return None, None, None, *gradients_of_twin(twin, (kernels, x), gradients, needs)
        gradient = gradients[0].to(x.dtype).contiguous()
        what = convolutions.Convolution([x], kernels, ctx.branches, relu=True, norm=(mean, inverse))
        of_kernels = convolutions.kernel_gradient(gradient, what) if needs[0] else None
        if not needs[1]:
            return None, None, None, of_kernels, None
        slope = convolutions.source_gradients(gradient, what)
        line = compiled.Lines(mean, inverse, slope=inverse, level=level)  # nothing scales these norms
        return None, None, None, of_kernels, compiled.gradients(slope, [x], line, ctx.terms)[0][0]


class _AddUp(Function):
    @staticmethod
    def forward(ctx: Any, terms: Any, statistics: Statistics, scales: Tensor, *stacks: Tensor) -> tuple[Tensor, ...]:
        from supernet.execution.triton import norms as compiled

        line = compiled.lines(stacks, scales, terms, statistics)
        ctx.terms, ctx.eps = terms, statistics.eps
        ctx.save_for_backward(scales, line.mean, line.inverse, line.slope, line.level, *stacks)
        return compiled.add(stacks, line, terms)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        from supernet.execution.triton import norms as compiled

        scales, mean, inverse, slope, level, *stacks = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            twin = partial(_plain_sums, ctx.terms, ctx.eps)
            return None, None, *gradients_of_twin(twin, (scales, *stacks), gradients, ctx.needs_input_grad[2:])
        slopes = [gradient.to(stacks[0].dtype).contiguous() for gradient in gradients]
        line = compiled.Lines(mean, inverse, slope, level)
        of_stacks, of_scales = compiled.gradients(slopes, stacks, line, ctx.terms)
        return None, None, of_scales, *of_stacks


def _plain_norm(x: Tensor, eps: float) -> Tensor:
    return F.batch_norm(x, None, None, None, None, True, 0.0, eps)


def _plain_sums(terms: Any, eps: float, scales: Tensor, *stacks: Tensor) -> list[Tensor]:
    """The plain twin of `add_up`."""
    read = [_plain_norm(x, eps) if normed else x for x, normed in zip(stacks, terms.normed, strict=True)]
    blocks = [x.unflatten(1, (count, -1)) for x, count in zip(read, terms.blocks, strict=True)]
    rows = scales.to(stacks[0].dtype).split(len(scales) // len(terms.branches))
    totals: list[Any] = [0.0] * terms.targets
    for (number, block, target, _), row in zip(terms.branches, rows, strict=True):
        totals[target] = totals[target] + blocks[number][:, block] * row.view(1, -1, 1, 1)
    return totals
