"""Depthwise convolutions of many branches that read few sources: a source is read once for all of its branches.

Tensors are contiguous: a source (batch, blocks x channels, height, width), the result (batch, branches x channels,
height / stride, width / stride). A branch reads one block of channels of one source. Its kernel lies in a frame of
zeros, of which only the taps of its kind are read: `tables` says which.
"""

# mypy: disallow-untyped-defs=false, disallow-incomplete-defs=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
import triton
import triton.language as tl
from torch import Tensor

TOGETHER = 4
"""So many branches that read the same are computed by one program."""


MOST_PARTS = 32
"""Into so many parts the sum of a kernel's gradient is divided at most: they are added up one after the other."""


@dataclass(frozen=True)
class Branches:
    """What the branches of one depthwise convolution read, and with which taps.

    Args:
        reads: for each branch its source and which block of the source's channels it reads.
        kinds: for each branch side and dilation of its own kernel, in pixels.
        frame: side of the frame that holds the kernels.
        frame_dilation: pixels between two neighbours in the frame; 0 where each kernel lies in it without its dilation.
        stride: of the convolution.
    """

    reads: tuple[tuple[int, int], ...]
    kinds: tuple[tuple[int, int], ...]
    frame: int
    frame_dilation: int
    stride: int


@dataclass(frozen=True)
class Blocks:
    """Sizes of the programs: pixels, warps; `parts` is how many programs a weight gradient aims at.

    Args:
        forward: pixels and warps of a program of the convolution.
        source: the same for the gradient of the sources.
        kernels: the same for the gradient of the kernels.
        parts: how many programs the gradient of the kernels is divided into, about.
    """

    forward: tuple[int, int] = (512, 4)
    source: tuple[int, int] = (256, 4)
    kernels: tuple[int, int] = (128, 4)
    parts: int = 4096


BLOCKS = Blocks()
"""What is used."""

Norm = tuple[Tensor, Tensor]
"""Means and inverse deviations of one source, (blocks x channels,) float32 each: its norm is read in its place."""


@dataclass(frozen=True)
class _Tables:
    """int32 on the device. `branches`: source, block, side, dilation, first place in the frame, step in the frame.

    `groups`: first branch and how many after it do the same to the same. `heads`: source, block, first and last place
    in `readers`, which lists the branches by what they read.
    """

    branches: Tensor
    groups: Tensor
    together: int
    heads: Tensor
    readers: Tensor


