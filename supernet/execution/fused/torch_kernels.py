"""What the fused executor is made of: convolutions and sums with cheap gradients for channels-last tensors on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.execution.fused import compiled_kernels as passes
from supernet.execution.fused.bindings import Norm, Window, at, compiled, dense, once, room, sizes


def separable(x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> Tensor:
    """A depthwise convolution with weight (channels, 1, rows, columns), then a 1x1 convolution.

    What lies between the two is not kept for the gradient but computed again.
    """
    x, depthwise, pointwise = _in_one_precision(x, depthwise, pointwise)
    with torch.autocast(x.device.type, enabled=False):
        own = passes.separable if passes.serves(x, depthwise, pointwise, window) else _Separable.apply
        out: Tensor = own(x, depthwise, pointwise, window)
    return out


def norm_relu_separable(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    depthwise: Tensor,
    pointwise: Tensor,
    norm: Norm,
    window: Window,
) -> Tensor:
    """`separable` of the ReLU of the batch norm of `x`: of all that, `x` alone is kept for the gradient."""
    x, depthwise, pointwise = _in_one_precision(x, depthwise, pointwise)
    with torch.autocast(x.device.type, enabled=False):
        own = passes.norm_relu_separable if passes.serves(x, depthwise, pointwise, window) else _NormReluSeparable.apply
        out: Tensor = own(x, scale, shift, depthwise, pointwise, norm, window)
    return out


def _in_one_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """As autocast would have them, where it is on."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(kind)) for tensor in tensors)


class _Separable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> Tensor:
        ctx.window, ctx.shape = window, x.shape
        ctx.save_for_backward(x if any(ctx.needs_input_grad[1:3]) else None, depthwise, pointwise)
        return F.conv2d(_depthwise(x, depthwise, window), pointwise)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, depthwise, pointwise = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        return *_separable_gradients(gradient, x, ctx.shape, depthwise, pointwise, ctx.window, wanted), None


class _NormReluSeparable(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        depthwise: Tensor,
        pointwise: Tensor,
        norm: Norm,
        window: Window,
    ) -> Tensor:
        ctx.norm, ctx.window = norm, window
        h, mean, inverse = torch.native_batch_norm(
            x, scale, shift, norm.mean, norm.variance, True, norm.momentum, norm.eps
        )
        ctx.save_for_backward(x, scale, shift, depthwise, pointwise, mean, inverse)
        return F.conv2d(_depthwise(h.relu_(), depthwise, window), pointwise)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift, depthwise, pointwise, mean, inverse = ctx.saved_tensors
        eps = ctx.norm.eps
        h = F.batch_norm(x, mean, inverse.pow(-2) - eps, scale, shift, False, 0.0, eps).relu_()
        wanted = (True, *ctx.needs_input_grad[3:5])
        dh, *rest = _separable_gradients(gradient, h, h.shape, depthwise, pointwise, ctx.window, wanted)
        masked = torch.ops.aten.threshold_backward(dh, h, 0)
        mask = [ctx.needs_input_grad[0], scale is not None, shift is not None]
        dx, *affine = torch.ops.aten.native_batch_norm_backward(
            masked, x, scale, None, None, mean, inverse, True, eps, mask
        )
        slopes = [a if needed else None for a, needed in zip(affine, ctx.needs_input_grad[1:3], strict=True)]
        return dx, *slopes, *rest, None, None


def _separable_gradients(
    gradient: Tensor,
    x: Tensor | None,
    shape: torch.Size,
    depthwise: Tensor,
    pointwise: Tensor,
    window: Window,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of `separable` by x, of `shape`, and both weights; x itself is needed for the weights' alone."""
    gradient = dense(gradient)
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


def quarters(x: Tensor) -> tuple[Tensor, Tensor]:
    """Every second pixel of `x` (batch, channels, height, width) in both directions, from the first and second on.

    Of an odd size the last pixel stands in for the one that is missing.
    """
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        odd = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
        return dense(x[:, :, ::2, ::2]), dense(odd[:, :, 1::2, 1::2])
    parts: tuple[Tensor, Tensor] = _Quarters.apply(x)
    return parts


class _Quarters(torch.autograd.Function):
    """Slicing whose gradient is channels-last (PyTorch's is not, and all that is added to it is then copied)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = x.shape
        return dense(x[:, :, ::2, ::2]), dense(x[:, :, 1::2, 1::2])

    @staticmethod
    @once
    def backward(ctx: Any, even: Tensor, odd: Tensor) -> Tensor:
        dx = room(even, ctx.shape).zero_()
        dx[:, :, ::2, ::2] = even
        dx[:, :, 1::2, 1::2] = odd
        return dx


def combine(coefficients: Sequence[Tensor | None], shared: Sequence[Tensor], terms: Sequence[Tensor]) -> Tensor:
    """sum_i coefficients[i] shared[i] + sum_j terms[j], channels-last; None stands for 1.

    Coefficients are 0-dimensional. The gradient that arrives is made channels-last once for all of them.
    """
    weighted = [c is not None for c in coefficients]
    if not any(weighted) and len(shared) + len(terms) == 1:
        return dense([*shared, *terms][0])
    given = [c for c in coefficients if c is not None]
    stacked = torch.stack(given) if given else None
    out: Tensor = _Combine.apply(stacked, weighted, *shared, *terms)
    return out


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coefficients: Tensor | None, weighted: list[bool], *tensors: Tensor) -> Tensor:
        values = iter([] if coefficients is None else coefficients.tolist())
        factors = [next(values) if has else 1.0 for has in weighted] + [1.0] * (len(tensors) - len(weighted))
        first = max(range(len(tensors)), key=lambda i: tensors[i].numel())  # of full size
        out = dense(tensors[first] * factors[first])
        for i, (x, factor) in enumerate(zip(tensors, factors, strict=True)):
            if i != first:
                out.add_(x, alpha=factor)
        ctx.factors, ctx.weighted = factors, weighted
        ctx.like = [(x.shape, x.dtype) for x in tensors]
        needed = coefficients is not None and coefficients.requires_grad
        kept = [x for x, has in zip(tensors, weighted, strict=False) if has] if needed else []
        ctx.save_for_backward(*kept)
        return out

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = dense(gradient)
        slopes = None
        if ctx.needs_input_grad[0]:
            exact = torch.promote_types(gradient.dtype, torch.float32)  # sums over all pixels
            flat = gradient.permute(0, 2, 3, 1).reshape(-1).to(exact)
            kept = [dense(x).permute(0, 2, 3, 1).reshape(-1).to(exact) for x in ctx.saved_tensors]
            slopes = torch.stack([torch.dot(x, flat) for x in kept])
        passed = [
            (gradient if factor == 1.0 else gradient * factor).sum_to_size(size).to(dtype) if needed else None
            for needed, factor, (size, dtype) in zip(ctx.needs_input_grad[2:], ctx.factors, ctx.like, strict=True)
        ]
        return slopes, None, *passed
