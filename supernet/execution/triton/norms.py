"""Sums into nodes that normalise while they add: sum over branches of scale x norm(stack), nothing else is written.

A stack is a contiguous tensor (batch, blocks x channels, height, width). A branch takes one block of one stack to one
target; branches may share a block. A stack is normalised by the batch's own statistics, or not. All sums are made in
float32, in parts of fixed size and then over the parts.
"""

# mypy: disallow-untyped-defs=false, disallow-incomplete-defs=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from supernet.execution.triton import MOST, Statistics, table_of


@dataclass(frozen=True)
class Terms:
    """Which branches there are, by stack.

    Args:
        blocks: of each stack. Each of them is read by some branch: gradients of others would not be written.
        normed: whether each stack is normalised.
        branches: for each branch its stack, the block in it, its target and which of all norms is its own (-1: none).
        targets: how many there are.
        side_by_side: the gradients that come are those of all branches in one stack, not those of sums.
    """

    blocks: tuple[int, ...]
    normed: tuple[bool, ...]
    branches: tuple[tuple[int, int, int, int], ...]
    targets: int
    side_by_side: bool = False


@dataclass(frozen=True)
class Sizes:
    """Pixels and warps of the programs, and into how many parts a sum over a channel is divided at most.

    Args:
        sums: of the kernels that add up channels.
        passes: of the kernels that write tensors.
        parts: a power of 2.
    """

    sums: tuple[int, int] = (1024, 4)
    passes: tuple[int, int] = (1024, 4)
    parts: int = 16


SIZES = Sizes()
"""What is used."""


@dataclass
class Lines:
    """What a norm does to a channel, for each branch, (branches x channels,) float32 each: slope x + level.

    Args:
        mean: of the channel; 0 where it is not normalised.
        inverse: 1 / deviation; 1 where it is not normalised.
        slope: scale x inverse.
        level: -slope x mean.
    """

    mean: Tensor
    inverse: Tensor
    slope: Tensor
    level: Tensor


@dataclass(frozen=True)
class _Tables:
    """int32. `branches`: stack, block, blocks of the stack, normed, target, row in `blocks`, norm, and which block of
    how many in the gradient is the branch's.

    `blocks`: stack, block, blocks of the stack, normed, first and last place in `readers` (branches).
    `heads`: for each target first and last place in `terms` (branches).
    """

    rows: int
    branches: Tensor
    blocks: Tensor
    readers: Tensor
    heads: Tensor
    terms: Tensor


@cache  # for good: recorded CUDA graphs read the tables where they are, and would not notice that they were freed
def _tables(terms: Terms, device: torch.device) -> _Tables:
    places = sorted({(stack, block) for stack, block, _, _ in terms.branches})
    every = [(stack, block) for stack, blocks in enumerate(terms.blocks) for block in range(blocks)]
    assert places == every, f"blocks {sorted({*every} ^ {*places})} are not both there and read"
    branches, blocks, heads = [], [], []
    readers: list[int] = []
    by_target: list[int] = []
    for number, (stack, block, target, norm) in enumerate(terms.branches):
        read = (stack, block, terms.blocks[stack], int(terms.normed[stack]))
        slope = (number, len(terms.branches)) if terms.side_by_side else (0, 1)
        branches.append((*read, target, places.index((stack, block)), norm, *slope))
    for row, (stack, block) in enumerate(places):
        mine = [number for number, branch in enumerate(branches) if branch[5] == row]
        read = (stack, block, terms.blocks[stack], int(terms.normed[stack]))
        blocks.append((*read, len(readers), len(readers) + len(mine)))
        readers += mine
    for target in range(terms.targets):
        mine = [number for number, branch in enumerate(branches) if branch[4] == target]
        heads.append((len(by_target), len(by_target) + len(mine)))
        by_target += mine
    made = [table_of(rows, device) for rows in (branches, blocks, readers, heads, by_target)]
    return _Tables(len(blocks), *made)


