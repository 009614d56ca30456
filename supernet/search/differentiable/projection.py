"""Selection by perturbation: how much the supernet loses without an option says how good it is.

DARTS-PT (Wang, Cheng, Chen, Tang and Hsieh 2021, algorithm 1) does not trust the alphas in the end. Decisions
are made one after the other, and between two of them the supernet goes on learning with what is decided so far.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.execution.step_graph import Host
from supernet.runtime.devices import constant
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.search.differentiable.discretisers import argmax, within
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.weight_transforms import TransformContext, WeightTransform
from supernet.search.statistics import groups
from supernet.search.strategy import Step, Wrapper
from supernet.space.architecture import Architecture, Decision, Weights

_ORDER_STREAM = 0x0DE5

Judge = Callable[[Weights], float]
"""Weights -> the supernet's score with them."""

Possible = Callable[[tuple[str, ...]], bool]
"""Options that are left of a decision -> whether the limits can still be kept."""


class Projection(Wrapper):
    """A gradient search in which decisions become final, one by one, by what the supernet loses without an option.

    A round decides about one edge of each kind of cell, in random order, and once all have their operation about the
    inputs of one node of each kind (`kept_operation`, `kept_inputs`): 14 + 3 rounds for the cells of DARTS. Open sizes
    are decided as operations are. The rounds are
    spread evenly over the search: round r of R takes place before the first epoch with progress r / (R - 1) or more,
    the last one at the end. The authors' leave five epochs between two, so 80 for DARTS.

    Where the strategy has limits, each round leaves only what can still keep them.

    Args:
        strategy: the gradient search inside; its network runs all operations of an edge.
        batches: the number of batches of the validation half that judge a trial; None: all, as the authors do.
        seed: of the order of the rounds; None: the strategy's.

    Raises:
        InputError: `batches` is below 1, or the strategy is no `GradientStrategy` or draws one operation of an edge
            alone.

    Example:
        >>> from supernet.search.methods import darts
        >>> edges = {name: Decision(name, ("skip_connect", "conv")) for name in ("a", "b")}
        >>> inner = darts().make_strategy("mine", edges)
        >>> Projection(inner).rounds
        2
    """

    def __init__(self, strategy: GradientStrategy, *, batches: int | None = None, seed: int | None = None) -> None:
        _check(strategy, batches)
        super().__init__(strategy)
        self.strategy: GradientStrategy = strategy
        self._batches = batches
        seed = strategy.seed if seed is None else seed
        streams = [generator(seed, _ORDER_STREAM, number) for number, _ in enumerate(groups(self.decisions))]
        pairs = zip(groups(self.decisions), streams, strict=True)
        self._queues = [_queue(self.decisions, group, stream) for group, stream in pairs]
        self.rounds = max(map(len, self._queues), default=0)
        self._done = 0
        self._decided: dict[str, tuple[str, ...]] = {}
        strategy.add_transform(_Projected(self._decided))

    def begin_epoch(self, progress: float, score: SupernetScore) -> None:
        """Runs the rounds that are due. A round that is interrupted decides nothing."""
        self.strategy.begin_epoch(progress, score)
        while self._done < self.rounds - 1 and progress >= self._done / (self.rounds - 1):
            self._round(score)

    def recording(self, step: Step, *, learn_alphas: bool) -> tuple[Hashable, Host] | None:
        """As that of the strategy inside; what is decided is part of the key."""
        inside = self.strategy.recording(step, learn_alphas=learn_alphas)
        return None if inside is None else ((inside[0], tuple(self._decided.items())), inside[1])

    def expected(self) -> Weights:
        """The strategy's weights without noise, but 1 and 0 for what is decided."""
        return self._project(self.strategy.expected())

    def differentiable_weights(self) -> tuple[list[Tensor], Weights]:
        """Returns no alphas: each round removes some, so their curvature cannot be compared over time."""
        return [], {}

    def finish(self, score: SupernetScore | None = None) -> Architecture:
        """Runs the rounds that are left and returns the decisions; without a score, open ones are made by `argmax`.

        Where the limits are tighter than when some decisions were made, so that nothing keeps them with these, it is
        the most probable architecture within the limits.
        """
        limits = self.strategy.limits
        if limits and not limits.completes(self._decided, self.decisions):
            return within(self.space, self.decisions, self.strategy.expected(), limits=limits)
        while score is not None and self._done < self.rounds:
            self._round(score)
        # An edge whose operation is decided is compared with others by that operation's old weight, as long as its node
        # is open. The smallest number instead of 0 keeps it above what a round has removed, whose weight is 0.
        before = {n: w.clamp_min(torch.finfo(w.dtype).tiny) for n, w in self.strategy.expected().items()}
        strengths = {
            name: weight * before[name] if name in self._decided and self.decisions[name].role != "inputs" else weight
            for name, weight in self._project(before).items()
        }
        chosen = argmax(self.space, self.decisions, strengths)
        if not limits:
            return chosen
        decided = dict(self._decided)
        restrictions = [lambda programme: programme.decide(decided)]
        return within(self.space, self.decisions, strengths, limits=limits, unless=chosen, restrictions=restrictions)

    def measures(self) -> dict[str, float]:
        """Returns the measures of the strategy, and the number of rounds done."""
        return {**self.strategy.measures(), "projection/rounds": float(self._done)}

    def state_dict(self) -> dict[str, Any]:
        decided = {name: list(kept) for name, kept in self._decided.items()}
        return {**super().state_dict(), "rounds": self._done, "decided": decided}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        self._done = state["rounds"]
        self._decided.clear()
        self._decided.update({name: tuple(kept) for name, kept in state["decided"].items()})

    def _round(self, score: SupernetScore) -> None:
        judge, decided = score.on(self._batches).of_weights, dict(self._decided)
        for queue in self._queues:
            if self._done < len(queue):
                decision = queue[self._done]
                weights = projected(self.strategy.expected(), self.decisions, decided)
                choose = kept_inputs if decision.role == "inputs" else kept_operation
                possible = partial(self._possible, decided, decision)
                decided = {**decided, decision.name: choose(decision, weights, judge, possible)}
        self._decided.update(decided)  # only now: the judge may have raised
        self._done += 1

    def _possible(self, decided: Mapping[str, tuple[str, ...]], decision: Decision, kept: tuple[str, ...]) -> bool:
        """Whether the limits can still be kept if of a decision these options are left."""
        limits = self.strategy.limits
        return not limits or limits.completes({**decided, decision.name: kept}, self.decisions)

    def _project(self, weights: Weights) -> Weights:
        return projected(weights, self.decisions, self._decided)


