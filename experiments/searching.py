"""The search of the main job. Messages of the library get the keys under which the user gave the settings."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from supernet.runtime.run import Run
from supernet.search.differentiable.objectives import RelaxedWeights
from supernet.search.progressive.search import StagedSearch, check_stages, search_stages, stage_name
from supernet.space.architecture import Architecture, Decision

from .instantiate import build, named
from .job import Job
from .measuring import winner_of


def search_cell(job: Job, yaml: str) -> Architecture:
    """Trains the supernet on one half of the training images and the strategy on the other, stage after stage.

    Under a latency limit the network that is found is measured, and the next one where it breaks the limit.
    """
    assert job.divided.search is not None
    train, valid = (job.data.train.subset(half) for half in job.divided.search)

    def run_of(name: str) -> Run:
        run = job.run(name)
        run.report.text("config", "    " + yaml.replace("\n", "\n    "))
        return run

    with named_parts(job):
        found = search_stages(
            job.search, train, valid, job.data.augmentation, run_of=run_of, task=job.task, truth=job.table
        )
        return job.processes.from_leader(lambda: winner_of(job.alone(), found))  # times differ between processes


def named_parts(job: Job) -> AbstractContextManager[None]:
    """Within it errors in parts of the search are reported with the keys under which the user gave the parts."""
    return named({"": StagedSearch, "chooser": job.search.chooser, "monitor": job.search.monitor, "space": job.space})


def check_search(job: Job) -> None:
    """Finds before the first stage what a part of a later stage cannot do."""
    if job.divided.search is None:
        return
    with named_parts(job):
        decided = check_stages(job.search)
    for stage, decisions in zip(job.search.stages, decided, strict=True):
        with named({"search": stage.recipe}):
            stage.recipe.schedule(0, stage.recipe.epochs)
        _check_terms(job, decisions, stage.recipe.epochs)


def _check_terms(job: Job, decisions: Mapping[str, Decision], epochs: int) -> None:
    """Calls the terms of the objective once: whether a setting of theirs fits depends on the decisions."""
    if job.settings["strategy"].get("terms") != job.settings["objective"]:
        return  # the strategy has no terms, or others
    logits = {name: torch.zeros(len(decision.options)) for name, decision in decisions.items()}
    even = {name: alphas.softmax(-1) for name, alphas in logits.items()}
    terms: dict[str, Any] = build(job.settings["objective"], "objective")
    for name, term in terms.items():
        with named({f"objective.{name}": term}):
            term(RelaxedWeights(decisions, logits, even, 0.0, epochs, torch.ones(()), even, job.limits))


def search_name(job: Job, number: int) -> str:
    """The name under which a stage of the job's search reports and saves."""
    return stage_name(number, len(job.search.stages))
