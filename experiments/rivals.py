"""The networks of a job's cells, trained one after the other, or side by side by workers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.workers import Failed, threads_held
from supernet.space.architecture import Architecture

from .job import Job, prepare
from .records.provenance import add_seconds, timed
from .records.summary import Finalist
from .retraining import retrain
from .workers import workers_of

Trained = tuple[nn.Module, Finalist]
_QUIET = {"progress": False, "workers": None, "backend": "loky", "scheduler": None}  # of a job in a worker


def train_all(job: Job, cells: Mapping[str, Architecture], *, settings: Mapping[str, Any]) -> dict[str, Trained]:
    """Trains the network of each cell in the same way, each with checkpoints and a report of its own.

    With workers they are trained side by side; what is learnt does not depend on how many there are.

    Args:
        job: with a recipe.
        cells: by name.
        settings: that the job was made of, for workers, which make it anew.

    Returns:
        Networks and their figures, by the names of the cells.

    Raises:
        InputError: a worker could not train a network.
        Interrupted: after saving, where the run was asked to stop.
    """
    runtime = job.settings["runtime"]
    workers = workers_of(runtime, runtime["threads"])
    if workers is None or not workers.elsewhere:
        trained = {}
        with threads_held(torch.get_num_threads() if workers is None else workers.threads):
            for name, cell in cells.items():
                with timed(job.directory, name):
                    trained[name] = retrain(job, name, cell)
        return trained
    there = partial(_trained_there, {**settings, "runtime": {**runtime, **_QUIET}}, job.directory.absolute())
    answers = workers.each(there, list(cells.items()), interruption=job.template.interruption)
    return {name: _had(job, name, answer) for name, answer in zip(cells, answers, strict=True)}


def check_workers(job: Job) -> None:
    """Raises InputError where the settings ask for workers that cannot be."""
    runtime = job.settings["runtime"]
    workers = workers_of(runtime, runtime["threads"])
    if workers is None or not workers.elsewhere:
        return
    asked = f"runtime.workers={runtime['workers']}"
    if job.processes.several:
        raise InputError(f"{asked}: several processes train each network together already; leave it out")
    if job.device.type == "cuda":
        raise InputError(f"{asked}: would share one GPU; leave it out, or use runtime.device=cpu")


def _trained_there(settings: dict[str, Any], directory: Path, cell: tuple[str, Architecture]) -> tuple[Trained, float]:
    """In a worker: the network of a cell, its figures, and the seconds that it took."""
    with Interruption() as interruption:
        job = prepare(settings, directory, interruption)
        began = time.monotonic()
        network, finalist = retrain(job, *cell)
    return (network, finalist), time.monotonic() - began


def _had(job: Job, name: str, answer: tuple[Trained, float] | Failed) -> Trained:
    if isinstance(answer, Failed):
        raise InputError(f"{name}: its network could not be trained: {answer.reason}")
    trained, seconds = answer
    add_seconds(job.directory, name, seconds)
    return trained