@dataclass(frozen=True)
class _Projected(WeightTransform):
    """Sets the weights of decided options to 1 or 0; `decided` grows with the rounds."""

    decided: Mapping[str, tuple[str, ...]]

    def __call__(self, weights: Weights, at: TransformContext) -> Weights:
        return projected(weights, at.decisions, self.decided)


def kept_operation(
    decision: Decision, weights: Weights, judge: Judge, possible: Possible = lambda kept: True
) -> tuple[str]:
    """Chooses the operation without which the supernet is worst; the weights of the others are left alone.

    Args:
        decision: about the operation of an edge; "none" is tried only where it can be kept.
        weights: (options,) for each decision, with what is decided so far.
        judge: gives the supernet's score under weights, the larger the better.
        possible: whether an operation can be the one that is kept.

    Returns:
        The operation; where several are equally bad to lose, the first.

    Example:
        >>> edge = Decision("edge", ("none", "skip_connect", "conv"))
        >>> weights, value = {"edge": torch.tensor([0.5, 0.25, 0.25])}, torch.tensor([0.0, 1.0, 2.0])
        >>> kept_operation(edge, weights, lambda trial: float(trial["edge"] @ value))
        ('conv',)
    """
    answers = [option for option in decision.answers if possible((option,))]
    if len(answers) == 1:
        return (answers[0],)
    scores = {option: judge(_without(weights, decision, option)) for option in answers}
    return (min(scores, key=scores.__getitem__),)


