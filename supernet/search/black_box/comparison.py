"""Compares explorers and scores on one space: what each combination picks, and how well each score ranks.

    compared = compare({"random": RandomExplorer, "aging": AgingEvolution}, {"table": Judge(score)}, candidates,
                       Budget(evaluations=100), truth=truth, baseline=Judge(parameters))

Two baselines are always among the picks: of as many architectures drawn at random as a budget allows the one that a
score likes best, and the one with the largest value of a baseline such as the number of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from supernet.estimation.rank_statistics import Agreement, agreement
from supernet.estimation.scores import Score
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.runtime.workers import Workers
from supernet.search.black_box.explorers import Explorer, RandomExplorer
from supernet.search.black_box.exploring import SIMULATED, Budget, Evaluation, Explored, explore
from supernet.search.black_box.halving import halving
from supernet.search.black_box.rungs import ResourceScore, RungExplorer
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates

RANDOM, SAMPLE = "random", "sample"
_SAMPLE_STREAM = 0x5A9E
MakeExplorer = Callable[..., Explorer]


@dataclass(frozen=True)
class Judge:
    """A score by which explorers decide.

    Args:
        score: measures an architecture.
        value: the name of the measured value that counts, the larger the better; None: the first.
        together: measures the same value and others in one pass, for samples of architectures; None: the score does.
        rungs: the same score with a resource, for explorers that give more of it to the best (`halving`); None: it
            takes none.
    """

    score: Score
    value: str | None = None
    together: Score | None = None
    rungs: ResourceScore | None = None


@dataclass(frozen=True)
class Pick:
    """The architecture that an explorer chose under a score.

    Args:
        explorer: its name.
        score: the name of the score.
        seed: of the explorer.
        architecture: the best by the score.
        evaluations: how many architectures were judged.
        seconds: that it took on this machine.
        simulated_seconds: that the evaluations would have taken, where the score says so.
        value: what the score says of the architecture; None where nothing was asked.
        ended: why the exploration ended, in words.
    """

    explorer: str
    score: str
    seed: int
    architecture: Architecture
    evaluations: int = 0
    seconds: float = 0.0
    simulated_seconds: float = 0.0
    value: float | None = None
    ended: str = ""


class Picks(Protocol):
    """Remembers the picks of combinations that are finished."""

    def get(self, explorer: str, score: str, seed: int) -> Pick | None:
        """The pick; None where the combination is not finished."""

    def add(self, pick: Pick) -> None:
        """Remembers a pick."""


class Forgetful:
    """Remembers nothing: each combination is run."""

    def get(self, explorer: str, score: str, seed: int) -> Pick | None:
        return None

    def add(self, pick: Pick) -> None: ...


@dataclass(frozen=True)
class Place:
    """Where an exploration reports and saves: the run (None: nowhere) and the CSV file of its evaluations."""

    run: Run | None = None
    rows: Path | None = None


@dataclass(frozen=True)
class Truth:
    """What is known of architectures.

    Args:
        score: such as a table; a value that it does not know is NaN.
        value: the name of the one that counts, the larger the better.
    """

    score: Score
    value: str

    def __call__(self, architecture: Architecture) -> float | None:
        """The true value; None where it is not known."""
        found = self.score(architecture).values[self.value]
        return None if math.isnan(found) else found


@dataclass(frozen=True)
class Sample:
    """Architectures drawn at random, what each score says of them, and the truth.

    Args:
        architectures: each another, also by what it computes.
        values: of each score by its name, in the order of the architectures.
        truths: in that order; None where it is not known.
    """

    architectures: Sequence[Architecture]
    values: Mapping[str, Sequence[float]]
    truths: Sequence[float | None]

    def pairs(self, score: str) -> list[tuple[float, float]]:
        """(value of the score, truth) of each architecture whose truth is known."""
        return [(v, t) for v, t in zip(self.values[score], self.truths, strict=True) if t is not None]

    def agreement(self, score: str, *, resamples: int = 1000) -> Agreement:
        """How well a score ranks the sample; see `rank_statistics.agreement`."""
        values, truths = zip(*self.pairs(score), strict=True) if self.pairs(score) else ((), ())
        return agreement(values, truths, resamples=resamples)


@dataclass(frozen=True)
class Comparison:
    """What `compare` gave: a pick of each combination and seed, the baselines' among them, and a common sample."""

    picks: Sequence[Pick]
    sample: Sample


