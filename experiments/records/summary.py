"""Writes the results of a finished job: a table, a summary, and the machine on which it ran."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from supernet.deployment.bundle import NAME
from supernet.runtime.files import write_whole
from supernet.runtime.text import printable

from .markdown import number

VERSION = 1  # of summary.json


@dataclass(frozen=True)
class Finalist:
    """One network, trained from scratch or (retrain=none) only described.

    Accuracies in [0, 1], None where nothing was trained or held out; a balanced one is the mean over the classes, a
    majority the share of the largest class, which is the accuracy of always saying it. `macs` are multiply-adds for one
    image, `genotype` is its hash and `table` what the table knows of it, None where a field is empty there. More than
    twelve fields: each is a key of summary.json.
    """

    name: str
    parameters: int
    macs: int
    train_accuracy: float | None
    valid_accuracy: float | None
    test_accuracy: float | None = None
    seconds: float | None = None
    genotype: str = ""
    table: dict[str, float | None] = field(default_factory=dict)
    valid_balanced_accuracy: float | None = None
    test_balanced_accuracy: float | None = None
    valid_majority: float | None = None
    test_majority: float | None = None


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that the file is whole or not there."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def show_table(
    console: Console, finalists: Sequence[Finalist], best: Mapping[str, float | None], balanced: bool = True
) -> None:
    """Prints the finalists, the searched one first, and the `best` that the table knows of each of its columns.

    Where the classes are not `balanced`, accuracies have their balanced form beside them, and the last row is what a
    network scores that says the largest class of each image.
    """
    trained = any(f.test_accuracy is not None for f in finalists)
    table = Table(title="Trained from scratch in the same way, tested once" if trained else "Found, not trained")
    known = tuple(finalists[0].table)
    scored = trained and not balanced
    columns: tuple[str, ...] = ("validation", "test") if trained else ()
    if scored:
        columns = ("validation", "balanced", "test", "balanced")
    for column in ("network", "parameters", "MACs", *columns, *known):
        table.add_column(Text(printable(column)), justify="left" if column == "network" else "right")
    for f in finalists:
        scores = [number(f.valid_accuracy), number(f.test_accuracy)] if trained else []
        if scored:
            scores = [scores[0], number(f.valid_balanced_accuracy), scores[1], number(f.test_balanced_accuracy)]
        truth = (number(f.table[column], 2) for column in known)
        table.add_row(f.name, f"{f.parameters:,}", f"{f.macs / 1e6:.2f} M", *scores, *truth)
    if scored:
        chance = (finalists[0].valid_majority, finalists[0].test_majority)
        always = [word for share in chance for word in (number(share), "")]
        table.add_row("always the largest class", "", "", *always, *("" for _ in known), style="dim")
    if best:
        blank = ("",) * (2 + len(columns))
        table.add_row("table's best", *blank, *(number(best.get(column), 2) for column in known), style="dim")
    console.print(table)


def show_next(console: Console, directory: Path, made: Sequence[str]) -> None:
    """Prints what was made, where it lies and what to type next."""
    place = shlex.quote(os.path.relpath(directory))
    lines = [f"Made in {place}:", *(f"  {name}" for name in made if (directory / name).exists())]
    lines += ["Next:", f"  tensorboard --logdir {place}", f"  supernet-show {place}"]
    if (directory / NAME).exists():
        lines.append(f"  supernet-predict {place} image.png")
    console.print("\n".join(map(printable, lines)), markup=False, highlight=False, soft_wrap=True)


def summarise(directory: Path, finalists: Sequence[Finalist], head: dict[str, Any]) -> None:
    """Writes summary.json, whose presence says that the run is finished."""
    write_json(directory / "summary.json", {**head, "finalists": [asdict(f) for f in finalists]})


SUMMARY, ENVIRONMENT = "summary.json", "env.json"
