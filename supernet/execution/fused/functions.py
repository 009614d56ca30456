"""Operations of the fused executor, each with its own gradient, for channels-last tensors on a CPU.

A convolution's function takes its kernels from one of two backends, modules with functions of the same names:
`compiled_kernels`, where that serves, and `torch_kernels`. A function says what is kept for the gradient and which
gradients are wanted; a backend computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.execution.fused import compiled_kernels, torch_kernels
from supernet.execution.fused.bindings import Norm, Window, dense, once, room
from supernet.execution.fused.compiled_kernels import Convolutions
from supernet.execution.fused.sharing import Collected, Shared


class Backend(Protocol):
    """The kernels of separable convolutions: the two modules of them have these functions, and say what they compute.

    Args and results are those of `torch_kernels`. `wanted` says which gradients are computed; the others are None.
    """

    def separable(self, x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> Tensor: ...

    def separable_gradients(
        self,
        gradient: Tensor,
        x: Tensor | None,
        shape: torch.Size,
        depthwise: Tensor,
        pointwise: Tensor,
        window: Window,
        wanted: Sequence[bool],
    ) -> tuple[Tensor | None, ...]: ...

    def norm_relu_separable(
        self,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        depthwise: Tensor,
        pointwise: Tensor,
        norm: Norm,
        window: Window,
    ) -> tuple[Tensor, tuple[Tensor, ...]]: ...

    def norm_relu_separable_gradients(
        self,
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
    ) -> tuple[Tensor | None, ...]: ...


def separable(x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> Tensor:
    """Computes a depthwise convolution, then a 1x1 convolution, and can be differentiated once.

    What lies between the two is not kept for the gradient but computed again. Where autocast is on, all is computed in
    its precision.

    Args:
        x: (batch, channels, height, width), in any order in memory.
        depthwise: (channels, 1, rows, columns).
        pointwise: (channels out, channels, 1, 1).
        window: how the depthwise kernel moves.

    Returns:
        (batch, channels out, height / stride, width / stride), channels-last.

    Example:
        >>> window = Window(stride=(1, 1), padding=(1, 1), dilation=(1, 1))
        >>> sums, same = torch.ones(4, 1, 3, 3), torch.eye(4).view(4, 4, 1, 1)
        >>> separable(torch.ones(1, 4, 3, 3), sums, same, window)[0, 0]  # how many pixels the window sees
        tensor([[4., 6., 4.],
                [6., 9., 6.],
                [4., 6., 4.]])
    """
    x, depthwise, pointwise = _in_one_precision(x, depthwise, pointwise)
    with torch.autocast(x.device.type, enabled=False):
        backend = _backend(x, depthwise, pointwise, window)
        out: Tensor = _Separable.apply(x, depthwise, pointwise, window, backend)
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
    """Computes `separable` of the ReLU of the batch norm of x: of all that, x alone is kept for the gradient.

    Args:
        x: (batch, channels, height, width), in any order in memory.
        scale: of the norm, (channels,); None is 1.
        shift: of the norm, (channels,); None is 0.
        depthwise: (channels, 1, rows, columns).
        pointwise: (channels out, channels, 1, 1).
        norm: the norm's settings; its running statistics are moved.
        window: how the depthwise kernel moves.

    Returns:
        (batch, channels out, height / stride, width / stride), channels-last.

    Example:
        >>> window = Window(stride=(1, 1), padding=(1, 1), dilation=(1, 1))
        >>> sums, same = torch.ones(4, 1, 3, 3), torch.eye(4).view(4, 4, 1, 1)
        >>> x = torch.tensor([5.0, 9.0, 5.0, 9.0]).expand(1, 4, 1, 4)  # the norm makes -1, 1, -1, 1 of it
        >>> norm = Norm(mean=None, variance=None, momentum=0.1, eps=1e-5)
        >>> norm_relu_separable(x, None, None, sums, same, norm, window)[0, 0].round()
        tensor([[1., 1., 2., 1.]])
    """
    x, depthwise, pointwise = _in_one_precision(x, depthwise, pointwise)
    with torch.autocast(x.device.type, enabled=False):
        backend = _backend(x, depthwise, pointwise, window)
        out: Tensor = _NormReluSeparable.apply(x, scale, shift, depthwise, pointwise, norm, window, backend)
    return out


def relu_separables(shared: Shared, all_of: Sequence[Convolutions]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Computes several of `separable` of the ReLU of a shared tensor, where `compiled_kernels.serves` each of them.

    Args:
        shared: (batch, channels, height, width), without a norm.
        all_of: one or more.

    Returns:
        For each (batch, channels, height / stride, width / stride), rounded up, channels-last; and what the norms that
        come next need to know, (number, 3, channels), which has no gradient.
    """
    weights = (weight for one in all_of for weight in (one.depthwise, one.pointwise))
    settings = [(one.window, one.eps) for one in all_of]
    statistics, *outs = _ReluSeparables.apply(shared.token, shared.numbers, shared.collected, settings, *weights)
    return tuple(outs), statistics


