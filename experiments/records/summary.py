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

VERSION = 2  # of summary.json; reports read version 1, too


_SHORT = {"balanced_accuracy": "balanced", "average_precision": "AP"}  # heads of columns


@dataclass(frozen=True)
class Finalist:
    """One network, trained from scratch or (retrain=none) only described.

    Scores are those of the job's task, which the head of summary.json names, None where nothing was trained or held
    out; others are further ones by name, and chance is the score of the best answer that does not look at the image,
    such as the share of the largest class. `macs` are multiply-adds for one image, `genotype` is its hash and `table`
    what the table knows of it, None where a field is empty there. More than twelve fields: each is a key of
    summary.json.
    """

    name: str
    parameters: int
    macs: int
    train_score: float | None
    valid_score: float | None
    test_score: float | None = None
    seconds: float | None = None
    genotype: str = ""
    table: dict[str, float | None] = field(default_factory=dict)
    valid_others: dict[str, float] = field(default_factory=dict)
    test_others: dict[str, float] = field(default_factory=dict)
    valid_chance: float | None = None
    test_chance: float | None = None


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that the file is whole or not there."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def show_table(
    console: Console,
    finalists: Sequence[Finalist],
    best: Mapping[str, float | None],
    score: str = "accuracy",
    beside: str | None = None,
    *,
    cell: str = "searched",
    begun: str = "",
) -> None:
    """Prints the finalists, the searched one first, and the `best` that the table knows of each of its columns.

    `score` names what they are judged by, and `beside` another of their scores to be shown next to it, such as the
    balanced accuracy where classes are not balanced: then the last row is what a network scores that does not look.
    `cell` is what the first row is called, and `begun` the network whose weights others began with.
    """
    trained = any(f.test_score is not None for f in finalists)
    by = "" if score == "accuracy" else f" ({score})"
    how = f"Begun with {begun}, trained" if begun else "Trained from scratch"
    title = f"{how} in the same way, tested once{by}" if trained else "Found, not trained"
    table = Table(title=Text(printable(title)))
    known = tuple(finalists[0].table)
    scored = trained and beside is not None
    columns: tuple[str, ...] = ("validation", "test") if trained else ()
    if scored:
        short = _SHORT.get(str(beside), str(beside))
        columns = ("validation", short, "test", short)
    for column in ("network", "parameters", "MACs", *columns, *known):
        table.add_column(Text(printable(column)), justify="left" if column == "network" else "right")
    for f in finalists:
        scores = [number(f.valid_score), number(f.test_score)] if trained else []
        if scored:
            others = (number(each.get(str(beside))) for each in (f.valid_others, f.test_others))
            scores = [word for pair in zip(scores, others, strict=True) for word in pair]
        truth = (number(f.table[column], 2) for column in known)
        table.add_row(
            Text(printable(cell if f.name == SEARCHED else f.name)),
            f"{f.parameters:,}",
            f"{f.macs / 1e6:.2f} M",
            *scores,
            *truth,
        )
    if scored and finalists[0].test_chance is not None:
        chance = (finalists[0].valid_chance, finalists[0].test_chance)
        always = [word for share in chance for word in (number(share), "")]
        without = "always the largest class" if score == "accuracy" else "without looking"
        table.add_row(without, "", "", *always, *("" for _ in known), style="dim")
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
SEARCHED, SCRATCH = "searched", "scratch"  # names of networks: of the job's cell; of it with new weights beside
