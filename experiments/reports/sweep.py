"""The tables at the end of a sweep: every run, and mean and spread over seeds, best first."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.override_parser.types import Glob
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from supernet.runtime.errors import InputError
from supernet.runtime.files import write_whole
from supernet.runtime.interrupt import Interrupted
from supernet.runtime.text import printable, quantity

from .. import resume, sweeping
from ..console import complain, say
from ..recorded_words import parse, values_of
from ..records.markdown import code, markdown_table, number, spread
from ..records.spreadsheet import csv_text
from ..records.summary import SUMMARY
from .runs import RunRecord, columns, common, group, natural, read_run


class SweepTable(Callback):
    """Reserves a sweep's directory at its start; writes and prints its tables at its end (a Hydra callback)."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra before it writes anything, in the process of the command."""
        directory = Path(config.hydra.sweep.dir)
        try:
            sweeping.begin(directory, _jobs(config.hydra.overrides.task))
            before = resume.launched_by(directory)
            resume.keep_record(directory)
        except (InputError, OSError) as error:
            complain(str(error))
            sys.exit(2)
        if before and not any(word in sys.argv for word in before):
            complain(f"this sweep was begun with {' '.join(before)}; add it to run its jobs so again")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra after the last job."""
        conclude(Path(config.hydra.sweep.dir))


def conclude(directory: Path, broken: str = "") -> None:
    """Writes sweep.csv and sweep.md into a sweep's directory, prints the latter, and names jobs without a result.

    Where there are such jobs the process ends, with 128 + signal where a signal has stopped the sweep, otherwise 1.

    Args:
        directory: of the sweep.
        broken: why not all jobs were run, in a few words.
    """
    if networks := read_sweep(directory):
        _write(directory, networks)
    folders = sorted({path.parent for path in directory.rglob(".hydra")}, key=natural)
    failed = [str(job.relative_to(directory)) for job in folders if not (job / SUMMARY).exists()]
    waiting = max((sweeping.jobs() or 0) - len(folders), 0)
    if failed or waiting or broken:
        _leave(directory, failed, waiting, broken)


def _leave(directory: Path, failed: Sequence[str], waiting: int, broken: str) -> NoReturn:
    stop = Interrupted(signalled) if (signalled := sweeping.stopped()) else None
    why = [str(stop)] if stop else [broken] if broken else []
    lacking = [f"no result from job {', '.join(failed)}"] if failed else []
    lacking += [f"{quantity(waiting, 'job has', 'jobs have')} not begun"] if waiting else []
    again = resume.command(directory, sys.argv[1:])
    complain(
        f"{'; '.join([*why, ' and '.join(lacking) or 'all jobs have results'])} in {directory}; to try again: {again}"
    )
    sys.exit(stop.exit_code if stop else 1)


def _jobs(words: Iterable[str]) -> int | None:
    """How many jobs a sweep with these words has; None where the words do not say it."""
    overrides = [override for override in map(parse, words) if override is not None]
    if any(isinstance(override.value(), Glob) for override in overrides):
        return None
    return math.prod(len(list(values_of(override))) for override in overrides) or None


def _write(directory: Path, networks: Sequence[RunRecord]) -> None:
    known = columns(networks)
    head = ["job", "settings", "seed", "network", "parameters", "score", "valid", "test"]
    lines: list[list[object]] = [[*head, *known]]
    for n in networks:
        what = (_job(n, directory), " ".join(n.words), n.seed, n.kind, n.parameters, n.score)
        lines.append([*what, n.valid, n.test, *(n.table.get(column) for column in known)])
    write_whole(directory / "sweep.csv", csv_text(lines))
    text = markdown(networks, directory)
    write_whole(directory / "sweep.md", text)
    Console().print("\n".join(map(printable, text.splitlines())), markup=False, highlight=False, soft_wrap=True)
    say(f"Written to {directory}")


def read_sweep(directory: Path) -> list[RunRecord]:
    """The networks of all finished jobs of a sweep, however deep their folders lie, in the order of the jobs."""
    found: list[RunRecord] = []
    for path in sorted(directory.rglob(SUMMARY), key=natural):
        try:
            found += read_run(path)
        except InputError as error:  # the others still make a table
            complain(str(error))
    return found


def markdown(networks: Sequence[RunRecord], directory: Path) -> str:
    """Two tables of the sweep in `directory`: every run, and mean and spread of runs that differ in the seed alone.

    The spread is the sample standard deviation. The second table has each random cell once (beside another search it
    is the same) and is sorted, best first; networks of another score are no better or worse, and stand by themselves.
    """
    shared, known = common(networks), columns(networks)
    scores = list(dict.fromkeys(n.score for n in networks))
    named = scores != ["accuracy"]  # which goes without saying
    runs = [
        [
            *(_job(n, directory), _own(n, shared), str(n.seed), n.kind, f"{n.parameters:,}"),
            *([n.score] if named else []),
            *(number(n.valid), number(n.test)),
            *(number(n.table.get(column), 2) for column in known),
        ]
        for n in networks
    ]
    groups = [
        [
            *(g.label, g.kind, str(len(g.members))),
            *([score] if named else []),
            *(spread(g.values("valid")), spread(g.values("test"))),
            *(spread(g.truths(column), 2) for column in known),
        ]
        for score in scores
        for g in group([n for n in networks if n.score == score])
    ]
    judged = [*(["score"] if named else []), "validation", "test", *known]
    lines = [f"All runs: {code(' '.join(shared))}", ""] if shared else []
    lines += markdown_table(["job", "settings", "seed", "network", "parameters", *judged], runs)
    lines += ["", *markdown_table(["settings", "network", "runs", *judged], groups)]
    return "\n".join(lines) + "\n"


def _own(network: RunRecord, shared: Sequence[str]) -> str:
    return " ".join(word for word in network.words if word not in shared) or "(defaults)"


def _job(network: RunRecord, directory: Path) -> str:
    """The name of a network's job: its folder, seen from that of the sweep."""
    return str(network.run.relative_to(directory))
