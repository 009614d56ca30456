"""Makes all parts of the main job from the settings, and checks them before anything runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console

from supernet.data.dataset import Data
from supernet.estimation.limits import Limits
from supernet.estimation.scores import Measured, Score
from supernet.execution.engines import engine
from supernet.execution.precision import settle_numerics
from supernet.runtime.checkpoint import IMAGES
from supernet.runtime.devices import find_device
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.report import RunReport, Silent
from supernet.runtime.run import Precision, Run
from supernet.runtime.seeding import seed_everything
from supernet.search.black_box.drawing import drawn_within
from supernet.search.progressive.search import StagedSearch
from supernet.search.progressive.stages import Stage, resolve_stages
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Strategy, limited
from supernet.space.architecture import Architecture, Decision, random_architecture
from supernet.space.operations import OPERATIONS
from supernet.space.survey import decisions_of
from supernet.space.survey import random_cell as draw_random_cell
from supernet.training.from_scratch import FinalNetwork
from supernet.training.loop import Recipe
from supernet.training.tasks import CLASSIFICATION, Task
from supernet.training.transfer import Transfer

from . import sizes
from .beginning import make_init, normalised
from .conversion import leaves
from .instantiate import UNFIT, build, named
from .limits import limits_of
from .schema import checked

_RANDOM_STREAM = 0x4A4D
_DECIDE = ("operations", "chooser", "relaxation", "inputs", "architect", "optimizer", "objective", "discretiser")
_ELSEWHERE = (  # where images lie, how they are read
    *("path", "root", "source", "train", "valid", "test"),
    *("download", "workers", "resident_gib", "cache"),
)
_PARTS = {  # what a strategy calls its parts -> the groups in which a person chooses them
    "operations": "relaxation",
    "inputs": "inputs",
    "architect": "architect",
    "optimizer": "optimizer",
    "terms": "objective",
    "discretiser": "discretiser",
}


@dataclass(frozen=True)
class Job:
    """The parts and settings that all steps of the job share.

    More than twelve: each is a part that a person chooses by itself.

    Args:
        settings: those that were given, with numbers where they left a size to the data.
        divided: which training images which step gets.
        directory: what the job leaves lies there.
        console: where it prints.
        template: the run of every step, except the names under which steps report and save.
        data: the images.
        space: in the size that the settings say.
        search: the search, before it runs.
        final: how the networks of genotypes are built.
        retrain_recipe: how they are trained; None: they are not.
        table: what is known of architectures; None: nothing.
        task: what is learnt and judged.
        init: the weights that the networks of genotypes begin with; None: new ones.
    """

    settings: Mapping[str, Any]
    divided: sizes.Parts
    directory: Path
    console: Console
    template: Run
    data: Data
    space: Any
    search: StagedSearch
    final: FinalNetwork
    retrain_recipe: Recipe | None
    table: Score | None
    task: Task
    init: Transfer | None = None

    @property
    def device(self) -> torch.device:
        return self.template.device

    @property
    def seed(self) -> int:
        return self.template.seed

    @property
    def limits(self) -> Limits | None:
        """What the final network may cost."""
        return self.search.limits

    @property
    def processes(self) -> Processes:
        """Those that run the job together."""
        return self.template.processes

    def run(self, name: str) -> Run:
        """Where a step of this name reports and saves; of several processes the leader alone reports."""
        checkpoint = self.directory / "checkpoints" / f"{name}.pt"
        report = RunReport(self.directory, name, self.console) if self.processes.leads else Silent()
        return replace(self.template, report=report, checkpoint=checkpoint)

    def alone(self) -> Job:
        """The same job for what the leader does by itself."""
        return replace(self, template=replace(self.template, processes=ALONE))


def _images(data: Data) -> str:
    """Describes the images, to read and to compare: their number, and a hash of labels and pixels."""
    counts = f"{len(data.train)} training, {len(data.valid or ())} validation, {len(data.test)} test"
    return f"{counts} (labels and pixels {data.fingerprint[:16]})"


def _fingerprint(settings: Mapping[str, Any], space: Any, data: Data, task: Task) -> dict[str, str | int | float]:
    """What a run shares with its checkpoints, by its full name, besides the settings of its recipes."""
    kept = {name: value for name, value in settings["data"].items() if name not in _ELSEWHERE}
    strategy = {name: value for name, value in settings["strategy"].items() if name not in _PARTS}
    groups = {name: settings[name] for name in ("space", "retrain_valid", *_DECIDE)}
    network = {"network": (settings["retrain"] or {}).get("network")}
    limits = {name: limit for name, limit in settings["limits"].items() if limit is not None}
    given = {**groups, "data": kept, "strategy": strategy, "retrain": network}
    costs = {
        name: node for name, node in settings["costs"].items() if isinstance(node, dict)
    }  # a file may lie elsewhere
    given |= {name: node for name, node in {"limits": limits, "costs": costs}.items() if node}
    parts = {"space": space.name, "data": data.name, IMAGES: _images(data), "seed": settings["seed"]}
    if task != CLASSIFICATION:
        parts["task"] = str(task)
    return {**parts, **{name: str(value) for name, value in leaves(given)}}


def prepare(settings: dict[str, Any], directory: Path, interruption: Interruption, processes: Processes = ALONE) -> Job:
    """Makes every part the job needs, so that mistakes show before anything runs; the images are read last."""
    settings = checked(settings)
    runtime = settings["runtime"]
    device = _settle(runtime, settings["seed"], processes)
    with named({f"runtime.engine={runtime['engine']}": None}):
        used = engine(runtime["engine"], device, checkpoint_cells=runtime["checkpoint_cells"])
    precision = _precision(runtime["precision"])
    factories = {**OPERATIONS, **own_operations(settings["operations"])}
    strategy, space = _strategy(settings), build(settings["space"], "space")
    chooser = replace(build(settings["chooser"], "chooser"), factories=factories)
    stages, monitor = _stages(settings["stages"]), build(settings["monitor"], "monitor")
    table, init = build(settings["table"], "table"), make_init(settings)
    with processes.leader_first():  # which may fetch the images
        data = normalised(build(settings["data"], "data"), init)
    task = make_task(settings, data)
    settings, recipe, retrain_recipe, divided = _recipes(sizes.with_image_size(settings, data.shape), data)
    sizes.check_shares(settings, processes.count)
    space = build(settings["space"], "space")  # in the size of the images, where it leaves that to them
    shape, outputs, seed = data.shape, task.outputs(data.classes), settings["seed"]
    resolved = resolve_stages(stages, space, recipe, shape, outputs)
    final = FinalNetwork(_retrain_space(settings, space.name), shape, outputs, factories, used, seed)
    limits = limits_of(settings, final.space, shape, outputs, factories)
    make_strategy = _named_strategy(strategy)
    job = Job(
        settings=settings,
        divided=divided,
        directory=directory,
        console=Console(force_terminal=None if runtime["progress"] else False, quiet=not processes.leads),
        template=Run(
            device=device,
            seed=seed,
            fingerprint=_fingerprint(settings, space, data, task),
            save_seconds=runtime["save_seconds"],
            interruption=interruption,
            precision=precision,
            graphs=runtime["graphs"],
            processes=processes,
        ),
        data=data,
        space=space,
        search=StagedSearch(resolved, chooser, make_strategy, shape, outputs, used, monitor, seed, limits),
        final=final,
        retrain_recipe=retrain_recipe,
        table=table,
        task=task,
        init=init,
    )
    from_table(job, random_cell(job, 0))  # a table of another space shows now and not after an epoch
    return job


def _named_strategy(strategy: Callable[..., Strategy]) -> Callable[..., Strategy]:
    """Makes the strategy; an error names the key of the setting that does not fit the decisions."""

    def make(space: str, decisions: Mapping[str, Decision], *, seed: int, limits: Limits | None = None) -> Strategy:
        with named({"strategy": strategy}, UNFIT):
            return limited(strategy, limits)(space, decisions, seed=seed)

    return make


def _settle(runtime: Mapping[str, Any], seed: int, processes: Processes) -> torch.device:
    """Checks the settings of the machine, sets PyTorch's options for the process, and returns the device."""
    with named({"runtime": find_device}):
        device = find_device(runtime["device"])
    if runtime["threads"] is not None:
        if runtime["threads"] < 1:
            raise InputError(f"runtime.threads={runtime['threads']}: needs at least 1")
        torch.set_num_threads(runtime["threads"])
    elif processes.several and device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    if runtime["save_seconds"] < 0:
        raise InputError(f"runtime.save_seconds={runtime['save_seconds']}: needs 0 or more seconds, such as 60")
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)  # PyTorch's default GPU, on which CUDA graphs, too, are made
    settle_numerics(runtime["deterministic"])
    seed_everything(_seed(seed))
    return device