def pointwise(x: Tensor, weight: Tensor, *, relu: bool) -> Tensor:
    """Computes a 1x1 convolution of x, or of its ReLU, where `serves_pointwise` says that this runs compiled.

    It has one backend: elsewhere PyTorch's own convolution, with its own gradient, does as well.

    Args:
        x: (batch, channels, height, width), in any order in memory.
        weight: (channels out, channels, 1, 1).
        relu: whether the ReLU of x is convolved.

    Returns:
        (batch, channels out, height, width), channels-last.

    Example:
        >>> x, weight = torch.tensor([-1.0, 2.0, 0.0, 3.0]).view(1, 4, 1, 1), torch.ones(4, 4, 1, 1)
        >>> served = compiled_kernels.serves_pointwise(x, weight)
        >>> y = pointwise(x, weight, relu=True) if served else F.conv2d(F.relu(x), weight)
        >>> y.flatten()
        tensor([5., 5., 5., 5.])
    """
    out: Tensor = _Pointwise.apply(x, weight, relu)
    return out


def _backend(x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window) -> Backend:
    """Chooses the backend that computes a separable convolution."""
    return compiled_kernels if compiled_kernels.serves(x, depthwise, pointwise, window) else torch_kernels


def _in_one_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Converts tensors to the type of autocast, where autocast is on."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(kind)) for tensor in tensors)


class _Separable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, depthwise: Tensor, pointwise: Tensor, window: Window, backend: Backend) -> Tensor:
        x = dense(x)
        ctx.window, ctx.backend, ctx.shape = window, backend, x.shape
        ctx.save_for_backward(x if any(ctx.needs_input_grad[1:3]) else None, depthwise, pointwise)
        return backend.separable(x, depthwise, pointwise, window)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, depthwise, pointwise = ctx.saved_tensors
        at = (x, ctx.shape, depthwise, pointwise, ctx.window, ctx.needs_input_grad[:3])
        return *ctx.backend.separable_gradients(dense(gradient), *at), None, None


class _ReluSeparables(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        x: Tensor,
        collected: Collected,
        settings: list[tuple[Window, float]],
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.settings, ctx.collected, ctx.shape = settings, collected, x.shape
        ctx.set_materialize_grads(False)  # what comes out may be read by none
        ctx.save_for_backward(x if any(ctx.needs_input_grad[4:]) else None, *weights)
        outs, statistics = compiled_kernels.relu_separables(x, _paired(weights, settings))
        ctx.mark_non_differentiable(statistics)
        return statistics, *outs

    @staticmethod
    @once
    def backward(ctx: Any, unused: None, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        needed = ctx.needs_input_grad[4:]
        places = [place for place, gradient in enumerate(gradients) if gradient is not None]
        of_weights: list[Tensor | None] = [None] * len(weights)
        if places:
            read = _paired(weights, ctx.settings)
            dx, found = compiled_kernels.relu_separables_gradients(
                [dense(gradient) for gradient in gradients if gradient is not None],
                x,
                ctx.shape,
                [read[place] for place in places],
                ctx.needs_input_grad[0],
                [any(needed[2 * place : 2 * place + 2]) for place in places],
            )
            if dx is not None:
                ctx.collected.add_through_relu(dx)
            for place, pair in zip(places, found, strict=True):
                of_weights[2 * place : 2 * place + 2] = pair
        return None, None, None, None, *of_weights


def _paired(weights: Sequence[Tensor], settings: Sequence[tuple[Window, float]]) -> list[Convolutions]:
    parts = zip(weights[::2], weights[1::2], settings, strict=True)
    return [Convolutions(depthwise, across, *own) for depthwise, across, own in parts]


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
        backend: Backend,
    ) -> Tensor:
        x = dense(x)
        out, kept = backend.norm_relu_separable(x, scale, shift, depthwise, pointwise, norm, window)
        ctx.window, ctx.backend, ctx.eps = window, backend, norm.eps
        ctx.save_for_backward(x, scale, shift, depthwise, pointwise, *kept)
        return out

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift, depthwise, pointwise, *kept = ctx.saved_tensors
        at = (x, scale, shift, depthwise, pointwise, kept, ctx.eps, ctx.window, ctx.needs_input_grad[:5])
        return *ctx.backend.norm_relu_separable_gradients(dense(gradient), *at), None, None, None


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, relu: bool) -> Tensor:
        x = dense(x)
        ctx.relu, ctx.shape = relu, x.shape
        ctx.save_for_backward(x if relu or ctx.needs_input_grad[1] else None, weight)
        return compiled_kernels.pointwise(x, weight, relu)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        at = (x, ctx.shape, weight, ctx.relu, ctx.needs_input_grad[:2])
        return *compiled_kernels.pointwise_gradients(dense(gradient), *at), None


