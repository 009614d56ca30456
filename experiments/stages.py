"""The stages of the main job: each takes the job, does one thing and returns what it made."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import nn

from supernet.data.reading import hashed
from supernet.data.sources import Data
from supernet.runtime.checkpoint import CELL, IMAGES
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.precision import settle_numerics
from supernet.runtime.report import RunReport
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator, seed_everything
from supernet.scoring.costs import macs, parameters
from supernet.search.doctor import Doctor
from supernet.search.loop import SearchRecipe
from supernet.search.staging import Leg, Stage, legs
from supernet.space.architecture import Architecture, random_architecture
from supernet.space.choices import Supernet
from supernet.space.choosers import Decided, Undecided
from supernet.space.engines import Engine, engine
from supernet.space.operations import OPERATIONS
from supernet.training.bundle import NAME, save_bundle
from supernet.training.loop import Recipe, Trained, evaluate, train
from supernet.training.meters import Averages
from supernet.training.tasks import Classification

from . import sizes
from .config import build, checked, convert
from .summary import Finalist, write_json

_UNBALANCED = 1.5  # times the smallest class
_RANDOM_STREAM, INITIAL_STREAM = 0x4A4D, 0x1417


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
    legs: list[Leg]
    doctor: Doctor
    retrain_recipe: Recipe | None
    table: Callable[[Architecture], Mapping[str, float]] | None
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


_DECIDE = ("operations", "chooser", "relaxation", "inputs", "architect", "optimizer", "objective", "discretiser")
_ELSEWHERE = ("path", "root", "source", "download", "workers", "resident_gib")  # where images lie, how they are read
_ASIDE = ("operations", "inputs", "architect", "optimizer", "terms", "discretiser")  # a strategy's names of the above


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
        chooser=replace(build(settings["chooser"], "chooser"), factories=factories, executor=used.executor),
        strategy=build(settings["strategy"], "strategy"),
        legs=legs(_stages(settings["stages"]), space, recipe, data.shape, len(data.classes)),
        doctor=build(settings["doctor"], "doctor"),
        retrain_recipe=retrain_recipe,
        table=build(settings["table"], "table"),
        factories=factories,
        engine=used,
        save_seconds=runtime["save_seconds"],
        precision=_precision(runtime["precision"]),
        graphs=runtime["graphs"],
    )
    if job.table is not None:
        job.table(random_cell(job, 0))  # a table of another space shows now and not after an epoch
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


def retrain(job: Job, name: str, architecture: Architecture) -> tuple[nn.Module, Finalist]:
    """Trains the plain network of a genotype from scratch and reports on it; all cells alike."""
    run = job.run("retrain" if name == "searched" else name.replace(" ", "_"))
    try:
        network, result = train_from_scratch(job, name, architecture, run)
    finally:
        run.report.close()
    finalist = Finalist(name, parameters(network), macs(network, job.data.shape), result.train.accuracy, None)
    return network, finalist if result.valid is None else scored(finalist, "valid", result.valid)


def scored(finalist: Finalist, part: Literal["valid", "test"], averages: Averages) -> Finalist:
    """The finalist with what it scores on a part of the data."""
    scores = {"accuracy": averages.accuracy, "balanced_accuracy": averages.balanced, "majority": averages.majority}
    return Finalist(**{**vars(finalist), **{f"{part}_{name}": value for name, value in scores.items()}})


def build_network(job: Job, architecture: Architecture) -> nn.Module:
    """The plain network of a genotype, untrained; the same one for the same seed."""
    seed_everything(generator(job.seed, INITIAL_STREAM, 1).initial_seed() % 2**32)
    choose = Decided(architecture, job.factories, executor=job.engine.executor)
    return job.engine.lay_out(job.retrain_space.network(choose, job.data.shape, len(job.data.classes)))


def train_from_scratch(job: Job, name: str, architecture: Architecture, run: Run) -> tuple[nn.Module, Trained]:
    """The plain network of a genotype, trained by the job's recipe with the job's seed, and how that went."""
    assert job.retrain_recipe is not None
    data, network = job.data, build_network(job, architecture)
    run = replace(run, fingerprint={**run.fingerprint, CELL: hashed((architecture.to_json(),))[:12]})
    if job.divided.retrain is None:
        training, valid = data.train, data.valid
    else:
        training, valid = (data.train.subset(part) for part in job.divided.retrain)
    run.report.line(f"{name}: {parameters(network):,} parameters")
    if length := sizes.described(job.retrain_recipe, training):
        run.report.line(f"{name}: {length}" + ("" if valid is None else f", {len(valid)} more to choose by"))
    return network, train(network, training, valid, data.augmentation, job.retrain_recipe, run=run)


def test_once(job: Job, trained: dict[str, tuple[nn.Module, Finalist]]) -> list[Finalist]:
    """Opens the test images, once, for all networks together. What came out is kept beside the run."""
    assert job.retrain_recipe is not None
    record = job.directory / "test.json"
    if record.exists():  # interrupted after the test
        scores = _tested(record, trained)
    else:
        images = job.data.test.open().to(job.device)
        size, task = job.retrain_recipe.batch_size, Classification()
        scores = {
            name: evaluate(network, images, job.data.augmentation, batch_size=size, device=job.device, task=task)
            for name, (network, _) in trained.items()
        }
        write_json(record, {name: asdict(averages) for name, averages in scores.items()})
    return [scored(finalist, "test", scores[name]) for name, (_, finalist) in trained.items()]


def _tested(record: Path, names: Collection[str]) -> dict[str, Averages]:
    """What an interrupted job has already found out about the networks of these names."""
    try:
        read = json.loads(record.read_text(encoding="utf-8"))
        scores = {name: Averages(**read[name]) for name in names}
        sound = all(convert(asdict(scores[name]), dict[str, float | int | None], name) for name in names)
        if not sound or any(not 0.0 <= averages.accuracy <= 1.0 for averages in scores.values()):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise InputError(
            f"{record}: is not what this run wrote; remove it, and the trained networks are tested again"
        ) from None
    return scores


def balanced(data: Data) -> bool:
    """Whether the largest class has at most one and a half times as many training images as the smallest."""
    counts = torch.bincount(data.train.labels, minlength=len(data.classes))
    return bool(counts.max() <= _UNBALANCED * counts.min())


def keep_model(job: Job, network: nn.Module, architecture: Architecture, finalist: Finalist) -> None:
    """Writes the one file that a person can load and use."""
    save_bundle(
        job.directory / NAME,
        network,
        space=job.retrain_space,
        architecture=architecture,
        classes=job.data.classes,
        augmentation=job.data.augmentation,
        shape=job.data.shape,
        provenance={
            "data": job.data.name,
            "seed": job.seed,
            "validation accuracy": finalist.valid_accuracy,
            "test accuracy": finalist.test_accuracy,
        },
    )


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