@lru_cache(maxsize=256)
def _tables(spec: Branches, device: torch.device) -> _Tables:
    rows = []
    for (source, block), (side, dilation) in zip(spec.reads, spec.kinds, strict=True):
        step = dilation // spec.frame_dilation if spec.frame_dilation else 1
        rows.append((source, block, side, dilation, (spec.frame - (side - 1) * step - 1) // 2, step))
    groups = []
    for _, same in groupby(range(len(rows)), key=rows.__getitem__):
        members = list(same)
        groups += [(members[i], len(members[i : i + TOGETHER])) for i in range(0, len(members), TOGETHER)]
    order = sorted(range(len(rows)), key=lambda branch: (spec.reads[branch], branch))
    heads, start = [], 0
    for (source, block), readers in groupby(order, key=spec.reads.__getitem__):
        count = len(list(readers))
        heads.append((source, block, start, start + count))
        start += count
    together = max(count for _, count in groups)
    with torch.inference_mode(False):
        tables = [torch.tensor(numbers, dtype=torch.int32, device=device) for numbers in (rows, groups, heads, order)]
    return _Tables(tables[0], tables[1], together if together < 3 else TOGETHER, tables[2], tables[3])


def forward(
    sources: Sequence[Tensor],
    kernels: Tensor,
    spec: Branches,
    *,
    relu: bool,
    norm: Norm | None = None,
    blocks: Blocks = BLOCKS,
) -> Tensor:
    """Computes the convolution.

    Args:
        sources: one or two, contiguous.
        kernels: (branches x channels, 1, frame, frame).
        spec: what the branches do.
        relu: whether the ReLU of the sources is convolved.
        norm: of the source, before the ReLU.
        blocks: sizes of programs.

    Returns:
        (batch, branches x channels, height / stride, width / stride), of the sources' dtype.
    """
    first, tables = sources[0], _tables(spec, sources[0].device)
    size = _size(first, kernels, spec)
    y = first.new_empty(size.batch, len(kernels), size.out_height, size.out_width)
    pixels, warps = blocks.forward
    grid = (triton.cdiv(size.batch * size.out_height * size.out_width, pixels), size.channels, len(tables.groups))
    _forward[grid](
        first, sources[-1], *_norm(norm, kernels), kernels, y, tables.branches, tables.groups, *size.numbers(),
        FRAME=spec.frame, STRIDE=spec.stride, TOGETHER=tables.together, NORM=norm is not None, RELU=relu,
        BLOCK=pixels, num_warps=warps,
    )  # fmt: skip
    return y


def source_gradients(
    gradient: Tensor,
    sources: Sequence[Tensor],
    kernels: Tensor,
    spec: Branches,
    *,
    relu: bool,
    norm: Norm | None = None,
    blocks: Blocks = BLOCKS,
) -> list[Tensor]:
    """Computes the gradient of each source: summed over the branches that read it, masked by the ReLU, written once.

    With a norm it is the gradient of the norm's result.

    Args:
        gradient: that of the result, contiguous.
        sources: as in `forward`.
        kernels: the same.
        spec: the same.
        relu: the same.
        norm: the same.
        blocks: the same.

    Returns:
        One tensor of the shape of each source.
    """
    first, tables = sources[0], _tables(spec, sources[0].device)
    size, made = _size(first, kernels, spec), [torch.empty_like(source) for source in sources]
    pixels, warps = blocks.source
    grid = (triton.cdiv(size.batch * size.height * size.width, pixels), size.channels, len(tables.heads))
    _source_gradient[grid](
        gradient, first, sources[-1], *_norm(norm, kernels), kernels, made[0], made[-1],
        tables.branches, tables.heads, tables.readers, *size.numbers(),
        FRAME=spec.frame, STRIDE=spec.stride, NORM=norm is not None, RELU=relu, BLOCK=pixels, num_warps=warps,
    )  # fmt: skip
    return made


def kernel_gradient(
    gradient: Tensor,
    sources: Sequence[Tensor],
    kernels: Tensor,
    spec: Branches,
    *,
    relu: bool,
    norm: Norm | None = None,
    blocks: Blocks = BLOCKS,
) -> Tensor:
    """Computes the gradient of the kernels: 0 where a frame holds no tap. Args are those of `source_gradients`."""
    first, tables = sources[0], _tables(spec, sources[0].device)
    size = _size(first, kernels, spec)
    pixels, warps = blocks.kernels
    tiles = triton.cdiv(size.batch * size.out_height * size.out_width, pixels)
    rounds = triton.cdiv(tiles, max(1, min(tiles, MOST_PARTS, blocks.parts // len(kernels))))
    parts = triton.cdiv(tiles, rounds)
    partial = torch.empty(parts, len(kernels), 32, dtype=torch.float32, device=first.device)
    _kernel_parts[(parts, size.channels, size.branches)](
        gradient, first, sources[-1], *_norm(norm, kernels), partial, tables.branches, rounds, *size.numbers(),
        STRIDE=spec.stride, NORM=norm is not None, RELU=relu, BLOCK=pixels, num_warps=warps,
    )  # fmt: skip
    made = torch.empty_like(kernels)
    _kernel_sums[(triton.cdiv(made.numel(), 128),)](
        partial, made, tables.branches, parts, size.channels, made.numel(), FRAME=spec.frame, BLOCK=128
    )
    return made


def _norm(norm: Norm | None, other: Tensor) -> Norm:
    """Pointers for the kernels, which read them where there is a norm."""
    return (other, other) if norm is None else norm


@dataclass(frozen=True)
class _Size:
    batch: int
    channels: int
    branches: int
    blocks: int  # of channels in a source
    height: int
    width: int
    out_height: int
    out_width: int

    def numbers(self) -> tuple[int, ...]:
        return (
            self.batch, self.channels, self.branches, self.blocks,
            self.height, self.width, self.out_height, self.out_width,
        )  # fmt: skip


def _size(source: Tensor, kernels: Tensor, spec: Branches) -> _Size:
    batch, width = source.shape[:2]
    channels = len(kernels) // len(spec.reads)
    rows, columns = source.shape[2:]
    out_rows, out_columns = ((side - 1) // spec.stride + 1 for side in (rows, columns))  # kernels keep their centre
    return _Size(batch, channels, len(spec.reads), width // channels, rows, columns, out_rows, out_columns)


_NUMBERS = ["batch", "channels", "branches", "blocks", "height", "width", "out_height", "out_width"]


@triton.jit
def _pick(first, second, source):
    return tl.where(source == 0, first, second)


@triton.jit
def _read(x, at, mask, mean, inverse, NORM: tl.constexpr, RELU: tl.constexpr):
    """What a kernel sees of pixels: normalised, rectified, and 0 beyond the edge."""
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    if NORM:
        value = tl.where(mask, (value - mean) * inverse, 0.0)
    if RELU:
        value = tl.where(value < 0.0, 0.0, value)  # what is not a number stays so
    return value


@triton.jit
def _moment(means, inverses, at, NORM: tl.constexpr):
    if NORM:
        return tl.load(means + at), tl.load(inverses + at)
    else:
        return 0.0, 1.0


@triton.jit
def _taps(
    x, mean, inverse, kernel, next_kernel, count, row, column, inside, height, width, dilation, place, step,
    SIDE: tl.constexpr, FRAME: tl.constexpr, TOGETHER: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Each pixel is loaded once for up to four kernels."""
    a = tl.zeros([BLOCK], tl.float32)
    b = tl.zeros([BLOCK], tl.float32)
    c = tl.zeros([BLOCK], tl.float32)
    d = tl.zeros([BLOCK], tl.float32)
    for down in tl.static_range(SIDE):
        at_row = row + (down - SIDE // 2) * dilation
        there = inside & (at_row >= 0) & (at_row < height)
        for across in tl.static_range(SIDE):
            at_column = column + (across - SIDE // 2) * dilation
            mask = there & (at_column >= 0) & (at_column < width)
            value = _read(x, at_row * width + at_column, mask, mean, inverse, NORM, RELU)
            tap = kernel + (place + down * step) * FRAME + place + across * step
            a += value * tl.load(tap).to(tl.float32)
            if TOGETHER > 1:
                b += value * tl.load(tap + next_kernel, mask=count > 1, other=0.0).to(tl.float32)
            if TOGETHER > 2:
                c += value * tl.load(tap + 2 * next_kernel, mask=count > 2, other=0.0).to(tl.float32)
                d += value * tl.load(tap + 3 * next_kernel, mask=count > 3, other=0.0).to(tl.float32)
    return a, b, c, d


@triton.jit(do_not_specialize=_NUMBERS)
def _forward(
    x0, x1, means, inverses, kernels, y, table, groups,
    batch, channels, branches, blocks, height, width, out_height, out_width,
    FRAME: tl.constexpr, STRIDE: tl.constexpr, TOGETHER: tl.constexpr, NORM: tl.constexpr,
    RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel, group = tl.program_id(1), tl.program_id(2)
    first, count = tl.load(groups + 2 * group), tl.load(groups + 2 * group + 1)
    entry = table + 6 * first
    source, block, side = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    dilation, place, step = tl.load(entry + 3), tl.load(entry + 4), tl.load(entry + 5)
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    out_pixels = out_height * out_width
    picture = number // out_pixels
    pixel = number - picture * out_pixels
    out_row = pixel // out_width
    row, column = out_row * STRIDE, (pixel - out_row * out_width) * STRIDE
    inside = picture < batch
    x = _pick(x0, x1, source) + ((picture * blocks + block) * channels + channel) * height * width
    mean, inverse = _moment(means, inverses, block * channels + channel, NORM)
    next_kernel = channels * FRAME * FRAME
    kernel = kernels + (first * channels + channel) * FRAME * FRAME
    if side == 3:
        a, b, c, d = _taps(
            x, mean, inverse, kernel, next_kernel, count, row, column, inside, height, width, dilation, place, step,
            3, FRAME, TOGETHER, NORM, RELU, BLOCK,
        )  # fmt: skip
    else:
        a, b, c, d = _taps(
            x, mean, inverse, kernel, next_kernel, count, row, column, inside, height, width, dilation, place, step,
            5, FRAME, TOGETHER, NORM, RELU, BLOCK,
        )  # fmt: skip
    out = y + ((picture * branches + first) * channels + channel) * out_pixels + pixel
    kind = y.dtype.element_ty
    tl.store(out, a.to(kind), mask=inside)
    if TOGETHER > 1:
        tl.store(out + channels * out_pixels, b.to(kind), mask=inside & (count > 1))
    if TOGETHER > 2:
        tl.store(out + 2 * channels * out_pixels, c.to(kind), mask=inside & (count > 2))
        tl.store(out + 3 * channels * out_pixels, d.to(kind), mask=inside & (count > 3))


@triton.jit
def _gathered(
    total, gradient, kernel, row, column, inside, out_height, out_width, dilation, place, step,
    SIDE: tl.constexpr, FRAME: tl.constexpr, STRIDE: tl.constexpr,
):  # fmt: skip
    """Adds what the pixels of one branch's gradient give to the source's pixels that they have seen."""
    for down in tl.static_range(SIDE):
        seen_row = row - (down - SIDE // 2) * dilation
        there = inside & (seen_row >= 0)
        if STRIDE > 1:
            there = there & (seen_row % STRIDE == 0)
        out_row = seen_row // STRIDE
        there = there & (out_row < out_height)
        for across in tl.static_range(SIDE):
            seen_column = column - (across - SIDE // 2) * dilation
            mask = there & (seen_column >= 0)
            if STRIDE > 1:
                mask = mask & (seen_column % STRIDE == 0)
            out_column = seen_column // STRIDE
            mask = mask & (out_column < out_width)
            value = tl.load(gradient + out_row * out_width + out_column, mask=mask, other=0.0).to(tl.float32)
            total += value * tl.load(kernel + (place + down * step) * FRAME + place + across * step).to(tl.float32)
    return total


@triton.jit(do_not_specialize=_NUMBERS)
def _source_gradient(
    gradient, x0, x1, means, inverses, kernels, dx0, dx1, table, heads, readers,
    batch, channels, branches, blocks, height, width, out_height, out_width,
    FRAME: tl.constexpr, STRIDE: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel, head = tl.program_id(1), heads + 4 * tl.program_id(2)
    source, block, start, stop = tl.load(head), tl.load(head + 1), tl.load(head + 2), tl.load(head + 3)
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    picture = number // (height * width)
    pixel = number - picture * height * width
    row = pixel // width
    column = pixel - row * width
    inside = picture < batch
    out_pixels = out_height * out_width
    total = tl.zeros([BLOCK], tl.float32)
    for reader in range(start, stop):
        branch = tl.load(readers + reader)
        entry = table + 6 * branch
        side, dilation = tl.load(entry + 2), tl.load(entry + 3)
        place, step = tl.load(entry + 4), tl.load(entry + 5)
        kernel = kernels + (branch * channels + channel) * FRAME * FRAME
        from_here = gradient + ((picture * branches + branch) * channels + channel) * out_pixels
        if side == 3:
            total = _gathered(
                total, from_here, kernel, row, column, inside, out_height, out_width, dilation, place, step,
                3, FRAME, STRIDE,
            )  # fmt: skip
        else:
            total = _gathered(
                total, from_here, kernel, row, column, inside, out_height, out_width, dilation, place, step,
                5, FRAME, STRIDE,
            )  # fmt: skip
    where = ((picture * blocks + block) * channels + channel) * height * width + pixel
    if RELU:
        mean, inverse = _moment(means, inverses, block * channels + channel, NORM)
        seen = _read(_pick(x0, x1, source), where, inside, mean, inverse, NORM, False)
        total = tl.where(seen <= 0.0, 0.0, total)
    tl.store(_pick(dx0, dx1, source) + where, total.to(dx0.dtype.element_ty), mask=inside)


@triton.jit
def _correlated(
    gradient, x, mean, inverse, out, first, last, batch, branches, blocks, channels, height, width,
    out_height, out_width, dilation,
    STRIDE: tl.constexpr, SIDE: tl.constexpr, TAPS: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """For each tap (a row of the tile) the products of a gradient's pixels and those that the tap has seen, added."""
    tap = tl.arange(0, TAPS)
    down, across = (tap // SIDE - SIDE // 2) * dilation, (tap % SIDE - SIDE // 2) * dilation
    out_pixels = out_height * out_width
    total = tl.zeros([TAPS, BLOCK], tl.float32)
    for tile in range(first, last):
        number = tile * BLOCK + tl.arange(0, BLOCK)
        picture = number // out_pixels
        pixel = number - picture * out_pixels
        out_row = pixel // out_width
        row, column = out_row * STRIDE, (pixel - out_row * out_width) * STRIDE
        inside = picture < batch
        slope = tl.load(gradient + picture * branches * channels * out_pixels + pixel, mask=inside, other=0.0)
        at_row, at_column = row[None, :] + down[:, None], column[None, :] + across[:, None]
        mask = inside[None, :] & (tap < SIDE * SIDE)[:, None] & (at_row >= 0) & (at_row < height)
        mask = mask & (at_column >= 0) & (at_column < width)
        at = (picture * blocks * channels * height * width)[None, :] + at_row * width + at_column
        value = _read(x, at, mask, mean, inverse, NORM, RELU)
        total += value * slope.to(tl.float32)[None, :]
    tl.store(out + tap, tl.sum(total, axis=1))


@triton.jit(do_not_specialize=["rounds", *_NUMBERS])
def _kernel_parts(
    gradient, x0, x1, means, inverses, partial, table, rounds,
    batch, channels, branches, blocks, height, width, out_height, out_width,
    STRIDE: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part, channel, branch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    entry = table + 6 * branch
    source, block, side, dilation = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2), tl.load(entry + 3)
    tiles = tl.cdiv(batch * out_height * out_width, BLOCK)
    first = part * rounds
    last = tl.minimum(first + rounds, tiles)
    x = _pick(x0, x1, source) + (block * channels + channel) * height * width
    mean, inverse = _moment(means, inverses, block * channels + channel, NORM)
    slopes = gradient + (branch * channels + channel) * out_height * out_width
    out = partial + ((part * branches + branch) * channels + channel) * 32
    if side == 3:
        _correlated(
            slopes, x, mean, inverse, out, first, last, batch, branches, blocks, channels, height, width,
            out_height, out_width, dilation, STRIDE, 3, 16, NORM, RELU, BLOCK,
        )  # fmt: skip
    else:
        _correlated(
            slopes, x, mean, inverse, out, first, last, batch, branches, blocks, channels, height, width,
            out_height, out_width, dilation, STRIDE, 5, 32, NORM, RELU, BLOCK,
        )  # fmt: skip


@triton.jit(do_not_specialize=["parts", "channels", "size"])
def _kernel_sums(partial, kernels, table, parts, channels, size, FRAME: tl.constexpr, BLOCK: tl.constexpr):
    """Adds the parts up and puts each tap to its place in the frame."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = number < size
    kernel = number // (FRAME * FRAME)
    place = number - kernel * FRAME * FRAME
    entry = table + 6 * (kernel // channels)
    side, first = tl.load(entry + 2, mask=inside, other=1), tl.load(entry + 4, mask=inside, other=0)
    step = tl.load(entry + 5, mask=inside, other=1)
    down, across = place // FRAME - first, place % FRAME - first
    fits = (down >= 0) & (across >= 0) & (down % step == 0) & (across % step == 0)
    down, across = down // step, across // step
    fits = inside & fits & (down < side) & (across < side)
    total = tl.zeros([BLOCK], tl.float32)
    kernels_in_all = size // (FRAME * FRAME)
    for part in range(parts):
        at = (part * kernels_in_all + kernel) * 32 + down * side + across
        total += tl.load(partial + at, mask=fits, other=0.0)
    tl.store(kernels + number, total.to(kernels.dtype.element_ty), mask=inside)