def quarters(x: Tensor) -> tuple[Tensor, Tensor]:
    """Takes every second pixel in both directions, from the first on and from the second on.

    This is what a factorised reduction reads. Of an odd size the last pixel stands in for the one that is missing.

    Args:
        x: (batch, channels, height, width).

    Returns:
        Two tensors (batch, channels, height / 2, width / 2), rounded up, channels-last.

    Example:
        >>> even, odd = quarters(torch.arange(16.0).view(1, 1, 4, 4))
        >>> even.flatten().tolist(), odd.flatten().tolist()
        ([0.0, 2.0, 8.0, 10.0], [5.0, 7.0, 13.0, 15.0])
    """
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        odd = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
        return dense(x[:, :, ::2, ::2]), dense(odd[:, :, 1::2, 1::2])
    parts: tuple[Tensor, Tensor] = _Quarters.apply(x)
    return parts


class _Quarters(torch.autograd.Function):
    """Slices with a channels-last gradient. PyTorch's own gradient is not, and each addition to it would copy."""

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
    """Computes sum_i coefficients[i] shared[i] + sum_j terms[j] in one pass: what comes in at a node.

    The gradient that arrives is made channels-last once for all of them.

    Args:
        coefficients: one for each of `shared`, 0-dimensional; None stands for 1.
        shared: (batch, channels, height, width) each.
        terms: the same, or of a shape that can be expanded to it.

    Returns:
        (batch, channels, height, width), channels-last.

    Example:
        >>> x, y = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), torch.tensor([10.0, 20.0]).view(1, 2, 1, 1)
        >>> combine([torch.tensor(3.0), None], [x, x], [y]).flatten()  # 3 x + x + y
        tensor([14., 28.])
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
        # As Python numbers, because `add_` then multiplies and adds in one pass, without a scaled copy of each tensor.
        values = iter([] if coefficients is None else coefficients.tolist())
        factors = [next(values) if has else 1.0 for has in weighted] + [1.0] * (len(tensors) - len(weighted))
        first = max(range(len(tensors)), key=lambda i: tensors[i].numel())  # the others may be expanded to it
        out = dense(tensors[first] * factors[first])
        for i, (x, factor) in enumerate(zip(tensors, factors, strict=True)):
            if i != first:
                out.add_(x, alpha=factor)
        ctx.factors, ctx.weighted = factors, weighted
        ctx.like = [(x.shape, x.dtype) for x in tensors]
        # Only the coefficients' gradients need the tensors. `weighted` stands for the first tensors, the shared ones.
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
            # The gradient of a coefficient is the dot product of its tensor and the gradient, over all pixels: a long
            # sum, which needs float32 at least.
            exact = torch.promote_types(gradient.dtype, torch.float32)
            flat = gradient.permute(0, 2, 3, 1).reshape(-1).to(exact)
            kept = [dense(x).permute(0, 2, 3, 1).reshape(-1).to(exact) for x in ctx.saved_tensors]
            slopes = torch.stack([torch.dot(x, flat) for x in kept])
        # A tensor that was expanded gets the sum over the axes along which it was repeated.
        passed = [
            (gradient if factor == 1.0 else gradient * factor).sum_to_size(size).to(dtype) if needed else None
            for needed, factor, (size, dtype) in zip(ctx.needs_input_grad[2:], ctx.factors, ctx.like, strict=True)
        ]
        return slopes, None, *passed
