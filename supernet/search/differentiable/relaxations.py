"""Relaxations: from logits to weights that can be differentiated, one frozen dataclass each.

A relaxation maps the logits of one decision, shape (options,), to its weights, shape (options,); those of several
decisions with equally many options can be stacked, (decisions, options), and each row is by itself. `progress` in
[0, 1) is how far the search is, a number or, on a GPU, a 0-dimensional tensor, whose value moves while a step is
replayed from a CUDA graph: temperatures and the like are functions of it. `expected` is what the logits stand
for without noise, by which options are ranked in the end (but see `Ranked`). To add one, write such a class and give
an object of it to the strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from supernet.runtime.errors import InputError


class Relaxation(Protocol):
    """Maps logits (..., options) to weights (..., options)."""

    def __call__(self, logits: Tensor, progress: Any) -> Tensor:
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


@runtime_checkable
class Settling(Relaxation, Protocol):
    """A relaxation that corrects the logits after each step of their optimiser."""

    def settled(self, before: Tensor, after: Tensor) -> Tensor:
        """The logits that replace those after the step, of the same shape."""
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
    """softmax((log p + G) / t) with Gumbel noise G and a temperature t that goes from `start` to `end`.

    SNAS (Xie et al. 2019, equation 5) is soft, GDAS (Dong and Yang 2019, equations 3 and 4) is hard with temperatures
    from 10 to 0.1. FBNet (Wu et al. 2019) is soft with 5 exp(-0.045 epoch) in 90 epochs: exponential, from 5 to
    5 exp(-4.05).

    Args:
        hard: passes on a one-hot vector and the gradient of the soft one (straight through).
        start: the temperature at the start of the search, above 0.
        end: the temperature at its end, above 0.
        decay: "linear": in a line; "exponential": by the same factor every epoch.

    Raises:
        InputError: a temperature is not above 0, or `decay` is another word.

    Example:
        >>> drawn = Gumbel(hard=True)(torch.zeros(4), progress=0.5)
        >>> sorted(round(weight) for weight in drawn.tolist())
        [0, 0, 0, 1]
        >>> [Gumbel(start=8.0, end=0.5, decay="exponential").temperature(progress) for progress in (0.0, 0.5, 0.75)]
        [8.0, 2.0, 1.0]
    """

    hard: bool = False
    start: float = 10.0
    end: float = 0.1
    decay: Literal["linear", "exponential"] = "linear"

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0):
            raise InputError(f"temperatures {self.start} to {self.end} must be above 0")
        if self.decay not in ("linear", "exponential"):
            raise InputError(f"decay={self.decay}: use linear or exponential")

    def temperature(self, progress: float) -> float:
        """Gives the temperature.

        Args:
            progress: how far the search is, in [0, 1).

        Returns:
            A number between `start` and `end`.
        """
        if self.decay == "exponential":
            factor: float = (self.end / self.start) ** progress
            return self.start * factor
        return self.start + (self.end - self.start) * progress

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        temperature = self.temperature(progress)
        soft = ((logits.log_softmax(-1) + _gumbel(logits)) / temperature).softmax(-1)
        if not self.hard:
            return soft
        one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return one_hot - soft.detach() + soft

    def expected(self, logits: Tensor) -> Tensor:
        """softmax(alpha): how probable each option is to be drawn."""
        return logits.softmax(-1)


@dataclass(frozen=True)
class BinaryGates:
    """One option, drawn from softmax(alpha), has weight 1 and all others 0 (ProxylessNAS, Cai et al. 2019).

    The gradient takes the drawn gates for their probabilities (section 3.2, equation 4):
    dL/dalpha_i = sum_j dL/dg_j p_j (delta_ij - p_i). What an edge has to give for it are all dL/dg_j, those of options
    that did not run among them: build the supernet with gates (`choices.OperationChoice`). A term of the loss that
    counts costs has its gradient from here, whatever was drawn; in the authors' code a drawn "none" takes it away.

    Args:
        paths: "all": every option learns. "two": two options are drawn, one of them runs, and only they learn, with
            probabilities among themselves; together they keep the probability that they had (section 3.2.1).

    Raises:
        InputError: `paths` is another word.

    Example:
        >>> sorted(BinaryGates()(torch.zeros(4), progress=0.5).tolist())
        [0.0, 0.0, 0.0, 1.0]
        >>> kept = BinaryGates("two").settled(torch.zeros(3), torch.tensor([0.5, 0.0, 0.2]))
        >>> kept.softmax(-1)[1]  # the option that did not learn is as probable as before
        tensor(0.3333)
    """

    paths: Literal["all", "two"] = "all"

    def __post_init__(self) -> None:
        if self.paths not in ("all", "two"):
            raise InputError(f"paths={self.paths}: use all or two")

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        if self.paths == "two" and logits.shape[-1] > 2:
            ranks = (logits.detach().log_softmax(-1) + _gumbel(logits)).topk(2, dim=-1).indices  # without replacement
            outside = torch.ones_like(logits, dtype=torch.bool).scatter_(-1, ranks, False)
            logits = logits.masked_fill(outside, -torch.inf)
        drawn = (logits.detach() + _gumbel(logits)).argmax(-1, keepdim=True)
        one_hot = torch.zeros_like(logits).scatter_(-1, drawn, 1.0)
        soft = logits.softmax(-1)
        return one_hot + (soft - soft.detach())

    def settled(self, before: Tensor, after: Tensor) -> Tensor:
        """Keeps the probability of those options together that have learnt, if there are two of them."""
        if self.paths == "all":
            return after
        moved = before != after
        was, is_now = (x.masked_fill(~moved, -torch.inf).logsumexp(-1, keepdim=True) for x in (before, after))
        return torch.where(moved, after + was - is_now, after)

    def expected(self, logits: Tensor) -> Tensor:
        """softmax(alpha): how probable each option is to be drawn."""
        return logits.softmax(-1)


def _gumbel(logits: Tensor) -> Tensor:
    """Gumbel noise: the largest of log p + noise is option i with probability p_i."""
    return -torch.empty_like(logits).exponential_().log()


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
