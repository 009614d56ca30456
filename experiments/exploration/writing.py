"""Writes what came out of an exploration: explore.md, explore.csv, explore.png and the genotypes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from supernet.estimation.benchmark_tables import Table
from supernet.runtime.files import replacing, write_whole
from supernet.runtime.text import quantity
from supernet.search.black_box.comparison import Comparison, Judge, MakeExplorer, Truth
from supernet.search.black_box.exploring import Budget
from supernet.space.architecture import Architecture

from ..console import say
from ..records.markdown import code
from ..records.provenance import short_hash
from ..records.spreadsheet import csv_text
from .lines import Known, Line, csv_rows, lines, picks_table, ranks_table
from .material import Material
from .picture import draw
from .scores import PARAMETERS, size_column
from .words import Asked


@dataclass(frozen=True)
class Plan:
    """All parts of an exploration, made before anything runs."""

    asked: Asked
    material: Material
    explorers: Mapping[str, MakeExplorer]
    judges: Mapping[str, Judge]
    budget: Budget
    objectives: tuple[str, ...]
    truth: Truth | None
    answers: Sequence[Line]
    output: Path


def write(plan: Plan, compared: Comparison, console: Console) -> None:
    """Writes all files of the results, and prints the tables."""
    known, costs = _known(plan, compared), _costs(plan.material)
    made = lines(compared, plan.answers, PARAMETERS, known)
    text = "\n".join(_markdown(plan, compared, made, known, costs)) + "\n"
    output = plan.output
    write_whole(output / "explore.md", text)
    write_whole(output / "explore.csv", csv_text(csv_rows(made, known, costs)))
    with replacing(output / "explore.png") as file:
        draw(made, compared.sample, known).savefig(file, format="png")
    if plan.material.job is not None:
        _save_genotypes(made, output / "genotypes")
    print(text)
    say(f"Written: {', '.join(str(output / f'explore.{kind}') for kind in ('md', 'csv', 'png'))}", console)


def _known(plan: Plan, compared: Comparison) -> Known | None:
    if plan.truth is None:
        return None
    table = plan.material.table
    if isinstance(table, Table):
        place = table.columns.index(plan.truth.value)
        values = [row[place] for row in table.rows.values() if row[place] == row[place]]
        return Known(plan.truth, sorted(values), f"the table's {quantity(len(values), 'cell')}")
    values = [value for value in compared.sample.truths if value is not None]
    return Known(plan.truth, sorted(values), f"the {quantity(len(values), 'drawn one')}")


def _costs(material: Material) -> Callable[[Architecture], Mapping[str, float]]:
    """Parameters and multiply-adds of a pick; from the table alone in the tabular benchmark, where it has them."""
    column = size_column(material)
    if material.job is None and column is not None:
        return lambda architecture: {PARAMETERS: material.look_up(architecture).values[column]}
    costs = material.costs(PARAMETERS, "macs", *(n for n in material.limits.most if n not in (PARAMETERS, "macs")))
    return lambda architecture: costs(architecture).values


def _save_genotypes(made: Sequence[Line], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for line in (line for line in made if line.kind != "any"):
        for pick in line.picks:
            name = short_hash(pick.architecture.to_json())
            pick.architecture.save(folder / f"{name}.json")


def _limit_in_words(name: str, limit: float) -> str:
    whole = int(limit) if float(limit).is_integer() else limit
    return quantity(whole, name.replace("_", " ").removesuffix("s"))


def _markdown(
    plan: Plan,
    compared: Comparison,
    made: Sequence[Line],
    known: Known | None,
    costs: Callable[[Architecture], Mapping[str, float]],
) -> Iterator[str]:
    asked, material = plan.asked, plan.material
    what = "the tabular benchmark" if asked.run is None else f"the run {code(asked.run)}"
    seeds = f"seed {asked.seeds[0]}" if len(asked.seeds) == 1 else quantity(len(asked.seeds), "seed")
    limits = [_limit_in_words(n, limit) for n, limit in vars(plan.budget).items() if limit]
    count = material.candidates.count
    space = f"space {code(material.space.name)}" + ("" if count is None else f" ({quantity(count, 'architecture')})")
    yield from ("# Exploration", "", f"{what[0].upper()}{what[1:]}, {space}; budget {', '.join(limits)}; {seeds}.", "")
    yield from ("## What was picked", "")
    yield from picks_table(made, known, costs)
    yield ""
    yield _legend(plan, known)
    ranks = ranks_table(compared.sample)
    if ranks:
        n = len(compared.sample.architectures)
        yield from ("", "## How well each score ranks", "", *ranks, "")
        yield (
            f"Over the same {quantity(n, 'architecture')}, drawn at random, each computing something else. In "
            "brackets: 95 % bootstrap intervals. A score that ranks well over all may still rank the best ones badly:"
            " for a search the columns about the top decile count. Precision at 10 %: which share of the best tenth "
            "by the score is in the best tenth by the truth; chance is 0.1. Parameters are what every score has to "
            "beat."
        )


def _legend(plan: Plan, known: Known | None) -> str:
    text = (
        "`random`: the best by that score of as many architectures drawn at random. `random` with "
        f"`{PARAMETERS}`: of as many drawn the one with the most parameters, which asks no network at all."
    )
    if known is not None:
        text += f' Regret and "better than" refer to {known.of}.'
    if len(plan.asked.seeds) > 1:
        text += " ± is the sample standard deviation over the seeds, s.e. the standard error of the mean."
    return text
