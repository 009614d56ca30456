"""Hypergradients: the gradient of the validation loss with respect to the alphas, as pure functions of a problem.

The bilevel problem (DARTS, Liu et al. 2019, equations 3 and 4) is: minimise L_valid(w*(alpha), alpha) over alpha,
where w*(alpha) minimises L_train(w, alpha) over w. An architect takes the problem at one point (w, alpha) and
returns a gradient for each alpha. Losses are functions of w, so nothing is written into a network and nothing has
to be put back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.runtime.errors import InputError
from supernet.training.sgd import SgdStep

Loss = Callable[[Sequence[Tensor]], Tensor]
"""Weights w -> scalar loss, differentiable in them and in the alphas."""


@dataclass(frozen=True)
class Bilevel:
    """A bilevel problem at one point.

    Args:
        inner: the weights w, of which those that want no gradient are constants.
        outer: the alphas.
        train_loss: of w and the alphas, on the half that w learns from.
        valid_loss: of w and the alphas, on the half that the architecture is judged by.
        inner_step: the SGD step that w would take next; None where w is not trained by plain SGD.
        twice: makes a context within which losses are built so that they can be differentiated twice; where the fast
            way to compute them cannot be, it takes another.
        exact: makes a context within which losses are float32 at least.
        joined: makes of the gradients of this process's losses those of the joined batch, where processes share one:
            every gradient here goes through it, those too of which a gradient is taken again.
    """

    inner: Sequence[Tensor]
    outer: Sequence[Tensor]
    train_loss: Loss
    valid_loss: Loss
    inner_step: SgdStep | None = None
    twice: Callable[[], AbstractContextManager[None]] = nullcontext
    exact: Callable[[], AbstractContextManager[None]] = nullcontext
    joined: Callable[[Sequence[Tensor]], list[Tensor]] = list


Architect = Callable[[Bilevel], list[Tensor]]


def first_order(problem: Bilevel) -> list[Tensor]:
    """Takes the gradient at w itself, as if w did not depend on alpha (DARTS, section 2.3, xi = 0).

    Args:
        problem: the bilevel problem at one point.

    Returns:
        A gradient for each alpha, of its shape.

    Example:
        >>> w, alpha = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 1.0))
        >>> train_loss, valid_loss = lambda inner: (inner[0] - alpha) ** 2 / 2, lambda inner: inner[0] ** 2 / 2 + alpha
        >>> first_order(Bilevel([w], [alpha], train_loss, valid_loss))
        [tensor(1., dtype=torch.float64)]
    """
    inner = [w.detach() for w in problem.inner]  # no gradient of theirs is wanted
    return _gradients(problem, problem.valid_loss(inner), problem.outer)


def unrolled(problem: Bilevel, epsilon: float = 0.01) -> list[Tensor]:
    """Takes the gradient after one virtual SGD step, second derivatives by differences (DARTS, equations 7 and 8).

    The product of the mixed second derivative and v, the validation gradient at the virtual weights, comes from central
    differences: its ends are w + step v and w - step v, where step is `epsilon` / |v|. On networks with ReLUs that is a
    smoothed quantity of its own rather than an approximation of `unrolled_exact`. Both ends are computed in float32
    whatever the search runs in: rounded to bfloat16, little of their difference is left.

    Args:
        problem: the bilevel problem at one point, with an `inner_step`.
        epsilon: how far the ends of the difference lie from w, above 0.

    Returns:
        A gradient for each alpha, of its shape.

    Raises:
        InputError: `epsilon` is not above 0, or w is not trained by plain SGD.

    Example:
        The step w' = w - (w - alpha) / 2 leads to 2, where v = 2. With dw'/dalpha = 1/2 the gradient is 1 + 2/2.

        >>> w, alpha = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 1.0))
        >>> train_loss, valid_loss = lambda inner: (inner[0] - alpha) ** 2 / 2, lambda inner: inner[0] ** 2 / 2 + alpha
        >>> (gradient,) = unrolled(Bilevel([w], [alpha], train_loss, valid_loss, SgdStep(learning_rate=0.5)))
        >>> round(gradient.item(), 6)
        2.0
    """
    if not epsilon > 0.0:
        raise InputError(f"epsilon={epsilon}: needs to be above 0, such as 0.01")
    rate, virtual = _virtual_step(problem)
    direct, vector = _validation_gradients(problem, virtual)
    norm = torch.nn.utils.get_total_norm(vector)
    # Where v is zero, so is the second term: both ends of the difference are w. Asking would wait for the device.
    step = epsilon / norm.clamp_min(torch.finfo(norm.dtype).tiny)

    def alpha_gradient(sign: float) -> list[Tensor]:
        moved = torch._foreach_add([w.detach() for w in problem.inner], torch._foreach_mul(vector, sign * step))
        return _gradients(problem, problem.train_loss(moved), problem.outer)

    with problem.exact():
        plus, minus = alpha_gradient(+1.0), alpha_gradient(-1.0)
    return [d - rate * (p - m) / (2 * step) for d, p, m in zip(direct, plus, minus, strict=True)]


def unrolled_exact(problem: Bilevel) -> list[Tensor]:
    """Takes the gradient of `unrolled` exactly.

    The product of the mixed second derivative and v comes from differentiating twice.

    Args:
        problem: the bilevel problem at one point, with an `inner_step`.

    Returns:
        A gradient for each alpha, of its shape.

    Raises:
        InputError: w is not trained by plain SGD.

    Example:
        >>> w, alpha = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 1.0))
        >>> train_loss, valid_loss = lambda inner: (inner[0] - alpha) ** 2 / 2, lambda inner: inner[0] ** 2 / 2 + alpha
        >>> unrolled_exact(Bilevel([w], [alpha], train_loss, valid_loss, SgdStep(learning_rate=0.5)))
        [tensor(2., dtype=torch.float64)]
    """
    rate, virtual = _virtual_step(problem)
    direct, vector = _validation_gradients(problem, virtual)
    _, slope = _inner_slope(problem)
    mixed = _product(problem, slope, vector, problem.outer)
    return [d - rate * m for d, m in zip(direct, mixed, strict=True)]


def neumann(problem: Bilevel, terms: int = 3) -> list[Tensor]:
    """Takes the implicit gradient, with the inverse Hessian as a Neumann series (iDARTS, Zhang et al. 2021).

    Let H be the Hessian of the training loss and its weight decay, v the validation gradient at w, and direct what
    `first_order` gives. The answer is direct - d^2 L_train / (dalpha dw) . rate sum_k (I - rate H)^k v, where k goes
    from 0 to `terms` - 1. Every product with H is exact (the authors' code has a diagonal stand-in for H). The series
    converges where rate times the largest eigenvalue of H is below 2, to the answer of `conjugate_gradient`.

    Args:
        problem: the bilevel problem at one point, with an `inner_step`.
        terms: how many terms of the series are added, 1 or more.

    Returns:
        A gradient for each alpha, of its shape.

    Raises:
        InputError: `terms` is below 1, or w is not trained by plain SGD.

    Example:
        Here v = 3, H = 1 and the mixed derivative is -1, so this is 1 + (3 + 3/2 + 3/4) / 2, on its way to 1 + 3.

        >>> w, alpha = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 1.0))
        >>> train_loss, valid_loss = lambda inner: (inner[0] - alpha) ** 2 / 2, lambda inner: inner[0] ** 2 / 2 + alpha
        >>> problem = Bilevel([w], [alpha], train_loss, valid_loss, SgdStep(learning_rate=0.5))
        >>> neumann(problem, terms=3)[0].item(), round(neumann(problem, terms=30)[0].item(), 6)
        (3.625, 4.0)
    """
    if terms < 1:
        raise InputError(f"terms={terms}: needs 1 or more")
    rate = _inner_step(problem).learning_rate
    direct, vector = _validation_gradients(problem, problem.inner)
    inner, slope = _inner_slope(problem)
    term, total = vector, vector
    for _ in range(terms - 1):
        curved = _hessian_product(problem, slope, inner, term)
        term = [t - rate * c for t, c in zip(term, curved, strict=True)]
        total = [s + t for s, t in zip(total, term, strict=True)]
    mixed = _product(problem, slope, total, problem.outer)
    return [d - rate * m for d, m in zip(direct, mixed, strict=True)]


def conjugate_gradient(problem: Bilevel, iterations: int = 10, damping: float = 0.1) -> list[Tensor]:
    """Takes the implicit gradient by conjugate gradients (Pedregosa 2016; Rajeswaran et al. 2019).

    It solves (H + `damping` I) x = v, H and v as in `neumann`, and returns direct - d^2 L_train / (dalpha dw) . x.
    Where a direction of no or negative curvature turns up, it stops with what it has, or with v where that is the first
    direction.

    Args:
        problem: the bilevel problem at one point; the weight decay of its `inner_step` counts, where there is one.
        iterations: how many directions are taken, at most; 1 or more.
        damping: what is added to the eigenvalues of H; 0 or more.

    Returns:
        A gradient for each alpha, of its shape.

    Raises:
        InputError: `iterations` or `damping` is too small.

    Example:
        Here v = 3, H = 1 and the mixed derivative is -1, so this is 1 + 3 / (1 + damping).

        >>> w, alpha = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 1.0))
        >>> train_loss, valid_loss = lambda inner: (inner[0] - alpha) ** 2 / 2, lambda inner: inner[0] ** 2 / 2 + alpha
        >>> problem = Bilevel([w], [alpha], train_loss, valid_loss)
        >>> [round(conjugate_gradient(problem, damping=damping)[0].item(), 6) for damping in (0.0, 0.5)]
        [4.0, 3.0]
    """
    if iterations < 1:
        raise InputError(f"iterations={iterations}: needs 1 or more")
    if damping < 0:
        raise InputError(f"damping={damping}: needs 0 or more, such as 0.1")
    direct, vector = _validation_gradients(problem, problem.inner)
    inner, slope = _inner_slope(problem)
    solution = [torch.zeros_like(v) for v in vector]
    residual, direction, squared = vector, vector, _dot(vector, vector)
    enough = 1e-20 * squared
    for number in range(iterations):
        curved = _hessian_product(problem, slope, inner, direction)
        curved = [c + damping * p for c, p in zip(curved, direction, strict=True)]
        curvature = _dot(direction, curved)
        if squared <= enough or curvature <= 0:
            solution = vector if number == 0 else solution
            break
        length = squared / curvature
        solution = [x + length * p for x, p in zip(solution, direction, strict=True)]
        residual = [r - length * c for r, c in zip(residual, curved, strict=True)]
        before, squared = squared, _dot(residual, residual)
        direction = [r + squared / before * p for r, p in zip(residual, direction, strict=True)]
    mixed = _product(problem, slope, solution, problem.outer)
    return [d - m for d, m in zip(direct, mixed, strict=True)]


def _inner_step(problem: Bilevel) -> SgdStep:
    if problem.inner_step is None:
        raise InputError(
            "this architect differentiates through a plain SGD step; train the weights with SGD (one group, no "
            "dampening) or use first_order"
        )
    return problem.inner_step


def _virtual_step(problem: Bilevel) -> tuple[float, list[Tensor]]:
    """The rate at which a gradient moves w, and w' = w - rate (momentum velocity + gradient + weight_decay w).

    This is PyTorch's SGD. With Nesterov momentum the new velocity counts once more, times the momentum, in place of the
    old one: a gradient then moves w by rate (1 + momentum).
    """
    step = _inner_step(problem)
    slope = _gradients(problem, problem.train_loss(problem.inner), problem.inner)
    velocity = step.velocity or [torch.zeros_like(w) for w in problem.inner]
    with torch.no_grad():  # in all tensors at once: one by one they would be thousands of kernels
        inner = list(problem.inner)
        change = torch._foreach_mul(list(velocity), step.momentum)
        torch._foreach_add_(change, slope)
        torch._foreach_add_(change, inner, alpha=step.weight_decay)
        if step.nesterov:
            torch._foreach_mul_(change, step.momentum)
            torch._foreach_add_(change, slope)
            torch._foreach_add_(change, inner, alpha=step.weight_decay)
        rate = step.learning_rate
        if isinstance(rate, Tensor) or inner[0].device.type == "cuda":  # a tensor where the step is recorded as a graph
            moved = torch._foreach_sub(inner, torch._foreach_mul(change, rate))
        else:
            moved = torch._foreach_add(inner, change, alpha=-rate)
        reach = rate * (1 + step.momentum if step.nesterov else 1)
        return reach, [v if w.requires_grad else w for v, w in zip(moved, inner, strict=True)]


def _inner_slope(problem: Bilevel) -> tuple[list[Tensor], list[Tensor]]:
    """Fresh leaves with the values of w, and the training loss' gradient there, itself differentiable."""
    inner = [w.detach().requires_grad_(w.requires_grad) for w in problem.inner]
    with problem.twice():
        return inner, _gradients(problem, problem.train_loss(inner), inner, create_graph=True)


