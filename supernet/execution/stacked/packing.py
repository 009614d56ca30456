"""Many small tensors as one large one, and back: linear maps whose backward passes are as few operations.

Autograd's own backward of a concatenation takes a slice for each piece and that of an expansion or a selection adds
where it could copy; on a GPU each of them costs a launch. All of these differentiate any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors (n_i, ...) one after the other, (sum of n_i, ...)."""
    return tensors[0] if len(tensors) == 1 else _Stack.apply(*tensors)


def repeat(tensors: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Tensors (batch, channels_i, height, width), each `counts[i]` times, side by side on the channel axis."""
    return tensors[0] if tuple(counts) == (1,) else _Repeat.apply(tuple(counts), *tensors)


def fold(x: Tensor, rounds: int) -> Tensor:
    """The sum of the `rounds` equal parts of the channels of x (batch, rounds x channels, height, width)."""
    return x if rounds == 1 else _Fold.apply(rounds, x)


def reorder(rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Rows in another order: row i of the result is row order[i]; `inverse` is the inverse permutation."""
    return _Reorder.apply(rows, order, inverse)


def spread(weights: Sequence[Tensor], order: Tensor, inverse: Tensor, channels: int) -> Tensor:
    """Numbers picked from `weights`, put one after the other and followed by a 1, each for `channels` channels.

    order: (branches x channels,), the place of each channel's number. inverse: for each number of `weights` the branch
    that takes it, or `branches` where none does. No number but the final 1 may be taken twice.
    Returns (branches x channels,).
    """
    one = _one(weights[0].device, weights[0].dtype)
    return _Spread.apply(order, inverse, one, channels, *weights)


def scale(x: Tensor, weight: Tensor) -> Tensor:
    """Channel c of x (batch, channels, height, width) times weight[c], in x's precision.

    The gradient of `weight` is summed in the precision of `weight`.
    """
    return _Scale.apply(x, weight)


def mix(x: Tensor, matrices: Tensor) -> Tensor:
    """Each branch's channels mixed by its matrix (branches, channels, channels), by batched matrix products.

    x: (batch, branches x channels, height, width). In channels_last nothing is copied: rows of pixels are strided.
    """
    if _is_channels_last(x):
        return _Mix.apply(x, matrices)
    batch, (branches, channels) = len(x), matrices.shape[:2]
    many = matrices.expand(batch, -1, -1, -1).reshape(-1, channels, channels)
    return torch.bmm(many, x.reshape(batch * branches, channels, -1)).view(x.shape)


@lru_cache(maxsize=256)
def embedding(side: int, dilation: int, frame: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(side^2, frame^2) of 0 and 1: a flat kernel times it is the same kernel, undilated, in the middle of a frame."""
    first = (frame - (side - 1) * dilation - 1) // 2
    inside = [first + dilation * number for number in range(side)]
    places = [row * frame + column for row in inside for column in inside]
    with torch.inference_mode(False):
        return F.one_hot(_constant(places, device), frame * frame).to(dtype)


@lru_cache(maxsize=256)
def permutation(order: tuple[int, ...], channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The order of the rows of branches of `channels` rows each, and the inverse order."""
    rows = [branch * channels + channel for branch in order for channel in range(channels)]
    inverse = sorted(range(len(rows)), key=rows.__getitem__)
    return _constant(rows, device), _constant(inverse, device)


@lru_cache(maxsize=256)
def selection(places: tuple[int, ...], count: int, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`order` and `inverse` of `spread` for branches that take numbers of these places out of `count`; -1: the 1."""
    order = [count if place < 0 else place for place in places for _ in range(channels)]
    branch_of = {place: branch for branch, place in enumerate(places) if place >= 0}
    inverse = [branch_of.get(place, len(places)) for place in range(count)]
    return _constant(order, device), _constant(inverse, device)


@lru_cache(maxsize=256)
def repeated(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Each number from 0 on, as often as `counts` says."""
    return _constant([number for number, count in enumerate(counts) for _ in range(count)], device)


def _constant(numbers: Sequence[int], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a tensor made in inference mode could not be used in training
        return torch.tensor(numbers, device=device)


class _Stack(Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        ctx.sizes = [len(tensor) for tensor in tensors]
        return torch.cat(tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0].split(ctx.sizes)


class _Repeat(Function):
    @staticmethod
    def forward(ctx: Any, counts: tuple[int, ...], *tensors: Tensor) -> Tensor:
        ctx.pieces = [(count, tensor.shape[1]) for count, tensor in zip(counts, tensors, strict=True)]
        return torch.cat([tensor for count, tensor in zip(counts, tensors, strict=True) for _ in range(count)], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        sizes = [count * channels for count, channels in ctx.pieces]
        parts = gradient.split(sizes, dim=1) if len(sizes) > 1 else [gradient]
        return None, *(fold(part, count) for part, (count, _) in zip(parts, ctx.pieces, strict=True))


class _Fold(Function):
    @staticmethod
    def forward(ctx: Any, rounds: int, x: Tensor) -> Tensor:
        ctx.rounds = rounds
        if _is_channels_last(x):  # a sum over axis 1 would not keep the format
            return x.permute(0, 2, 3, 1).unflatten(3, (rounds, -1)).sum(3).permute(0, 3, 1, 2)
        return x.unflatten(1, (rounds, -1)).sum(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, repeat(gradients, (ctx.rounds,))


class _Reorder(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        order, inverse = ctx.saved_tensors
        return _Reorder.apply(gradients[0], inverse, order), None, None


class _Spread(Function):
    @staticmethod
    def forward(ctx: Any, order: Tensor, inverse: Tensor, one: Tensor, channels: int, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.channels, ctx.sizes = channels, [len(weight) for weight in weights]
        # One number for each channel: an expanded one, of stride 0, would be read past by batch_norm (channels_last).
        return torch.cat([*weights, one]).index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (inverse,) = ctx.saved_tensors
        branches = gradients[0].view(-1, ctx.channels).sum(1)
        return None, None, None, None, *F.pad(branches, (0, 1)).index_select(0, inverse).split(ctx.sizes)


class _Scale(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)  # the input itself: a view of it would cut the second derivative off
        return x * weight.to(x.dtype).view(1, -1, 1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        of_x = gradient * weight.to(gradient.dtype).view(1, -1, 1, 1) if ctx.needs_input_grad[0] else None
        of_weight = (gradient * x).sum((0, 2, 3), dtype=weight.dtype) if ctx.needs_input_grad[1] else None
        return of_x, of_weight


class _Mix(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: Tensor) -> Tensor:
        ctx.save_for_backward(x, matrices)
        x = x.contiguous(memory_format=torch.channels_last)  # of a gradient, not known before
        mixed = torch.empty_like(x)
        torch.bmm(_rows(x, len(matrices)), matrices.to(x.dtype).mT, out=_rows(mixed, len(matrices)))
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        x, matrices = ctx.saved_tensors
        of_x = _Mix.apply(gradient, matrices.mT) if ctx.needs_input_grad[0] else None
        of_matrices = None
        if ctx.needs_input_grad[1]:
            branches = len(matrices)
            of_matrices = torch.bmm(_rows(gradient, branches).mT, _rows(x, branches)).to(matrices.dtype)
        return of_x, of_matrices


def _rows(x: Tensor, branches: int) -> Tensor:
    """(branches, pixels, channels) of a stack (batch, branches x channels, height, width)."""
    return x.permute(0, 2, 3, 1).reshape(-1, branches, x.shape[1] // branches).transpose(0, 1)


@lru_cache(maxsize=8)
def _one(device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.ones(1, device=device, dtype=dtype)


def _is_channels_last(x: Tensor) -> bool:
    """Whether channels lie side by side in memory, in x or in the tensor that x is a slice of."""
    return x.stride(1) == 1 and x.shape[1] > 1
