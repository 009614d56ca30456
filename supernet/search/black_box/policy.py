"""REINFORCE: architectures are drawn from a distribution that shifts towards those of high reward.

A decision that keeps several answers, such as two inputs of four, is one question, whose answers are the pairs.
Decisions that have no effect in an architecture have no part in its probability. A distribution draws one architecture
again and again once it is sure: `explore` answers known ones from memory, and the distribution learns from them, too.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from itertools import combinations
from typing import Any

import numpy as np
import torch

from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.search.black_box.explorers import TRIES, Explorer, Fitness, check_counts
from supernet.search.black_box.policies import ControllerPolicy
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates

_FITTING_TRIES = 1000  # draws among which one has to keep the limits
_MOST_SETS = 10_000  # answers of one question
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam's, as in PyTorch and in TensorFlow
_STREAM = 0x9E1F


class Reinforce(Explorer):
    """What both explorers share: a baseline, and what is done about architectures that are drawn again.

    The baseline is the moving mean of the rewards, corrected for its start at zero, and it has the reward in it from
    which it is subtracted. Rewards are the first objective; such as are not finite teach nothing.

    Args:
        candidates: the architectures that can be tried.
        momentum: of the baseline: how much of the mean stays at each step, in [0, 1).
        distinct: whether, after 100 known ones in a row, an unknown architecture is drawn uniformly, from which the
            distribution does not learn. False: it is asked alone, as published.
        together: how many architectures are drawn before the first of them is judged, 1 or more.
        seed: of all draws.

    Raises:
        InputError: a setting is out of its range.
    """

    def __init__(self, candidates: Candidates, *, momentum: float, distinct: bool, together: int, seed: int) -> None:
        check_counts(together=together)
        if not 0.0 <= momentum < 1.0:
            raise InputError(f"momentum={momentum}: needs to lie in [0, 1), such as 0.9")
        super().__init__(candidates, seed=seed)
        self._momentum, self._distinct, self._together = momentum, distinct, together
        self._sum, self._weight = 0.0, 0.0  # of the rewards so far, the newest counts most
        self._known_in_a_row = 0
        self._drawn = list[Architecture]()  # by the distribution, and not told yet

    def ask(self) -> Architecture | None:
        draws = (self._sample() for _ in range(TRIES if self.candidates.repairs else _FITTING_TRIES))
        if not self._distinct or self._known_in_a_row < TRIES:
            found = next((drawn for drawn in draws if self.candidates.fits(drawn)), None)
            if found is None and self.candidates.repairs:
                found = self.candidates.repaired(self._sample(), self.rng)
            if found is not None:
                self._known_in_a_row = self._known_in_a_row + 1 if self.known(found) else 0
                self._drawn.append(found)
                return found
        self._known_in_a_row = 0
        return self.unknown()

    def ask_together(self, enough: int) -> list[Architecture]:
        return self.several(self.ask, self._together)

    def learn(self, architecture: Architecture, fitness: Fitness) -> None:
        if architecture not in self._drawn:
            return
        self._drawn.remove(architecture)
        if math.isfinite(fitness[0]):
            reward = self._reward(architecture, fitness[0])
            self._sum = self._momentum * self._sum + (1.0 - self._momentum) * reward
            self._weight = self._momentum * self._weight + (1.0 - self._momentum)
            self._reinforce(architecture, reward - self._sum / self._weight)

    @abstractmethod
    def _sample(self) -> Architecture:
        """Draws an architecture."""

    @abstractmethod
    def _reinforce(self, architecture: Architecture, advantage: float) -> None:
        """Takes a step that makes the architecture likelier, or less likely where the advantage is below 0."""

    def _reward(self, architecture: Architecture, objective: float) -> float:
        return objective

    def state_dict(self) -> dict[str, Any]:
        drawn = [self.candidates.genes(architecture) for architecture in self._drawn]
        baseline = [self._sum, self._weight]
        return {**super().state_dict(), "baseline": baseline, "known": self._known_in_a_row, "drawn": drawn}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        self._sum, self._weight = state["baseline"]
        self._known_in_a_row = state["known"]
        self._drawn = [self.candidates.architecture(genes) for genes in state["drawn"]]


class PolicyExplorer(Reinforce):
    """REINFORCE over independent logits: a softmax for each decision, one draw and one step of Adam for each answer.

    The gradient is written out: advantage * (probabilities - one-hot of what was drawn). Adam's steps do not depend on
    the unit of the rewards.

    Sources: Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning".
    The defaults are those of NATS-Bench (Dong, Liu, Musial and Gabrys 2021).

    Args:
        candidates: the architectures that can be tried.
        learning_rate: of Adam, above 0.
        momentum: of the baseline, in [0, 1).
        spread: standard deviation of the logits at the start, 0 or more.
        distinct: whether, after 100 known ones in a row, an unknown architecture is drawn uniformly.
        together: how many architectures are drawn before the first of them is judged.
        seed: of all draws.

    Raises:
        InputError: a setting is out of its range, or a decision has more than 10,000 answers.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> edges = {name: Decision(name, ("a", "b", "c")) for name in ("x", "y")}
        >>> explorer = PolicyExplorer(Candidates("mine", edges), learning_rate=0.1)
        >>> for _ in range(200):
        ...     proposed = explorer.ask()
        ...     explorer.tell(proposed, (float(proposed["x"] == ("c",)),))
        >>> probabilities = explorer.probabilities()["x"]
        >>> max(probabilities) == probabilities[2], len(explorer.told)
        (True, 9)
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        spread: float = 1e-3,
        distinct: bool = True,
        together: int = 1,
        seed: int = 0,
    ) -> None:
        _check_rate(learning_rate)
        if not 0.0 <= spread < math.inf:
            raise InputError(f"spread={spread}: needs 0 or more, such as 1e-3")
        super().__init__(candidates, momentum=momentum, distinct=distinct, together=together, seed=seed)
        self._rate, self._steps = learning_rate, 0
        self._answers = [_answers(len(d.answers), d.keep, d.name) for d in candidates.decisions]
        self._places = [{kept: place for place, kept in enumerate(answers)} for answers in self._answers]
        self._asked = [number for number, answers in enumerate(self._answers) if len(answers) > 1]
        self._certain = _certain(candidates)
        shape = len(self._asked), max(map(len, self._answers), default=1)
        self._logits = np.full(shape, -np.inf)  # what is beyond the answers of a question is never drawn
        for row, number in enumerate(self._asked):
            answers = self._answers[number]
            self._logits[row, : len(answers)] = [self.rng.gauss(0.0, spread) for _ in answers]
        self._first, self._second = np.zeros(shape), np.zeros(shape)  # Adam's moments
        self._settle()

    def probabilities(self) -> dict[str, list[float]]:
        """Says how likely each answer is.

        Returns:
            For each decision the probabilities of its answers; where it keeps several, of the sets of answers in
            lexicographic order.
        """
        rows = dict(zip(self._asked, self._probabilities.tolist(), strict=True))
        named = enumerate(zip(self.candidates.decisions, self._answers, strict=True))
        return {decision.name: rows.get(n, [1.0])[: len(answers)] for n, (decision, answers) in named}

    def _sample(self) -> Architecture:
        genes: list[tuple[int, ...]] = []
        rows = iter(self._cumulated)
        for number, answers in enumerate(self._answers):
            row = next(rows) if len(answers) > 1 else None
            if not self._certain[number] and not self.candidates.matters(number, genes):
                genes.append(())
            elif row is None:
                genes.append(answers[0])
            else:
                place = bisect_right(row, self.rng.random())
                genes.append(answers[min(place, len(answers) - 1)])  # sums of shares can end a little below 1
        return self.candidates.architecture(tuple(genes))

    def _reinforce(self, architecture: Architecture, advantage: float) -> None:
        genes = self.candidates.genes(architecture)
        rows = [row for row, number in enumerate(self._asked) if genes[number]]
        places = [self._places[number][genes[number]] for number in self._asked if genes[number]]
        gradient = advantage * self._probabilities
        gradient[rows, places] -= advantage
        if len(rows) < len(gradient):
            gradient[[row for row, number in enumerate(self._asked) if not genes[number]]] = 0.0
        self._steps += 1
        (beta, gamma), first, second = _BETAS, self._first, self._second
        first += (1.0 - beta) * (gradient - first)
        second += (1.0 - gamma) * (gradient * gradient - second)
        denominator = np.sqrt(second) / math.sqrt(1.0 - gamma**self._steps) + _EPSILON
        self._logits -= self._rate / (1.0 - beta**self._steps) * first / denominator
        self._settle()

    def _settle(self) -> None:
        exponentials = np.exp(self._logits - self._logits.max(1, keepdims=True))
        self._probabilities = exponentials / exponentials.sum(1, keepdims=True)
        self._cumulated: list[list[float]] = self._probabilities.cumsum(1).tolist()

    def state_dict(self) -> dict[str, Any]:
        arrays = {"logits": self._logits, "first": self._first, "second": self._second}
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return {**super().state_dict(), **tensors, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        self._logits, self._first, self._second = (state[n].numpy().copy() for n in ("logits", "first", "second"))
        self._steps = state["steps"]
        self._settle()


class ControllerExplorer(Reinforce):
    """REINFORCE with ENAS' controller: an LSTM answers one question after the other and sees its last answer.

    The controller and its settings are those of the authors' search for cells (`policies.ControllerPolicy`), where the
    logits have no temperature. What differs: a step is taken after each architecture, where theirs averages ten that
    share a supernet; their baseline starts at zero, this one is corrected for it. The entropy is a part of the reward
    alone, and no gradient goes through it. It takes some milliseconds for each architecture.

    Source: Pham, Guan, Zoph, Le and Dean 2018, "Efficient Neural Architecture Search via Parameter Sharing" (ICML).

    Args:
        candidates: the architectures that can be tried.
        learning_rate: of Adam, above 0.
        momentum: of the baseline, in [0, 1).
        entropy_weight: how much of the reward a nat of the draws' entropy is, in the unit of the objective; the default
            is for accuracies in [0, 1].
        hidden: the size of the LSTM's state.
        layers: of the LSTM.
        tanh: logits are this times a tanh.
        reduction: logits of operations are divided by it.
        distinct: whether, after 100 known ones in a row, an unknown architecture is drawn uniformly.
        together: how many architectures are drawn before the first of them is judged.
        seed: of all draws and of the controller's initial weights.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> edges = {name: Decision(name, ("a", "b", "c")) for name in ("x", "y")}
        >>> explorer = ControllerExplorer(Candidates("mine", edges), hidden=4)
        >>> for _ in range(5):
        ...     proposed = explorer.ask()
        ...     explorer.tell(proposed, (float(proposed["x"] == ("c",)),))
        >>> len(explorer.told)
        4
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        learning_rate: float = 0.0035,
        momentum: float = 0.99,
        entropy_weight: float = 1e-4,
        hidden: int = 64,
        layers: int = 1,
        tanh: float = 1.1,
        reduction: float = 2.5,
        distinct: bool = True,
        together: int = 1,
        seed: int = 0,
    ) -> None:
        _check_rate(learning_rate)
        check_counts(hidden=hidden, layers=layers)
        if not 0.0 <= entropy_weight < math.inf:
            raise InputError(f"entropy_weight={entropy_weight}: needs 0 or more, such as 1e-4")
        super().__init__(candidates, momentum=momentum, distinct=distinct, together=together, seed=seed)
        decisions = {decision.name: decision for decision in candidates.decisions}
        sizes = {"hidden": hidden, "layers": layers}
        self._policy = ControllerPolicy(candidates.space, decisions, **sizes, tanh=tanh, reduction=reduction, seed=seed)
        self._optimizer = torch.optim.Adam(self._policy.parameters(), learning_rate, _BETAS, _EPSILON)
        self._entropy_weight, self._generator = entropy_weight, generator(seed, _STREAM)

    def _sample(self) -> Architecture:
        drawn = self._policy.sample(self._generator)
        return self.candidates.architecture(self.candidates.genes(drawn))

    def _reward(self, architecture: Architecture, objective: float) -> float:
        with torch.no_grad():
            return objective + self._entropy_weight * float(self._policy.entropy(architecture))

    def _reinforce(self, architecture: Architecture, advantage: float) -> None:
        self._optimizer.zero_grad()
        (-advantage * self._policy.log_probability(architecture)).backward()
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        parts = {"policy": self._policy.state_dict(), "optimizer": self._optimizer.state_dict()}
        return {**super().state_dict(), **parts, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        self._policy.load_state_dict(state["policy"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])


def _answers(options: int, keep: int, name: str) -> list[tuple[int, ...]]:
    if (count := math.comb(options, keep)) > _MOST_SETS:
        raise InputError(f"candidates: {name} has {count:,} sets of {keep} answers; up to {_MOST_SETS:,} can be learnt")
    return list(combinations(range(options), keep))


def _certain(candidates: Candidates) -> list[bool]:
    """Whether each decision has an effect whatever the answers to the others are."""
    known, fixed = {decision.name for decision in candidates.decisions}, set[str]()
    certain = []
    for decision in candidates.decisions:  # each comes behind those on which it hangs
        certain.append(all(name in fixed or name not in known for name, _ in decision.when))
        if certain[-1] and len(decision.answers) == decision.keep:
            fixed.add(decision.name)
    return certain


def _check_rate(learning_rate: float) -> None:
    if not 0.0 < learning_rate < math.inf:
        raise InputError(f"learning_rate={learning_rate}: needs a number above 0, such as 0.01")
