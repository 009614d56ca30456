"""The main job before anything runs: every part of it, made from the settings and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from supernet.data.dataset import Data
from supernet.estimation.scores import Measured, Score
from supernet.execution.engines import Engine, engine
from supernet.execution.precision import settle_numerics
from supernet.runtime.checkpoint import IMAGES
from supernet.runtime.devices import find_device
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.report import RunReport
from supernet.runtime.run import Run
from supernet.runtime.seeding import seed_everything
from supernet.search.collapse.monitor import MonitorSettings
from supernet.search.progressive.stages import ResolvedStage, Stage, resolve_stages
from supernet.search.recipe import SearchRecipe
from supernet.space.architecture import Architecture
from supernet.space.operations import OPERATIONS
from supernet.space.survey import random_cell as draw_random_cell
from supernet.training.loop import Recipe

from . import sizes
from .conversion import leaves
from .instantiate import build, named
from .schema import checked

_DECIDE = ("operations", "chooser", "relaxation", "inputs", "architect", "optimizer", "objective", "discretiser")
_ELSEWHERE = ("path", "root", "source", "download", "workers", "resident_gib")  # where images lie, how they are read
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
    """What all steps of the job share.

    `settings` are those that were given, with numbers where they left a size to the data; `divided` says which training
    images which step gets. There are more than twelve fields, one for each part: every step needs a few of them, no
    two steps the same ones, so that groups of them would only make each way to them longer.
    """

    settings: Mapping[str, Any]
    divided: sizes.Parts
    directory: Path
    console: Console
    device: torch.device
    seed: int
    interruption: Interruption
    data: Data
    space: Any
    retrain_space: Any
    chooser: Any
    strategy: Callable[..., Any]
    stages: list[ResolvedStage]
    monitor: MonitorSettings
    retrain_recipe: Recipe | None
    table: Score | None
    factories: dict[str, Any]
    engine: Engine
    save_seconds: float
    precision: Literal["float32", "bfloat16"]
    graphs: bool

    def run(self, name: str) -> Run:
        """Where a stage of this name reports and saves."""
        return Run(
            device=self.device,
            seed=self.seed,
            report=RunReport(self.directory, name, self.console),
            checkpoint=self.directory / "checkpoints" / f"{name}.pt",
            fingerprint={
                "space": self.space.name,
                "data": self.data.name,
                IMAGES: _images(self.data),
                "seed": self.seed,
                **_recorded(self.settings),
            },
            save_seconds=self.save_seconds,
            precision=self.precision,
            graphs=self.graphs,
            interruption=self.interruption,
        )


def _images(data: Data) -> str:
    """Which images there are, for a person and to compare: how many, and a hash of labels and pixels."""
    counts = f"{len(data.train)} training, {len(data.valid or ())} validation, {len(data.test)} test"
    return f"{counts} (labels and pixels {data.fingerprint[:16]})"


def _recorded(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings, by their full names, that a run shares with its checkpoints besides those of its recipes."""
    data = {name: value for name, value in settings["data"].items() if name not in _ELSEWHERE}
    strategy = {name: value for name, value in settings["strategy"].items() if name not in _PARTS}
    groups = {name: settings[name] for name in ("space", "retrain_valid", *_DECIDE)}
    network = {"network": (settings["retrain"] or {}).get("network")}
    given = {**groups, "data": data, "strategy": strategy, "retrain": network}
    return {name: str(value) for name, value in leaves(given)}


