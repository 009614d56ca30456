"""The steps of the main job after the search: retraining, test, and the file of the model."""

from __future__ import annotations

import json
import typing
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from supernet.clinical.report import ClinicalReport
from supernet.data.dataset import Data
from supernet.data.targets import counted
from supernet.deployment.bundle import NAME, save_bundle
from supernet.estimation.costs import macs, parameters
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.runtime.seeding import random_states_kept
from supernet.space.architecture import Architecture
from supernet.training.evaluation import evaluate
from supernet.training.from_scratch import begin_with, train_from_scratch
from supernet.training.loop import Trained
from supernet.training.meters import Averages

from .beginning import keep_init
from .clinical_report import calibrated, keep_answers
from .conversion import convert
from .detection_report import confident, kept, write_report
from .job import Job, random_cell
from .records.summary import SCRATCH, Finalist, write_json

_UNBALANCED = 1.5  # times the smallest class
_BESIDE = {"accuracy": "balanced_accuracy", "auroc": "average_precision", "map50_95": "map50", "map50": "map50_95"}


def retrain(job: Job, name: str, architecture: Architecture) -> tuple[nn.Module, Finalist]:
    """Trains the plain network of a genotype and reports on it; all cells alike, but the one that is to begin anew."""
    run = job.run("retrain" if name == "searched" else name.replace(" ", "_"))
    try:
        network, result = train_one(job, name, architecture, run)
    finally:
        run.report.close()
    finalist = Finalist(name, parameters(network), macs(network, job.data.shape), result.train.score, None)
    return network, finalist if result.valid is None else scored(finalist, "valid", result.valid)


def check_init(job: Job) -> None:
    """Tells before a search that nothing of the donor fits a network of the space.

    A random cell stands for the one that will be found: what lies outside the cells is the same.

    Raises:
        InputError: as it would be raised after the search.
    """
    if job.init is None or job.retrain_recipe is None:
        return
    cell, classes = random_cell(job, 0), job.data.classes
    with random_states_kept():
        begin_with(job.init, job.final.build(cell), job.final, cell, classes, job.task)


def scored(finalist: Finalist, part: Literal["valid", "test"], averages: Averages) -> Finalist:
    """Returns the finalist with its scores on a part of the data."""
    scores: dict[str, Any] = {
        f"{part}_score": averages.score,
        f"{part}_others": dict(averages.others),
        f"{part}_chance": averages.chance,
    }
    return replace(finalist, **scores)


def train_one(job: Job, name: str, architecture: Architecture, run: Run) -> tuple[nn.Module, Trained]:
    """The plain network of a genotype, trained by the job's recipe with the job's seed, and how that went."""
    assert job.retrain_recipe is not None
    data, valid = job.data, job.data.valid
    training = data.train
    if job.divided.retrain is not None:
        training, valid = (data.train.subset(part) for part in job.divided.retrain)
    init = None if name == SCRATCH else job.init
    network, trained = train_from_scratch(
        job.final,
        architecture,
        training,
        valid,
        data.augmentation,
        job.retrain_recipe,
        run=run,
        task=job.task,
        name=name,
        transfer=init,
        classes=data.classes,
    )
    if init is not None and trained.taken is not None and job.processes.leads:
        keep_init(job.directory, name, init, trained.taken)
    return network, trained


def test_once(job: Job, trained: dict[str, tuple[nn.Module, Finalist]]) -> list[Finalist]:
    """Tests all networks together, because the test images can be opened once. Keeps the results beside the run."""
    assert job.retrain_recipe is not None
    record = job.directory / "test.json"
    if record.exists():  # interrupted after the test
        scores = _tested(record, trained)
    else:
        images = job.data.test.open().to(job.device)
        size, task = job.retrain_recipe.batch_size, job.task
        scores = {
            name: evaluate(network, images, job.data.augmentation, batch_size=size, device=job.device, task=task)
            for name, (network, _) in trained.items()
        }
        networks = {name: network for name, (network, _) in trained.items()}
        keep_answers(job, networks, images)
        write_report(job, networks, images)
        write_json(record, {name: asdict(averages) for name, averages in scores.items()})
    return [scored(finalist, "test", scores[name]) for name, (_, finalist) in trained.items()]


def _tested(record: Path, names: Collection[str]) -> dict[str, Averages]:
    """Reads the results that an interrupted job has kept for the networks of these names."""
    try:
        read = json.loads(record.read_text(encoding="utf-8"))
        scores = {name: Averages(**read[name]) for name in names}
        for name in names:
            for setting, wanted in typing.get_type_hints(Averages).items():
                convert(read[name][setting], dict[str, float] if setting == "others" else wanted, f"{name}.{setting}")
        if any(not 0.0 <= averages.score <= 1.0 for averages in scores.values()):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise InputError(
            f"{record}: is not what this run wrote; remove it, and the trained networks are tested again"
        ) from None
    return scores


def balanced(data: Data) -> bool:
    """Whether the largest class has at most one and a half times as many training images as the smallest."""
    counts = counted(data.train.labels, len(data.classes))
    return max(counts) <= _UNBALANCED * min(counts)


def beside(job: Job) -> str | None:
    """The score that is shown beside that of the task; beside the accuracy only where classes are not balanced."""
    return None if job.task.score == "accuracy" and balanced(job.data) else _BESIDE.get(job.task.score)


def keep_model(
    job: Job, network: nn.Module, architecture: Architecture, finalist: Finalist, report: ClinicalReport | None = None
) -> None:
    """Writes the one file that a person can load and use, calibrated by a clinical report where there is one."""
    figures = kept(job, finalist.name)
    save_bundle(
        job.directory / NAME,
        network,
        space=job.final.space,
        architecture=architecture,
        classes=job.data.classes,
        augmentation=job.data.augmentation,
        shape=job.data.shape,
        provenance={
            "data": job.data.name,
            "seed": job.seed,
            f"validation {job.task.score}": finalist.valid_score,
            f"test {job.task.score}": finalist.test_score,
        },
        answer=confident(calibrated(job.task.answer, report), figures, job.data.classes),
        report=figures or (None if report is None else report.plain()),
    )