def _product(problem: Bilevel, slope: Sequence[Tensor], vector: Sequence[Tensor], at: Sequence[Tensor]) -> list[Tensor]:
    """The derivative of `slope` . `vector` with respect to `at`: a product with second derivatives."""
    product = torch.stack([(s * v).sum() for s, v in zip(slope, vector, strict=True)]).sum()
    return _gradients(problem, product, at, retain_graph=True)


def _hessian_product(
    problem: Bilevel, slope: Sequence[Tensor], inner: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """H . `vector`, H the Hessian of the training loss plus half the weight decay times |w|^2."""
    product = _product(problem, slope, vector, inner)
    decay = problem.inner_step.weight_decay if problem.inner_step else 0.0
    return [p + decay * v for p, v in zip(product, vector, strict=True)]


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


def _validation_gradients(problem: Bilevel, weights: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The validation loss' gradients with respect to the alphas and to the weights, at `weights`."""
    weights = [v.detach().requires_grad_(w.requires_grad) for v, w in zip(weights, problem.inner, strict=True)]
    both = _gradients(problem, problem.valid_loss(weights), [*problem.outer, *weights])
    return both[: len(problem.outer)], both[len(problem.outer) :]


def _gradients(
    problem: Bilevel, loss: Tensor, at: Sequence[Tensor], create_graph: bool = False, retain_graph: bool = False
) -> list[Tensor]:
    """Gradients, zeros where the loss does not depend on a tensor or it wants none; `.grad` is left alone."""
    wanted = [tensor for tensor in at if tensor.requires_grad]
    if not loss.requires_grad or not wanted:  # it depends on none of them
        return [torch.zeros_like(tensor) for tensor in at]
    own = torch.autograd.grad(
        loss,
        wanted,
        create_graph=create_graph,
        retain_graph=create_graph or retain_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    found = iter(problem.joined(own))
    return [next(found) if tensor.requires_grad else torch.zeros_like(tensor) for tensor in at]
