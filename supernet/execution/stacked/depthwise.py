"""Depthwise convolutions with a multiplier: many branches read few sources, and each source is read once.

PyTorch's own convolution wants a source once for each branch that reads it, side by side. `depthwise` is that, a plain
twin of PyTorch's operations, wherever Triton's kernels (`execution/triton/depthwise.py`) do not serve. They sum in
float32 and in another order than cuDNN's, so that results differ from it in the last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from supernet.execution import triton
from supernet.execution.stacked.packing import repeat

SIDES = (3, 5)
"""Sides of the kernels that are written in Triton."""


@dataclass(frozen=True)
class Frame:
    """How a depthwise convolution moves, and what lies in the frames of its kernels.

    Args:
        bucket: side and dilation of the frames; the dilation 0 means that each kernel lies in the middle of its frame
            without its own dilation.
        stride: in pixels.
        kinds: for each branch side and dilation of its own kernel, with zeros around it in the frame.

    Example:
        >>> frame = Frame((5, 1), 1, ((3, 1), (3, 2)))  # a 3x3 kernel, and one with a dilation of 2, as 5x5 kernels
        >>> frame.padding
        2
    """

    bucket: tuple[int, int]
    stride: int
    kinds: tuple[tuple[int, int], ...]

    @property
    def padding(self) -> int:
        """By how many pixels the frame is over the edge at the first position."""
        side, dilation = self.bucket
        return dilation * (side - 1) // 2


def shares(sources: Sequence[Tensor], kernels: Tensor, frame: Frame) -> bool:
    """Says whether sources are read once, in Triton: one or two of them, kernels of 3x3 or 5x5 taps.

    Args:
        sources: (batch, blocks x channels, height, width) each.
        kernels: (branches x channels, 1, side, side).
        frame: of the kernels.

    Example:
        >>> shares([torch.zeros(1, 2, 4, 4)], torch.zeros(4, 1, 3, 3), Frame((3, 1), 1, ((3, 1),) * 2))
        False
    """
    written = frame.stride <= 2 and all(side in SIDES for side, _ in frame.kinds)
    batch, _, height, width = sources[0].shape
    small = height * width <= triton.MOST_PIXELS and batch * len(kernels) * height * width <= triton.LARGEST
    return written and small and len(sources) <= 2 and triton.serves(*sources, kernels)


def depthwise(sources: Sequence[Tensor], counts: Sequence[int], kernels: Tensor, frame: Frame, *, relu: bool) -> Tensor:
    """Computes a depthwise convolution of sources side by side, each as often as it is wanted.

    It can be differentiated any number of times. The second time, and wherever `shares` says no, it is the plain twin.

    Args:
        sources: (batch, blocks x channels, height, width) each.
        counts: how often each of them is read, as in `packing.repeat`.
        kernels: (branches x channels, 1, side, side), frames with the branches' kernels in them.
        frame: how they move. Of the kernels no more is read than the taps of each branch's kind, and no other place of
            a frame has a gradient.
        relu: whether the ReLU of the sources is convolved.

    Returns:
        (batch, branches x channels, height / stride, width / stride), in autocast's precision where that is on.

    Example:
        >>> frame = Frame((3, 1), 1, ((3, 1), (3, 1)))
        >>> one, two = torch.ones(1, 1, 3, 3), 2 * torch.ones(1, 1, 3, 3)
        >>> depthwise([torch.ones(1, 1, 2, 2)], [2], torch.cat([one, two]), frame, relu=False).flatten()
        tensor([4., 4., 4., 4., 8., 8., 8., 8.])
    """
    if not shares(sources, kernels, frame):
        return plain_depthwise(sources, counts, kernels, frame, relu=relu)
    kind = sources[0].device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else sources[0].dtype
    with torch.autocast(kind, enabled=False):
        ready = [source.to(dtype, memory_format=torch.contiguous_format).contiguous() for source in sources]
        return _Depthwise.apply(tuple(counts), frame, relu, kernels.contiguous(), *ready)


def plain_depthwise(
    sources: Sequence[Tensor], counts: Sequence[int], kernels: Tensor, frame: Frame, *, relu: bool
) -> Tensor:
    """The plain twin of `depthwise`, which has the same arguments."""
    x = repeat([F.relu(source) for source in sources] if relu else sources, counts)
    if frame.bucket[1] == 0:
        return _by_kind(x, kernels, frame)
    # As many groups as channels: branches do not mix.
    return F.conv2d(x, kernels, None, frame.stride, frame.padding, frame.bucket[1], groups=x.shape[1])


def _by_kind(x: Tensor, kernels: Tensor, frame: Frame) -> Tensor:
    """One convolution for all neighbours of one kind, whose kernels are cut out of their frames."""
    made, start, channels = [], 0, len(kernels) // len(frame.kinds)
    for (side, dilation), same in groupby(frame.kinds):
        stop = start + len(list(same)) * channels
        edge = (frame.bucket[0] - side) // 2
        own = kernels[start:stop, :, edge : edge + side, edge : edge + side]
        padding = dilation * (side - 1) // 2
        made.append(F.conv2d(x[:, start:stop], own, None, frame.stride, padding, dilation, groups=stop - start))
        start = stop
    return torch.cat(made, dim=1)


class _Depthwise(Function):
    @staticmethod
    def forward(
        ctx: Any, counts: tuple[int, ...], frame: Frame, relu: bool, kernels: Tensor, *sources: Tensor
    ) -> Tensor:
        from supernet.execution.triton import depthwise as compiled

        ctx.counts, ctx.frame, ctx.relu = counts, frame, relu
        ctx.save_for_backward(kernels, *sources)
        ctx.branches = branches_of(sources, counts, kernels, frame)
        return compiled.forward(compiled.Convolution(sources, kernels, ctx.branches, relu))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        from supernet.execution.triton import depthwise as compiled

        kernels, *sources = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again

            def twin(kernels: Tensor, *sources: Tensor) -> list[Tensor]:
                return [plain_depthwise(sources, ctx.counts, kernels.to(sources[0].dtype), ctx.frame, relu=ctx.relu)]

            return None, None, None, *gradients_of_twin(twin, (kernels, *sources), gradients, ctx.needs_input_grad[3:])
        gradient = gradients[0].to(sources[0].dtype).contiguous()
        what = compiled.Convolution(sources, kernels, ctx.branches, ctx.relu)
        of_kernels: Tensor | None = None
        of_sources: Sequence[Tensor | None] = [None] * len(sources)
        if ctx.needs_input_grad[3]:
            of_kernels = compiled.kernel_gradient(gradient, what)
        if any(ctx.needs_input_grad[4:]):
            of_sources = compiled.source_gradients(gradient, what)
        return None, None, None, of_kernels, *of_sources


def branches_of(sources: Sequence[Tensor], counts: Sequence[int], kernels: Tensor, frame: Frame) -> Any:
    """Says for Triton's kernels what each branch reads.

    That is all blocks of the first source, as often as it is repeated, then those of the next. Args are those of
    `depthwise`.

    Returns:
        An `execution.triton.depthwise.Branches`.
    """
    from supernet.execution.triton.depthwise import Branches

    channels = len(kernels) // len(frame.kinds)
    blocks = tuple(source.shape[1] // channels for source in sources)
    reads = tuple(
        (number, block)
        for number, (count, width) in enumerate(zip(counts, blocks, strict=True))
        for _ in range(count)
        for block in range(width)
    )
    return Branches(blocks, reads, frame.kinds, *frame.bucket, frame.stride)


def gradients_of_twin(
    twin: Callable[..., Sequence[Tensor]], at: Sequence[Tensor], gradients: Sequence[Tensor], needs: Sequence[bool]
) -> list[Tensor | None]:
    """Computes the gradients of a function of PyTorch's own operations so that they can be differentiated again.

    Args:
        twin: the function.
        at: its arguments.
        gradients: those of its results.
        needs: for each argument whether its gradient is wanted.

    Returns:
        The gradient of each argument, or None.
    """
    # Aliases, because an argument may have been computed from another one: only what `twin` does is differentiated.
    aliases = [x.view_as(x) for x in at]
    made = twin(*aliases)
    wanted = [x for x, needed in zip(aliases, needs, strict=True) if needed]
    slopes = [gradient.to(x.dtype) for x, gradient in zip(made, gradients, strict=True)]
    found = iter(torch.autograd.grad(made, wanted, slopes, create_graph=True))
    return [next(found) if needed else None for needed in needs]