def compare(
    explorers: Mapping[str, MakeExplorer],
    judges: Mapping[str, Judge],
    candidates: Candidates,
    budget: Budget,
    *,
    baseline: tuple[str, Judge],
    beside: Mapping[str, Judge] | None = None,
    seeds: Sequence[int] = (0,),
    sample: int = 200,
    objectives: Sequence[str] = (),
    truth: Truth | None = None,
    place: Callable[[str, str, int], Place] = lambda explorer, score, seed: Place(),
    picks: Picks | None = None,
    workers: Workers | None = None,
) -> Comparison:
    """Lets each explorer look for the best architecture by each score, and compares the scores on a common sample.

    Each combination begins anew, so that its seconds are its own. A combination that was stopped goes on where `place`
    gives it the same checkpoint.

    Args:
        explorers: (candidates, *, seed) -> `Explorer`, by name. `RandomExplorer` takes part under "random" in any case.
        judges: the scores by name.
        candidates: the architectures that can be tried.
        budget: of each combination.
        baseline: name and score of the baseline, such as the number of parameters: random architectures are judged by
            it, as many as the random explorer has tried with the first score.
        beside: further scores for the sample alone, by name.
        seeds: of the explorers; each combination is run with each of them.
        sample: how many architectures are drawn to compare the scores; 0: none.
        objectives: what the explorers optimise, for all scores alike; (): the value of each score.
        truth: what is known of architectures; it is reported and never decides.
        place: (explorer, score, seed) -> where that exploration reports and saves. The sample's explorer is "sample".
        picks: remembers what is finished; None: nothing.
        workers: who judges what an explorer proposes together; None: this process.

    Returns:
        All picks in the order of the scores, the explorers and the seeds, the baseline's at the end; and the sample.

    Raises:
        InputError: a part does not fit the others; see `explore`.
        Interrupted: after saving, where a run was asked to stop.

    Example:
        >>> from supernet.estimation.benchmark_tables import TableScore, micro
        >>> from supernet.search.black_box.evolution import AgingEvolution
        >>> from supernet.space.nasbench201 import NasBench201
        >>> from supernet.space.survey import candidates_of
        >>> table = micro(["digits_valid", "digits_test", "params"])
        >>> by, size = Judge(TableScore(table, "digits_valid")), Judge(TableScore(table, "params"))
        >>> candidates, truth = candidates_of(NasBench201(nodes=2)), Truth(table, "digits_test")
        >>> budget, size = Budget(evaluations=20), ("parameters", size)
        >>> found = compare({"aging": AgingEvolution}, {"table": by}, candidates, budget, baseline=size, truth=truth)
        >>> [(pick.explorer, pick.score, pick.evaluations) for pick in found.picks]
        [('random', 'table', 20), ('aging', 'table', 20), ('random', 'parameters', 20)]
        >>> found.sample.agreement("table").tau.value > found.sample.agreement("parameters").tau.value
        True
    """
    if not judges or not seeds:
        raise InputError(f"judges={list(judges)}, seeds={list(seeds)}: needs one of each at least")
    if sample < 0:
        raise InputError(f"sample={sample}: needs 0 architectures or more")
    setting = _Setting(candidates, tuple(objectives), truth, place, Forgetful() if picks is None else picks, workers)
    made: dict[str, MakeExplorer] = {RANDOM: RandomExplorer, **explorers}
    found = [
        setting.pick(name, make, label, judge, seed, budget)
        for label, judge in judges.items()
        for name, make in made.items()
        for seed in seeds
    ]
    label, judge = baseline
    if label not in judges:
        first, single = next(iter(judges)), replace(setting, objectives=())
        for seed in seeds:
            tried = next(p.evaluations for p in found if (p.explorer, p.score, p.seed) == (RANDOM, first, seed))
            found.append(single.pick(RANDOM, RandomExplorer, label, judge, seed, Budget(evaluations=tried)))
    return Comparison(found, setting.sample({**judges, label: judges.get(label, judge), **(beside or {})}, sample))