def lines(
    stacks: Sequence[Tensor], scales: Tensor | None, terms: Terms, statistics: Statistics, sizes: Sizes = SIZES
) -> Lines:
    """Computes the statistics of all normalised blocks, and moves running ones.

    Args:
        stacks: (batch, blocks x channels, height, width) each, contiguous.
        scales: (branches x channels,) float32; None is 1.
        terms: which branch reads what.
        statistics: of the norms.
        sizes: of the programs.
    """
    first, tables = stacks[0], _tables(terms, stacks[0].device)
    channels, pixels = first.shape[1] // terms.blocks[0], first.shape[2] * first.shape[3]
    batch, branches = len(first), len(terms.branches)
    tile, warps = sizes.sums
    rounds, parts = _divided(batch * pixels, tile, sizes.parts)
    partial = torch.empty(parts, tables.rows, channels, 2, dtype=torch.float32, device=first.device)
    _moments[(parts, channels, tables.rows)](
        *_filled(stacks), partial, tables.blocks, rounds, batch, channels, PIXELS=pixels, BLOCK=tile, num_warps=warps
    )
    mean, inverse, slope, level = torch.empty(4, branches * channels, dtype=torch.float32, device=first.device).unbind()
    kept = mean if statistics.running is None else statistics.running
    _settle[(triton.cdiv(branches * channels, 32),)](
        partial, tables.branches, mean if scales is None else scales, kept, mean, inverse, slope, level,
        channels, branches * channels, tables.rows, kept.numel() // 2, parts, rounds * tile, batch * pixels,
        statistics.eps, statistics.momentum, SCALED=scales is not None, TRACK=statistics.running is not None,
        PARTS=sizes.parts, BLOCK=32, num_warps=4,
    )  # fmt: skip
    return Lines(mean, inverse, slope, level)


def add(stacks: Sequence[Tensor], line: Lines, terms: Terms, sizes: Sizes = SIZES) -> tuple[Tensor, ...]:
    """Computes the sums, one (batch, channels, height, width) for each target.

    Args:
        stacks: as in `lines`.
        line: what that has returned.
        terms: the same.
        sizes: the same.
    """
    first, tables = stacks[0], _tables(terms, stacks[0].device)
    channels, pixels = first.shape[1] // terms.blocks[0], first.shape[2] * first.shape[3]
    made = first.new_empty(terms.targets, len(first), channels, *first.shape[2:])
    tile, warps = sizes.passes
    _add[(triton.cdiv(len(first) * pixels, tile), channels, terms.targets)](
        *_filled(stacks), made, line.slope, line.level, tables.branches, tables.heads, tables.terms,
        len(first), channels, PIXELS=pixels, BLOCK=tile, num_warps=warps,
    )  # fmt: skip
    return made.unbind()


def gradients(
    slopes: Sequence[Tensor], stacks: Sequence[Tensor], line: Lines, terms: Terms, sizes: Sizes = SIZES
) -> tuple[list[Tensor], Tensor]:
    """Computes the gradients of the stacks and of the scales.

    Args:
        slopes: the gradient of each target, contiguous.
        stacks: as in `lines`.
        line: what that has returned.
        terms: the same.
        sizes: the same.

    Returns:
        One tensor of the shape of each stack, and (branches x channels,) float32.
    """
    first, tables = stacks[0], _tables(terms, stacks[0].device)
    channels, pixels = first.shape[1] // terms.blocks[0], first.shape[2] * first.shape[3]
    batch, branches = len(first), len(terms.branches)
    tile, warps = sizes.sums
    rounds, parts = _divided(batch * pixels, tile, sizes.parts)
    partial = torch.empty(parts, branches, channels, 2, dtype=torch.float32, device=first.device)
    _products[(parts, channels, branches)](
        *_filled(stacks), *_filled(slopes), partial, line.mean, line.inverse, tables.branches,
        rounds, batch, channels, branches, PIXELS=pixels, BLOCK=tile, num_warps=warps,
    )  # fmt: skip
    scales, level, slant = torch.empty(3, branches * channels, dtype=torch.float32, device=first.device).unbind()
    _conclude[(triton.cdiv(branches * channels, 32),)](
        partial, tables.branches, line.slope, scales, level, slant, channels, branches * channels, parts,
        batch * pixels, PARTS=sizes.parts, BLOCK=32, num_warps=4,
    )  # fmt: skip
    made = [torch.empty_like(stack) for stack in stacks]
    tile, warps = sizes.passes
    _spread[(triton.cdiv(batch * pixels, tile), channels, tables.rows)](
        *_filled(stacks), *_filled(slopes), *_filled(made), line.mean, line.inverse, line.slope, level, slant,
        tables.branches, tables.blocks, tables.readers, batch, channels, PIXELS=pixels, BLOCK=tile, num_warps=warps,
    )  # fmt: skip
    return made, scales


