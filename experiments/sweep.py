"""The table at the end of a sweep: every run, and mean and spread over seeds."""

from __future__ import annotations

import csv
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console


@dataclass(frozen=True)
class Row:
    """One network of one run: `settings` are the run's overrides without the seed."""

    job: str
    settings: str
    seed: str
    network: str
    parameters: int
    valid: float | None
    test: float | None


class SweepTable(Callback):
    """Writes sweep.csv and sweep.md into the sweep's directory and prints the latter (a Hydra callback)."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra after the last job."""
        directory = Path(config.hydra.sweep.dir)
        if rows := read_rows(directory):
            self._write(directory, rows)
        if failed := [path.parent.name for path in directory.glob("*/.hydra") if not _finished(path.parent)]:
            names = ", ".join(sorted(failed, key=lambda name: (len(name), name)))
            Console(stderr=True).print(
                f"supernet: no result from job {names} in {directory}", style="red", soft_wrap=True
            )
            sys.exit(1)

    def _write(self, directory: Path, rows: Sequence[Row]) -> None:
        with (directory / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(Row.__dataclass_fields__)
            writer.writerows(vars(row).values() for row in rows)
        text = markdown(rows)
        (directory / "sweep.md").write_text(text, encoding="utf-8")
        Console().print(f"{text}\nWritten to {directory}", markup=False, highlight=False, soft_wrap=True)


def read_rows(directory: Path) -> list[Row]:
    """The networks of all finished jobs of a sweep."""
    rows = []
    for path in sorted(directory.glob("*/summary.json"), key=lambda p: (len(p.parent.name), p.parent.name)):
        summary = json.loads(path.read_text(encoding="utf-8"))
        overrides = yaml.safe_load((path.parent / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")) or []
        settings = " ".join(word for word in overrides if not word.startswith("seed="))
        for f in summary["finalists"]:
            name = "random" if f["name"].startswith("random") else f["name"]
            scores = (f["valid_accuracy"], f["test_accuracy"])
            rows.append(Row(path.parent.name, settings, str(summary["seed"]), name, f["parameters"], *scores))
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """Two tables: every run, and mean and sample standard deviation of runs that differ in the seed alone."""
    lines = ["| job | settings | seed | network | parameters | validation | test |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        scores = f"{_number(r.valid)} | {_number(r.test)}"
        lines.append(
            f"| {r.job} | {r.settings or '(defaults)'} | {r.seed} | {r.network} | {r.parameters:,} | {scores} |"
        )
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for r in rows:
        groups[r.settings, r.network].append(r)
    lines += ["", "| settings | network | runs | validation | test |", "|---|---|---|---|---|"]
    for (settings, network), members in groups.items():
        valid, test = _spread([m.valid for m in members]), _spread([m.test for m in members])
        lines.append(f"| {settings or '(defaults)'} | {network} | {len(members)} | {valid} | {test} |")
    return "\n".join(lines) + "\n"


def _finished(job: Path) -> bool:
    return (job / "summary.json").exists()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _spread(values: Sequence[float | None]) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    spread = f"{statistics.stdev(known):.4f}" if len(known) > 1 else "n/a"
    return f"{statistics.mean(known):.4f} ± {spread}"
