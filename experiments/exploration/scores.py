"""Makes the scores that `conf/score` names, each of what it needs: the run's supernet, its images, a table, a space.

A score of one's own is a function like these, named in a yaml by `_target_`: material -> `Judge`.
"""

from __future__ import annotations

from dataclasses import dataclass

from supernet.estimation.benchmark_tables import NasBench201Seconds, TableScore
from supernet.estimation.scores import Measured, Score
from supernet.estimation.supernet_accuracy import RecalibratedScore, SupernetScore
from supernet.runtime.errors import InputError
from supernet.search.black_box.comparison import Judge
from supernet.space.architecture import Architecture

from .material import Material

PARAMETERS = "parameters"
_COLUMNS = ("params", PARAMETERS)  # of a table, by which networks need not be built to be counted


@dataclass(frozen=True)
class Joined:
    """Several scores as one, which gives the values of all: for objectives such as accuracy and parameters.

    Args:
        scores: each measures an architecture; where two give a value of one name the first counts.
    """

    scores: tuple[Score, ...]

    def __call__(self, architecture: Architecture) -> Measured:
        """All values, and what each of them cost."""
        values, costs = dict[str, float](), dict[str, float]()
        for measured in (score(architecture) for score in self.scores):
            values |= {name: value for name, value in measured.values.items() if name not in values}
            for name, cost in measured.cost.items():
                costs[name] = costs.get(name, 0.0) + cost
        return Measured(values, costs)


def supernet(material: Material, *, batch_size: int | None = None, batches: int | None = None) -> Judge:
    """The supernet's accuracy with each batch's own statistics."""
    problem = material.problem("score=supernet")
    _above_zero(batch_size=batch_size, batches=batches)
    return Judge(SupernetScore(problem, batch_size or _batch(material), batches), problem.task.score)


def recalibrated(material: Material, *, batch_size: int | None = None, batches: int = 4) -> Judge:
    """The supernet's accuracy with norms recalibrated for each architecture."""
    problem = material.problem("score=recalibrated")
    _above_zero(batch_size=batch_size, batches=batches)
    return Judge(RecalibratedScore(problem, batch_size or _batch(material), batches), problem.task.score)


def table(material: Material, *, column: str | None = None, seconds: str | None = None) -> Judge:
    """A column of the table, and what NATS-Bench charges for an evaluation."""
    chosen = material.column(column, "valid", "score.table.column" if column else "score=table")
    charged = None if seconds is None else NasBench201Seconds(seconds)
    return Judge(TableScore(material.known_table("score=table"), chosen, charged), chosen)


def parameters(material: Material) -> Judge:
    """The number of parameters, from the table where there is no run and it has them."""
    if material.job is None and (column := size_column(material)) is not None:
        return Judge(TableScore(material.known_table(PARAMETERS), column), column)
    return Judge(material.size, PARAMETERS)


def macs(material: Material) -> Judge:
    """The number of multiply-adds."""
    return Judge(material.costs, "macs")


def size_column(material: Material) -> str | None:
    """The column of the table that holds numbers of parameters; None where there is none."""
    return next((c for c in getattr(material.table, "columns", ()) if c in _COLUMNS), None)


def _batch(material: Material) -> int:
    job = material.job_for("score=supernet")
    return int(job.search.stages[-1].recipe.batch_size)


def _above_zero(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InputError(f"{name}={value}: needs 1 or more")
