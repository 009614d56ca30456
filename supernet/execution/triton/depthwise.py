"""Depthwise convolutions of many branches that read few sources: a source is read once for all of its branches.

Tensors are contiguous: a source (batch, blocks x channels, height, width), the result (batch, branches x channels,
height / stride, width / stride). A branch reads one block of channels of one source. Its kernel lies in a frame of
zeros, of which only the taps of its kind are read: `tables` says which.
"""

# mypy: disallow-untyped-defs=false, disallow-incomplete-defs=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import torch
import triton
import triton.language as tl
from torch import Tensor

from supernet.execution.triton import table_of

TOGETHER = 4
"""So many branches that read the same are computed by one program."""


MOST_PARTS = 32
"""Into so many parts the sum of a kernel's gradient is divided at most, a power of 2: they are added up at once."""


@dataclass(frozen=True)
class Branches:
    """What the branches of one depthwise convolution read, and with which taps.

    Args:
        blocks: of channels in each source, as many in all. Each of them is read by some branch: gradients of others
            would not be written.
        reads: for each branch its source and which block of the source's channels it reads.
        kinds: for each branch side and dilation of its own kernel, in pixels.
        frame: side of the frame that holds the kernels.
        frame_dilation: pixels between two neighbours in the frame; 0 where each kernel lies in it without its dilation.
        stride: of the convolution.
    """

    blocks: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]
    kinds: tuple[tuple[int, int], ...]
    frame: int
    frame_dilation: int
    stride: int


@dataclass(frozen=True)
class Blocks:
    """Sizes of the programs: pixels, warps; `parts` is how many programs a weight gradient aims at.

    Args:
        forward: pixels and warps of a program of the convolution whose branches share what they read.
        alone: the same where each branch reads its own.
        source: the same for the gradient of the sources.
        kernels: the same for the gradient of the kernels.
        parts: how many programs the gradient of the kernels is divided into, about.
    """

    forward: tuple[int, int] = (512, 4)
    alone: tuple[int, int] = (256, 4)
    source: tuple[int, int] = (256, 4)
    kernels: tuple[int, int] = (64, 1)
    parts: int = 8192


BLOCKS = Blocks()
"""What is used: of a few that were timed on an H100 at published sizes the best, or one as good."""

Norm = tuple[Tensor, Tensor]
"""Means and inverse deviations of one source, (blocks x channels,) float32 each: its norm is read in its place."""


@dataclass(frozen=True)
class _Tables:
    """int32 on the device. `branches`: source, block, side, dilation, first place in the frame, step in the frame.

    `groups`: first branch and how many after it do the same to the same. `heads`: source, block, first and last place
    in `readers`, which lists the branches by what they read.
    """

    together: int
    branches: Tensor
    groups: Tensor
    heads: Tensor
    readers: Tensor


@cache  # for good: recorded CUDA graphs read the tables where they are, and would not notice that they were freed
def _tables(spec: Branches, device: torch.device) -> _Tables:
    assert len({*spec.blocks}) == 1, f"sources of different numbers of blocks: {spec.blocks}"
    every = {(source, block) for source in range(len(spec.blocks)) for block in range(spec.blocks[0])}
    assert every == {*spec.reads}, f"blocks {sorted(every ^ {*spec.reads})} are not both there and read"
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
    made = [table_of(numbers, device) for numbers in (rows, groups, heads, order)]
    return _Tables(together if together < 3 else TOGETHER, *made)


