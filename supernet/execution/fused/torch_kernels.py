"""Separable convolutions and their gradients in PyTorch's own operations, for channels-last tensors on a CPU.

One of the two backends of `functions.py`; it serves every size, type and width. The other is `compiled_kernels.py`,
whose functions have the same names and signatures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.execution.fused.bindings import Norm, Window, at, compiled, dense, room, sizes


def separable(x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> Tensor:
    """Computes the 1x1 convolution of the depthwise convolution of x.

    Args:
        x: (batch, channels, height, width), channels-last, as in all functions here.
        depthwise: (channels, 1, rows, columns).
        pointwise: (channels out, channels, 1, 1).
        window: how the depthwise kernel moves.

    Returns:
        (batch, channels out, height / stride, width / stride).

    Example:
        >>> window = Window(stride=(1, 1), padding=(0, 0), dilation=(1, 1))
        >>> x, twice, same = torch.full((1, 4, 1, 1), 3.0), torch.full((4, 1, 1, 1), 2.0), torch.eye(4).view(4, 4, 1, 1)
        >>> separable(x, twice, same, window).flatten()
        tensor([6., 6., 6., 6.])
    """
    return F.conv2d(_depthwise(x, depthwise, window), pointwise)


def separable_gradients(
    gradient: Tensor,
    x: Tensor | None,
    shape: torch.Size,
    depthwise: Tensor,
    pointwise: Tensor,
    window: Window,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Computes the gradients of `separable`, and what lies between its two convolutions again.

    Args:
        gradient: by the output of `separable`, of its shape, channels-last.
        x: what was convolved; it is needed for the weights' gradients alone, and None will do otherwise.
        shape: the shape of x, (batch, channels, height, width).
        depthwise: (channels, 1, rows, columns).
        pointwise: (channels out, channels, 1, 1).
        window: how the depthwise kernel moves.
        wanted: whether the gradient by x, by `depthwise` and by `pointwise` is wanted.

    Returns:
        The gradients by x, `depthwise` and `pointwise`, each of its shape; None where one is not wanted.

    Example:
        >>> window = Window(stride=(1, 1), padding=(0, 0), dilation=(1, 1))
        >>> x, twice, same = torch.full((1, 4, 1, 1), 3.0), torch.full((4, 1, 1, 1), 2.0), torch.eye(4).view(4, 4, 1, 1)
        >>> gradients = separable_gradients(torch.ones_like(x), x, x.shape, twice, same, window, (True, True, True))
        >>> [gradient.flatten()[0].item() for gradient in gradients]  # by x 2, by the weights x = 3 and 2 x = 6
        [2.0, 3.0, 6.0]
    """
    dx = dd = dp = None
    if wanted[2] and x is not None:
        settings = (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False])
        between = _depthwise(x, depthwise, window)
        dp = torch.ops.aten.convolution_backward(gradient, between, pointwise, *settings)[1]
    if wanted[0] or wanted[1]:
        gradient = dense(F.conv2d(gradient, pointwise.transpose(0, 1)))
    if wanted[0]:
        dx = _input_gradient(gradient, depthwise, shape, window)
    if wanted[1] and x is not None:
        dd = _weight_gradient(gradient, x, depthwise, window)
    return dx, dd, dp


