"""Describes the networks of a finished job: their costs, their values in a table, the head of summary.json."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from supernet.estimation.benchmark_tables import Table
from supernet.estimation.costs import macs, parameters
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided

from .beginning import origin_of
from .job import Job, from_table
from .measuring import measured_for_summary
from .records.provenance import Invocation, recorded_seconds, settings_hash, short_hash, training_hash
from .records.summary import VERSION, Finalist
from .searching import search_name
from .sizes import with_image_size


def describe(job: Job, name: str, architecture: Architecture) -> Finalist:
    """Describes a network that is not trained: its costs at the size of the space."""
    network = untrained_network(job, architecture)
    return Finalist(name, parameters(network), macs(network, job.data.shape), None, None)


def untrained_network(job: Job, architecture: Architecture) -> nn.Module:
    """The final network of an architecture without memory for weights, to be counted and drawn."""
    with torch.device("meta"):
        choose = Decided(architecture, job.final.factories)
        network: nn.Module = job.final.space.network(choose, job.data.shape, job.final.outputs)
    return network


def look_up(job: Job, cells: Mapping[str, Architecture]) -> dict[str, dict[str, float | None]]:
    """Looks each cell up in the table, by name. Raises InputError where it lacks one."""
    return {name: _plain(from_table(job, cell)) for name, cell in cells.items()}


def complete(
    job: Job,
    cells: Mapping[str, Architecture],
    truths: Mapping[str, dict[str, float | None]],
    finalists: Sequence[Finalist],
) -> list[Finalist]:
    """Adds to the finalists the seconds of training, the genotype's hash and the table's numbers."""
    seconds = recorded_seconds(job.directory)
    return [
        replace(
            f,
            seconds=seconds.get(f.name),
            genotype=short_hash(cells[f.name].to_json()),
            table=truths[f.name],
        )
        for f in finalists
    ]


def summary_head(job: Job, settings: Mapping[str, Any], asked: Invocation, found: Finalist) -> dict[str, Any]:
    """The head of summary.json. Accuracies in [0, 1], times in seconds, the table's numbers in its own units.

    `settings` and `training` are hashes: of all that a search and its cell depend on besides the seed, and of what
    the training of a given cell depends on.
    """
    best = _best(job, found)
    # As typed, so that a run is the same from whatever folder it went on, but with the sizes that the data gave.
    sized = with_image_size(settings, job.data.shape)
    used = {**sized, **{part: job.settings[part] for part in ("search", "retrain")}}
    searched = not settings["genotype"]
    epochs, accuracies = _search_epochs(job) if searched else (0, {})
    return {
        "version": VERSION,
        "name": settings["name"],
        "experiment": asked.choice("experiment"),
        "method": asked.choice("method"),
        "data": job.data.name,
        "score": job.task.score,
        "space": asked.choice("space") or job.space.name,
        "seed": job.seed,
        "overrides": list(asked.overrides),
        "settings": settings_hash(used, found.genotype),
        "training": training_hash(used, job.space.name),
        "sizes": recipe_sizes(job),
        "images": list(job.data.shape),
        "reading": job.data.reading.to_json(),
        "search_epochs": epochs,
        "search_seconds": recorded_seconds(job.directory).get("search") if searched else None,
        "search_train_score": accuracies.get("train"),
        "search_valid_score": accuracies.get("valid"),
        "genotype": found.genotype,
        "cell": origin_of(job.settings["genotype"], settings["genotype"]),
        "init": None if job.init is None else settings["init"].get("path", job.init.name),
        **measured_for_summary(job.directory),
        "table_best": best,
        "table_regret": {c: _minus(value, found.table[c]) for c, value in best.items()},
    }


def recipe_sizes(job: Job) -> dict[str, dict[str, Any]]:
    """Epochs and batch of both recipes as they were used: the settings may have left them to the data."""
    recipes = {"search": job.divided.search and job.settings["search"], "retrain": job.settings["retrain"]}
    names = ("epochs", "batch_size", "least_steps")
    return {key: {n: node[n] for n in names if n in node} for key, node in recipes.items() if node}


def _best(job: Job, found: Finalist) -> dict[str, float | None]:
    """Returns the largest number of each column; none where the table is a user's function, which has no rows."""
    if not isinstance(job.table, Table):
        return {}
    return {c: _plain(job.table(job.table.best(c)).values)[c] for c, value in found.table.items() if value is not None}


def _search_epochs(job: Job) -> tuple[int, dict[str, float]]:
    """The epochs that the record of the search has, all stages together, and the last scores on both halves."""
    epochs, last = 0, {}
    tags = {f"search/{job.task.running}/train": "train", f"search/{job.task.score}/valid": "valid"}
    for number in range(len(job.search.stages)):
        path = job.directory / "metrics" / f"{search_name(job, number)}.csv"
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["tag"] in tags:
                    last[tags[row["tag"]]] = float(row["value"])
                    epochs += tags[row["tag"]] == "valid"
    return epochs, last


def _minus(best: float | None, found: float | None) -> float | None:
    return None if best is None or found is None else best - found


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else float(value) for name, value in values.items()}