def _recipes(settings: dict[str, Any], data: Data) -> tuple[dict[str, Any], SearchRecipe, Recipe | None, sizes.Parts]:
    """Both recipes, and how the training images are divided; batches that are null follow from that division."""

    def made(known: dict[str, Any]) -> tuple[SearchRecipe, Recipe | None]:
        retrained = {name: value for name, value in (known["retrain"] or {}).items() if name != "network"}
        return build(known["search"], "search"), build(retrained or None, "retrain")

    search, retrained = made(sizes.with_batches(settings, data))  # mistakes in them come first
    held = 0.0 if retrained is None else settings["retrain_valid"]
    divided = sizes.parts(data, None if settings["genotype"] else search, held, settings["seed"])
    if retrained is not None and retrained.keep == "best" and divided.retrain is None and data.valid is None:
        raise InputError(
            "retrain.keep=best: needs validation images to choose by; use retrain.keep=last or retrain_valid=0.1"
        )
    settings = sizes.with_batches(settings, data, divided)
    return settings, *made(settings), divided


def _strategy(settings: dict[str, Any]) -> Callable[..., Any]:
    """The strategy, of parts that have a group of their own: they are made under the key that a person gives them."""
    parts = {name: build(settings.get(name), name) for name in _PARTS.values()}
    for name in ("relaxation", "inputs", "architect", "discretiser"):
        if parts[name] is not None and not callable(parts[name]):
            raise InputError(
                f"{name}={parts[name]}: needs something that can be called; docs/extending.md has examples"
            )
    node = settings["strategy"]
    shared = {inner: parts[name] for inner, name in _PARTS.items() if inner in node and node[inner] == settings[name]}
    strategy: Callable[..., Any] = build({**node, **shared}, "strategy")
    return strategy


