"""Objective terms: further goals of a search besides accuracy, added to the validation loss.

A term maps the alphas as one evaluation sees them to a scalar, differentiable in the logits. To add one, write a
function or a frozen dataclass and give it to the strategy by a name of your own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from supernet.estimation.forms import Form
from supernet.estimation.limits import Limits
from supernet.runtime.devices import constant
from supernet.runtime.errors import InputError
from supernet.search.differentiable.relaxations import concentration
from supernet.space.architecture import Decision, Weights


@dataclass(frozen=True)
class RelaxedWeights:
    """The alphas as one evaluation sees them.

    Args:
        decisions: by name.
        logits: of each relaxed decision, (options,); inputs that are not relaxed are left out.
        weights: what the logits are relaxed to, (options,) each.
        progress: how far the search is, in [0, 1).
        epochs: of the whole search.
        loss: the task's loss in this evaluation, for a term that multiplies it; None where nothing was evaluated.
        expected: the weights without noise, for a term that is not to depend on what was drawn; {}: not known.
        limits: what architectures cost, and how much they may; None: nothing is known.
    """

    decisions: Mapping[str, Decision]
    logits: Mapping[str, Tensor]
    weights: Weights
    progress: float
    epochs: int
    loss: Tensor | None = None
    expected: Weights = field(default_factory=dict)
    limits: Limits | None = None

    def operations(self) -> list[str]:
        """The names of the decisions about operations, which are the edges, and about sizes."""
        return [name for name in self.logits if self.decisions[name].role != "inputs"]


Term = Callable[[RelaxedWeights], Tensor]

_LEAST = 1e-6  # of a logarithm whose power is taken


@dataclass(frozen=True)
class ZeroOne:
    """-`weight` times the mean of |w - 1/2|^2 or |w - 1/2| over all operations (FairDARTS, Chu et al. 2020).

    It pushes weights that are independent of each other, such as sigmoids, to 0 or 1.

    Args:
        weight: by what the mean is multiplied; 10 is the authors' setting.
        form: the distance from 1/2: "l2", squared, as the authors have it, or "l1".
        among: by what the sum over all operations is divided, 1 or more; None: by their number, which makes it the
            mean. 196, the number in the authors' space, pushes each weight as hard as there in spaces of any size.

    Raises:
        InputError: `form` is another word, or `among` is below 1.

    Example:
        >>> edge, sure = Decision("edge", ("a", "b")), {"edge": torch.tensor([1.0, 0.0])}
        >>> at = RelaxedWeights({"edge": edge}, sure, sure, progress=0.0, epochs=50)
        >>> ZeroOne()(at), ZeroOne(among=20)(at)
        (tensor(-2.5000), tensor(-0.2500))
    """

    weight: float = 10.0
    form: Literal["l2", "l1"] = "l2"
    among: int | None = None

    def __post_init__(self) -> None:
        if self.form not in ("l2", "l1"):
            raise InputError(f"form={self.form}: use l2 or l1")
        if self.among is not None and self.among < 1:
            raise InputError(f"among={self.among}: needs 1 operation or more, or None for the mean")

    def __call__(self, at: RelaxedWeights) -> Tensor:
        distance = torch.cat([at.weights[name] for name in at.operations()]) - 0.5
        each = distance**2 if self.form == "l2" else distance.abs()
        return -self.weight * (each.mean() if self.among is None else each.sum() / self.among)


@dataclass(frozen=True)
class BetaDecay:
    """A growing factor times the mean over edges of logsumexp(alpha) (beta-DARTS, Ye et al. 2022).

    The factor is 0 at first and grows in a line. As the authors' code has it, it grows by 50 in 100 epochs, however
    many epochs there are. The current epoch is the progress times the number of epochs, a fraction within one.

    Args:
        weight: by how much the factor grows in `span` epochs.
        span: how many epochs; None: as many as the search has, so that the factor ends at `weight`.

    Raises:
        InputError: `span` is below 1.

    Example:
        >>> edge, logits = Decision("edge", ("a", "b")), {"edge": torch.zeros(2)}
        >>> halfway = RelaxedWeights({"edge": edge}, logits, logits, progress=0.5, epochs=20)
        >>> BetaDecay()(halfway), BetaDecay(weight=1.0, span=None)(halfway)
        (tensor(3.4657), tensor(0.3466))
    """

    weight: float = 50.0
    span: int | None = 100

    def __post_init__(self) -> None:
        if self.span is not None and self.span < 1:
            raise InputError(f"span={self.span}: needs 1 epoch or more, or None for the length of the search")

    def __call__(self, at: RelaxedWeights) -> Tensor:
        each = torch.stack([at.logits[name].logsumexp(-1) for name in at.operations()])
        return self.weight * at.epochs / (self.span or at.epochs) * at.progress * each.mean()


@dataclass(frozen=True)
class DirichletAnchor:
    """`weight` times the sum over edges of KL(Dir(elu(alpha) + 1) || Dir(1, ..., 1)) (DrNAS, Chen et al. 2021).

    It pulls the Dirichlet distributions towards the uniform one over the simplex.

    Args:
        weight: by what the sum is multiplied.

    Example:
        >>> edge, logits = Decision("edge", ("a", "b")), {"edge": torch.zeros(2)}
        >>> DirichletAnchor()(RelaxedWeights({"edge": edge}, logits, logits, progress=0.5, epochs=100))
        tensor(0.)
    """

    weight: float = 1e-3

    def __call__(self, at: RelaxedWeights) -> Tensor:
        return self.weight * sum((_from_uniform(concentration(at.logits[n])) for n in at.operations()), torch.tensor(0))


def _from_uniform(c: Tensor) -> Tensor:
    """KL(Dir(c) || Dir(1)) = ln G(C) - sum ln G(c) - ln G(n) + sum (c - 1)(psi(c) - psi(C)), C the sum of c."""
    total, n = c.sum(), constant((float(len(c)),), c.device, c.dtype)[0]
    normaliser = total.lgamma() - c.lgamma().sum() - n.lgamma()
    return normaliser + ((c - 1) * (c.digamma() - total.digamma())).sum()


@dataclass(frozen=True)
class Entropy:
    """`weight` times the mean entropy of the edges' weights, in nats.

    Args:
        weight: by what the mean is multiplied; above 0 it makes the search decide.

    Example:
        >>> edge, even = Decision("edge", ("a", "b")), {"edge": torch.tensor([0.5, 0.5])}
        >>> Entropy(weight=1.0)(RelaxedWeights({"edge": edge}, even, even, progress=0.5, epochs=100))
        tensor(0.6931)
    """

    weight: float = 1e-3

    def __call__(self, at: RelaxedWeights) -> Tensor:
        each = [torch.special.entr(at.weights[name]).sum() for name in at.operations()]
        return self.weight * torch.stack(each).mean()


@dataclass(frozen=True)
class ExpectedCost:
    """`weight` times the sum over edges and operations of weight times cost (SNAS, Xie et al. 2019).

    Args:
        costs: operation -> its cost in any unit: parameters, multiply-adds, milliseconds.
        weight: by what the sum is multiplied.

    Raises:
        InputError: a cost is below 0, or an operation of an edge has none.

    Example:
        >>> edge, even = Decision("edge", ("a", "b")), {"edge": torch.tensor([0.5, 0.5])}
        >>> ExpectedCost({"a": 1.0, "b": 3.0})(RelaxedWeights({"edge": edge}, even, even, progress=0.0, epochs=50))
        tensor(2.)
    """

    costs: Mapping[str, float]
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name, cost in self.costs.items():
            if not 0.0 <= cost < math.inf:
                raise InputError(f"costs.{name}={cost}: needs 0 or more")

    def __call__(self, at: RelaxedWeights) -> Tensor:
        terms = []
        for name in at.operations():
            options = at.decisions[name].options
            if missing := [o for o in options if o not in self.costs]:
                raise InputError(f"costs: none for {missing[0]!r}; give each of {', '.join(options)} one")
            weights = at.weights[name]
            terms.append(weights @ constant(tuple(self.costs[o] for o in options), weights.device, weights.dtype))
        return self.weight * torch.stack(terms).sum()


@dataclass(frozen=True)
class CostTerm:
    """Makes the search prefer architectures whose expected cost is near a target, or below it.

    With c the expected cost divided by the target, it is one of

    - "log_multiplicative": the loss is multiplied by (log(1 + c) / log 2)^`weight` (FBNet, Wu et al. 2019, equation 5,
      with weight 0.6; ProxylessNAS' code with 0.3). At the target the factor is 1. The authors' log c is negative below
      one unit of the cost and turns the sign of the loss; this one cannot.
    - "hinge": `weight` times max(0, c - 1): nothing is gained below the target.
    - "absolute": `weight` times |c - 1| (TuNAS, Bender et al. 2020, section 3.2).
    - "linear": `weight` times (c - 1) (ProxylessNAS, Cai et al. 2019, section 3.3).

    A term only draws the search towards the target. `limits` make the architecture keep it.

    Args:
        cost: the name of the cost, such as "latency" or "macs", or a form.
        target: in the unit of the cost; None: the limit on this cost.
        weight: how strong the term is.
        kind: which of the four.
        drawn: whether the expected cost is that of the weights as they were drawn (FBNet), or of those without noise,
            so that the gradient does not depend on which path was drawn (ProxylessNAS).

    Raises:
        InputError: a setting is out of its range, or the cost or its target is not known.

    Example:
        >>> import numpy as np
        >>> from supernet.estimation.forms import Term as Table
        >>> edge, even = Decision("edge", ("none", "a", "b")), {"edge": torch.tensor([0.5, 0.25, 0.25])}
        >>> form = Form({"edge": edge}, 0.0, (Table(("edge",), (), np.array([1.0, 3.0]), (("a", "b"),)),))
        >>> at = RelaxedWeights({"edge": edge}, even, even, progress=0.0, epochs=50, loss=torch.tensor(2.0))
        >>> CostTerm(form, target=1.0, weight=0.5, kind="hinge")(at)  # "none" cannot be kept: the mean of 1 and 3 is 2
        tensor(0.5000)
        >>> at.loss + CostTerm(form, target=2.0, weight=0.6)(at)  # at the target
        tensor(2.)
    """

    cost: str | Form
    target: float | None = None
    weight: float = 0.6
    kind: Literal["log_multiplicative", "hinge", "absolute", "linear"] = "log_multiplicative"
    drawn: bool = True

    def __post_init__(self) -> None:
        if self.target is not None and not 0.0 < self.target < math.inf:
            raise InputError(f"target={self.target}: needs a number above 0, in the unit of the cost")
        if not 0.0 <= self.weight < math.inf:
            raise InputError(f"weight={self.weight}: needs 0 or more")
        if self.kind not in ("log_multiplicative", "hinge", "absolute", "linear"):
            raise InputError(f"kind={self.kind}: use log_multiplicative, hinge, absolute or linear")

    def __call__(self, at: RelaxedWeights) -> Tensor:
        form, target = self._form(at), self._target(at)
        weights = at.weights if self.drawn or not at.expected else at.expected
        share = form(shares(weights, at.decisions), at.decisions) / target
        if self.kind == "log_multiplicative":
            loss = share.new_ones(()) if at.loss is None else at.loss
            factor = share.log1p().clamp_min(_LEAST) / math.log(2.0)  # at 0 the power has no derivative
            return loss * (factor**self.weight - 1.0)
        beyond = share - 1.0
        forms = {"hinge": beyond.clamp_min(0.0), "absolute": beyond.abs(), "linear": beyond}
        return self.weight * forms[self.kind]

    def _form(self, at: RelaxedWeights) -> Form:
        if isinstance(self.cost, Form):
            return self.cost
        if at.limits is None:
            raise InputError(f"cost={self.cost}: nothing is known of costs here; give the strategy limits, or a form")
        try:
            return at.limits.costs.form(self.cost)
        except InputError as error:
            raise InputError(f"cost={error}") from None

    def _target(self, at: RelaxedWeights) -> float:
        if self.target is not None:
            return self.target
        if at.limits is not None and isinstance(self.cost, str):
            name = at.limits.costs.named(self.cost)
            if name in at.limits.most:
                return at.limits.most[name]
        raise InputError("target=None: needs a number, or a limit on this cost")


def shares(weights: Weights, decisions: Mapping[str, Decision]) -> Weights:
    """Scales weights so that those of the answers to a decision add up to how many of them are kept.

    So weights that do not add up to one, such as sigmoids, count as shares of an edge, an option that cannot be kept
    ("none" in DARTS) does not make an edge cheap, and nodes keep as many inputs as they will in the end.

    Args:
        weights: of the options, (options,) each, not below 0.
        decisions: by name.

    Returns:
        (options,) for each decision; 0 for what cannot be kept.

    Example:
        >>> edge = Decision("edge", ("none", "a", "b"))
        >>> shares({"edge": torch.tensor([0.6, 0.1, 0.3])}, {"edge": edge})
        {'edge': tensor([0.0000, 0.2500, 0.7500])}
    """
    scaled = {}
    for name, weight in weights.items():
        decision = decisions[name]
        given = weight[: len(decision.options)]
        kept = constant(tuple(float(o in decision.answers) for o in decision.options), given.device, given.dtype)
        own = given * kept
        total = own.sum()
        some = total > 0  # a draw of "none" alone, where it cannot be kept, has no shares
        scaled[name] = own * torch.where(some, decision.keep / torch.where(some, total, 1.0), 0.0)
    return scaled