@dataclass(frozen=True)
class Convolution:
    """A convolution that the functions below compute, or the gradients of.

    Args:
        sources: one or two, contiguous.
        kernels: (branches x channels, 1, frame, frame).
        spec: what the branches do.
        relu: whether the ReLU of the sources is convolved.
        norm: of the source, before the ReLU.
        blocks: sizes of programs.
    """

    sources: Sequence[Tensor]
    kernels: Tensor
    spec: Branches
    relu: bool
    norm: Norm | None = None
    blocks: Blocks = BLOCKS

    @property
    def tables(self) -> _Tables:
        """Of what the branches do, on the device."""
        return _tables(self.spec, self.kernels.device)

    @property
    def size(self) -> _Size:
        """The numbers that the kernels are given at each call."""
        batch, _, height, width = self.sources[0].shape
        branches, stride = len(self.spec.reads), self.spec.stride
        out = ((side - 1) // stride + 1 for side in (height, width))  # kernels keep their centre
        return _Size(batch, len(self.kernels) // branches, branches, self.spec.blocks[0], height, width, *out)

    @property
    def read(self) -> tuple[Tensor, ...]:
        """Pointers for the kernels: two sources, mean and deviation, which are read where there is a norm."""
        return self.sources[0], self.sources[-1], *((self.kernels, self.kernels) if self.norm is None else self.norm)

    @property
    def constants(self) -> dict[str, int]:
        """What the code of each program is made for."""
        # The dilation that all kernels have, with which addresses are constants; 0 where they have several.
        dilations = {dilation for _, dilation in self.spec.kinds}
        dilation = 0 if len(dilations) > 1 else dilations.pop()
        return {"STRIDE": self.spec.stride, "DILATION": dilation, "NORM": self.norm is not None, "RELU": self.relu}

    @property
    def frames(self) -> dict[str, int]:
        """The same where kernels are read: `OWN` where they lie in the middle of their frames, side by side."""
        return {"FRAME": self.spec.frame, "OWN": int(self.spec.frame_dilation == 0)}


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


def forward(what: Convolution) -> Tensor:
    """Computes the convolution.

    Returns:
        (batch, branches x channels, height / stride, width / stride), of the sources' dtype.
    """
    size, tables = what.size, what.tables
    y = what.sources[0].new_empty(size.batch, len(what.kernels), size.out_height, size.out_width)
    pixels, warps = what.blocks.forward if tables.together > 1 else what.blocks.alone
    grid = (triton.cdiv(size.batch * size.out_height * size.out_width, pixels), size.channels, len(tables.groups))
    _forward[grid](
        *what.read, what.kernels, y, tables.branches, tables.groups, *size.numbers(),
        **what.constants, **what.frames, TOGETHER=tables.together, BLOCK=pixels, num_warps=warps,
    )  # fmt: skip
    return y


def source_gradients(gradient: Tensor, what: Convolution) -> list[Tensor]:
    """Computes the gradient of each source: summed over the branches that read it, masked by the ReLU, written once.

    With a norm it is the gradient of the norm's result.

    Args:
        gradient: that of the result, contiguous.
        what: has been computed.

    Returns:
        One tensor of the shape of each source.
    """
    size, tables, made = what.size, what.tables, [torch.empty_like(source) for source in what.sources]
    pixels, warps = what.blocks.source
    grid = (triton.cdiv(size.batch * size.height * size.width, pixels), size.channels, len(tables.heads))
    _source_gradient[grid](
        gradient, *what.read, what.kernels, made[0], made[-1],
        tables.branches, tables.heads, tables.readers, *size.numbers(),
        **what.constants, **what.frames, BLOCK=pixels, num_warps=warps,
    )  # fmt: skip
    return made


def kernel_gradient(gradient: Tensor, what: Convolution) -> Tensor:
    """Computes the gradient of the kernels: 0 where a frame holds no tap. Args are those of `source_gradients`."""
    size, tables, kernels = what.size, what.tables, what.kernels
    pixels, warps = what.blocks.kernels
    tiles = triton.cdiv(size.batch * size.out_height * size.out_width, pixels)
    rounds = triton.cdiv(tiles, max(1, min(tiles, MOST_PARTS, what.blocks.parts // len(kernels))))
    parts = triton.cdiv(tiles, rounds)
    partial = torch.empty(parts, len(kernels), 32, dtype=torch.float32, device=kernels.device)
    _kernel_parts[(parts, size.channels, size.branches)](
        gradient, *what.read, partial, tables.branches, rounds, *size.numbers(),
        **what.constants, BLOCK=pixels, num_warps=warps,
    )  # fmt: skip
    made = torch.empty_like(kernels)
    _kernel_sums[(triton.cdiv(made.numel(), 64),)](
        partial, made, tables.branches, parts, size.channels, made.numel(),
        FRAME=what.spec.frame, PARTS=MOST_PARTS, BLOCK=64,
    )  # fmt: skip
    return made


_NUMBERS = ["batch", "channels", "branches", "blocks", "height", "width", "out_height", "out_width"]


@triton.jit
def _pick(first, second, source):
    return tl.where(source == 0, first, second)


@triton.jit
def _quotient(number, divisor):
    """number // divisor of numbers below 2^20, not negative: in three operations, where a division takes twenty.

    The quotient's error, 2^-21 of it at most, is less than half a step of 1 / divisor.
    """
    return ((number.to(tl.float32) + 0.5) * (1.0 / divisor)).to(tl.int32)


@triton.jit
def _places(start, batch, height, width, BLOCK: tl.constexpr):
    """Picture, row and column of the pixels from `start` on; beyond the last picture the row is none of any picture."""
    pixels = height * width
    first = start // pixels
    number = start - first * pixels + tl.arange(0, BLOCK)
    more = _quotient(number, pixels)
    pixel = number - more * pixels
    row = _quotient(pixel, width)
    inside = first + more < batch
    return first + more, tl.where(inside, row, -(1 << 20)), pixel - row * width, pixel, inside


@triton.jit
def _within(number, size):
    """Whether 0 <= number < size, in one comparison."""
    return number.to(tl.uint32, bitcast=True) < size.to(tl.uint32, bitcast=True)


@triton.jit
def _read(x, mask, mean, NORM: tl.constexpr, RELU: tl.constexpr):
    """What a kernel sees of pixels: less the mean, rectified, and 0 beyond the edge.

    The inverse deviation is positive: it is the same whether it is multiplied before the ReLU or after all sums.
    """
    if NORM:
        if x.dtype.element_ty == tl.float32:
            value = tl.load(x, mask=mask, other=mean)
        else:  # a mean in fewer bits would not cancel
            value = tl.where(mask, tl.load(x, mask=mask, other=0.0).to(tl.float32), mean)
        value -= mean
    else:
        value = tl.load(x, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)  # what is not a number stays so
    return value


@triton.jit
def _moment(means, inverses, at, NORM: tl.constexpr):
    if NORM:
        return tl.load(means + at), tl.load(inverses + at)
    else:
        return 0.0, 1.0


@triton.jit
def _spacing(entry, DILATION: tl.constexpr):
    if DILATION > 0:
        return DILATION
    else:
        return tl.load(entry + 3)


@triton.jit
def _place(down, across, place, step, SIDE: tl.constexpr, FRAME: tl.constexpr, OWN: tl.constexpr):
    """Where a tap lies in its frame."""
    if OWN:
        return ((FRAME - SIDE) // 2 + down) * FRAME + (FRAME - SIDE) // 2 + across
    else:
        return (place + down * step) * FRAME + place + across * step


@triton.jit
def _taps(
    x, offsets, mean, kernel, next_kernel, count, row, column, height, width, dilation, place, step,
    SIDE: tl.constexpr, FRAME: tl.constexpr, OWN: tl.constexpr, TOGETHER: tl.constexpr, NORM: tl.constexpr,
    RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each pixel is loaded once for up to four kernels."""
    a = tl.zeros([BLOCK], tl.float32)
    b = tl.zeros([BLOCK], tl.float32)
    c = tl.zeros([BLOCK], tl.float32)
    d = tl.zeros([BLOCK], tl.float32)
    for down in tl.static_range(SIDE):
        there = _within(row + (down - SIDE // 2) * dilation, height)
        line = x + (down - SIDE // 2) * dilation * width + offsets  # what pixels have in common is added first
        for across in tl.static_range(SIDE):
            mask = there & _within(column + (across - SIDE // 2) * dilation, width)
            value = _read(line + (across - SIDE // 2) * dilation, mask, mean, NORM, RELU)
            tap = kernel + _place(down, across, place, step, SIDE, FRAME, OWN)
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
    FRAME: tl.constexpr, STRIDE: tl.constexpr, OWN: tl.constexpr, DILATION: tl.constexpr, TOGETHER: tl.constexpr,
    NORM: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel, group = tl.program_id(1), tl.program_id(2)
    first, count = tl.load(groups + 2 * group), tl.load(groups + 2 * group + 1)
    entry = table + 6 * first
    source, block, side = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    dilation, place, step = _spacing(entry, DILATION), tl.load(entry + 4), tl.load(entry + 5)
    picture, row, column, pixel, inside = _places(tl.program_id(0) * BLOCK, batch, out_height, out_width, BLOCK)
    row, column, out_pixels = row * STRIDE, column * STRIDE, out_height * out_width
    x = _pick(x0, x1, source) + (block * channels + channel) * height * width
    offsets = picture * blocks * channels * height * width + row * width + column
    mean, inverse = _moment(means, inverses, block * channels + channel, NORM)
    next_kernel = channels * FRAME * FRAME
    kernel = kernels + (first * channels + channel) * FRAME * FRAME
    if side == 3:
        a, b, c, d = _taps(
            x, offsets, mean, kernel, next_kernel, count, row, column, height, width, dilation, place, step,
            3, FRAME, OWN, TOGETHER, NORM, RELU, BLOCK,
        )  # fmt: skip
    else:
        a, b, c, d = _taps(
            x, offsets, mean, kernel, next_kernel, count, row, column, height, width, dilation, place, step,
            5, FRAME, OWN, TOGETHER, NORM, RELU, BLOCK,
        )  # fmt: skip
    out = y + ((picture * branches + first) * channels + channel) * out_pixels + pixel
    kind = y.dtype.element_ty
    tl.store(out, (a * inverse).to(kind), mask=inside)
    if TOGETHER > 1:
        tl.store(out + channels * out_pixels, (b * inverse).to(kind), mask=inside & (count > 1))
    if TOGETHER > 2:
        tl.store(out + 2 * channels * out_pixels, (c * inverse).to(kind), mask=inside & (count > 2))
        tl.store(out + 3 * channels * out_pixels, (d * inverse).to(kind), mask=inside & (count > 3))


@triton.jit
def _gathered(
    total, gradient, offsets, kernel, row, column, out_height, out_width, dilation, place, step,
    SIDE: tl.constexpr, FRAME: tl.constexpr, STRIDE: tl.constexpr, OWN: tl.constexpr,
):  # fmt: skip
    """Adds what the pixels of one branch's gradient give to the source's pixels that they have seen."""
    for down in tl.static_range(SIDE):
        seen_row = row - (down - SIDE // 2) * dilation
        there = _within(seen_row, out_height * STRIDE)
        line = gradient - (down - SIDE // 2) * dilation * out_width + offsets
        if STRIDE > 1:
            there = there & (seen_row % STRIDE == 0)
        for across in tl.static_range(SIDE):
            seen_column = column - (across - SIDE // 2) * dilation
            mask = there & _within(seen_column, out_width * STRIDE)
            if STRIDE > 1:
                mask = mask & (seen_column % STRIDE == 0)
                at = gradient + (offsets + (seen_row // STRIDE) * out_width + seen_column // STRIDE)
            else:
                at = line - (across - SIDE // 2) * dilation
            value = tl.load(at, mask=mask, other=0.0).to(tl.float32)
            tap = kernel + _place(down, across, place, step, SIDE, FRAME, OWN)
            total += value * tl.load(tap).to(tl.float32)
    return total


@triton.jit(do_not_specialize=_NUMBERS)
def _source_gradient(
    gradient, x0, x1, means, inverses, kernels, dx0, dx1, table, heads, readers,
    batch, channels, branches, blocks, height, width, out_height, out_width,
    FRAME: tl.constexpr, STRIDE: tl.constexpr, OWN: tl.constexpr, DILATION: tl.constexpr,
    NORM: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    channel, head = tl.program_id(1), heads + 4 * tl.program_id(2)
    source, block, start, stop = tl.load(head), tl.load(head + 1), tl.load(head + 2), tl.load(head + 3)
    picture, row, column, pixel, inside = _places(tl.program_id(0) * BLOCK, batch, height, width, BLOCK)
    out_pixels = out_height * out_width
    offsets = picture * branches * channels * out_pixels
    if STRIDE == 1:
        offsets += pixel
    total = tl.zeros([BLOCK], tl.float32)
    for reader in range(start, stop):
        branch = tl.load(readers + reader)
        entry = table + 6 * branch
        side, dilation = tl.load(entry + 2), _spacing(entry, DILATION)
        place, step = tl.load(entry + 4), tl.load(entry + 5)
        kernel = kernels + (branch * channels + channel) * FRAME * FRAME
        from_here = gradient + (branch * channels + channel) * out_pixels
        if side == 3:
            total = _gathered(
                total, from_here, offsets, kernel, row, column, out_height, out_width, dilation, place, step,
                3, FRAME, STRIDE, OWN,
            )  # fmt: skip
        else:
            total = _gathered(
                total, from_here, offsets, kernel, row, column, out_height, out_width, dilation, place, step,
                5, FRAME, STRIDE, OWN,
            )  # fmt: skip
    where = ((picture * blocks + block) * channels + channel) * height * width + pixel
    if RELU:
        mean, _ = _moment(means, inverses, block * channels + channel, NORM)
        seen = _read(_pick(x0, x1, source) + where, inside, mean, NORM, False)
        total = tl.where(seen <= 0.0, 0.0, total)
    tl.store(_pick(dx0, dx1, source) + where, total.to(dx0.dtype.element_ty), mask=inside)


@triton.jit
def _row(
    a, b, c, d, e, slope, x, offsets, at_row, column, mean, height, width, dilation,
    SIDE: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Adds to the sums of a row of taps the products of a gradient's pixels and those that each tap has seen."""
    there = _within(at_row, height)
    at = x + offsets
    column -= (SIDE // 2) * dilation
    a += slope * _read(at - (SIDE // 2) * dilation, there & _within(column, width), mean, NORM, RELU)
    b += slope * _read(at + (1 - SIDE // 2) * dilation, there & _within(column + dilation, width), mean, NORM, RELU)
    c += slope * _read(at + (2 - SIDE // 2) * dilation, there & _within(column + 2 * dilation, width), mean, NORM, RELU)
    if SIDE == 5:
        d += slope * _read(at + dilation, there & _within(column + 3 * dilation, width), mean, NORM, RELU)
        e += slope * _read(at + 2 * dilation, there & _within(column + 4 * dilation, width), mean, NORM, RELU)
    return a, b, c, d, e


@triton.jit
def _keep(out, a, b, c, d, e, inverse, SIDE: tl.constexpr):
    tl.store(out, tl.sum(a, axis=0) * inverse)
    tl.store(out + 1, tl.sum(b, axis=0) * inverse)
    tl.store(out + 2, tl.sum(c, axis=0) * inverse)
    if SIDE == 5:
        tl.store(out + 3, tl.sum(d, axis=0) * inverse)
        tl.store(out + 4, tl.sum(e, axis=0) * inverse)


@triton.jit
def _correlated(
    gradient, x, mean, inverse, out, first, last, batch, branches, blocks, channels, height, width,
    out_height, out_width, dilation,
    STRIDE: tl.constexpr, SIDE: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """For each tap the sum of products of a gradient's pixels and those that the tap has seen.

    Sums are kept apart for each place of the block until the end: a letter for a row of taps, a number for a column.
    """
    zero = tl.zeros([BLOCK], tl.float32)
    a0, a1, a2, a3, a4 = zero, zero, zero, zero, zero
    b0, b1, b2, b3, b4 = zero, zero, zero, zero, zero
    c0, c1, c2, c3, c4 = zero, zero, zero, zero, zero
    d0, d1, d2, d3, d4 = zero, zero, zero, zero, zero
    e0, e1, e2, e3, e4 = zero, zero, zero, zero, zero
    out_pixels, line = out_height * out_width, dilation * width
    for tile in range(first, last):
        picture, row, column, pixel, inside = _places(tile * BLOCK, batch, out_height, out_width, BLOCK)
        g = tl.load(gradient + picture * branches * channels * out_pixels + pixel, mask=inside, other=0.0)
        g = g.to(tl.float32)
        row, column = row * STRIDE - (SIDE // 2) * dilation, column * STRIDE
        at = picture * blocks * channels * height * width + row * width + column
        a0, a1, a2, a3, a4 = _row(
            a0, a1, a2, a3, a4, g, x, at, row, column, mean, height, width, dilation, SIDE, NORM, RELU
        )
        b0, b1, b2, b3, b4 = _row(
            b0, b1, b2, b3, b4, g, x + line, at, row + dilation, column, mean, height, width, dilation, SIDE, NORM, RELU
        )
        row += 2 * dilation
        c0, c1, c2, c3, c4 = _row(
            c0, c1, c2, c3, c4, g, x + 2 * line, at, row, column, mean, height, width, dilation, SIDE, NORM, RELU
        )
        if SIDE == 5:
            row += dilation
            d0, d1, d2, d3, d4 = _row(
                d0, d1, d2, d3, d4, g, x + 3 * line, at, row, column, mean, height, width, dilation, SIDE, NORM, RELU
            )
            row += dilation
            e0, e1, e2, e3, e4 = _row(
                e0, e1, e2, e3, e4, g, x + 4 * line, at, row, column, mean, height, width, dilation, SIDE, NORM, RELU
            )
    _keep(out, a0, a1, a2, a3, a4, inverse, SIDE)
    _keep(out + SIDE, b0, b1, b2, b3, b4, inverse, SIDE)
    _keep(out + 2 * SIDE, c0, c1, c2, c3, c4, inverse, SIDE)
    if SIDE == 5:
        _keep(out + 3 * SIDE, d0, d1, d2, d3, d4, inverse, SIDE)
        _keep(out + 4 * SIDE, e0, e1, e2, e3, e4, inverse, SIDE)


@triton.jit(do_not_specialize=["rounds", *_NUMBERS])
def _kernel_parts(
    gradient, x0, x1, means, inverses, partial, table, rounds,
    batch, channels, branches, blocks, height, width, out_height, out_width,
    STRIDE: tl.constexpr, DILATION: tl.constexpr, NORM: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part, channel, branch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    entry = table + 6 * branch
    source, block, side = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    dilation = _spacing(entry, DILATION)
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
            out_height, out_width, dilation, STRIDE, 3, NORM, RELU, BLOCK,
        )  # fmt: skip
    else:
        _correlated(
            slopes, x, mean, inverse, out, first, last, batch, branches, blocks, channels, height, width,
            out_height, out_width, dilation, STRIDE, 5, NORM, RELU, BLOCK,
        )  # fmt: skip


@triton.jit(do_not_specialize=["parts", "channels", "size"])
def _kernel_sums(
    partial, kernels, table, parts, channels, size,
    FRAME: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
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
    part = tl.arange(0, PARTS)[:, None]
    at = (part * (size // (FRAME * FRAME)) + kernel[None, :]) * 32 + (down * side + across)[None, :]
    values = tl.load(partial + at, mask=(part < parts) & fits[None, :], other=0.0)
    tl.store(kernels + number, tl.sum(values, axis=0).to(kernels.dtype.element_ty), mask=inside)
