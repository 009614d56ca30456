"""Relaxations: from logits to weights that can be differentiated, one frozen dataclass each.

A relaxation maps the logits of one decision, shape (options,), to its weights, shape (options,); those of several
decisions with equally many options can be stacked, (decisions, options), and each row is by itself. `progress` in
[0, 1) is how far the search is: temperatures and the like are functions of it. `expected` is what the logits stand
for without noise, by which options are ranked in the end (but see `Ranked`). To add one, write such a class and give
an object of it to the strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from supernet.runtime.errors import InputError


class Relaxation(Protocol):
    """Maps logits (..., options) to weights (..., options)."""

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        """The weights of one evaluation; draws, if any, come from torch's global generator."""
        ...

    def expected(self, logits: Tensor) -> Tensor:
        """The weights without noise."""
        ...


@runtime_checkable
class Ranked(Relaxation, Protocol):
    """A relaxation that ranks options by something else than the weights that it expects."""

    def strength(self, logits: Tensor) -> Tensor:
        """How strong each option is; also of options of different decisions the largest is the best."""
        ...


def strength(relaxation: Relaxation, logits: Tensor) -> Tensor:
    """Returns the strengths by which the options of one decision are ranked in the end.

    Args:
        relaxation: of the decision.
        logits: (options,), or (decisions, options).

    Returns:
        A number for each option, of the shape of `logits`; the largest is the best.

    Example:
        >>> strength(Softmax(), torch.zeros(2))
        tensor([0.5000, 0.5000])
    """
    return relaxation.strength(logits) if isinstance(relaxation, Ranked) else relaxation.expected(logits)


@dataclass(frozen=True)
class Softmax:
    """p = softmax(alpha) (DARTS, Liu et al. 2019, equation 2).

    Example:
        >>> Softmax()(torch.tensor([0.0, 0.0, 0.6931]), progress=0.0)
        tensor([0.2500, 0.2500, 0.5000])
    """

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        return logits.softmax(-1)

    def expected(self, logits: Tensor) -> Tensor:
        """softmax(alpha)."""
        return logits.softmax(-1)


@dataclass(frozen=True)
class Gumbel:
    """softmax((log p + G) / t) with Gumbel noise G and a temperature t that goes from `start` to `end` in a line.

    SNAS (Xie et al. 2019, equation 5) is soft, GDAS (Dong and Yang 2019, equations 3 and 4) is hard with temperatures
    from 10 to 0.1.

    Args:
        hard: passes on a one-hot vector and the gradient of the soft one (straight through).
        start: the temperature at the start of the search, above 0.
        end: the temperature at its end, above 0.

    Raises:
        InputError: a temperature is not above 0.

    Example:
        >>> drawn = Gumbel(hard=True)(torch.zeros(4), progress=0.5)
        >>> sorted(round(weight) for weight in drawn.tolist())
        [0, 0, 0, 1]
    """

    hard: bool = False
    start: float = 10.0
    end: float = 0.1

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0):
            raise InputError(f"temperatures {self.start} to {self.end} must be above 0")

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        temperature = self.start + (self.end - self.start) * progress
        noise = -torch.empty_like(logits).exponential_().log()
        soft = ((logits.log_softmax(-1) + noise) / temperature).softmax(-1)
        if not self.hard:
            return soft
        one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return one_hot - soft.detach() + soft

    def expected(self, logits: Tensor) -> Tensor:
        """softmax(alpha): how probable each option is to be drawn."""
        return logits.softmax(-1)


@dataclass(frozen=True)
class Dirichlet:
    """A draw from the Dirichlet distribution of concentration elu(alpha) + 1 (DrNAS, Chen et al. 2021).

    Differentiable pathwise, by implicit reparameterisation. `expected` is the mean of the distribution, the
    concentration over its sum, with which the supernet is validated (the authors' code validates under draws).

    Example:
        >>> Dirichlet().expected(torch.tensor([0.0, 2.0]))
        tensor([0.2500, 0.7500])
    """

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        return torch.distributions.Dirichlet(concentration(logits), validate_args=False).rsample()

    def expected(self, logits: Tensor) -> Tensor:
        """The mean of the distribution."""
        values = concentration(logits)
        return values / values.sum(-1, keepdim=True)

    def strength(self, logits: Tensor) -> Tensor:
        """softmax(alpha), as in the authors' code: the mean's order within a decision, and its own between edges."""
        return logits.softmax(-1)


def concentration(logits: Tensor) -> Tensor:
    """elu(alpha) + 1, exact for very negative alphas, too, and never 0.

    Args:
        logits: the alphas, of any shape.

    Returns:
        The concentrations of a Dirichlet distribution, of the same shape.

    Example:
        >>> concentration(torch.tensor([0.0, 2.0, -1.0]))
        tensor([1.0000, 3.0000, 0.3679])
    """
    smallest = torch.finfo(logits.dtype).tiny
    return torch.where(logits > 0, logits + 1, logits.clamp(max=0).exp()).clamp_min(smallest)


@dataclass(frozen=True)
class Sigmoid:
    """sigmoid(alpha), each option by itself (FairDARTS, Chu et al. 2020).

    Example:
        >>> Sigmoid()(torch.zeros(2), progress=0.0)
        tensor([0.5000, 0.5000])
    """

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        return logits.sigmoid()

    def expected(self, logits: Tensor) -> Tensor:
        """sigmoid(alpha)."""
        return logits.sigmoid()


@dataclass(frozen=True)
class Simplex:
    """The parameters are the weights (GAEA, Li et al. 2021): for an optimiser that keeps them on the simplex.

    The alphas need a start on the simplex, too: `gradient.uniform`.

    Example:
        >>> Simplex()(torch.tensor([0.2, 0.8]), progress=0.0)
        tensor([0.2000, 0.8000])
    """

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        return logits.view_as(logits)  # no nn.Parameter, which a module would take for its own

    def expected(self, logits: Tensor) -> Tensor:
        """A copy of the parameters."""
        return logits.clone()


@dataclass(frozen=True)
class Uniform:
    """Every option counts alike, whatever the logits (DARTS-PT with fixed alphas, Wang et al. 2021).

    Example:
        >>> Uniform()(torch.tensor([0.0, 9.0]), progress=0.0)
        tensor([0.5000, 0.5000])
    """

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        return torch.full_like(logits, 1.0 / logits.shape[-1])

    def expected(self, logits: Tensor) -> Tensor:
        """One over the number of options."""
        return torch.full_like(logits, 1.0 / logits.shape[-1])
