"""Hypergradients: the gradient of the validation loss with respect to the alphas, as pure functions of a problem.

The bilevel problem (DARTS, Liu et al. 2019, equations 3 and 4) is: minimise L_valid(w*(alpha), alpha) over alpha,
where w*(alpha) minimises L_train(w, alpha) over w. An architect takes the problem at one point (w, alpha) and
returns a gradient for each alpha. Losses are functions of w, so nothing is written into a network and nothing has
to be put back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.runtime.errors import InputError

Loss = Callable[[Sequence[Tensor]], Tensor]
"""Weights w -> scalar loss, differentiable in them and in the alphas."""


@dataclass(frozen=True)
class Bilevel:
    """A bilevel problem at one point.

    `inner`: the weights w; `outer`: the alphas. The rest describes the SGD step that w would take next: its
    `learning_rate` (None where w is not trained by plain SGD), `momentum`, `weight_decay`, and `velocity`, the momentum
    buffers (None before the first step).
    """

    inner: Sequence[Tensor]
    outer: Sequence[Tensor]
    train_loss: Loss
    valid_loss: Loss
    learning_rate: float | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    velocity: Sequence[Tensor] | None = None


Architect = Callable[[Bilevel], list[Tensor]]


def first_order(problem: Bilevel) -> list[Tensor]:
    """The gradient at w itself, as if w did not depend on alpha (DARTS, section 2.3, xi = 0)."""
    inner = [w.detach() for w in problem.inner]  # no gradient of theirs is wanted
    return _gradients(problem.valid_loss(inner), problem.outer)


def unrolled(problem: Bilevel, epsilon: float = 0.01) -> list[Tensor]:
    """The gradient after one virtual SGD step, the mixed product by central differences (DARTS, equations 7 and 8).

    The step between the two differences is `epsilon` / |v|, v the validation gradient at the virtual weights. On
    networks with ReLUs that is a smoothed quantity of its own rather than an approximation of `unrolled_exact`.
    """
    rate, virtual = _virtual_step(problem)
    direct, vector = _validation_gradients(problem, virtual)
    norm = torch.stack([v.pow(2).sum() for v in vector]).sum().sqrt()
    # Where v is zero, so is the second term: both ends of the difference are w. Asking would wait for the device.
    step = epsilon / norm.clamp_min(torch.finfo(norm.dtype).tiny)

    def alpha_gradient(sign: float) -> list[Tensor]:
        moved = [w.detach() + sign * step * v for w, v in zip(problem.inner, vector, strict=True)]
        return _gradients(problem.train_loss(moved), problem.outer)

    plus, minus = alpha_gradient(+1.0), alpha_gradient(-1.0)
    return [d - rate * (p - m) / (2 * step) for d, p, m in zip(direct, plus, minus, strict=True)]


def unrolled_exact(problem: Bilevel) -> list[Tensor]:
    """As `unrolled`, with the exact product of the mixed second derivative and v, by differentiating twice."""
    rate, virtual = _virtual_step(problem)
    direct, vector = _validation_gradients(problem, virtual)
    inner = [w.detach().requires_grad_() for w in problem.inner]
    slope = _gradients(problem.train_loss(inner), inner, create_graph=True)
    product = torch.stack([(s * v).sum() for s, v in zip(slope, vector, strict=True)]).sum()
    mixed = _gradients(product, problem.outer)
    return [d - rate * m for d, m in zip(direct, mixed, strict=True)]


def _virtual_step(problem: Bilevel) -> tuple[float, list[Tensor]]:
    """The learning rate, and w' = w - rate (momentum velocity + gradient + weight_decay w): PyTorch's SGD."""
    if problem.learning_rate is None:
        raise InputError(
            "architect=unrolled: differentiates through a plain SGD step; train the weights with SGD (one group, "
            "no Nesterov momentum, no dampening) or use first_order"
        )
    slope = _gradients(problem.train_loss(problem.inner), problem.inner)
    velocity = problem.velocity or [torch.zeros_like(w) for w in problem.inner]
    with torch.no_grad():
        moved = [
            w - problem.learning_rate * (problem.momentum * u + g + problem.weight_decay * w)
            for w, u, g in zip(problem.inner, velocity, slope, strict=True)
        ]
    return problem.learning_rate, moved


def _validation_gradients(problem: Bilevel, weights: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The validation loss' gradients with respect to the alphas and to the weights, at `weights`."""
    weights = [w.detach().requires_grad_() for w in weights]
    both = _gradients(problem.valid_loss(weights), [*problem.outer, *weights])
    return both[: len(problem.outer)], both[len(problem.outer) :]


def _gradients(loss: Tensor, at: Sequence[Tensor], create_graph: bool = False) -> list[Tensor]:
    """Gradients, zeros where the loss does not depend on a tensor; `.grad` is neither read nor written."""
    if not loss.requires_grad:  # it depends on none of them
        return [torch.zeros_like(tensor) for tensor in at]
    return list(torch.autograd.grad(loss, at, create_graph=create_graph, allow_unused=True, materialize_grads=True))
