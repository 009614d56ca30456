"""The loop that tries architectures: an explorer proposes, a score answers, a budget ends it.

An exploration that is stopped between any two evaluations and started again with the same arguments ends with the same
architectures, in the same order, as if it had never been stopped. What an explorer proposes before it is told of the
first (`Explorer.ask_together`) can be judged by several workers; it is told in its order, so that nothing depends on
how many they are.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supernet.estimation.scores import Measured, Score
from supernet.runtime.autosave import Autosave
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted
from supernet.runtime.run import Run
from supernet.runtime.text import quantity
from supernet.runtime.workers import Failed, Workers
from supernet.search.black_box.evaluations_file import EvaluationsFile
from supernet.search.black_box.explorers import Explorer, Fitness
from supernet.search.black_box.judging import Judging
from supernet.search.black_box.pareto import nondominated
from supernet.space.architecture import Architecture

SIMULATED = "simulated_seconds"
UNITS, RESOURCE = "units", "resource"  # a cost, and a value of architectures that are judged with more and more
_REPEATS = 1000  # known architectures in a row after which an explorer has nothing new to say
_TOGETHER = 100  # proposals that are wanted at a time where no number of evaluations says how many are left
_FAILURES = 10  # evaluations that fail before one succeeds, after which the fault is not the architectures'


@dataclass(frozen=True)
class Budget:
    """What an exploration may spend; at least one limit. No evaluation is begun once one of them is reached.

    Args:
        evaluations: architectures that are judged; known ones do not count.
        seconds: on this machine, over all pieces of an exploration that was stopped and went on.
        simulated_seconds: that a score says an evaluation would have taken, such as the training behind a table's row.
        units: of the resource of `halving`, over all architectures and rungs together: epochs of training, for example.

    Raises:
        InputError: no limit is given, or one is not above 0.

    Example:
        >>> Budget(evaluations=100).spent(evaluations=100, seconds=0.1, simulated_seconds=0.0)
        'the budget of 100 evaluations is spent'
    """

    evaluations: int | None = None
    seconds: float | None = None
    simulated_seconds: float | None = None
    units: float | None = None

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in ("evaluations", "seconds", SIMULATED, UNITS)}
        given = {name: value for name, value in limits.items() if value is not None}
        if not given:
            raise InputError("evaluations=None: needs a limit of evaluations, seconds, simulated_seconds or units")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise InputError(f"{name}={value}: needs a number above 0; nothing could be tried")

    def spent(self, evaluations: int, seconds: float, simulated_seconds: float, units: float = 0.0) -> str | None:
        """Says which limit is reached.

        Args:
            evaluations: so far.
            seconds: so far.
            simulated_seconds: so far.
            units: so far.

        Returns:
            The words for it; None where there is something left.
        """
        so_far = {"evaluations": evaluations, "seconds": seconds, SIMULATED: simulated_seconds, UNITS: units}
        for name, value in so_far.items():
            limit = getattr(self, name)
            if limit is not None and value >= limit:
                return f"the budget of {quantity(limit, name.replace('_', ' ').removesuffix('s'))} is spent"
        return None


@dataclass(frozen=True)
class Evaluation:
    """One architecture that was judged.

    Args:
        architecture: which one.
        values: what its score said.
        cost: what that cost.
        fitness: the objectives, each larger where it is better; -inf where it failed.
        failed: why it could not be judged, in words; empty where it was.
    """

    architecture: Architecture
    values: Mapping[str, float]
    cost: Mapping[str, float]
    fitness: Fitness
    failed: str = ""


@dataclass(frozen=True)
class Explored:
    """What an exploration gave.

    Args:
        best: the architecture of the largest first objective, among those that were judged with the largest resource
            where there are several; of equals the first.
        evaluations: all of them, in their order.
        ended: why it ended, in words.
        seconds: that it took on this machine, all pieces together.
    """

    best: Architecture
    evaluations: Sequence[Evaluation]
    ended: str
    seconds: float = field(default=0.0, compare=False)  # the one thing that another run of it has otherwise

    @property
    def front(self) -> Sequence[Evaluation]:
        """The evaluations that no other dominates (the Pareto front), in their order; with one objective the best."""
        judged = [evaluation for evaluation in self.evaluations if not evaluation.failed]
        return [judged[place] for place in nondominated([evaluation.fitness for evaluation in judged])]


def explore(
    explorer: Explorer,
    score: Score,
    budget: Budget,
    *,
    objectives: Sequence[str] = (),
    run: Run | None = None,
    name: str = "explore",
    truth: Score | None = None,
    rows: Path | None = None,
    repeats: bool = False,
    workers: Workers | None = None,
) -> Explored:
    """Tries architectures until the budget is spent or the explorer has nothing new; continues from the checkpoint.

    An architecture that is known, or that computes the same as a known one, is answered from memory at no cost. One
    whose evaluation raises an error (memory is full, an operation is broken) has a row that says why, counts as an
    evaluation, and is told to the explorer as the worst there is. An `InputError` ends the exploration, and so do ten
    failures before anything succeeds.

    Args:
        explorer: proposes and learns.
        score: judges.
        budget: what may be spent.
        objectives: names of the score's values that are to be large, or small with a minus in front ("-parameters");
            (): the first that the score gives.
        run: where the exploration reports and saves; None: nowhere.
        name: of the exploration, in its tags and its lines.
        truth: what is known of architectures, reported for each beside its score.
        rows: a CSV file with a row for each evaluation; None: none is written.
        repeats: known architectures are judged again and paid for, as in benchmarks whose methods forget.
        workers: who judges what the explorer proposes together; None: this process, with all its threads. A score that
            only looks up or counts is asked in this process in any case.

    Returns:
        The best architecture, all evaluations, and why it ended.

    Raises:
        InputError: no candidate keeps the limits, an objective is unknown, a value is no number, the checkpoint is
            of something else, or evaluations fail and none succeeds.
        Interrupted: after saving, where the run was asked to stop.

    Example:
        >>> from supernet.estimation.benchmark_tables import micro
        >>> from supernet.search.black_box.explorers import RandomExplorer
        >>> from supernet.space.nasbench201 import NasBench201, to_string
        >>> from supernet.space.survey import candidates_of
        >>> explorer = RandomExplorer(candidates_of(NasBench201(nodes=2)))
        >>> found = explore(explorer, micro(["digits_valid"]), Budget(evaluations=20))
        >>> len(found.evaluations), found.ended
        (20, 'the budget of 20 evaluations is spent')
    """
    record, quiet = _Record(explorer, tuple(objectives)), run is None
    run = run or Run()
    saving = Autosave(run, {"explorer": explorer, "record": record}, lambda: None)
    saving.restore()
    run.report.resume(len(record.evaluations) + 1)
    table = None if rows is None else EvaluationsFile(rows, [_row(one, truth) for one in record.evaluations])
    began, before = time.monotonic(), record.seconds
    with closing(_Tries(explorer, record, Judging(score, workers, run.interruption), budget, repeats)) as tries:
        while (ended := record.spent(budget)) is None:
            if not quiet:
                saving.between_steps()
            if not tries.more():
                ended = explorer.why() or record.why_not()
                break
            if tries.remembered():
                continue
            try:
                tries.judge(lambda: run.processes.from_leader(lambda: time.monotonic() - began + before))
            except Interrupted:  # within the score or the wait for workers, which would ask nobody what to do first
                saving.save()
                raise
            if table is not None:
                table.add(_row(record.evaluations[-1], truth))
            if not quiet:
                _report(record, run, name, budget, truth)
    saving.save()
    if not record.evaluations:
        raise InputError(ended)
    record.check_success()
    return Explored(record.best().architecture, record.evaluations, ended, record.seconds)


class _Tries:
    """What the explorer has proposed, and the answers to it."""

    def __init__(self, explorer: Explorer, record: _Record, judging: Judging, budget: Budget, repeats: bool) -> None:
        self._explorer, self._record, self._judging = explorer, record, judging
        self._budget, self._repeats, self._in_a_row = budget, repeats, 0
        self._answers: Generator[Measured | Failed] | None = None

    def more(self) -> bool:
        """Whether there is a proposal to answer; asks the explorer where all are told."""
        if not self._record.pending:
            self._end()
            self._record.pending = self._explorer.ask_together(self._record.wanted(self._budget))
        return bool(self._record.pending) and self._in_a_row < _REPEATS

    def remembered(self) -> bool:
        """Answers the next proposal from memory; returns whether it could."""
        architecture, record = self._record.pending[0], self._record
        known = None if self._repeats else record.known.get(self._explorer.candidates.key(architecture))
        if known is None:
            return False
        del record.pending[0]
        self._explorer.tell(architecture, known)
        self._in_a_row += 1
        return True

    def judge(self, seconds: Callable[[], float]) -> None:
        """Has the next proposal judged, which can be the first of those that memory does not answer."""
        architecture, record = self._record.pending[0], self._record
        if self._answers is None:
            self._answers = self._judging.each(record.to_judge(self._budget, self._repeats))
        answer = next(self._answers)
        if isinstance(answer, Failed):
            record.add_failed(architecture, self._judging.about(architecture), answer.reason, seconds())
        else:
            record.add(architecture, answer, self._budget, seconds())
        del record.pending[0]
        self._explorer.tell(architecture, record.evaluations[-1].fitness)
        self._in_a_row = 0

    def close(self) -> None:
        """Ends what is still judged in vain, and lets the workers go."""
        self._end()
        self._judging.close()

    def _end(self) -> None:
        if self._answers is not None:
            self._answers.close()
        self._answers = None


class _Record:
    """All evaluations so far; a part of the checkpoint."""

    def __init__(self, explorer: Explorer, objectives: tuple[str, ...]) -> None:
        self._candidates, self._objectives = explorer.candidates, objectives
        self.evaluations: list[Evaluation] = []
        self.known: dict[Hashable, Fitness] = {}
        self.seconds, self.simulated, self.units = 0.0, 0.0, 0.0
        self.pending: list[Architecture] = []  # were asked for, and are not told yet
        self._best = 0

    def wanted(self, budget: Budget) -> int:
        """How many further evaluations are wanted, as far as one can say."""
        return _TOGETHER if budget.evaluations is None else budget.evaluations - len(self.evaluations)

    def to_judge(self, budget: Budget, repeats: bool) -> list[Architecture]:
        """Those of the pending ones that memory will not answer, as far as the budget of evaluations goes."""
        left = None if budget.evaluations is None else self.wanted(budget)
        if repeats:
            return self.pending[:left]
        unknown = dict[Hashable, Architecture]()
        for architecture in self.pending:
            key = self._candidates.key(architecture)
            if key not in self.known:
                unknown.setdefault(key, architecture)
        return list(unknown.values())[:left]

    def add_failed(self, architecture: Architecture, about: Measured, reason: str, seconds: float) -> None:
        worst = (-math.inf,) * max(1, len(self._objectives))
        self._keep(Evaluation(architecture, about.values, about.cost, worst, reason))
        self.seconds = seconds
        if len(self.evaluations) == _FAILURES:
            self.check_success()

    def add(self, architecture: Architecture, measured: Measured, budget: Budget, seconds: float) -> None:
        if not isinstance(measured, Measured):
            raise InputError(f"score: gives {type(measured).__name__} for an architecture; needs Measured")
        if budget.simulated_seconds is not None and SIMULATED not in measured.cost:
            raise InputError(
                f"simulated_seconds={budget.simulated_seconds}: this score does not say how long an evaluation would "
                "have taken; use a table that does, or a budget of evaluations"
            )
        self._objectives = self._objectives or (next(iter(measured.values)),)
        fitness = tuple(_value(measured, objective, architecture) for objective in self._objectives)
        self._keep(Evaluation(architecture, measured.values, measured.cost, fitness))
        self.seconds = seconds

    def check_success(self) -> None:
        """Raises InputError where all evaluations failed."""
        if self.best().failed:
            tried, last = quantity(len(self.evaluations), "evaluation"), self.evaluations[-1].failed
            raise InputError(f"score: has judged nothing; all of {tried} failed, the last one with {last}")

    def _keep(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)
        self.known.setdefault(self._candidates.key(evaluation.architecture), evaluation.fitness)
        self.simulated += evaluation.cost.get(SIMULATED, 0.0)
        self.units += evaluation.cost.get(UNITS, 0.0)
        if _rank(evaluation) > _rank(self.best()):
            self._best = len(self.evaluations) - 1

    def spent(self, budget: Budget) -> str | None:
        return budget.spent(len(self.evaluations), self.seconds, self.simulated, self.units)

    def best(self) -> Evaluation:
        return self.evaluations[self._best]

    def why_not(self) -> str:
        """Why nothing new is proposed, in words."""
        tried, count = len(self.evaluations), self._candidates.count
        if not tried:
            return "candidates: none that was drawn keeps the limits; allow more"
        whole = "" if count is None else f" of {count:,} in the space (equal ones counted apart)"
        return f"nothing new is left to try after {quantity(tried, 'evaluation')}{whole}"

    def state_dict(self) -> dict[str, Any]:
        genes = self._candidates.genes
        rows = [(genes(e.architecture), dict(e.values), dict(e.cost), e.fitness, e.failed) for e in self.evaluations]
        asked, objectives = [genes(architecture) for architecture in self.pending], list(self._objectives)
        return {"evaluations": rows, "objectives": objectives, "seconds": self.seconds, "asked": asked}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        if self._objectives and state["objectives"] and list(self._objectives) != state["objectives"]:
            raise InputError(f"objectives={list(self._objectives)}: it was begun with {state['objectives']}")
        self._objectives = self._objectives or tuple(state["objectives"])
        for genes, values, cost, fitness, *failed in state["evaluations"]:
            self._keep(Evaluation(self._candidates.architecture(genes), values, cost, tuple(fitness), *failed))
        self.seconds = state["seconds"]
        asked = state["asked"] if "asked" in state else [genes for genes in (state["pending"],) if genes is not None]
        self.pending = [self._candidates.architecture(genes) for genes in asked]


def _value(measured: Measured, objective: str, architecture: Architecture) -> float:
    name = objective.removeprefix("-")
    if name not in measured.values:
        raise InputError(f"objectives={objective}: the score gives {', '.join(measured.values)}; use one of them")
    value = measured.values[name]
    if math.isnan(value):
        raise InputError(
            f"objectives={objective}: is not known of {json.dumps(dict(architecture))[:200]}; judge by another value"
        )
    return -value if objective.startswith("-") else value


def _rank(evaluation: Evaluation) -> tuple[bool, float, float]:
    """By what the best is found: more resource tells more, and values of different resources do not compare."""
    return not evaluation.failed, evaluation.values.get(RESOURCE, 0.0), evaluation.fitness[0]


def _row(evaluation: Evaluation, truth: Score | None) -> dict[str, str | float]:
    known = {} if truth is None else {f"truth/{n}": v for n, v in truth(evaluation.architecture).values.items()}
    costs = {f"cost/{name}": value for name, value in evaluation.cost.items()}
    choices = json.dumps(dict(evaluation.architecture), separators=(",", ":"))
    failed = {"failed": evaluation.failed} if evaluation.failed else {}
    return {"architecture": choices, **evaluation.values, **costs, **known, **failed}


def _report(record: _Record, run: Run, name: str, budget: Budget, truth: Score | None) -> None:
    """A point for each value of the evaluation, and for the best so far."""
    last, best, step = record.evaluations[-1], record.best(), len(record.evaluations)
    scalars = {f"{name}/{value}": number for value, number in last.values.items()}
    if not best.failed:
        scalars[f"{name}/best"] = best.fitness[0]
    if truth is not None:
        scalars |= {f"{name}/truth/{value}": number for value, number in truth(last.architecture).values.items()}
        scalars |= {f"{name}/truth_of_best/{n}": number for n, number in truth(best.architecture).values.items()}
    run.report.scalars(scalars, step)
    run.report.progress(step, budget.evaluations or step, f"{name}: {quantity(step, 'architecture')}")
