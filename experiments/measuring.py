"""Under a latency limit the network that a search has found is measured; if it breaks the limit, the next one is taken.

What was measured is kept in measured.json, so that a run that goes on takes the same network, and in summary.json.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from supernet.runtime.reading import is_file
from supernet.runtime.run import Run
from supernet.search.loop import Searched
from supernet.search.measured_winner import MeasuredWinner, Trial
from supernet.search.measuring import MEASURED, Clock, lines_of, measured_search, read_record
from supernet.space.architecture import Architecture

from .console import say
from .job import Job
from .latencies import LATENCY, Latencies, latencies_of
from .records.provenance import short_hash


def winner_of(job: Job, found: Searched) -> Architecture:
    """The architecture that a search has found, or the next one where that breaks the latency limit when measured.

    Without a latency limit it is the found one, and nothing is measured.
    """
    latencies = _measurable(job, "the found network")
    if latencies is None:
        return found.architecture
    assert job.divided.search is not None
    train, valid = (job.data.train.subset(half) for half in job.divided.search)

    def run_of(name: str) -> Run:
        return replace(job.template, checkpoint=job.directory / "checkpoints" / f"{name}.pt")

    clock = Clock(LATENCY, latencies.milliseconds, job.directory / MEASURED)
    measured = measured_search(
        job.search, found, clock, train, valid, job.data.augmentation, run_of=run_of, task=job.task
    )
    for line in lines_of(measured):
        say(f"supernet: {line}", job.console)
    return measured.winner.architecture


def tell_time(job: Job, given: Architecture) -> None:
    """Measures a network that was given and not searched, where there is a latency limit, and tells what it takes."""
    latencies = _measurable(job, "the given network")
    if latencies is None:
        return
    assert job.limits is not None
    costs, limit = job.limits.costs, job.limits.most[LATENCY]
    time = latencies.milliseconds(costs.network(given), job.data.shape)
    for line in lines_of(MeasuredWinner((Trial(given, costs.of(LATENCY, given), time, limit),)))[:1]:
        say(f"supernet: the given network: {line}", job.console)


def _measurable(job: Job, what: str) -> Latencies | None:
    """What measures networks; None where there is no latency limit, or, with a line that says why, where it cannot."""
    if not job.limits or LATENCY not in job.limits.most:
        return None
    path = job.settings["costs"].get(LATENCY)
    latencies = latencies_of(Path(path)) if isinstance(path, str) else None
    reason = "its latency is a function of your own" if latencies is None else latencies.why_not_measured()
    if reason:
        say(f"supernet: {what} is not measured: {reason}", job.console)
        return None
    return latencies


def measured_for_summary(directory: Path) -> dict[str, Any]:
    """What was measured, for summary.json: milliseconds of each candidate, in the order in which they were tried."""
    record = directory / MEASURED
    if not is_file(record):
        return {}
    measured = read_record(record)
    return {
        "measured": [
            {
                "genotype": short_hash(trial.architecture.to_json()),
                "predicted": trial.predicted,
                "measured": trial.measured,
                "limit": trial.limit,
                "kept": trial.kept,
                "taken": trial is measured.winner,
            }
            for trial in measured.trials
        ]
    }
