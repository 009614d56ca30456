"""What happens to weights between relaxation and network: perturbations (SDARTS) and an auxiliary skip (DARTS-).

The alphas themselves are never written to, so there is nothing to restore.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from supernet.runtime.errors import InputError
from supernet.space.architecture import Decision, Weights

Perturbation = Callable[[Weights, Callable[[Weights], Tensor], float], Weights]
"""(operations' weights, weights -> training loss in evaluation mode, progress) -> other weights, for one step."""

Assistance = Callable[[Mapping[str, Decision], Weights, float], Weights]
"""(decisions, weights, progress) -> weights with something added that is not there in the end."""


@dataclass(frozen=True)
class RandomSmoothing:
    """SDARTS-RS (Chen and Hsieh 2020, section 3.2): uniform noise of up to epsilon on the weights of each operation.

    Then they are clamped to [0, 1] and made to add up to one again, as in the authors' code. Epsilon goes from `start`
    to `end` in a line. Only the network's weights learn under it; the alphas see the weights as they are.
    """

    start: float = 0.03
    end: float = 0.3

    def __post_init__(self) -> None:
        _check(self.start, self.end)

    def __call__(self, weights: Weights, loss: Callable[[Weights], Tensor], progress: float) -> Weights:
        epsilon = self.start + (self.end - self.start) * progress
        return _on_simplex(_uniform_noise(weights, epsilon))


@dataclass(frozen=True)
class Adversarial:
    """SDARTS-ADV (Chen and Hsieh 2020, section 3.2): the weights within epsilon at which the training loss is high.

    Projected gradient ascent from a random start: `steps` steps of 2 epsilon / `steps` along the gradient's sign, each
    back into the box around the weights and then, clamped and normalised, onto the simplex. An attack that does not
    raise the loss is dropped, as in the authors' code. The network is in evaluation mode meanwhile.
    """

    start: float = 0.03
    end: float = 0.3
    steps: int = 7

    def __post_init__(self) -> None:
        _check(self.start, self.end)
        if self.steps < 1:
            raise InputError(f"perturbation.steps={self.steps}: needs 1 or more")

    def __call__(self, weights: Weights, loss: Callable[[Weights], Tensor], progress: float) -> Weights:
        epsilon = self.start + (self.end - self.start) * progress
        stride = 2 * epsilon / self.steps
        attacked = _on_simplex(_uniform_noise(weights, epsilon))
        for _ in range(self.steps):
            slope = _gradient(loss, attacked)
            moved = {n: w + stride * slope[n].sign() for n, w in attacked.items()}  # up: an adversary
            boxed = {n: weights[n] + (m - weights[n]).clamp(-epsilon, epsilon) for n, m in moved.items()}
            attacked = _on_simplex(boxed)
        with torch.no_grad():  # chosen on the device: to ask would be to wait for it
            harmful = loss(attacked) >= loss(weights)
            return {n: torch.where(harmful, w, weights[n]) for n, w in attacked.items()}


def _check(start: float, end: float) -> None:
    if start < 0 or end < 0:
        raise InputError(f"perturbation: epsilon from {start} to {end}; needs 0 or more")


def _uniform_noise(weights: Weights, epsilon: float) -> Weights:
    return {n: w + torch.empty_like(w).uniform_(-epsilon, epsilon) for n, w in weights.items()}


def _on_simplex(weights: Weights) -> Weights:
    clamped = {n: w.clamp(0, 1) for n, w in weights.items()}
    return {n: w / w.sum(-1, keepdim=True).clamp_min(1e-12) for n, w in clamped.items()}


def _gradient(loss: Callable[[Weights], Tensor], at: Weights) -> Weights:
    with torch.enable_grad():
        leaves = {n: w.detach().requires_grad_() for n, w in at.items()}
        slopes = torch.autograd.grad(loss(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, slopes, strict=True))


@dataclass(frozen=True)
class AuxiliarySkip:
    """DARTS- (Chu et al. 2021, equation 5): an edge computes beta skip(x) + sum_o p_o o(x), beta falling to 0.

    Beta starts at `start` and falls in a line or in half a cosine; it follows the weights of each decision that is
    `auxiliary`. All edges have such a skip connection, those too of which it is no option, where the supernet was built
    so (`choosers.Undecided.auxiliary`).
    """

    start: float = 1.0
    decay: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        if self.decay not in ("linear", "cosine"):
            raise InputError(f"assistance.decay={self.decay}: use linear or cosine")
        if not 0.0 <= self.start < math.inf:
            raise InputError(f"assistance.start={self.start}: needs 0 or more, such as 1")

    def __call__(self, decisions: Mapping[str, Decision], weights: Weights, progress: float) -> Weights:
        left = 1 - progress if self.decay == "linear" else (1 + math.cos(math.pi * progress)) / 2

        def assisted(name: str, weight: Tensor) -> Tensor:
            if not decisions[name].auxiliary:
                return weight
            return torch.cat([weight, weight.new_full((1,), self.start * left)])

        return {name: assisted(name, weight) for name, weight in weights.items()}