def _filled(tensors: Sequence[Tensor]) -> list[Tensor]:
    """As many pointers as the kernels have."""
    return [*tensors, *[tensors[0]] * (MOST - len(tensors))]


def _divided(numbers: int, tile: int, most: int) -> tuple[int, int]:
    """How many tiles a part has, and how many parts there are."""
    tiles = triton.cdiv(numbers, tile)
    rounds = triton.cdiv(tiles, most)
    return rounds, triton.cdiv(tiles, rounds)


@triton.jit
def _one_of(a, b, c, d, e, f, g, h, number):
    found = tl.where(number == 1, b, a)
    found = tl.where(number == 2, c, found)
    found = tl.where(number == 3, d, found)
    found = tl.where(number == 4, e, found)
    found = tl.where(number == 5, f, found)
    found = tl.where(number == 6, g, found)
    return tl.where(number == 7, h, found)


@triton.jit(do_not_specialize=["rounds", "batch", "channels"])
def _moments(
    s0, s1, s2, s3, s4, s5, s6, s7, partial, table, rounds, batch, channels,
    PIXELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared deviations of a part of each channel."""
    part, channel, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    entry = table + 6 * row
    blocks, normed = tl.load(entry + 2), tl.load(entry + 3)
    if normed != 0:
        x = _one_of(s0, s1, s2, s3, s4, s5, s6, s7, tl.load(entry))
        x += (tl.load(entry + 1) * channels + channel) * PIXELS
        numbers = batch * PIXELS
        start = part * rounds * BLOCK
        # Deviations from any pixel of the channel: their squares do not cancel as those of large means would.
        near = tl.load(x + (start // PIXELS) * blocks * channels * PIXELS + start % PIXELS).to(tl.float32)
        total = tl.zeros([BLOCK], tl.float32)
        squares = tl.zeros([BLOCK], tl.float32)
        for tile in range(rounds):
            number = start + tile * BLOCK + tl.arange(0, BLOCK)
            inside = number < numbers
            at = (number // PIXELS) * blocks * channels * PIXELS + number % PIXELS
            off = tl.where(inside, tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - near, 0.0)
            total += off
            squares += off * off
        count = tl.minimum(numbers - start, rounds * BLOCK).to(tl.float32)
        shift = tl.sum(total, axis=0)
        out = partial + ((part * tl.num_programs(2) + row) * channels + channel) * 2
        tl.store(out, near + shift / count)
        tl.store(out + 1, tl.sum(squares, axis=0) - shift * shift / count)


@triton.jit(do_not_specialize=["channels", "size", "rows", "kept", "parts", "per_part", "numbers"])
def _settle(
    partial, table, scales, statistics, means, inverses, slopes, levels,
    channels, size, rows, kept, parts, per_part, numbers, eps, momentum,
    SCALED: tl.constexpr, TRACK: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Joins the parts of each channel, for each branch."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    branch, channel = place // channels, place % channels
    entry = table + 9 * branch
    normed = tl.load(entry + 3, mask=inside, other=0) != 0
    row, norm = tl.load(entry + 5, mask=inside, other=0), tl.load(entry + 6, mask=inside, other=-1)
    part = tl.arange(0, PARTS)
    count = tl.minimum(numbers - part * per_part, per_part).to(tl.float32)[:, None]
    there = (part < parts)[:, None] & (inside & normed)[None, :]
    at = partial + ((part[:, None] * rows + row[None, :]) * channels + channel[None, :]) * 2
    local = tl.load(at, mask=there, other=0.0)
    mean = tl.sum(tl.where(there, local * count, 0.0), axis=0) / numbers
    off = local - mean[None, :]
    squares = tl.load(at + 1, mask=there, other=0.0) + tl.where(there, off * off * count, 0.0)
    total = tl.maximum(tl.sum(squares, axis=0), 0.0, propagate_nan=tl.PropagateNan.ALL)
    inverse = tl.where(normed, 1.0 / tl.sqrt(total / numbers + eps), 1.0)
    slope = inverse
    if SCALED:
        slope = inverse * tl.load(scales + place, mask=inside, other=0.0)
    tl.store(means + place, mean, mask=inside)
    tl.store(inverses + place, inverse, mask=inside)
    tl.store(slopes + place, slope, mask=inside)
    tl.store(levels + place, -slope * mean, mask=inside)
    if TRACK:
        mine = inside & normed & (norm >= 0)
        old = statistics + norm * channels + channel
        before = tl.load(old, mask=mine, other=0.0)
        tl.store(old, before * (1.0 - momentum) + mean * momentum, mask=mine)
        before = tl.load(old + kept, mask=mine, other=0.0)
        spread = total / tl.maximum(numbers - 1, 1)
        tl.store(old + kept, before * (1.0 - momentum) + spread * momentum, mask=mine)


@triton.jit(do_not_specialize=["batch", "channels"])
def _add(
    s0, s1, s2, s3, s4, s5, s6, s7, out, slopes, levels, table, heads, terms, batch, channels,
    PIXELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel, target = tl.program_id(1), tl.program_id(2)
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = number < batch * PIXELS
    picture, pixel = number // PIXELS, number % PIXELS
    total = tl.zeros([BLOCK], tl.float32)
    for term in range(tl.load(heads + 2 * target), tl.load(heads + 2 * target + 1)):
        branch = tl.load(terms + term)
        entry = table + 9 * branch
        x = _one_of(s0, s1, s2, s3, s4, s5, s6, s7, tl.load(entry))
        x += (tl.load(entry + 1) * channels + channel) * PIXELS
        value = tl.load(x + picture * tl.load(entry + 2) * channels * PIXELS + pixel, mask=inside, other=0.0)
        line = branch * channels + channel
        total += value.to(tl.float32) * tl.load(slopes + line) + tl.load(levels + line)
    at = ((target * batch + picture) * channels + channel) * PIXELS + pixel
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rounds", "batch", "channels", "branches"])
def _products(
    s0, s1, s2, s3, s4, s5, s6, s7, g0, g1, g2, g3, g4, g5, g6, g7, partial, means, inverses, table,
    rounds, batch, channels, branches, PIXELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums of a part of each channel: of the gradient, and of its product with what was normalised."""
    part, channel, branch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    entry = table + 9 * branch
    blocks = tl.load(entry + 2)
    x = _one_of(s0, s1, s2, s3, s4, s5, s6, s7, tl.load(entry)) + (tl.load(entry + 1) * channels + channel) * PIXELS
    gradient = _one_of(g0, g1, g2, g3, g4, g5, g6, g7, tl.load(entry + 4))
    gradient += (tl.load(entry + 7) * channels + channel) * PIXELS
    in_gradient = tl.load(entry + 8)
    mean, inverse = tl.load(means + branch * channels + channel), tl.load(inverses + branch * channels + channel)
    total = tl.zeros([BLOCK], tl.float32)
    products = tl.zeros([BLOCK], tl.float32)
    for tile in range(rounds):
        number = (part * rounds + tile) * BLOCK + tl.arange(0, BLOCK)
        inside = number < batch * PIXELS
        picture, pixel = (number // PIXELS) * channels * PIXELS, number % PIXELS
        slope = tl.load(gradient + picture * in_gradient + pixel, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(x + picture * blocks + pixel, mask=inside, other=0.0).to(tl.float32)
        total += slope
        products += slope * (value - mean) * inverse
    out = partial + ((part * branches + branch) * channels + channel) * 2
    tl.store(out, tl.sum(total, axis=0))
    tl.store(out + 1, tl.sum(products, axis=0))


@triton.jit(do_not_specialize=["channels", "size", "parts", "numbers"])
def _conclude(
    partial, table, slopes, scales, levels, slants, channels, size, parts, numbers,
    PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Joins the parts: the gradients of the scales, and what a norm's mean and deviation add to that of its input."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    normed = tl.load(table + 9 * (place // channels) + 3, mask=inside, other=0) != 0
    part = tl.arange(0, PARTS)
    there = (part < parts)[:, None] & inside[None, :]
    at = partial + (part[:, None] * size + place[None, :]) * 2
    total = tl.sum(tl.load(at, mask=there, other=0.0), axis=0)
    products = tl.sum(tl.load(at + 1, mask=there, other=0.0), axis=0)
    slope = tl.load(slopes + place, mask=inside, other=0.0) / numbers
    tl.store(scales + place, products, mask=inside)
    tl.store(levels + place, tl.where(normed, -slope * total, 0.0), mask=inside)
    tl.store(slants + place, tl.where(normed, -slope * products, 0.0), mask=inside)


@triton.jit(do_not_specialize=["batch", "channels"])
def _spread(
    s0, s1, s2, s3, s4, s5, s6, s7, g0, g1, g2, g3, g4, g5, g6, g7, d0, d1, d2, d3, d4, d5, d6, d7,
    means, inverses, slopes, levels, slants, branch_table, table, readers, batch, channels,
    PIXELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of a block: of all branches that read it, written once."""
    channel, entry = tl.program_id(1), table + 6 * tl.program_id(2)
    stack, block, blocks, normed = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2), tl.load(entry + 3)
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = number < batch * PIXELS
    picture, pixel = (number // PIXELS) * channels * PIXELS, number % PIXELS
    at = picture * blocks + pixel + (block * channels + channel) * PIXELS
    total = tl.zeros([BLOCK], tl.float32)
    slant = 0.0
    first = tl.load(entry + 4)
    for reader in range(first, tl.load(entry + 5)):
        branch = tl.load(readers + reader)
        mine = branch_table + 9 * branch
        gradient = _one_of(g0, g1, g2, g3, g4, g5, g6, g7, tl.load(mine + 4))
        gradient += (tl.load(mine + 7) * channels + channel) * PIXELS
        line = branch * channels + channel
        from_here = gradient + picture * tl.load(mine + 8) + pixel
        value = tl.load(from_here, mask=inside, other=0.0).to(tl.float32)
        total += value * tl.load(slopes + line) + tl.load(levels + line)
        slant += tl.load(slants + line)
    if normed != 0:  # all readers of a block have its mean and deviation
        line = tl.load(readers + first) * channels + channel
        x = _one_of(s0, s1, s2, s3, s4, s5, s6, s7, stack)
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        total += slant * (value - tl.load(means + line)) * tl.load(inverses + line)
    out = _one_of(d0, d1, d2, d3, d4, d5, d6, d7, stack)
    tl.store(out + at, total.to(d0.dtype.element_ty), mask=inside)
