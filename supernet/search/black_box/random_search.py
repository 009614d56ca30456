"""Search by sampling: no alphas; the supernet trains path by path, and the best of many paths is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch

from supernet.estimation.limits import Limits
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.runtime.errors import InputError
from supernet.runtime.report import Report, Silent
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.search.black_box.drawing import candidates_within, drawn_within
from supernet.search.black_box.explorers import Explorer
from supernet.search.black_box.exploring import Budget, explore
from supernet.search.black_box.fair_paths import fair_paths
from supernet.search.strategy import Step, Strategy
from supernet.space.architecture import Architecture, Decision, Weights, one_path, random_architecture

_PATH_STREAM, _CANDIDATE_STREAM, _FAIR_STREAM = 0x5A17, 0xCA2D, 0xFA17


class UniformStrategy(Strategy):
    """Random search with shared weights (Li and Talwalkar 2019), the baseline that every method has to beat.

    Each step of the network is one of a uniformly drawn architecture, or of several that are fair to all options. In
    the end further ones, the candidates, run with the trained weights; the best of them are judged again on all
    validation data, and the best of those is the answer. Which candidates run, chance says, or an explorer that learns
    from those before. The figures are the authors'; their draws have "none" among the operations, ours do not.

    Args:
        space: the name of the space, for the architectures that are found.
        decisions: those of the supernet, by name.
        sampler: "uniform": one drawn path a step (SPOS, Guo et al. 2020); "fair": as many paths as an edge has
            operations, of which each runs once (`fair_paths`; FairNAS, Chu et al. 2021).
        explorer: (candidates, *, seed) -> who proposes the candidates, such as `SposEvolution`; None: they are drawn.
        candidates: how many architectures are tried in the end, 1 or more.
        finalists: how many of them are judged on all validation data, 1 or more.
        batches: on how many batches of validation data the candidates are judged, 1 or more.
        limits: what architectures may cost: paths and candidates keep them. Paths that are fair to all options cannot.
        seed: of all draws.

    Raises:
        InputError: a number is below 1, or `sampler` is another word.

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
        sampler: Literal["uniform", "fair"] = "uniform",
        explorer: Callable[..., Explorer] | None = None,
        candidates: int = 1000,
        finalists: int = 10,
        batches: int = 10,
        limits: Limits | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in {"candidates": candidates, "finalists": finalists, "batches": batches}.items():
            if value < 1:
                raise InputError(f"{name}={value}: needs 1 or more")
        if sampler not in ("uniform", "fair"):
            raise InputError(f"sampler={sampler}: use uniform or fair")
        self.space = space
        self.decisions = dict(decisions)
        self._fair, self._explorer = sampler == "fair", explorer
        self._candidates, self._finalists, self._batches = candidates, finalists, batches
        self._limits, self._seed, self._draws = limits, seed, 0
        self._like, self._ranking = torch.zeros(()), list[Architecture]()
        if explorer is not None:
            self._explored()  # a setting that cannot be shows now and not after the training

    def inherit(self, before: Strategy) -> None:
        """Takes nothing over, because an earlier stage has learnt nothing."""

    def sample(self, step: Step) -> Weights:
        """Draws a path, the first one of the step: its options have weight 1, all others weight 0."""
        return self.samples(step)[0]

    def samples(self, step: Step) -> Sequence[Weights]:
        """Draws the paths of a step: one, or those that are fair together."""
        self._draws += 1
        if self._fair:
            stream = generator(self._seed, _FAIR_STREAM, self._draws)
            return [self._weights(path) for path in fair_paths(self.space, self.decisions, stream)]
        return [self._weights(self._drawn(_PATH_STREAM, self._draws))]

    def expected(self) -> Weights:
        """Gives all options of a decision the same weight."""
        return {n: self._like.new_full((len(d.options),), d.keep / len(d.options)) for n, d in self.decisions.items()}

    def finish(self, score: SupernetScore | None = None) -> Architecture:
        """Returns the best candidate by the score; without a score the first one that is drawn."""
        if score is None:
            return self._drawn(_CANDIDATE_STREAM, 0)
        finalists = self._best_explored(score) if self._explorer else self._best_drawn(score)
        self._ranking = best(finalists, len(finalists), score.on(None))
        return self._ranking[0]

    def runners_up(self) -> Sequence[Architecture]:
        """The other finalists of the last `finish`, the best first."""
        return self._ranking[1:]

    def to(self, device: torch.device) -> Self:
        """Sets the device on which weights are made."""
        self._like = self._like.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        return {"draws": self._draws}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._draws = state["draws"]

    def _best_drawn(self, score: SupernetScore) -> list[Architecture]:
        drawn = dict.fromkeys(self._drawn(_CANDIDATE_STREAM, number) for number in range(self._candidates))
        return best(list(drawn), self._finalists, score.on(self._batches))

    def _best_explored(self, score: SupernetScore) -> list[Architecture]:
        objectives, run = (score.problem.task.score,), score.problem.run
        quiet = Run(report=_Progress(run.report), interruption=run.interruption, processes=run.processes)
        budget = Budget(evaluations=self._candidates)
        found = explore(self._explored(), score.on(self._batches), budget, objectives=objectives, run=quiet)
        ranking = sorted(found.evaluations, key=lambda one: -one.fitness[0])  # stable: of equals the first
        return [one.architecture for one in ranking[: self._finalists]]

    def _explored(self) -> Explorer:
        """A new explorer. In a supernet cells of one function have different weights, so each is a candidate."""
        assert self._explorer is not None
        explorer = self._explorer(candidates_within(self.space, self.decisions, self._limits), seed=self._seed)
        if not isinstance(explorer, Explorer):
            raise InputError(f"explorer: makes a {type(explorer).__name__}; needs an Explorer such as AgingEvolution")
        return explorer

    def _drawn(self, *key: int) -> Architecture:
        def draw(stream: torch.Generator) -> Architecture:
            return random_architecture(self.space, self.decisions, stream)

        return drawn_within(self._limits, self.decisions, draw, self._seed, *key)

    def _weights(self, architecture: Architecture) -> Weights:
        return one_path(architecture, self.decisions, dtype=self._like.dtype, device=self._like.device)


def best(architectures: Sequence[Architecture], keep: int, score: SupernetScore) -> list[Architecture]:
    """Judges architectures and keeps the best.

    Args:
        architectures: one or more.
        keep: how many are kept at most.
        score: judges.

    Returns:
        The best ones by the task's score, the best first; of equals the one that came first.
    """
    values = [score(architecture).values[score.problem.task.score] for architecture in architectures]
    order = sorted(range(len(architectures)), key=lambda i: -values[i])  # stable: of equals the first
    return [architectures[i] for i in order[:keep]]


class _Progress(Silent):
    """Shows how far the exploration is and records nothing, because the files are those of the search.

    Args:
        report: the search's.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def progress(self, done: int, total: int, message: str) -> None:
        self._report.progress(done, total, message)
