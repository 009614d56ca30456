"""Compares finished runs: supernet-report RUNS... writes report.md, report.csv and report.png.

supernet-report runs/micro                       every finished run below a folder
supernet-report runs/digits/sweep_2026-... RUN   a sweep and a run
python -m experiments.reports.report runs --output here
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing, write_whole
from supernet.runtime.text import quantity

from ..console import Parser, command
from ..records.markdown import code, escaped, markdown_table, number, spread
from ..records.spreadsheet import csv_text
from ..records.summary import SUMMARY
from .correlation import correlations, noise
from .figure import draw
from .runs import Group, RunRecord, columns, common, find_runs, group, read_runs


@dataclass(frozen=True)
class Section:
    """Runs on the same data in the same space, which can be compared."""

    title: str
    networks: tuple[RunRecord, ...]
    groups: tuple[Group, ...]


@command("supernet-report")
def main() -> None:
    """Runs the command `supernet-report`. A mistake is reported in one line, with exit code 2."""
    parser = Parser(prog="supernet-report", description="Compares finished runs.")
    parser.add_argument("runs", nargs="+", type=Path, help="runs, sweeps or folders of them")
    parser.add_argument("--output", type=Path, default=Path(), help="directory for report.md, .csv and .png")
    given = parser.parse_args()
    networks, left_out = read_runs(find_runs(given.runs))
    for line in left_out if networks else left_out[:-1]:
        print(f"supernet-report: {line}", file=sys.stderr)
    if not networks:
        raise InputError(left_out[-1])
    made = sections(networks)
    text = markdown(made, len({network.run for network in networks}), unfinished(given.runs), len(left_out))
    _write(given.output, text, made)
    print(text)
    print(f"Written: {', '.join(str(given.output / f'report.{kind}') for kind in ('md', 'csv', 'png'))}")


def _write(directory: Path, text: str, made: Sequence[Section]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "report.md", text)
        write_whole(directory / "report.csv", csv_text(csv_rows(made)))
        with replacing(directory / "report.png") as file:
            draw([(section.title, section.groups) for section in made]).savefig(file, format="png")
    except OSError as error:
        raise InputError(f"--output {directory}: cannot be written to ({error.strerror})") from None


def unfinished(places: Sequence[Path]) -> int:
    """How many runs below the places were started and have no summary: they failed, stopped or are still going."""
    started = {path.parent.resolve() for place in places if place.is_dir() for path in place.rglob(".hydra")}
    return sum(not (run / SUMMARY).exists() for run in started)


def sections(networks: Sequence[RunRecord]) -> list[Section]:
    """One section for each pair of data and space, and each score, in the order of their first run."""
    networks_by_title: dict[str, list[RunRecord]] = defaultdict(list)
    for network in networks:
        score = "" if network.score == "accuracy" else f", {network.score}"
        networks_by_title[f"{network.data}, {network.space}{score}"].append(network)
    return [Section(title, tuple(those), tuple(group(those))) for title, those in networks_by_title.items()]


def markdown(made: Sequence[Section], runs: int, left_out: int, unread: int = 0) -> str:
    """Returns the report as text; `runs`, `left_out` (unfinished) and `unread` (damaged) are numbers of runs."""
    count = quantity(runs, "finished run")
    left = f"; {left_out} unfinished left out" if left_out else ""
    left += f"; {unread} that could not be read left out" if unread else ""
    lines = ["# Report", "", f"{count}{left}. ± is the sample standard deviation over runs, which differ in the seed."]
    for section in made:
        lines += ["", f"## {escaped(section.title)}", ""]
        if shared := common(section.networks):
            lines += [f"All runs: {code(' '.join(shared))}.", ""]
        trained = _trained(section)
        for part in (
            trained,
            _known(section),
            _ranks(section),
            _noise(section, bool(trained)),
        ):
            lines += [*part, ""] if part else []
        lines.pop()
    return "\n".join(lines) + "\n"


def _trained(section: Section) -> list[str]:
    groups = [g for g in section.groups if g.values("test")]
    head = ["cells", "runs", "parameters", "validation", "test", "best by validation", "its test", "hours"]
    begun = any(word.startswith("init=") for g in groups for n in g.members for word in n.words)
    title = "Trained:" if begun else "Trained from scratch:"
    return [title, "", *markdown_table(head, map(_trained_row, groups))] if groups else []


def _trained_row(g: Group) -> list[str]:
    chosen = g.chosen()
    best = ("-", "-") if chosen is None else (f"{number(chosen.valid)} (seed {chosen.seed})", number(chosen.test))
    scores = (spread(g.values("valid")), spread(g.values("test")))
    return [g.label, str(len(g.members)), _parameters(g), *scores, *best, f"{_hours(g):.2f}"]


def _known(section: Section) -> list[str]:
    names = [c for c in columns(section.networks) if any(g.truths(c) for g in section.groups)]
    groups = [g for g in section.groups if any(g.truths(c) for c in names)]
    if not groups:
        return []
    best = {c: next(n.best.get(c) for n in section.networks if c in n.table) for c in names}
    head = ["cells", "runs", "different", "parameters", *(word for c in names for word in (c, "regret")), "hours"]
    body = [
        [g.label, str(len(g.members)), str(len({n.genotype for n in g.members})), _parameters(g)]
        + [word for c in names for word in (spread(g.truths(c), 2), spread(_regrets(g, c), 2))]
        + [f"{_hours(g):.2f}"]
        for g in groups
    ]
    known = ", ".join(f"{c} {number(best[c], 2)}" for c in names)
    says = (
        f"What the table knows of the cells, best first by {names[0]}. Regret is the distance to its best: {known}. "
        "The table's numbers are noisy themselves, and runs that found one cell have no spread to show."
    )
    return [says, "", *markdown_table(head, body)]


def _ranks(section: Section) -> list[str]:
    body = [
        [c.over, c.between, str(c.n), *("n/a" if v is None else f"{v:+.2f}" for v in (c.tau, c.rho))]
        for c in correlations(section.groups)
    ]
    head = ["runs", "between", "n", "Kendall's tau", "Spearman's rho"]
    says = 'Rank correlation ("all" puts searches of different methods together, whose supernets differ):'
    return [says, "", *markdown_table(head, body)] if body else []


def _noise(section: Section, trained: bool) -> list[str]:
    floor, score = noise(section.networks), section.networks[0].score
    measured = [(n, v) for n, v in (("validation", floor.valid), ("test", floor.test)) if v is not None]
    if not trained:
        return []
    if not measured:
        return ["Noise: no cell was trained with several seeds (genotype=CELL 'seed=range(5)'); it is not known."]
    what = " and ".join(f"{value:.4f} of {name} {score}" for name, value in measured)
    least = " and ".join(f"{2 * value:.4f} ({name})" for name, value in measured)
    cells = quantity(floor.cells, "cell")
    return [
        f"Noise: {cells} trained with several seeds ({quantity(floor.trainings, 'training')}), of which the standard "
        f"deviation is {what}. "
        f"Differences between two runs below about {least} say nothing."
    ]


def csv_rows(made: Sequence[Section]) -> list[list[object]]:
    """A head and a line for each group: scores in [0, 1], the table's numbers in its own units."""
    names = columns(network for section in made for network in section.networks)
    head = ["data", "space", "method", "cells", "network", "runs", "parameters", "score", "valid_mean", "valid_std"]
    head += ["test_mean", "test_std", "best_run", "best_run_valid", "best_run_test", "hours"]
    lines: list[list[object]] = [[*head, *(f"{c}_{what}" for c in names for what in ("mean", "std", "regret"))]]
    for g in (g for section in made for g in section.groups):
        first, chosen = g.members[0], g.chosen()
        what = [first.data, first.space, first.method if g.kind == "searched" else "", g.label, g.kind]
        best = [chosen.run, chosen.valid, chosen.test] if chosen else [None] * 3
        truths = [v for c in names for v in (*_moments(g.truths(c)), _moments(_regrets(g, c))[0])]
        scores = [*_moments(g.values("valid")), *_moments(g.values("test"))]
        parameters = statistics.mean(g.values("parameters"))
        lines.append([*what, len(g.members), parameters, first.score, *scores, *best, round(_hours(g), 4), *truths])
    return lines


def _moments(values: Sequence[float]) -> tuple[float | None, float | None]:
    mean = statistics.mean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def _regrets(g: Group, column: str) -> list[float]:
    return [value for n in g.members if (value := n.regret(column)) is not None]


def _hours(g: Group) -> float:
    return sum(n.seconds for n in g.members) / 3600


def _parameters(g: Group) -> str:
    return f"{statistics.mean(g.values('parameters')):,.0f}"


if __name__ == "__main__":
    main()
