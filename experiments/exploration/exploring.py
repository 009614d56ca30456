"""Tries all combinations that a command line asks for, and writes what came out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from supernet.estimation.benchmark_tables import Table
from supernet.genotypes.lookup import find_genotype
from supernet.runtime.errors import InputError
from supernet.runtime.files import check_directory, locked, replacing, write_whole
from supernet.runtime.interrupt import Interruption
from supernet.runtime.report import RunReport
from supernet.runtime.run import Run
from supernet.search.black_box.comparison import SAMPLE, Comparison, Judge, MakeExplorer, Pick, Place, Truth, compare
from supernet.search.black_box.exploring import Budget
from supernet.search.strategy import Strategy
from supernet.space.architecture import Architecture

from ..console import say
from ..conversion import leaves
from ..instantiate import UNFIT, build, named
from ..records.markdown import code
from ..records.provenance import short_hash
from ..records.spreadsheet import csv_text
from .finished_run import material_of
from .lines import OWN, Known, Line, csv_rows, lines, picks_table, ranks_table
from .material import Material
from .picks_file import PicksFile
from .picture import draw
from .scores import PARAMETERS, Joined, macs, parameters, size_column
from .words import Asked

_OUTPUT = "explore"
_DEFAULT = Budget(evaluations=1000)


@dataclass(frozen=True)
class _Plan:
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


def explore_all(asked: Asked, interruption: Interruption) -> None:
    """Does all that the command does, after its words are read."""
    plan = _plan(asked, interruption)
    _check_output(plan.output)
    plan.output.mkdir(parents=True, exist_ok=True)
    with locked(plan.output):
        console = Console()
        picks = _picks(plan, interruption, console)
        with _named_parts(plan):
            compared = compare(
                plan.explorers,
                plan.judges,
                plan.material.candidates,
                plan.budget,
                baseline=(PARAMETERS, parameters(plan.material)),
                beside=_beside(plan),
                seeds=asked.seeds,
                sample=_sample(asked.settings["sample"]),
                objectives=plan.objectives,
                truth=plan.truth,
                place=_places(plan, interruption, console),
                picks=picks,
            )
        _write(plan, compared, console)


def _plan(asked: Asked, interruption: Interruption) -> _Plan:
    settings = asked.settings
    budget = _budget(settings["budget"])
    limits = {name: value for name, value in settings["limits"].items() if value is not None}
    for name, value in limits.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise InputError(f"limits.{name}={value}: needs a number above 0")
    explorers = {name: build(node, f"explorer.{name}") for name, node in settings["explorer"].items()}
    scores = {name: build(node, f"score.{name}") for name, node in settings["score"].items()}
    objectives = tuple(map(str, settings["objectives"]))
    if asked.run is None:
        material = _of_a_space(asked, limits)
    else:
        material = material_of(asked.run, asked.for_the_run, asked.folders, limits, interruption)
        if asked.table:
            material = replace(material, table=_table(settings, ()))
    truth = None
    if material.table is not None:
        truth = Truth(material.look_up, _truth_column(material, settings["truth"]))
    judges = {name: _judge(make(material), material, objectives) for name, make in scores.items()}
    for name in explorers:
        if not callable(explorers[name]):
            raise InputError(f"explorer.{name}: needs a class of explorers; _partial_: true is missing")
    output = asked.output or (Path(_OUTPUT) if asked.run is None else asked.run / _OUTPUT)
    answers = _answers(asked, material)
    return _Plan(asked, material, explorers, judges, budget, objectives, truth, answers, output)


def _budget(node: Mapping[str, Any]) -> Budget:
    if all(value is None for value in node.values()):
        return _DEFAULT
    made: Budget = build({"_target_": f"{Budget.__module__}.{Budget.__qualname__}", **node}, "budget")
    return made


def _sample(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InputError(f"sample={value}: needs a whole number of architectures, 0 or more")
    return value


def _of_a_space(asked: Asked, limits: Mapping[str, float]) -> Material:
    """The material of the tabular benchmark."""
    settings = asked.settings
    if settings["space"] is None:
        raise InputError("space=...: without a run a space is needed, such as space=micro or space=nasbench201")
    space = build(settings["space"], "space")
    wanted = [node.get("column") for node in settings["score"].values()]
    table = None if settings["table"] is None else _table(settings, [settings["truth"], *wanted])
    return Material(space, table=table, limits=limits)


def _table(settings: Mapping[str, Any], wanted: Sequence[str | None]) -> Any:
    """The table with the columns that are asked for, and with the numbers of parameters where it has them."""
    node = settings["table"]
    if not isinstance(node, dict):
        return None
    if "columns" not in node or not isinstance(node["columns"], list):
        return build(node, "table")
    columns = list(dict.fromkeys([*node["columns"], *(name for name in wanted if name is not None)]))
    try:
        return build({**node, "columns": [*dict.fromkeys([*columns, "params"])]}, "table")
    except InputError:  # it has no such column, or there is another mistake, which comes again
        return build({**node, "columns": columns}, "table")


def _truth_column(material: Material, asked: str | None) -> str:
    if isinstance(material.table, Table):
        return material.column(asked, "test", "truth")
    if asked is None:
        raise InputError("truth=...: this table is a function; say which of its values is the truth")
    return asked


def _judge(judge: Any, material: Material, objectives: Sequence[str]) -> Judge:
    if not isinstance(judge, Judge):
        raise InputError(f"score: its function gives {type(judge).__name__}; needs exploration.scores.Judge")
    if not objectives:
        return judge
    costs = material.costs if "macs" in "".join(objectives) else material.size
    return replace(judge, score=Joined((judge.score, costs)))


def _answers(asked: Asked, material: Material) -> list[Line]:
    """What the run says by itself: its genotype, and what discretisers make of its alphas."""
    names = list(asked.options["discretiser"])
    if material.restored is None:
        if names:
            raise InputError(f"discretiser={names[0]}: needs a run with alphas: supernet-explore RUN discretiser=...")
        return []
    assert asked.run is not None
    own = find_genotype(str(asked.run))
    found = [Line(OWN, "", "discretiser", [Pick(OWN, "", 0, own)])]
    strategy = material.restored.strategy
    if names and not _ranks(strategy):
        raise InputError(f"discretiser={names[0]}: this run's strategy ranks no operations, as it has no alphas")
    for name in names:
        node = asked.settings["discretiser"][name]
        discretiser = build(node, f"discretiser.{name}")
        with named({f"discretiser.{name}": discretiser}, UNFIT):
            chosen = discretiser(strategy.space, strategy.decisions, strategy.strengths())
        found.append(Line(f"discretiser {name}", "", "discretiser", [Pick(name, "", 0, chosen)]))
    return found


def _ranks(strategy: Strategy) -> bool:
    """Whether some option is stronger than another one of its decision."""
    return any(float(weight.max()) > float(weight.min()) for weight in strategy.strengths().values())


def _beside(plan: _Plan) -> dict[str, Judge]:
    """The multiply-adds; not in the tabular benchmark where the table has the numbers of parameters."""
    if plan.material.job is None and size_column(plan.material) is not None:
        return {}
    return {} if "macs" in plan.judges else {"macs": macs(plan.material)}


def _named_parts(plan: _Plan) -> Any:
    return named({"": compare, "budget": plan.budget, "objectives": None})


def _check_output(output: Path) -> None:
    """Refuses a folder out of which a link leads, and one that is no folder."""
    if output.exists() and not output.is_dir():
        raise InputError(f"output={output}: is no folder; give another one")
    if output.is_dir():
        check_directory(output, files=("picks.csv", "explore.md"))


def _settings_of(plan: _Plan) -> Callable[[str, str], str]:
    """(explorer, score) -> a hash of all that a pick depends on besides its seed."""
    material, settings = plan.material, plan.asked.settings
    shared: dict[str, Any] = {name: settings[name] for name in ("budget", "limits", "objectives")}
    shared |= {"space": settings["space"], "table": dict(leaves(settings["table"] or {}))}
    if material.job is not None:
        checkpoints = sorted((material.job.directory / "checkpoints").glob("search*.pt"))
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in checkpoints]
        shared |= {"run": dict(material.job.template.fingerprint), "checkpoints": hashes}

    def settings_of(explorer: str, score: str) -> str:
        own = {"explorer": settings["explorer"].get(explorer), "score": settings["score"].get(score)}
        more = {"sample": settings["sample"]} if explorer == SAMPLE else {}
        first = next(iter(settings["score"].items())) if score not in settings["score"] else None
        return short_hash({**shared, **own, **more, "names": [explorer, score], "first": first})

    return settings_of


def _places(plan: _Plan, interruption: Interruption, console: Console) -> Callable[[str, str, int], Place]:
    """Where the explorations of a run report and save, each in files of its own; nowhere in the tabular benchmark."""
    job, output, settings_of = plan.material.job, plan.output, _settings_of(plan)
    if job is None:
        return lambda explorer, score, seed: Place()

    def place(explorer: str, score: str, seed: int) -> Place:
        settings = settings_of(explorer, score)
        stem = f"{explorer}_{score}_seed{seed}_{settings}" if explorer != SAMPLE else f"{SAMPLE}_{score}_{settings}"
        run = Run(
            device=job.device,
            seed=seed,
            report=RunReport(output, stem, console),
            checkpoint=output / "checkpoints" / f"{stem}.pt",
            fingerprint={"explored": settings},
            save_seconds=job.template.save_seconds,
            interruption=interruption,
        )
        return Place(run, output / "evaluations" / f"{stem}.csv")

    return place


def _picks(plan: _Plan, interruption: Interruption, console: Console) -> Any:
    def tell(pick: Pick) -> None:
        if plan.material.job is not None:
            say(
                f"{pick.explorer}, {pick.score}, seed {pick.seed}: {pick.value:.4f} after {pick.evaluations:,} "
                f"evaluations in {pick.seconds:.1f} s; {pick.ended}",
                console,
            )

    path = plan.output / "picks.csv"
    return PicksFile(path, plan.material.candidates, _settings_of(plan), interruption, tell)


def _write(plan: _Plan, compared: Comparison, console: Console) -> None:
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


def _known(plan: _Plan, compared: Comparison) -> Known | None:
    if plan.truth is None:
        return None
    table = plan.material.table
    if isinstance(table, Table):
        place = table.columns.index(plan.truth.value)
        values = [row[place] for row in table.rows.values() if row[place] == row[place]]
        return Known(plan.truth, sorted(values), f"the table's {len(values):,} cells")
    values = [value for value in compared.sample.truths if value is not None]
    return Known(plan.truth, sorted(values), f"the {len(values):,} drawn ones")


def _costs(material: Material) -> Callable[[Architecture], Mapping[str, float]]:
    """Parameters and multiply-adds of a pick; from the table alone in the tabular benchmark, where it has them."""
    column = size_column(material)
    if material.job is None and column is not None:
        return lambda architecture: {PARAMETERS: material.look_up(architecture).values[column]}
    return lambda architecture: material.costs(architecture).values


def _save_genotypes(made: Sequence[Line], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for line in (line for line in made if line.kind != "any"):
        for pick in line.picks:
            name = short_hash(pick.architecture.to_json())
            pick.architecture.save(folder / f"{name}.json")


def _markdown(
    plan: _Plan,
    compared: Comparison,
    made: Sequence[Line],
    known: Known | None,
    costs: Callable[[Architecture], Mapping[str, float]],
) -> Iterator[str]:
    asked, material = plan.asked, plan.material
    what = "the tabular benchmark" if asked.run is None else f"the run {code(asked.run)}"
    seeds = f"seed {asked.seeds[0]}" if len(asked.seeds) == 1 else f"{len(asked.seeds)} seeds"
    limits = [
        f"{getattr(plan.budget, n):,} {n.replace('_', ' ')}" for n in vars(plan.budget) if getattr(plan.budget, n)
    ]
    count = material.candidates.count
    space = f"space {code(material.space.name)}" + ("" if count is None else f" ({count:,} architectures)")
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
            f"Over the same {n:,} architectures, drawn at random, each computing something else. In brackets: 95 % "
            "bootstrap intervals. A score that ranks well over all may still rank the best ones badly: for a search "
            "the columns about the top decile count. Precision at 10 %: which share of the best tenth by the score is "
            "in the best tenth by the truth; chance is 0.1. Parameters are what every score has to beat."
        )


def _legend(plan: _Plan, known: Known | None) -> str:
    text = (
        "`random`: the best by that score of as many architectures drawn at random. `random` with "
        f"`{PARAMETERS}`: of as many drawn the one with the most parameters, which asks no network at all."
    )
    if known is not None:
        text += f' Regret and "better than" refer to {known.of}.'
    if len(plan.asked.seeds) > 1:
        text += " ± is the sample standard deviation over the seeds, s.e. the standard error of the mean."
    return text