def norm_relu_separable(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    depthwise: Tensor,
    pointwise: Tensor,
    norm: Norm,
    window: Window,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Computes `separable` of the ReLU of the batch norm of x.

    Args:
        x: (batch, channels, height, width), channels-last.
        scale: of the norm, (channels,); None is 1.
        shift: of the norm, (channels,); None is 0.
        depthwise: (channels, 1, rows, columns).
        pointwise: (channels out, channels, 1, 1).
        norm: the norm's settings; its running statistics are moved.
        window: how the depthwise kernel moves.

    Returns:
        The convolutions' output, (batch, channels out, height / stride, width / stride); and what the gradients need:
        means and inverse deviations, 1 / sqrt(variance + eps), each (channels,).
    """
    h, mean, inverse = torch.native_batch_norm(x, scale, shift, norm.mean, norm.variance, True, norm.momentum, norm.eps)
    return F.conv2d(_depthwise(h.relu_(), depthwise, window), pointwise), (mean, inverse)


def norm_relu_separable_gradients(
    gradient: Tensor,
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    depthwise: Tensor,
    pointwise: Tensor,
    kept: Sequence[Tensor],
    eps: float,
    window: Window,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Computes the gradients of `norm_relu_separable`, and all that lies between x and the output again.

    Args:
        gradient: by the output, of its shape, channels-last.
        x: what was normalised, (batch, channels, height, width), channels-last.
        scale: of the norm, (channels,); None is 1.
        shift: of the norm, (channels,); None is 0.
        depthwise: (channels, 1, rows, columns).
        pointwise: (channels out, channels, 1, 1).
        kept: what `norm_relu_separable` gave for the gradients.
        eps: that of the norm.
        window: how the depthwise kernel moves.
        wanted: whether the gradient by x, `scale`, `shift`, `depthwise` and `pointwise` is wanted.

    Returns:
        The gradients by these five, each of its shape; None where one is not wanted.
    """
    mean, inverse = kept
    # The norm again: in evaluation mode, with the batch's variance, it is the same function.
    h = F.batch_norm(x, mean, inverse.pow(-2) - eps, scale, shift, False, 0.0, eps).relu_()
    dh, *rest = separable_gradients(gradient, h, h.shape, depthwise, pointwise, window, (True, *wanted[3:]))
    masked = torch.ops.aten.threshold_backward(dh, h, 0)
    mask = [wanted[0], scale is not None, shift is not None]
    dx, *affine = torch.ops.aten.native_batch_norm_backward(
        masked, x, scale, None, None, mean, inverse, True, eps, mask
    )
    slopes = [a if needed else None for a, needed in zip(affine, wanted[1:3], strict=True)]
    return dx, *slopes, *rest


def _depthwise(x: Tensor, weight: Tensor, window: Window) -> Tensor:
    return F.conv2d(x, weight, None, window.stride, window.padding, window.dilation, len(weight))


def _input_gradient(gradient: Tensor, weight: Tensor, shape: torch.Size, window: Window) -> Tensor:
    stride, padding, dilation = window.stride, window.padding, window.dilation
    mirrored = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
    if max(stride) == 1 and min(mirrored) >= 0:
        return F.conv2d(gradient, weight.flip(2, 3), None, 1, mirrored, dilation, len(weight))
    x = room(gradient, shape)
    if (native := compiled(gradient, weight, window)) is not None:
        taps = weight.detach().flatten(1).t().contiguous()
        numbers = sizes(tuple(x.shape), tuple(gradient.shape), window)
        native.depthwise_input_gradient(at(gradient), at(taps), at(x), weight.shape[2], numbers)
        return x
    if stride == (2, 2) and _in_phases(window):  # only pixels of even row and column are read
        even = x.zero_()[:, :, ::2, ::2]
        even.copy_(_input_gradient(gradient, weight, even.shape, _of_a_phase(window)))
        return x
    wanted = [True, False, False]
    settings = (None, stride, padding, dilation, False, [0, 0], len(weight), wanted)
    given: Tensor = torch.ops.aten.convolution_backward(gradient, x, weight, *settings)[0]
    return given


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, window: Window) -> Tensor:
    if (native := compiled(gradient, weight, window)) is not None:
        x, kernel = dense(x), weight.shape[2]
        taps = x.new_empty(kernel, kernel, len(weight))
        numbers = sizes(tuple(x.shape), tuple(gradient.shape), window)
        native.depthwise_weight_gradient(at(x), at(gradient), at(taps), kernel, numbers)
        return taps.permute(2, 0, 1).unsqueeze(1).contiguous()
    if _in_phases(window):
        # PyTorch's own is many times slower with a dilation: each phase of the pixels by itself is convolved without.
        x, gradient = (dense(x[:, :, ::2, ::2]), gradient) if window.stride[0] == 2 else (_phases(x), _phases(gradient))
        window = _of_a_phase(window)
    wanted = [False, True, False]
    settings = (None, window.stride, window.padding, window.dilation, False, [0, 0], len(weight), wanted)
    given: Tensor = torch.ops.aten.convolution_backward(gradient, x, weight, *settings)[1]
    return given


def _in_phases(window: Window) -> bool:
    """Whether each output reads pixels of one phase alone, all even or all odd rows and columns."""
    whole = window.dilation == (2, 2) and not any(p % 2 for p in window.padding)
    return whole and window.stride in ((1, 1), (2, 2))


def _of_a_phase(window: Window) -> Window:
    """How the kernel moves on the pixels of one phase."""
    return Window((1, 1), (window.padding[0] // 2, window.padding[1] // 2), (1, 1))


def _phases(x: Tensor) -> Tensor:
    """The four phases of x (batch, channels, height, width) as pictures of their own, (4 batch, channels, ...).

    An odd size is filled up with zeros, which is what lies around x anyway.
    """
    (batch, channels, height, width) = x.shape
    x = F.pad(x, (0, width % 2, 0, height % 2)) if width % 2 or height % 2 else x
    rows, columns = (height + 1) // 2, (width + 1) // 2
    parts = x.permute(0, 2, 3, 1).reshape(batch, rows, 2, columns, 2, channels).permute(2, 4, 0, 1, 3, 5)
    return parts.reshape(4 * batch, rows, columns, channels).permute(0, 3, 1, 2)