@dataclass(frozen=True)
class _Setting:
    """What all explorations of a comparison share."""

    candidates: Candidates
    objectives: tuple[str, ...]
    truth: Truth | None
    place: Callable[[str, str, int], Place]
    picks: Picks
    workers: Workers | None

    def pick(self, name: str, make: MakeExplorer, label: str, judge: Judge, seed: int, budget: Budget) -> Pick:
        """The pick of a combination, which is run unless it is known."""
        known = self.picks.get(name, label, seed)
        if known is not None:
            return known
        objectives = self.objectives or (() if judge.value is None else (judge.value,))
        explorer = make(self.candidates, seed=seed)
        found = self._explored(explorer, judge, budget, objectives, self.place(name, label, seed))
        best = [e.fitness[0] for e in found.evaluations if e.architecture == found.best][-1]  # by the most resource
        made = Pick(
            explorer=name,
            score=label,
            seed=seed,
            architecture=found.best,
            evaluations=len(found.evaluations),
            seconds=found.seconds,
            simulated_seconds=sum(e.cost.get(SIMULATED, 0.0) for e in found.evaluations),
            value=-best if objectives and objectives[0].startswith("-") else best,
            ended=found.ended,
        )
        self.picks.add(made)
        return made

    def sample(self, judges: Mapping[str, Judge], count: int) -> Sample:
        """The same architectures under all scores: a random explorer does not mind the answers."""
        if not count:
            return Sample((), dict.fromkeys(judges, ()), ())
        seed = generator(0, _SAMPLE_STREAM).initial_seed() % 2**31
        known: dict[int, Sequence[Evaluation]] = {}
        for label, judge in judges.items():
            score = judge.together or judge.score
            if id(score) not in known:
                explorer, place = RandomExplorer(self.candidates, seed=seed), self.place(SAMPLE, label, seed)
                found = self._explored(explorer, Judge(score), Budget(evaluations=count), (), place)
                known[id(score)] = found.evaluations
        rows = {label: known[id(judge.together or judge.score)] for label, judge in judges.items()}
        values = {label: [_value(e, judges[label].value) for e in evaluations] for label, evaluations in rows.items()}
        architectures = [evaluation.architecture for evaluation in next(iter(rows.values()))]
        return Sample(architectures, values, [None if self.truth is None else self.truth(a) for a in architectures])

    def _explored(
        self, explorer: Explorer, judge: Judge, budget: Budget, objectives: tuple[str, ...], place: Place
    ) -> Explored:
        run = place.run
        common: Any = {"objectives": objectives, "run": run, "rows": place.rows, "workers": self.workers}
        common["truth"] = None if self.truth is None else self.truth.score
        try:
            if not isinstance(explorer, RungExplorer):
                return explore(explorer, judge.score, budget, **common)
            if judge.rungs is None:
                raise InputError(
                    f"explorer: {type(explorer).__name__} gives the best architectures more epochs, and this score "
                    "takes none; let it judge by short trainings"
                )
            return halving(explorer, judge.rungs, budget, **common)
        finally:
            if run is not None:
                run.report.close()


def _value(evaluation: Evaluation, name: str | None) -> float:
    values = evaluation.values
    if evaluation.failed:
        return -math.inf  # the worst there is, as the explorers are told
    if name is not None and name not in values:
        raise InputError(f"value={name}: the score gives {', '.join(values)}; use one of them")
    return values[name] if name is not None else next(iter(values.values()))
