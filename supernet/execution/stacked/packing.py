"""Packs many small tensors into a large one, and back, with as few operations in the backward pass.

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
    """Puts tensors one after the other.

    Args:
        tensors: (n_i, ...) each, which become (sum of n_i, ...).

    Example:
        >>> stack([torch.zeros(1, 2), torch.ones(2, 2)]).tolist()
        [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]
    """
    return tensors[0] if len(tensors) == 1 else _Stack.apply(*tensors)


def repeat(tensors: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Puts tensors side by side on the channel axis, each as often as it is wanted.

    Args:
        tensors: (batch, channels_i, height, width) each.
        counts: how often each of them comes.

    Returns:
        (batch, sum of counts[i] x channels_i, height, width).

    Example:
        >>> repeat([torch.tensor([[[[5.0]]]]), torch.tensor([[[[7.0]]]])], [2, 1]).flatten()
        tensor([5., 5., 7.])
    """
    return tensors[0] if tuple(counts) == (1,) else _Repeat.apply(tuple(counts), *tensors)


def fold(x: Tensor, rounds: int) -> Tensor:
    """Adds up equal parts of the channels: the derivative of `repeat`, and the sum of what goes to the same nodes.

    Args:
        x: (batch, rounds x channels, height, width).
        rounds: how many parts there are.

    Returns:
        (batch, channels, height, width).

    Example:
        >>> fold(torch.tensor([1.0, 2.0, 10.0, 20.0]).view(1, 4, 1, 1), rounds=2).flatten()
        tensor([11., 22.])
    """
    return x if rounds == 1 else _Fold.apply(rounds, x)


def reorder(rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Puts rows into another order.

    Args:
        rows: (rows, ...), as the result.
        order: (rows,) int64: row i of the result is row order[i].
        inverse: the inverse permutation, by which the gradient goes back.

    Example:
        >>> order, inverse = permutation((2, 0, 1), 1, torch.device("cpu"))
        >>> reorder(torch.tensor([[10.0], [20.0], [30.0]]), order, inverse).flatten()
        tensor([30., 10., 20.])
    """
    return _Reorder.apply(rows, order, inverse)


def spread(weights: Sequence[Tensor], order: Tensor, inverse: Tensor, channels: int) -> Tensor:
    """Gives each branch its number out of `weights`, once for each of its channels: what a norm wants as its scale.

    The numbers are put one after the other and followed by a 1, of which those are picked that `order` names.

    Args:
        weights: vectors of numbers, one dtype and device.
        order: (branches x channels,), the place of each channel's number; none but that of the final 1 may come twice.
        inverse: for each number of `weights` the branch that takes it, or `branches` where none does.
        channels: of each branch.

    Returns:
        (branches x channels,).

    Example:
        >>> order, inverse = selection((1, -1), count=2, channels=3, device=torch.device("cpu"))
        >>> spread([torch.tensor([0.25, 0.75])], order, inverse, channels=3)
        tensor([0.7500, 0.7500, 0.7500, 1.0000, 1.0000, 1.0000])
    """
    one = _one(weights[0].device, weights[0].dtype)
    return _Spread.apply(order, inverse, one, channels, *weights)


def scale(x: Tensor, weight: Tensor) -> Tensor:
    """Multiplies each channel by a number, in x's precision.

    Args:
        x: (batch, channels, height, width), as the result.
        weight: (channels,); its gradient is summed in its own precision.

    Example:
        >>> scale(torch.ones(1, 2, 1, 1), torch.tensor([2.0, 3.0])).flatten()
        tensor([2., 3.])
    """
    return _Scale.apply(x, weight)


def mix(x: Tensor, matrices: Tensor) -> Tensor:
    """Mixes each branch's channels by a matrix of its own: 1x1 convolutions of all branches as batched matrix products.

    In channels_last nothing is copied: rows of pixels are strided.

    Args:
        x: (batch, branches x channels, height, width), as the result.
        matrices: (branches, channels, channels).

    Example:
        >>> swap, tenfold = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 10 * torch.eye(2)
        >>> mix(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1), torch.stack([swap, tenfold])).flatten()
        tensor([ 2.,  1., 30., 40.])
    """
    if _is_channels_last(x):
        return _Mix.apply(x, matrices)
    # In the other order a branch of one picture is a matrix (channels, pixels): one product for each of them.
    batch, (branches, channels) = len(x), matrices.shape[:2]
    many = matrices.expand(batch, -1, -1, -1).reshape(-1, channels, channels)
    return torch.bmm(many, x.reshape(batch * branches, channels, -1)).view(x.shape)


@lru_cache(maxsize=256)
def embedding(side: int, dilation: int, frame: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Makes the matrix that puts flat kernels, undilated, into the middle of a frame of zeros.

    Args:
        side: of the kernel, in taps.
        dilation: pixels from one tap to the next.
        frame: the side of the frame, in pixels.
        device: of the matrix.
        dtype: of the matrix.

    Returns:
        (side^2, frame^2) of 0 and 1: a row of taps times it is the same kernel in the frame.

    Example:
        >>> into_frame = embedding(2, 2, 3, torch.device("cpu"), torch.float32)
        >>> (torch.tensor([[1.0, 2.0, 3.0, 4.0]]) @ into_frame).view(3, 3).tolist()
        [[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0]]
    """
    first = (frame - (side - 1) * dilation - 1) // 2
    inside = [first + dilation * number for number in range(side)]
    places = [row * frame + column for row in inside for column in inside]
    with torch.inference_mode(False):
        return F.one_hot(_constant(places, device), frame * frame).to(dtype)


@lru_cache(maxsize=256)
def permutation(order: tuple[int, ...], channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Makes the arguments of `reorder` for branches of several rows each.

    Args:
        order: branch i of the result is branch order[i].
        channels: the rows of each branch.
        device: of the results.

    Returns:
        The order of all rows, and the inverse order, each (branches x channels,) int64.
    """
    rows = [branch * channels + channel for branch in order for channel in range(channels)]
    inverse = sorted(range(len(rows)), key=rows.__getitem__)
    return _constant(rows, device), _constant(inverse, device)


@lru_cache(maxsize=256)
def selection(places: tuple[int, ...], count: int, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Makes `order` and `inverse` of `spread`.

    Args:
        places: for each branch the place of its number, -1 for the 1.
        count: how many numbers there are.
        channels: of each branch.
        device: of the results.

    Returns:
        (branches x channels,) and (count,), int64.
    """
    order = [count if place < 0 else place for place in places for _ in range(channels)]
    branch_of = {place: branch for branch, place in enumerate(places) if place >= 0}
    inverse = [branch_of.get(place, len(places)) for place in range(count)]
    return _constant(order, device), _constant(inverse, device)


@lru_cache(maxsize=256)
def repeated(counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Makes a tensor of the numbers from 0 on, each as often as it is wanted.

    Args:
        counts: how often each number comes.
        device: of the result.

    Example:
        >>> repeated((2, 3), torch.device("cpu"))
        tensor([0, 0, 1, 1, 1])
    """
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
        # One call for all pieces, where autograd's own takes a slice for each.
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
        # By the function itself, so that this can be differentiated, too.
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
        # The 0 at the end is the gradient of each number that no branch takes: its `inverse` is the number of branches.
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
        of_x = _Mix.apply(gradient, matrices.mT) if ctx.needs_input_grad[0] else None  # differentiable again
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