def make_task(settings: Mapping[str, Any], data: Data) -> Task:
    """The task that the settings make of the data; its correction for rare classes is made under that group's key."""
    node, imbalance = settings["task"], build(settings["imbalance"], "imbalance")
    shared = imbalance is not None and node.get("imbalance") == settings["imbalance"]
    made: Any = build({**node, "imbalance": imbalance} if shared else node, "task")
    task: Task = made(data) if callable(made) else made
    return task


def _stages(nodes: list[Any]) -> list[Stage]:
    for number, node in enumerate(nodes):
        if not isinstance(node, dict):
            raise InputError(f"stages[{number}]={node}: needs settings of a stage, such as {{keep: 4}}, or {{}}")
    target = f"{Stage.__module__}.{Stage.__qualname__}"
    stages: list[Stage] = build([{**node, "_target_": target} for node in nodes], "stages")
    return stages


def own_operations(nodes: dict[str, Any]) -> dict[str, Any]:
    """Returns factories by name; a yaml names the factory itself, with `_partial_` or without."""
    for name, node in nodes.items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise InputError(f"operations.{name}={node}: needs a function, such as {{_target_: mine.{name}}}")
    return {name: build({**node, "_partial_": True}, f"operations.{name}") for name, node in nodes.items()}


def _retrain_space(settings: dict[str, Any], name: str) -> Any:
    """Returns the space in the size of the final network. The space is valid already: errors are in the changes."""
    changes = ((settings["retrain"] or {}).get("network") or {}).get(name, {})
    return build({**settings["space"], **changes}, f"retrain.network.{name}")


def from_table(job: Job, architecture: Architecture) -> Mapping[str, float]:
    """Looks a cell up in the table; empty where there is no table. Raises InputError where the table lacks the cell."""
    if job.table is None:
        return {}
    with named({"table": None}, way_out="; table=none does without it"):
        known = job.table(architecture)
    if not isinstance(known, Measured):
        what = type(known).__name__
        raise InputError(f"table: gives {what} for an architecture; needs supernet.estimation.scores.Measured")
    return known.values


def random_cell(job: Job, number: int) -> Architecture:
    """Draws a cell from the whole space, also with operations that the method excludes, to compare with.

    It keeps the limits, as the found one does.
    """
    own: dict[str, Any] = {"shape": job.data.shape, "outputs": job.final.outputs, "factories": job.final.factories}
    if not job.limits:
        return draw_random_cell(job.space, job.seed, number, **own)
    decisions = decisions_of(job.space, **own)
    draw = partial(random_architecture, job.space.name, decisions)
    return drawn_within(job.limits, decisions, draw, job.seed, _RANDOM_STREAM, number)


def check_limits(job: Job, architecture: Architecture) -> None:
    """Raises InputError where an architecture that was given, and not searched, costs more than the limits."""
    limits = job.limits
    for name, value in ({} if limits is None else limits.of(architecture)).items():
        if limits is not None and value > limits.most[name]:
            raise InputError(
                f"limits.{name}={limits.most[name]:,g}: genotype={job.settings['genotype']} has {value:,.6g}; allow "
                "more, or give another one"
            )


def _precision(name: str) -> Precision:
    known: Mapping[str, Precision] = {choice: choice for choice in get_args(Precision)}
    if name not in known:
        raise InputError(f"runtime.precision={name}: use {', '.join(known)}")
    return known[name]


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: needs to lie between 0 and {2**32 - 1}")
    return seed
