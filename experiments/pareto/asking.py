"""Asks the trained supernet of a finished run for its front against a cost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from supernet.estimation.scores import Score
from supernet.estimation.supernet_accuracy import RecalibratedScore, SupernetScore
from supernet.runtime.errors import InputError
from supernet.runtime.files import check_directory, locked
from supernet.runtime.interrupt import Interruption
from supernet.runtime.report import RunReport
from supernet.runtime.run import Run
from supernet.search.black_box.fronts import Front, ask_front

from ..console import say
from ..exploration.finished_run import Times, material_of
from ..exploration.material import Material
from ..exploration.words import composed_runtime
from ..instantiate import named
from ..latencies import LATENCY, latencies_of
from ..records.provenance import short_hash
from ..workers import workers_of
from .choosing import check_wanted, chosen
from .settings import FRONT, SEARCH, front_there, say_what_is_replaced
from .units import in_words, unit_in_words
from .writing import Asked, write

SCORES = ("supernet", "recalibrated")
_FOLDER, _USUAL = "pareto", "macs"
_FILES = (FRONT, "front.svg")


@dataclass(frozen=True)
class Words:
    """What the command line asks for. More than twelve settings: each is one of the command line.

    Args:
        run: the finished run.
        settings: of the machine, and recorded ones that the person vouches for.
        folders: of settings of the user's own.
        cost: the name of the cost; None: latency where there is a table, else multiply-adds.
        latency: a file of measured times; None: none.
        at_most: the largest cost of the one network that is wanted; None: the front alone.
        weights: whether that network's weights are taken from the supernet.
        score: one of `SCORES`.
        evaluations: how many architectures are judged at most.
        population: of NSGA-II.
        seed: of all draws.
        output: the folder of the results; None: RUN/pareto/COST.
        runtime: the words for the workers that judge, such as runtime.workers=8.
    """

    run: Path
    settings: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    cost: str | None = None
    latency: Path | None = None
    at_most: float | None = None
    weights: bool = False
    score: str = SCORES[0]
    evaluations: int = 500
    population: int = 50
    seed: int = 0
    output: Path | None = None
    runtime: tuple[str, ...] = ()


def ask(words: Words, interruption: Interruption) -> None:
    """Does all that the command does, after its words are read."""
    console = Console()
    table = None if words.latency is None else str(_readable(words.latency))
    given = {"limits": {}, "costs": {LATENCY: table}}
    needed = words.cost in (None, LATENCY)
    way_out = f"--latency FILE gives another one{f', and --cost {_USUAL} needs none' if needed else ''}"
    times = Times(needed, True, way_out)
    material = material_of(words.run, words.settings, words.folders, given, interruption, times)
    costs, cost = material.limits.costs, _cost(words, material)
    output = words.output or words.run / _FOLDER / cost
    _check_output(output)
    path = material.job_for("supernet-pareto").settings["costs"].get(LATENCY)
    latencies = latencies_of(Path(path)) if isinstance(path, str) else None
    asked = Asked(words.run, material, costs, cost, output, latencies)
    asked = replace(asked, settings=_settings(words, asked))
    if words.at_most is not None:
        check_wanted(asked, words.at_most, words.weights)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output}: cannot be made ({error.strerror}); give another folder") from None
    with locked(output):
        say_what_is_replaced(output / FRONT, front_there(output), asked.settings, console)
        front = _front(words, asked, interruption, console)
        write(asked, front, words.at_most, console)
        if words.at_most is not None:
            _say_whether_it_restricts(front, words.at_most, console)
            chosen(asked, front, words.at_most, words.weights, console)


def _say_whether_it_restricts(front: Front, limit: float, console: Console) -> None:
    dearest = front.points[-1].cost
    if limit > dearest:
        say(
            f"supernet-pareto: --at-most {limit:,.12g}, read as {unit_in_words(front.cost)}, restricts nothing: the "
            f"costliest network of the front has {in_words(front.cost, dearest)}; --cost NAME reads it as another cost",
            console,
        )


def _readable(latency: Path) -> Path:
    """The file, once it has turned out to be a table. Raises InputError where it is none."""
    try:
        return latencies_of(latency).path
    except InputError as error:
        raise InputError(f"--latency {str(error).removeprefix('latency=')}") from None


def _cost(words: Words, material: Material) -> str:
    costs = material.limits.costs
    measured = costs.knows(LATENCY)
    cost = words.cost or (LATENCY if measured else _USUAL)
    if cost == LATENCY and not measured:
        raise InputError("--cost latency: needs --latency FILE, a table of measured times that supernet-latency makes")
    try:
        return costs.named(cost)
    except InputError as error:
        raise InputError(f"--cost {error}") from None


def _front(words: Words, asked: Asked, interruption: Interruption, console: Console) -> Front:
    material, job = asked.material, asked.material.job_for("supernet-pareto")
    problem = material.problem("supernet-pareto")
    workers = workers_of(composed_runtime(words.runtime), job.settings["runtime"]["threads"])
    settings = _hash_of(words, asked)
    stem = f"{words.score}_seed{words.seed}_{settings}"
    run = Run(
        device=job.device,
        seed=words.seed,
        report=RunReport(asked.output, stem, console),
        checkpoint=asked.output / "checkpoints" / f"{stem}.pt",
        fingerprint={"asked": settings},
        save_seconds=job.template.save_seconds,
        interruption=interruption,
    )
    assert material.restored is not None
    try:
        with named({"": ask_front}):
            return ask_front(
                material.candidates,
                _judge(words.score, material),
                problem.task.score,
                asked.costs,
                asked.cost,
                evaluations=words.evaluations,
                decisions=material.restored.decisions,
                population=words.population,
                chance=problem.task.chance_without_labels(material.outputs),
                seed=words.seed,
                run=run,
                rows=asked.output / "evaluations" / f"{stem}.csv",
                workers=workers,
            )
    finally:
        run.report.close()


def _judge(name: str, material: Material) -> Score:
    problem = material.problem(f"--score {name}")
    size = int(material.job_for(f"--score {name}").search.stages[-1].recipe.batch_size)
    makers: dict[str, Callable[[], Score]] = {
        "supernet": lambda: SupernetScore(problem, size),
        "recalibrated": lambda: RecalibratedScore(problem, size),
    }
    return makers[name]()


def _hash_of(words: Words, asked: Asked) -> str:
    """Of all on which an evaluation depends; not of how many there are, so that a longer command goes on."""
    job = asked.material.job_for("supernet-pareto")
    checkpoints = sorted((job.directory / "checkpoints").glob("search*.pt"))
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in checkpoints]
    known: dict[str, Any] = {"run": dict(job.template.fingerprint), "checkpoints": hashes}
    known |= {"cost": asked.cost, "score": words.score, "population": words.population}
    limited = LATENCY in asked.material.limits.most
    if (asked.cost == LATENCY or limited) and asked.latencies is not None:
        known["table"] = hashlib.sha256(asked.latencies.path.read_bytes()).hexdigest()
    if not limited and f"limits.{LATENCY}" in job.template.fingerprint:
        known["without"] = LATENCY
    return short_hash(known)


def _settings(words: Words, asked: Asked) -> dict[str, Any]:
    """All on which a front depends, for its files: two fronts with equal ones are the same."""
    known: dict[str, Any] = {"judged by": words.score, "seed": words.seed, "population": words.population}
    known |= {"evaluations": words.evaluations, "table": None, SEARCH: _hash_of(words, asked)}
    if asked.latencies is not None:
        path = asked.latencies.path
        known["table"] = f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    return known


def _check_output(output: Path) -> None:
    """Refuses a folder out of which a link leads, and one that is no folder."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is no folder; give another one")
    if output.is_dir():
        check_directory(output, files=_FILES)
