"""Tries all combinations that a command line asks for, and writes what came out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from supernet.estimation.benchmark_tables import Table
from supernet.estimation.joined_scores import Joined
from supernet.estimation.sending import worth_a_worker
from supernet.genotypes.lookup import find_genotype
from supernet.runtime.errors import InputError
from supernet.runtime.files import check_directory, locked
from supernet.runtime.interrupt import Interruption
from supernet.runtime.report import RunReport
from supernet.runtime.run import Run
from supernet.runtime.workers import Workers
from supernet.search.black_box.comparison import SAMPLE, Judge, Pick, Place, Truth, compare
from supernet.search.black_box.exploring import Budget
from supernet.search.strategy import Strategy

from ..console import say
from ..conversion import leaves
from ..instantiate import UNFIT, build, named
from ..latencies import LATENCY
from ..limits import limits_of
from ..records.provenance import short_hash
from ..sizes import with_image_size
from ..workers import workers_of
from .finished_run import Times, material_of
from .lines import OWN, Line
from .material import Material
from .picks_file import PicksFile
from .scores import PARAMETERS, macs, parameters, size_column
from .words import Asked
from .writing import Plan, write

_OUTPUT = "explore"
_DEFAULT = Budget(evaluations=1000)
_IMAGES = ("resolution", "channels", "classes")
_LARGEST = 100_000


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
                workers=_workers(plan, console),
            )
        write(plan, compared, console)


def _plan(asked: Asked, interruption: Interruption) -> Plan:
    settings = asked.settings
    budget = _budget(settings["budget"])
    explorers = {name: build(node, f"explorer.{name}") for name, node in settings["explorer"].items()}
    scores = {name: build(node, f"score.{name}") for name, node in settings["score"].items()}
    objectives = tuple(map(str, settings["objectives"]))
    if asked.run is None:
        material = _of_a_space(asked)
    else:
        timed = any(objective.removeprefix("-") == LATENCY for objective in objectives)
        times = Times(timed, False, f"costs.{LATENCY}=FILE gives another one")
        material = material_of(asked.run, asked.for_the_run, asked.folders, settings, interruption, times)
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
    return Plan(asked, material, explorers, judges, budget, objectives, truth, answers, output)


def _budget(node: Mapping[str, Any]) -> Budget:
    if all(value is None for value in node.values()):
        return _DEFAULT
    made: Budget = build({"_target_": f"{Budget.__module__}.{Budget.__qualname__}", **node}, "budget")
    return made


def _workers(plan: Plan, console: Console) -> Workers | None:
    job, runtime = plan.material.job, plan.asked.settings["runtime"]
    workers = workers_of(runtime, None if job is None else job.settings["runtime"]["threads"])
    if workers is not None and not any(worth_a_worker(judge.score) for judge in plan.judges.values()):
        say("supernet-explore: workers are left out: looking up and counting is faster than asking them", console)
    return workers


def _sample(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InputError(f"sample={value}: needs a whole number of architectures, 0 or more")
    return value


def _of_a_space(asked: Asked) -> Material:
    """The material of the tabular benchmark."""
    settings = asked.settings
    if settings["space"] is None:
        raise InputError("space=...: without a run a space is needed, such as space=micro or space=nasbench201")
    for name in _IMAGES:
        if type(settings[name]) is not int or not 1 <= settings[name] <= _LARGEST:
            raise InputError(f"{name}={settings[name]}: needs a whole number from 1 to {_LARGEST:,}")
    side, channels, classes = (settings[name] for name in _IMAGES)
    shape = (channels, side, side)
    settings = with_image_size(settings, shape)
    space = build(settings["space"], "space")
    wanted = [node.get("column") for node in settings["score"].values()]
    table = None if settings["table"] is None else _table(settings, [settings["truth"], *wanted])
    return Material(space, limits_of(settings, space, shape, classes), shape, classes, table)


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
    wanted = (objective.removeprefix("-") for objective in objectives)
    costs = material.costs(*(name for name in wanted if material.limits.costs.knows(name)))
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
    kept = {"limits": material.limits} if material.limits else {}
    for name in names:
        node = asked.settings["discretiser"][name]
        discretiser = build(node, f"discretiser.{name}")
        with named({f"discretiser.{name}": discretiser}, UNFIT):
            chosen = discretiser(strategy.space, strategy.decisions, strategy.strengths(), **kept)
        found.append(Line(f"discretiser {name}", "", "discretiser", [Pick(name, "", 0, chosen)]))
    return found


def _ranks(strategy: Strategy) -> bool:
    """Whether some option is stronger than another one of its decision."""
    return any(float(weight.max()) > float(weight.min()) for weight in strategy.strengths().values())


def _beside(plan: Plan) -> dict[str, Judge]:
    """The multiply-adds; not in the tabular benchmark where the table has the numbers of parameters."""
    if plan.material.job is None and size_column(plan.material) is not None:
        return {}
    return {} if "macs" in plan.judges else {"macs": macs(plan.material)}


def _named_parts(plan: Plan) -> Any:
    return named({"": compare, "budget": plan.budget, "objectives": None})


def _check_output(output: Path) -> None:
    """Refuses a folder out of which a link leads, and one that is no folder."""
    if output.exists() and not output.is_dir():
        raise InputError(f"output={output}: is no folder; give another one")
    if output.is_dir():
        check_directory(output, files=("picks.csv", "explore.md"))


def _settings_of(plan: Plan) -> Callable[[str, str], str]:
    """(explorer, score) -> a hash of all that a pick depends on besides its seed."""
    material, settings = plan.material, plan.asked.settings
    shared: dict[str, Any] = {name: settings[name] for name in ("budget", "limits", "costs", "objectives")}
    shared |= {name: settings[name] for name in ("space", *_IMAGES)}
    shared |= {"table": dict(leaves(settings["table"] or {}))}
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


def _places(plan: Plan, interruption: Interruption, console: Console) -> Callable[[str, str, int], Place]:
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


def _picks(plan: Plan, interruption: Interruption, console: Console) -> Any:
    def tell(pick: Pick) -> None:
        if plan.material.job is not None:
            say(
                f"{pick.explorer}, {pick.score}, seed {pick.seed}: {pick.value:.4f} after {pick.evaluations:,} "
                f"evaluations in {pick.seconds:.1f} s; {pick.ended}",
                console,
            )

    path = plan.output / "picks.csv"
    return PicksFile(path, plan.material.candidates, _settings_of(plan), interruption, tell)
