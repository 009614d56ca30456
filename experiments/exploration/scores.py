"""Makes the scores that `conf/score` names, each of what it needs: the run's supernet, its images, a table, a space.

A score of one's own is a function like these, named in a yaml by `_target_`: material -> `Judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch

from supernet.data.batches import Batch, evaluation_batches
from supernet.estimation.benchmark_tables import NasBench201Seconds, TableScore
from supernet.estimation.scores import Measured, Score
from supernet.estimation.sending import sent
from supernet.estimation.short_training import Fidelity, ShortTrainingScore
from supernet.estimation.supernet_accuracy import RecalibratedScore, SupernetScore
from supernet.estimation.zero_cost.score import ZeroCostScore
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.search.black_box.comparison import Judge
from supernet.space.architecture import Architecture

from ..job import Job
from .material import Material

_STREAM = 0x02C0
PARAMETERS = "parameters"
_COLUMNS = ("params", PARAMETERS)  # of a table, by which networks need not be built to be counted


def supernet(material: Material, *, batch_size: int | None = None, batches: int | None = None) -> Judge:
    """The supernet's accuracy with each batch's own statistics."""
    problem = material.problem("score=supernet")
    _above_zero(batch_size=batch_size, batches=batches)
    return Judge(SupernetScore(problem, batch_size or _batch(material), batches), problem.task.score)


def recalibrated(
    material: Material, *, batch_size: int | None = None, batches: int = 4, valid_batches: int | None = None
) -> Judge:
    """The supernet's accuracy with norms recalibrated for each architecture."""
    problem = material.problem("score=recalibrated")
    _above_zero(batch_size=batch_size, batches=batches, valid_batches=valid_batches)
    score = RecalibratedScore(problem, batch_size or _batch(material), batches, valid_batches)
    return Judge(score, problem.task.score)


def table(material: Material, *, column: str | None = None, seconds: str | None = None) -> Judge:
    """A column of the table, and what NATS-Bench charges for an evaluation."""
    chosen = material.column(column, "valid", "score.table.column" if column else "score=table")
    charged = None if seconds is None else NasBench201Seconds(seconds)
    return Judge(TableScore(material.known_table("score=table"), chosen, charged), chosen)


def parameters(material: Material) -> Judge:
    """The number of parameters, from the table where there is no run and it has them."""
    if material.job is None and (column := size_column(material)) is not None:
        return Judge(TableScore(material.known_table(PARAMETERS), column), column)
    return Judge(material.costs(PARAMETERS), PARAMETERS)


def macs(material: Material) -> Judge:
    """The number of multiply-adds."""
    return Judge(material.costs("macs"), "macs")


def zero_cost(material: Material, *, proxy: str, batch_size: int = 64) -> Judge:
    """A proxy of the untrained network; a sample is measured by all proxies asked for in shared passes."""
    job = material.job_for(f"score={proxy}")
    _above_zero(batch_size=batch_size)
    final = job.final

    def measure(proxies: Sequence[str]) -> Score:
        batches = _images(job, 2 * batch_size, batch_size)
        where = final.space, final.shape, len(job.data.classes)
        return ZeroCostScore(*where, batches, tuple(proxies), job.seed, final.factories, job.task)

    together = material.shared.setdefault(f"zero_cost/{batch_size}", Together(measure))
    assert isinstance(together, Together)
    together.add(proxy)
    return Judge(measure([proxy]), proxy, together)


class Together:
    """Several values in one pass, those that were asked for until the first architecture is measured.

    Args:
        measure: names -> a score that gives the values of these names.
    """

    def __init__(self, measure: Callable[[Sequence[str]], Score]) -> None:
        self._measure, self._names = measure, list[str]()
        self._score: Score | None = None

    def add(self, name: str) -> None:
        """Adds a value."""
        self._names.append(name)

    def __call__(self, architecture: Architecture) -> Measured:
        """All values."""
        return self._made()(architecture)

    def __reduce__(self) -> tuple[Callable[[Score], Score], tuple[Score]]:
        """A worker is sent the score that it has become."""
        return _itself, (sent(self._made()),)

    def _made(self) -> Score:
        if self._score is None:
            self._score = self._measure(list(dict.fromkeys(self._names)))
        return self._score


def _itself(score: Score) -> Score:
    return score


def training(
    material: Material,
    *,
    epochs: int | None = 1,
    share: float = 1.0,
    height: int | None = None,
    channels: int | None = None,
    cells: int | None = None,
    schedule: Literal["once", "each_rung"] = "each_rung",
) -> Judge:
    """A short training of the network with the run's recipe, on the half of the images that the supernet learnt from.

    It is judged by the other half.
    """
    job = material.job_for("score=training")
    if job.retrain_recipe is None:
        raise InputError("score=training: this run has no recipe of a training (retrain=none); use another score")
    fidelity = Fidelity(epochs, share, height, channels, cells)
    train, valid = material.problem("score=training").train, material.problem("score=training").valid
    run = replace(job.template, checkpoint=None)
    recipe, augmentation, task = job.retrain_recipe, job.data.augmentation, job.task
    score = ShortTrainingScore(job.final, train, valid, augmentation, recipe, run, task, fidelity, schedule)
    return Judge(score, task.score, rungs=score)


def _images(job: Job, count: int, batch_size: int) -> list[Batch]:
    """Training images, normalised, on the device."""
    assert job.divided.search is not None
    indices = job.divided.search[0]
    drawn = indices[torch.randperm(len(indices), generator=generator(job.seed, _STREAM))[:count]]
    return list(evaluation_batches(job.data.train.subset(drawn), batch_size, job.data.augmentation, job.device))


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
