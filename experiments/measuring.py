"""Under a latency limit the network that a search has found is measured; if it breaks the limit, the next one is taken.

What was measured is kept in measured.json, so that a run that goes on takes the same network, and in summary.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from supernet.estimation.limits import Limits
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, read_text
from supernet.runtime.run import Run
from supernet.search.loop import Searched
from supernet.search.measured_winner import MeasuredWinner, Trial, in_order, measured_winner, then, tightened
from supernet.search.progressive.restoring import restore_stages
from supernet.search.progressive.search import check_stages
from supernet.space.architecture import Architecture

from .console import say
from .job import Job
from .latencies import LATENCY, Latencies, latencies_of
from .records.provenance import short_hash
from .records.summary import write_json

MEASURED = "measured.json"
_LARGEST = 4 << 20  # bytes
_MOST = 100  # trials of a file


def winner_of(job: Job, found: Searched) -> Architecture:
    """The architecture that a search has found, or the next one where that breaks the latency limit when measured.

    Without a latency limit it is the found one, and nothing is measured.
    """
    limits = job.limits
    if not limits or LATENCY not in limits.most:
        return found.architecture
    path = job.settings["costs"].get(LATENCY)
    latencies = latencies_of(Path(path)) if isinstance(path, str) else None
    reason = "its latency is a function of your own" if latencies is None else latencies.why_not_measured()
    if latencies is None or reason:
        say(f"supernet: the found network is not measured: {reason}", job.console)
        return found.architecture
    limit, record = limits.most[LATENCY], job.directory / MEASURED
    measured = _recorded(record, found.architecture, limit) if is_file(record) else None
    if measured is None:
        measured = _measure(job, found, limits, latencies)
        write_json(record, _plain(found.architecture, limit, measured))
    _tell(job, measured, limit)
    return measured.winner.architecture


def measured_for_summary(directory: Path) -> dict[str, Any]:
    """What was measured, for summary.json: milliseconds of each candidate, in the order in which they were tried."""
    record = directory / MEASURED
    if not is_file(record):
        return {}
    trials = _read(record)[2]
    return {
        "measured": [
            {
                "genotype": short_hash(trial.architecture.to_json()),
                "predicted": trial.predicted,
                "measured": trial.measured,
                "limit": trial.limit,
                "kept": trial.kept,
                "taken": trial is MeasuredWinner(trials).winner,
            }
            for trial in trials
        ]
    }


def _measure(job: Job, found: Searched, limits: Limits, latencies: Latencies) -> MeasuredWinner:
    limit, costs = limits.most[LATENCY], limits.costs

    def predict(architecture: Architecture) -> float:
        return costs.of(LATENCY, architecture)

    def choose(most: float) -> Architecture | None:
        return _chosen_within(job, Limits(costs, {**limits.most, LATENCY: most}))

    return measured_winner(
        then(in_order([found.architecture, *found.runners_up], predict), tightened(choose, limit)),
        predict,
        lambda architecture: latencies.milliseconds(costs.network(architecture), job.data.shape),
        limit,
        cheapest=limits.anchor(check_stages(job.search)[-1]),
    )


def _chosen_within(job: Job, limits: Limits) -> Architecture | None:
    """What the strategy of the finished search chooses under other limits; None where nothing keeps them."""
    assert job.divided.search is not None
    train, valid = (job.data.train.subset(half) for half in job.divided.search)

    def run_of(name: str) -> Run:
        return replace(job.template, checkpoint=job.directory / "checkpoints" / f"{name}.pt")

    try:
        limits.check(check_stages(job.search)[-1])
    except InputError:
        return None
    planned = replace(job.search, limits=limits)
    restored = restore_stages(planned, train, valid, job.data.augmentation, run_of=run_of, task=job.task)
    size = job.search.stages[-1].recipe.batch_size
    return restored.strategy.finish(SupernetScore(restored.problem, size))


def _tell(job: Job, measured: MeasuredWinner, limit: float) -> None:
    for trial in measured.trials:
        verdict = "keeps" if trial.kept else "breaks"
        say(
            f"supernet: measured {trial.measured:.4g} ms, predicted {trial.predicted:.4g} ms: {verdict} the limit of "
            f"{limit:g} ms",
            job.console,
        )
    if not measured.winner.kept:
        say(
            f"supernet: no network keeps the limit of {limit:g} ms when it is measured, not even the one of the "
            "smallest predicted latency; the fastest of those measured is taken",
            job.console,
        )


def _plain(found: Architecture, limit: float, measured: MeasuredWinner) -> dict[str, Any]:
    trials = [
        {"genotype": json.loads(t.architecture.to_json()), "predicted": t.predicted, "measured": t.measured}
        for t in measured.trials
    ]
    return {"found": short_hash(found.to_json()), "limit": limit, "trials": trials}


def _recorded(record: Path, found: Architecture, limit: float) -> MeasuredWinner | None:
    """What an interrupted run has measured; None where that was of another network or limit."""
    name, most, trials = _read(record)
    return MeasuredWinner(trials) if (name, most) == (short_hash(found.to_json()), limit) else None


def _read(record: Path) -> tuple[str, float, tuple[Trial, ...]]:
    try:
        known = json.loads(read_text(record, str(record), _LARGEST))
        name, limit = str(known["found"]), _number(known["limit"])
        trials = tuple(_trial(node, limit, record) for node in _some(known["trials"]))
    except (InputError, ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{record}: is not what this run wrote; remove it, and it is measured again") from None
    return name, limit, trials


def _some(nodes: Any) -> Sequence[Any]:
    if not isinstance(nodes, list) or not 1 <= len(nodes) <= _MOST:
        raise ValueError
    return nodes


def _trial(node: Mapping[str, Any], limit: float, record: Path) -> Trial:
    architecture = Architecture.from_json(json.dumps(node["genotype"]), origin=str(record))
    return Trial(architecture, _number(node["predicted"]), _number(node["measured"]), limit)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)
