"""Writes a front: front.csv, front.svg, its TensorBoard page, and lines for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from rich.console import Console
from rich.table import Table
from rich.text import Text

from supernet.estimation.space_costs import COUNTED, SpaceCosts
from supernet.runtime.files import replacing, write_whole
from supernet.runtime.report import RunReport
from supernet.runtime.text import printable, quantity
from supernet.search.black_box.fronts import Front
from supernet.space.architecture import Architecture

from ..console import say
from ..exploration.material import Material
from ..latencies import Latencies
from ..records.spreadsheet import csv_text
from .picture import draw
from .settings import FORMAT, FRONT, SETTINGS, VERSION
from .units import in_words, scale
from .units import title as column_title

_SHOWN = 20  # rows on the terminal
_CURVE = 50  # points of the hypervolume's curve


@dataclass(frozen=True)
class Asked:
    """What was asked of a run.

    Args:
        run: its folder.
        material: its trained supernet.
        costs: of its final networks.
        cost: the name of the one that the front is of.
        output: the folder of the results.
        latencies: the file of measured times; None: there is none.
        settings: all on which the front depends, by name.
    """

    run: Path
    material: Material
    costs: SpaceCosts
    cost: str
    output: Path
    latencies: Latencies | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def all_costs(self, architecture: Architecture) -> dict[str, float]:
        """Every cost of an architecture, that of the front first."""
        names = dict.fromkeys((self.cost, *self.costs.own, *self.costs.made, *COUNTED))
        return {name: self.costs.of(name, architecture) for name in names}


def write(asked: Asked, front: Front, limit: float | None, console: Console) -> None:
    """Writes all files, and prints the front."""
    rows = [(point.score, asked.all_costs(point.architecture), point.architecture) for point in front.points]
    names = list(rows[0][1])
    table = [[front.score, *names, "architecture"]]
    table += [[repr(score), *map(repr, costs.values()), _in_a_line(cell)] for score, costs, cell in rows]
    write_whole(asked.output / FRONT, "".join(_head(asked, front)) + csv_text(table))
    title = f"{asked.material.space.name}, judged by the supernet of {asked.run.name}; {hypervolume_in_words(front)}"
    same = rc_context({"svg.hashsalt": "supernet"})  # and no date: the same front is the same file
    with replacing(asked.output / "front.svg") as file, same:
        draw(front, title, limit).savefig(file, format="svg", metadata={"Date": None})
    _report(asked, front, title, limit, console)
    _show(front, [(score, costs) for score, costs, _ in rows], console)
    say(f"supernet-pareto: {hypervolume_in_words(front)}", console)
    say(f"Written: {asked.output / FRONT}, {asked.output / 'front.svg'}", console)


def hypervolume_in_words(front: Front) -> str:
    """The hypervolume with the reference that it depends on."""
    score, cost = front.reference
    return (
        f"hypervolume {front.hypervolume:.6g}, {front.share:.1%} of the area above the reference point "
        f"({front.score} {score:.4g}, {in_words(front.cost, cost)})"
    )


def _head(asked: Asked, front: Front) -> Iterator[str]:
    score, cost = front.reference
    said = {
        "format": FORMAT,
        "version": VERSION,
        "run": str(asked.run),
        "space": asked.material.space.name,
        "judged": len(front.tried),
        SETTINGS: dict(asked.settings),
        "hypervolume": front.hypervolume,
        "reference": {front.score: score, front.cost: cost},
        "share": front.share,
    }
    yield f"# {json.dumps(said)}\n"


def _in_a_line(architecture: Architecture) -> str:
    """The genotype as JSON, which `supernet.Architecture.from_json` reads."""
    return json.dumps(json.loads(architecture.to_json()), separators=(",", ":"))


def _report(asked: Asked, front: Front, title: str, limit: float | None, console: Console) -> None:
    """A TensorBoard page: the hypervolume over the evaluations, and the picture. An older one is forgotten."""
    report = RunReport(asked.output, "front", console)
    try:
        report.resume(1)
        count = len(front.tried)
        for step in sorted({max(1, round(count * part / _CURVE)) for part in range(1, _CURVE + 1)}):
            partial = front.first(step)
            report.scalars({"pareto/hypervolume": partial.hypervolume, "pareto/share": partial.share}, step)
        report.figure("pareto/front", lambda: draw(front, title, limit), count)
    finally:
        report.close()


def _show(front: Front, rows: list[tuple[float, Mapping[str, float]]], console: Console) -> None:
    """Prints the front; of a long one some points from end to end."""
    judged = quantity(len(front.tried), "architecture that was judged", "architectures that were judged")
    table = Table(title=f"The front: {len(rows)} of {judged}")
    table.add_column(Text(printable(front.score)), justify="right")
    units = {name: scale(name, max(costs[name] for _, costs in rows)) for name in rows[0][1]}
    for name, (_, unit) in units.items():
        table.add_column(Text(printable(column_title(name, unit))), justify="right")
    places = sorted({round(i * (len(rows) - 1) / max(1, min(_SHOWN, len(rows)) - 1)) for i in range(_SHOWN)})
    for score, costs in (rows[place] for place in places if place < len(rows)):
        table.add_row(f"{score:.4f}", *(f"{value / units[name][0]:.4g}" for name, value in costs.items()))
    console.print(table)
    if len(rows) > _SHOWN:
        more = quantity(len(rows) - len(places), "point between them is", "points between them are")
        say(f"{more} in front.csv", console)
