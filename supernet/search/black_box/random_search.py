"""Search by sampling: no alphas; the supernet trains one path at a time, and the best of many paths is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch

from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.search.strategy import Step, Strategy
from supernet.space.architecture import Architecture, Decision, Weights, one_path, random_architecture

_PATH_STREAM, _CANDIDATE_STREAM = 0x5A17, 0xCA2D


class UniformStrategy(Strategy):
    """Random search with shared weights (Li and Talwalkar 2019), the baseline that every method has to beat.

    Each step of the network is one of a uniformly drawn architecture. In the end further ones, the candidates, run with
    the trained weights; the best of them are judged again on all validation data, and the best of those is the answer.
    The figures are the authors'; their draws have "none" among the operations, ours do not.

    Args:
        space: the name of the space, for the architectures that are found.
        decisions: those of the supernet, by name.
        candidates: how many architectures are drawn in the end, 1 or more.
        finalists: how many of them are judged on all validation data, 1 or more.
        batches: on how many batches of validation data the candidates are judged, 1 or more.
        seed: of all draws.

    Raises:
        InputError: a number is below 1.

    Example:
        >>> strategy = UniformStrategy("mine", {"edge": Decision("edge", ("none", "skip_connect"))})
        >>> strategy.expected(), strategy.finish().choices
        ({'edge': tensor([0.5000, 0.5000])}, {'edge': ('skip_connect',)})
    """

    inherits: ClassVar[bool] = True

    def __init__(
        self,
        space: str,
        decisions: Mapping[str, Decision],
        *,
        candidates: int = 1000,
        finalists: int = 10,
        batches: int = 10,
        seed: int = 0,
    ) -> None:
        for name, value in {"candidates": candidates, "finalists": finalists, "batches": batches}.items():
            if value < 1:
                raise InputError(f"{name}={value}: needs 1 or more")
        self.space = space
        self.decisions = dict(decisions)
        self._candidates, self._finalists, self._batches = candidates, finalists, batches
        self._seed, self._draws = seed, 0
        self._like = torch.zeros(())

    def inherit(self, before: Strategy) -> None:
        """Takes nothing over, because an earlier stage has learnt nothing."""

    def sample(self, step: Step) -> Weights:
        """Draws an architecture uniformly at each step: its options have weight 1, all others weight 0."""
        self._draws += 1
        return self._weights(self._drawn(_PATH_STREAM, self._draws))

    def expected(self) -> Weights:
        """Gives all options of a decision the same weight."""
        return {n: self._like.new_full((len(d.options),), d.keep / len(d.options)) for n, d in self.decisions.items()}

    def finish(self, score: SupernetScore | None = None) -> Architecture:
        """Returns the best candidate by the score; without a score the first candidate."""
        if score is None:
            return self._drawn(_CANDIDATE_STREAM, 0)

        def best(architectures: list[Architecture], keep: int, judge: SupernetScore) -> list[Architecture]:
            values = [judge(a).values[judge.problem.task.score] for a in architectures]
            order = sorted(range(len(architectures)), key=lambda i: -values[i])  # stable: of equals the first
            return [architectures[i] for i in order[:keep]]

        drawn = dict.fromkeys(self._drawn(_CANDIDATE_STREAM, number) for number in range(self._candidates))
        finalists = best(list(drawn), self._finalists, score.on(self._batches))
        return best(finalists, 1, score.on(None))[0]

    def to(self, device: torch.device) -> Self:
        """Sets the device on which weights are made."""
        self._like = self._like.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        return {"draws": self._draws}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._draws = state["draws"]

    def _drawn(self, *key: int) -> Architecture:
        return random_architecture(self.space, self.decisions, generator(self._seed, *key))

    def _weights(self, architecture: Architecture) -> Weights:
        return one_path(architecture, self.decisions, dtype=self._like.dtype, device=self._like.device)