def prepare(settings: dict[str, Any], directory: Path, interruption: Interruption) -> Job:
    """Makes every part the job needs, so that mistakes show before anything runs; the images are read last."""
    settings = checked(settings)
    runtime = settings["runtime"]
    device = _settle(runtime, settings["seed"])
    with named({f"runtime.engine={runtime['engine']}": None}):
        used = engine(runtime["engine"], device, checkpoint_cells=runtime["checkpoint_cells"])
    factories = {**OPERATIONS, **_own_operations(settings["operations"])}
    strategy, space = _strategy(settings), build(settings["space"], "space")
    chooser = replace(build(settings["chooser"], "chooser"), factories=factories)
    stages, monitor = _stages(settings["stages"]), build(settings["monitor"], "monitor")
    table = build(settings["table"], "table")
    data = build(settings["data"], "data")
    settings, recipe, retrain_recipe, divided = _recipes(settings, data)
    job = Job(
        settings=settings,
        divided=divided,
        directory=directory,
        console=Console(force_terminal=None if runtime["progress"] else False),
        device=device,
        seed=settings["seed"],
        interruption=interruption,
        data=data,
        space=space,
        retrain_space=_retrain_space(settings, space.name),
        chooser=chooser,
        strategy=strategy,
        stages=resolve_stages(stages, space, recipe, data.shape, len(data.classes)),
        monitor=monitor,
        retrain_recipe=retrain_recipe,
        table=table,
        factories=factories,
        engine=used,
        save_seconds=runtime["save_seconds"],
        precision=_precision(runtime["precision"]),
        graphs=runtime["graphs"],
    )
    from_table(job, random_cell(job, 0))  # a table of another space shows now and not after an epoch
    return job


def _settle(runtime: Mapping[str, Any], seed: int) -> torch.device:
    """Checks what is said of the machine and sets what PyTorch keeps for the whole process; the device."""
    with named({"runtime": find_device}):
        device = find_device(runtime["device"])
    if runtime["threads"] is not None:
        if runtime["threads"] < 1:
            raise InputError(f"runtime.threads={runtime['threads']}: needs at least 1")
        torch.set_num_threads(runtime["threads"])
    if runtime["save_seconds"] < 0:
        raise InputError(f"runtime.save_seconds={runtime['save_seconds']}: needs 0 or more seconds, such as 60")
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)  # where PyTorch makes what is not told where, CUDA graphs among it
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


def _stages(nodes: list[Any]) -> list[Stage]:
    for number, node in enumerate(nodes):
        if not isinstance(node, dict):
            raise InputError(f"stages[{number}]={node}: needs settings of a stage, such as {{keep: 4}}, or {{}}")
    target = f"{Stage.__module__}.{Stage.__qualname__}"
    stages: list[Stage] = build([{**node, "_target_": target} for node in nodes], "stages")
    return stages


def _own_operations(nodes: dict[str, Any]) -> dict[str, Any]:
    """Factories by name; what a yaml names is the factory itself, with `_partial_` or without."""
    for name, node in nodes.items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise InputError(f"operations.{name}={node}: needs a function, such as {{_target_: mine.{name}}}")
    return {name: build({**node, "_partial_": True}, f"operations.{name}") for name, node in nodes.items()}


def _retrain_space(settings: dict[str, Any], name: str) -> Any:
    """The space in the size of the final network. The space itself is sound, so what is wrong is among the changes."""
    changes = ((settings["retrain"] or {}).get("network") or {}).get(name, {})
    return build({**settings["space"], **changes}, f"retrain.network.{name}")


def from_table(job: Job, architecture: Architecture) -> Mapping[str, float]:
    """What the table knows of a cell; nothing where there is no table. Raises InputError where it lacks the cell."""
    if job.table is None:
        return {}
    with named({"table": None}, way_out="; table=none does without it"):
        known = job.table(architecture)
    if not isinstance(known, Measured):
        what = type(known).__name__
        raise InputError(f"table: gives {what} for an architecture; needs supernet.estimation.scores.Measured")
    return known.values


def random_cell(job: Job, number: int) -> Architecture:
    """A cell drawn from the same space, to compare with, whatever the method leaves out."""
    shape, classes = job.data.shape, len(job.data.classes)
    return draw_random_cell(job.space, job.seed, number, factories=job.factories, shape=shape, classes=classes)


def _precision(name: str) -> Literal["float32", "bfloat16"]:
    if name not in ("float32", "bfloat16"):
        raise InputError(f"runtime.precision={name}: use float32 or bfloat16")
    return "float32" if name == "float32" else "bfloat16"


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: needs to lie between 0 and {2**32 - 1}")
    return seed
