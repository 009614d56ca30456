"""Changes of the weights between relaxation and network: perturbations (SDARTS), an auxiliary skip (DARTS-), ...

The alphas themselves are never written to, so there is nothing to restore. To add one, write a subclass of
`WeightTransform` and give an object of it to the strategy.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from supernet.runtime.errors import InputError
from supernet.space.architecture import Decision, Weights


@dataclass(frozen=True)
class TransformContext:
    """The information that a transform of weights is given.

    Args:
        decisions: the supernet's, by name.
        progress: how far the search is, in [0, 1); on a GPU a 0-dimensional tensor.
        loss: weights -> training loss, a scalar, in evaluation mode, with the transforms that follow applied; None
            where the weights are not those of the network's step.
        joined: makes of gradients of that loss those of the joined batch, where processes share one.
    """

    decisions: Mapping[str, Decision]
    progress: Any
    loss: Callable[[Weights], Tensor] | None = None
    joined: Callable[[Sequence[Tensor]], list[Tensor]] = list

    def operations(self, weights: Weights) -> Weights:
        """The weights of the operations alone, without those of inputs."""
        return {name: weight for name, weight in weights.items() if self.decisions[name].role != "inputs"}


class WeightTransform(ABC):
    """Maps weights, (options,) for each decision, to those that the network is given.

    Attributes:
        network_only: only the network's step sees it, the alphas' step does not.
        auxiliary: it hands out weights of the auxiliary skip connections, with which the supernet has to be built.

    Example:
        >>> class Squared(WeightTransform):
        ...     def __call__(self, weights, at):
        ...         return {name: weight**2 for name, weight in weights.items()}
        >>> at = TransformContext({"edge": Decision("edge", ("a", "b"))}, progress=0.0)
        >>> transformed([Squared()], {"edge": torch.tensor([0.5, 0.5])}, at)
        {'edge': tensor([0.2500, 0.2500])}
    """

    network_only: ClassVar[bool] = False
    auxiliary: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, weights: Weights, at: TransformContext) -> Weights:
        """Gives the weights for this step.

        Args:
            weights: (options,) for each decision; they are not changed.
            at: the decisions, the progress of the search and, in the network's step, the training loss.

        Returns:
            Other weights, by the same names.
        """


def transformed(transforms: Sequence[WeightTransform], weights: Weights, at: TransformContext) -> Weights:
    """Applies transforms to weights, one after the other, as the network will be given them.

    Args:
        transforms: in their order.
        weights: (options,) for each decision.
        at: without a `loss` the weights are those of the alphas' step, which transforms for the network alone skip.

    Returns:
        The transformed weights.
    """
    # A transform that asks for the loss (an attack) gives weights that the transforms after it have not seen yet. Its
    # `loss` therefore applies those first: `_loss_after` calls this function with the rest, which is shorter each time.
    for number, transform in enumerate(transforms):
        context, rest = at, transforms[number + 1 :]
        if at.loss is not None:
            context = replace(at, loss=partial(_loss_after, rest, at))
        elif transform.network_only:
            continue
        weights = transform(weights, context)
    return weights


def _loss_after(rest: Sequence[WeightTransform], at: TransformContext, weights: Weights) -> Tensor:
    """Returns the loss under weights to which the transforms that follow were applied."""
    assert at.loss is not None
    return at.loss(transformed(rest, weights, at))


@dataclass(frozen=True)
class RandomSmoothing(WeightTransform):
    """Adds uniform noise of up to epsilon to operations' weights (SDARTS-RS, Chen and Hsieh 2020, section 3.2).

    Then the weights are clamped to [0, 1] and made to add up to one again, as in the authors' code. Epsilon goes from
    `start` to `end` in a line. Only the network's weights learn under it; the alphas see the weights as they are.

    Args:
        start: epsilon at the start of the search, 0 or more.
        end: epsilon at its end, 0 or more.

    Raises:
        InputError: `start` or `end` is below 0.

    Example:
        >>> at = TransformContext({"edge": Decision("edge", ("a", "b"))}, progress=0.5)
        >>> before = torch.tensor([0.75, 0.25])
        >>> after = RandomSmoothing(start=0.0, end=0.2)({"edge": before}, at)["edge"]
        >>> round(after.sum().item(), 3), (after - before).abs().max().item() < 0.101
        (1.0, True)
    """

    start: float = 0.03
    end: float = 0.3

    network_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.start, self.end)

    def __call__(self, weights: Weights, at: TransformContext) -> Weights:
        epsilon = self.start + (self.end - self.start) * at.progress
        return {**weights, **_on_simplex(_uniform_noise(at.operations(weights), epsilon))}


@dataclass(frozen=True)
class Adversarial(WeightTransform):
    """Finds nearby weights at which the training loss is high (SDARTS-ADV, Chen and Hsieh 2020, section 3.2).

    This is projected gradient ascent from a random start: each step goes 2 epsilon / `steps` along the gradient's sign,
    back into the box around the weights and then, clamped and normalised, onto the simplex. An attack that does not
    raise the loss is dropped, as in the authors' code. The network is in evaluation mode meanwhile. Epsilon goes from
    `start` to `end` in a line. Only the network's weights learn under it.

    Args:
        start: epsilon at the start of the search, 0 or more.
        end: epsilon at its end, 0 or more.
        steps: how many steps of ascent an attack takes, 1 or more; each costs a forward and a backward pass.

    Raises:
        InputError: a setting is too small, or there is no training loss to attack (`TransformContext.loss`).

    Example:
        >>> edges = {"edge": Decision("edge", ("a", "b"))}
        >>> at = TransformContext(edges, progress=0.0, loss=lambda weights: weights["edge"] @ torch.tensor([1.0, -1.0]))
        >>> Adversarial(start=0.25)({"edge": torch.tensor([0.5, 0.5])}, at)
        {'edge': tensor([0.7500, 0.2500])}
    """

    start: float = 0.03
    end: float = 0.3
    steps: int = 7

    network_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.start, self.end)
        if self.steps < 1:
            raise InputError(f"steps={self.steps}: needs 1 or more")

    def __call__(self, weights: Weights, at: TransformContext) -> Weights:
        if at.loss is None:
            raise InputError("Adversarial: attacks the training loss of the network's step, and there is none here")
        loss, operations = at.loss, at.operations(weights)

        def attacked_loss(changed: Weights) -> Tensor:
            return loss({**weights, **changed})

        epsilon = self.start + (self.end - self.start) * at.progress
        stride = 2 * epsilon / self.steps
        attacked = _on_simplex(_uniform_noise(operations, epsilon))
        for _ in range(self.steps):
            slope = _gradient(attacked_loss, attacked, at)
            moved = {n: w + stride * slope[n].sign() for n, w in attacked.items()}  # up: an adversary
            boxed = {n: operations[n] + (m - operations[n]).clamp(-epsilon, epsilon) for n, m in moved.items()}
            attacked = _on_simplex(boxed)
        with torch.no_grad():  # chosen on the device: to ask would be to wait for it
            harmful = attacked_loss(attacked) >= attacked_loss(operations)
            chosen = {n: torch.where(harmful, w, operations[n]) for n, w in attacked.items()}
        return {**weights, **chosen}


def _check(start: float, end: float) -> None:
    if start < 0 or end < 0:
        raise InputError(f"start={start}, end={end}: needs 0 or more")


def _uniform_noise(weights: Weights, epsilon: float | Tensor) -> Weights:
    if isinstance(epsilon, Tensor):  # moves while the step is replayed from a CUDA graph
        return {n: w + torch.empty_like(w).uniform_(-1.0, 1.0) * epsilon for n, w in weights.items()}
    return {n: w + torch.empty_like(w).uniform_(-epsilon, epsilon) for n, w in weights.items()}


def _on_simplex(weights: Weights) -> Weights:
    clamped = {n: w.clamp(0, 1) for n, w in weights.items()}
    return {n: w / w.sum(-1, keepdim=True).clamp_min(1e-12) for n, w in clamped.items()}


def _gradient(loss: Callable[[Weights], Tensor], weights: Weights, at: TransformContext) -> Weights:
    with torch.enable_grad():
        leaves = {n: w.detach().requires_grad_() for n, w in weights.items()}
        slopes = torch.autograd.grad(loss(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, at.joined(slopes), strict=True))


@dataclass(frozen=True)
class AuxiliarySkip(WeightTransform):
    """Adds a skip connection to each edge that fades out over the search (DARTS-, Chu et al. 2021, equation 5).

    An edge computes beta skip(x) + sum_o p_o o(x), beta falling to 0. Beta follows the weights of each decision that is
    `auxiliary`. All edges have such a skip connection, those too of which it is no option, where the supernet was built
    so (`choosers.Undecided.auxiliary`).

    Args:
        start: beta at the start of the search, 0 or more; at the end it is 0.
        decay: whether beta falls in a line, "linear", or in half a cosine, "cosine".

    Raises:
        InputError: `decay` is another word, or `start` is below 0 or infinite.

    Example:
        >>> at = TransformContext({"edge": Decision("edge", ("a", "b"), auxiliary=True)}, progress=0.75)
        >>> AuxiliarySkip()({"edge": torch.tensor([0.5, 0.5])}, at)
        {'edge': tensor([0.5000, 0.5000, 0.2500])}
    """

    start: float = 1.0
    decay: Literal["linear", "cosine"] = "linear"

    auxiliary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.decay not in ("linear", "cosine"):
            raise InputError(f"decay={self.decay}: use linear or cosine")
        if not 0.0 <= self.start < math.inf:
            raise InputError(f"start={self.start}: needs 0 or more, such as 1")

    def __call__(self, weights: Weights, at: TransformContext) -> Weights:
        cosine = torch.cos if isinstance(at.progress, Tensor) else math.cos
        left = 1 - at.progress if self.decay == "linear" else (1 + cosine(math.pi * at.progress)) / 2
        beta = self.start * left

        def assisted(name: str, weight: Tensor) -> Tensor:
            if not at.decisions[name].auxiliary:
                return weight
            extra = beta.to(weight).view(1) if isinstance(beta, Tensor) else weight.new_full((1,), beta)
            return torch.cat([weight, extra])

        return {name: assisted(name, weight) for name, weight in weights.items()}
