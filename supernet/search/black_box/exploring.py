"""The loop that tries architectures: an explorer proposes, a score answers, a budget ends it.

An exploration that is stopped between any two evaluations and started again with the same arguments ends with the same
architectures, in the same order, as if it had never been stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supernet.estimation.scores import Measured, Score
from supernet.runtime.autosave import Autosave
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted
from supernet.runtime.run import Run
from supernet.runtime.text import quantity
from supernet.search.black_box.evaluations_file import EvaluationsFile
from supernet.search.black_box.explorers import Explorer, Fitness
from supernet.search.black_box.pareto import nondominated
from supernet.space.architecture import Architecture

SIMULATED = "simulated_seconds"
UNITS, RESOURCE = "units", "resource"  # a cost, and a value of architectures that are judged with more and more
_REPEATS = 1000  # known architectures in a row after which an explorer has nothing new to say


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
        fitness: the objectives, each larger where it is better.
    """

    architecture: Architecture
    values: Mapping[str, float]
    cost: Mapping[str, float]
    fitness: Fitness


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
        return [self.evaluations[place] for place in nondominated([e.fitness for e in self.evaluations])]


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
) -> Explored:
    """Tries architectures until the budget is spent or the explorer has nothing new; continues from the checkpoint.

    An architecture that is known, or that computes the same as a known one, is answered from memory at no cost.

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

    Returns:
        The best architecture, all evaluations, and why it ended.

    Raises:
        InputError: no candidate keeps the limits, an objective is unknown, a value is no number, or the checkpoint is
            of something else.
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
    in_a_row, began, before = 0, time.monotonic(), record.seconds
    while (ended := record.spent(budget)) is None:
        if not quiet:
            saving.between_steps()
        architecture = record.pending or explorer.ask()
        if architecture is None or in_a_row >= _REPEATS:
            ended = explorer.why() or record.why_not()
            break
        known = None if repeats else record.known.get(explorer.candidates.key(architecture))
        if known is not None:
            explorer.tell(architecture, known)
            in_a_row += 1
            continue
        try:
            measured = score(architecture)
        except Interrupted:  # within the score, which would ask nobody what to do first
            record.pending = architecture
            saving.save()
            raise
        seconds = run.processes.from_leader(lambda: time.monotonic() - began + before)
        record.add(architecture, measured, budget, seconds)
        explorer.tell(architecture, record.evaluations[-1].fitness)
        in_a_row = 0
        if table is not None:
            table.add(_row(record.evaluations[-1], truth))
        if not quiet:
            _report(record, run, name, budget, truth)
    saving.save()
    if not record.evaluations:
        raise InputError(ended)
    return Explored(record.best().architecture, record.evaluations, ended, record.seconds)


class _Record:
    """All evaluations so far; a part of the checkpoint."""

    def __init__(self, explorer: Explorer, objectives: tuple[str, ...]) -> None:
        self._candidates, self._objectives = explorer.candidates, objectives
        self.evaluations: list[Evaluation] = []
        self.known: dict[Hashable, Fitness] = {}
        self.seconds, self.simulated, self.units = 0.0, 0.0, 0.0
        self.pending: Architecture | None = None  # was asked for and not judged, because a signal came
        self._best = 0

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
        self.seconds, self.pending = seconds, None

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
        rows = [(genes(e.architecture), dict(e.values), dict(e.cost), e.fitness) for e in self.evaluations]
        pending = None if self.pending is None else genes(self.pending)
        objectives = list(self._objectives)
        return {"evaluations": rows, "objectives": objectives, "seconds": self.seconds, "pending": pending}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        if self._objectives and state["objectives"] and list(self._objectives) != state["objectives"]:
            raise InputError(f"objectives={list(self._objectives)}: it was begun with {state['objectives']}")
        self._objectives = self._objectives or tuple(state["objectives"])
        for genes, values, cost, fitness in state["evaluations"]:
            self._keep(Evaluation(self._candidates.architecture(genes), values, cost, tuple(fitness)))
        self.seconds = state["seconds"]
        self.pending = None if state["pending"] is None else self._candidates.architecture(state["pending"])


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


def _rank(evaluation: Evaluation) -> tuple[float, float]:
    """By what the best is found: more resource tells more, and values of different resources do not compare."""
    return evaluation.values.get(RESOURCE, 0.0), evaluation.fitness[0]


def _row(evaluation: Evaluation, truth: Score | None) -> dict[str, str | float]:
    known = {} if truth is None else {f"truth/{n}": v for n, v in truth(evaluation.architecture).values.items()}
    costs = {f"cost/{name}": value for name, value in evaluation.cost.items()}
    choices = json.dumps(dict(evaluation.architecture), separators=(",", ":"))
    return {"architecture": choices, **evaluation.values, **costs, **known}


def _report(record: _Record, run: Run, name: str, budget: Budget, truth: Score | None) -> None:
    """A point for each value of the evaluation, and for the best so far."""
    last, best, step = record.evaluations[-1], record.best(), len(record.evaluations)
    scalars = {f"{name}/{value}": number for value, number in last.values.items()}
    scalars[f"{name}/best"] = best.fitness[0]
    if truth is not None:
        scalars |= {f"{name}/truth/{value}": number for value, number in truth(last.architecture).values.items()}
        scalars |= {f"{name}/truth_of_best/{n}": number for n, number in truth(best.architecture).values.items()}
    run.report.scalars(scalars, step)
    run.report.progress(step, budget.evaluations or step, f"{name}: {quantity(step, 'architecture')}")
