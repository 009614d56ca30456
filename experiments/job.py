"""The main job before anything runs: every part of it, made from the settings and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from supernet.data.sources import Data
from supernet.estimation.scores import Measured, Score
from supernet.execution.engines import Engine, engine
from supernet.execution.precision import settle_numerics
from supernet.runtime.checkpoint import IMAGES
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.report import RunReport
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator, seed_everything
from supernet.search.collapse.monitor import MonitorSettings
from supernet.search.progressive.stages import ResolvedStage, Stage, legs
from supernet.search.recipe import SearchRecipe
from supernet.space.architecture import Architecture, random_architecture
from supernet.space.choosers import Undecided
from supernet.space.operations import OPERATIONS
from supernet.space.supernet import Supernet
from supernet.training.loop import Recipe

from . import sizes
from .instantiate import build
from .schema import checked

_RANDOM_STREAM = 0x4A4D
_DECIDE = ("operations", "chooser", "relaxation", "inputs", "architect", "optimizer", "objective", "discretiser")
_ELSEWHERE = ("path", "root", "source", "download", "workers", "resident_gib")  # where images lie, how they are read
_ASIDE = ("operations", "inputs", "architect", "optimizer", "terms", "discretiser")  # a strategy's names of the above


@dataclass(frozen=True)
class Job:
    """What all stages share.

    `settings` are those that were given, with numbers where they left a size to the data; `divided` says which training
    images which stage gets.
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
    legs: list[ResolvedStage]
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
    strategy = {name: value for name, value in settings["strategy"].items() if name not in _ASIDE}
    groups = {name: settings[name] for name in ("space", "retrain_valid", *_DECIDE)}
    network = {"network": (settings["retrain"] or {}).get("network")}
    return dict(_named({**groups, "data": data, "strategy": strategy, "retrain": network}))


def _named(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _named(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def prepare(settings: dict[str, Any], directory: Path, interruption: Interruption) -> Job:
    """Makes every part the job needs, so that mistakes show before anything runs."""
    settings = checked(settings)
    runtime = settings["runtime"]
    device = _device(runtime["device"])
    if runtime["threads"] is not None:
        if runtime["threads"] < 1:
            raise InputError(f"runtime.threads={runtime['threads']}: needs at least 1")
        torch.set_num_threads(runtime["threads"])
    _check_parts(settings)
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)  # where PyTorch makes what is not told where, CUDA graphs among it
    settle_numerics(runtime["deterministic"])
    seed_everything(_seed(settings["seed"]))
    used = engine(runtime["engine"], device, checkpoint_cells=runtime["checkpoint_cells"])
    if runtime["save_seconds"] < 0:
        raise InputError(f"runtime.save_seconds={runtime['save_seconds']}: needs 0 or more seconds, such as 60")
    factories = {**OPERATIONS, **_own_operations(settings["operations"])}
    space = build(settings["space"], "space")
    data = build(settings["data"], "data")
    settings, recipe, retrain_recipe, divided = _recipes(settings, data)
    network = ((settings["retrain"] or {}).get("network") or {}).get(space.name, {})
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
        retrain_space=_retrain_space(settings["space"], network, f"retrain.network.{space.name}"),
        chooser=replace(build(settings["chooser"], "chooser"), factories=factories),
        strategy=build(settings["strategy"], "strategy"),
        legs=legs(_stages(settings["stages"]), space, recipe, data.shape, len(data.classes)),
        monitor=build(settings["monitor"], "monitor"),
        retrain_recipe=retrain_recipe,
        table=build(settings["table"], "table"),
        factories=factories,
        engine=used,
        save_seconds=runtime["save_seconds"],
        precision=_precision(runtime["precision"]),
        graphs=runtime["graphs"],
    )
    if job.table is not None:
        known = job.table(random_cell(job, 0))  # a table of another space shows now and not after an epoch
        if not isinstance(known, Measured):
            what = type(known).__name__
            raise InputError(f"table: gives {what} for an architecture; needs supernet.estimation.scores.Measured")
    return job


def _recipes(settings: dict[str, Any], data: Data) -> tuple[dict[str, Any], SearchRecipe, Recipe | None, sizes.Parts]:
    """Both recipes, and how the training images are divided; batches that are null follow from that division."""

    def made(known: dict[str, Any]) -> tuple[SearchRecipe, Recipe | None]:
        retrained = {name: value for name, value in (known["retrain"] or {}).items() if name != "network"}
        return build(known["search"], "search"), build(retrained or None, "retrain")

    search, retrained = made(sizes.with_batches(settings, data))  # mistakes in them come first
    held = 0.0 if retrained is None else settings["retrain_valid"]
    divided = sizes.parts(data, None if settings["genotype"] else search, held, settings["seed"])
    settings = sizes.with_batches(settings, data, divided)
    return settings, *made(settings), divided


def _check_parts(settings: dict[str, Any]) -> None:
    """The strategy's parts by the names a person gives them; in the strategy they have others."""
    for name in ("relaxation", "inputs", "architect", "discretiser"):
        part = build(settings.get(name), name)
        if part is not None and not callable(part):
            raise InputError(f"{name}={part}: needs something that can be called, such as the class in the README")


def _stages(nodes: list[Any]) -> list[Stage]:
    for number, node in enumerate(nodes):
        if not isinstance(node, dict):
            raise InputError(f"stages[{number}]={node}: needs settings of a leg, such as {{keep: 4}}, or {{}}")
    target = f"{Stage.__module__}.{Stage.__qualname__}"
    return [_stage({**node, "_target_": target}, number) for number, node in enumerate(nodes)]


def _stage(node: dict[str, Any], number: int) -> Stage:
    try:
        stage: Stage = build(node, f"stages[{number}]")
    except InputError as error:
        raise InputError(str(error).replace("stages.", f"stages[{number}].", 1)) from None
    return stage


def _own_operations(nodes: dict[str, Any]) -> dict[str, Any]:
    """Factories by name; what a yaml names is the factory itself, with `_partial_` or without."""
    for name, node in nodes.items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise InputError(f"operations.{name}={node}: needs a function, such as {{_target_: mine.{name}}}")
    return {name: build({**node, "_partial_": True}, f"operations.{name}") for name, node in nodes.items()}


def _retrain_space(space: dict[str, Any], changes: dict[str, Any], key: str) -> Any:
    try:
        return build({**space, **changes}, key)
    except InputError as error:  # the space itself is sound: what is wrong is among the changes
        raise InputError(str(error).replace("space.", f"{key}.", 1)) from None


def random_cell(job: Job, number: int) -> Architecture:
    """A cell drawn from the same space, to compare with."""
    stream = generator(job.seed, _RANDOM_STREAM, number)
    with torch.device("meta"):
        whole = Undecided(job.factories)  # whatever the method leaves out
        supernet = Supernet(job.space.network(whole, job.data.shape, len(job.data.classes)))
    return random_architecture(job.space.name, supernet.decisions, stream)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"runtime.device={name}: use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"runtime.device={name}: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"runtime.device={name}: {torch.cuda.device_count()} CUDA devices are visible; use auto or cpu"
        )
    return device


def _precision(name: str) -> Literal["float32", "bfloat16"]:
    if name not in ("float32", "bfloat16"):
        raise InputError(f"runtime.precision={name}: use float32 or bfloat16")
    return "float32" if name == "float32" else "bfloat16"


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: needs to lie between 0 and {2**32 - 1}")
    return seed