def kept_inputs(
    decision: Decision, weights: Weights, judge: Judge, possible: Possible = lambda kept: True
) -> tuple[str, ...]:
    """Takes inputs out one by one, each time the one without which the supernet is best, until enough are left.

    What has gone stays out while the others are tried; in the authors' code it is on again in each trial.

    Args:
        decision: about the inputs of a node.
        weights: (options,) for each decision, with what is decided so far; inputs without weights are plainly added.
        judge: gives the supernet's score under weights, the larger the better.
        possible: whether some of the inputs alone can be enough.

    Returns:
        The inputs that are left, in the decision's order; of equal ones the last goes first.

    Example:
        >>> node, edge = Decision("node", ("0", "1", "2"), keep=2, role="inputs"), {"edge": torch.ones(1)}
        >>> value = torch.tensor([3.0, 1.0, 2.0])
        >>> kept_inputs(node, edge, lambda weights: float(weights["node"] @ value))
        ('0', '2')
    """
    left = list(decision.options)
    while len(left) > decision.keep:
        may_go = [source for source in left if possible(tuple(other for other in left if other != source))]
        scores = {source: judge(_without(weights, decision, source)) for source in may_go}
        out = max(reversed(may_go), key=scores.__getitem__)
        weights = _without(weights, decision, out)
        left.remove(out)
    return tuple(left)


def projected(weights: Weights, decisions: Mapping[str, Decision], decided: Mapping[str, tuple[str, ...]]) -> Weights:
    """Replaces the weights of what is decided: 1 for an operation that is kept, 0 for its rivals and for other inputs.

    Args:
        weights: (options,) for each decision that has weights; they are not changed.
        decisions: of the supernet, by name.
        decided: the options kept, by decision.

    Returns:
        The weights; inputs that are kept have their old weight, or 1 where they had none.

    Example:
        >>> cell = {"edge": Decision("edge", ("a", "b")), "node": Decision("node", ("0", "1"), role="inputs")}
        >>> half = {name: torch.tensor([0.5, 0.5]) for name in cell}
        >>> projected(half, cell, {"edge": ("b",), "node": ("0",)})
        {'edge': tensor([0., 1.]), 'node': tensor([0.5000, 0.0000])}
    """
    changed = dict(weights)
    like = next(iter(weights.values()))
    for name, kept in decided.items():
        mask = constant(tuple(float(option in kept) for option in decisions[name].options), like.device, like.dtype)
        changed[name] = weights[name] * mask if decisions[name].role == "inputs" and name in weights else mask
    return changed


def _without(weights: Weights, decision: Decision, option: str) -> Weights:
    """The weights, 0 for one option; inputs that are plainly added have the weight 1."""
    like = next(iter(weights.values()))
    own = weights[decision.name] if decision.name in weights else like.new_ones(len(decision.options))
    mask = constant(tuple(float(other != option) for other in decision.options), like.device, like.dtype)
    return {**weights, decision.name: own * mask}


def _queue(decisions: Mapping[str, Decision], group: str, stream: torch.Generator) -> list[Decision]:
    """Lists the decisions of a kind of cell: its edges in random order, then its nodes in random order."""
    own = [d for d in decisions.values() if d.group == group]
    edges = [d for d in own if d.role != "inputs" and len(d.options) > 1]
    nodes = [d for d in own if d.role == "inputs" and d.keep < len(d.options)]
    return [part[i] for part in (edges, nodes) for i in torch.randperm(len(part), generator=stream).tolist()]


def _check(strategy: GradientStrategy, batches: int | None) -> None:
    if batches is not None and batches < 1:
        raise InputError(f"batches={batches}: needs 1 or more; leave it out for all")
    if not isinstance(strategy, GradientStrategy):
        raise InputError("selection by perturbation needs a GradientStrategy, whose network runs all operations")
    with torch.no_grad():
        drawn = strategy.relax(0.0, 0)
    open_ones = [n for n, d in strategy.decisions.items() if d.role != "inputs" and len(d.options) > 1]
    if any(drawn[name].count_nonzero() < 2 for name in open_ones):
        raise InputError(
            "selection by perturbation leaves one operation out, and this relaxation draws one alone; use Softmax, and "
            "a chooser that is not single"
        )
