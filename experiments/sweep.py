"""The tables at the end of a sweep: every run, and mean and spread over seeds, best first."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from .markdown import code, number, spread, table
from .resume import SUMMARY
from .runs import Network, columns, common, group, natural, read_run
from .spreadsheet import row


class SweepTable(Callback):
    """Writes sweep.csv and sweep.md into the sweep's directory and prints the latter (a Hydra callback)."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra after the last job."""
        directory = Path(config.hydra.sweep.dir)
        if networks := read_sweep(directory):
            self._write(directory, networks)
        if failed := [path.parent.name for path in directory.glob("*/.hydra") if not _finished(path.parent)]:
            names = ", ".join(sorted(failed, key=lambda name: (len(name), name)))
            Console(stderr=True).print(
                f"supernet: no result from job {names} in {directory}", style="red", soft_wrap=True
            )
            sys.exit(1)

    def _write(self, directory: Path, networks: Sequence[Network]) -> None:
        known = columns(networks)
        with (directory / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(row(["job", "settings", "seed", "network", "parameters", "valid", "test", *known]))
            for n in networks:
                what = (n.run.name, " ".join(n.words), n.seed, n.kind, n.parameters)
                writer.writerow(row([*what, n.valid, n.test, *(n.table.get(column) for column in known)]))
        text = markdown(networks)
        (directory / "sweep.md").write_text(text, encoding="utf-8")
        Console().print(f"{text}\nWritten to {directory}", markup=False, highlight=False, soft_wrap=True)


def read_sweep(directory: Path) -> list[Network]:
    """The networks of all finished jobs of a sweep, in the order of the jobs."""
    paths = sorted(directory.glob(f"*/{SUMMARY}"), key=natural)
    return [network for path in paths for network in read_run(path)]


def markdown(networks: Sequence[Network]) -> str:
    """Two tables: every run, and mean and sample standard deviation of runs that differ in the seed alone.

    The second has each random cell once (beside another search it is the same) and is sorted, best first.
    """
    shared, known = common(networks), columns(networks)
    runs = [
        [n.run.name, _own(n, shared), str(n.seed), n.kind, f"{n.parameters:,}", number(n.valid), number(n.test)]
        + [number(n.table.get(column), 2) for column in known]
        for n in networks
    ]
    groups = [
        [g.label, g.kind, str(len(g.members)), spread(g.values("valid")), spread(g.values("test"))]
        + [spread(g.truths(column), 2) for column in known]
        for g in group(networks)
    ]
    lines = [f"All runs: {code(' '.join(shared))}", ""] if shared else []
    lines += table(["job", "settings", "seed", "network", "parameters", "validation", "test", *known], runs)
    lines += ["", *table(["settings", "network", "runs", "validation", "test", *known], groups)]
    return "\n".join(lines) + "\n"


def _own(network: Network, shared: Sequence[str]) -> str:
    return " ".join(word for word in network.words if word not in shared) or "(defaults)"


def _finished(job: Path) -> bool:
    return (job / SUMMARY).exists()
