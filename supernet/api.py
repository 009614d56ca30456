"""The whole job in four calls: find an architecture, train its network, judge it, use it. The commands do the same.

data = supernet.data.digits()
space = supernet.Darts(channels=8, cells=3, nodes=3)
found = supernet.find(space, data, method=supernet.methods.pc_darts(), epochs=8)
model = supernet.train(found, space.resized(channels=16, cells=5), data, epochs=20)
supernet.judge(model, data)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from rich.console import Console

from supernet.data.batches import Source
from supernet.data.dataset import Data
from supernet.data.splits import hold_out, search_halves
from supernet.deployment.bundle import NAME
from supernet.deployment.predictor import Predictor
from supernet.estimation.scores import Score
from supernet.execution.engines import engine
from supernet.execution.precision import numerics_settled
from supernet.runtime.checkpoint import IMAGES
from supernet.runtime.devices import find_device
from supernet.runtime.errors import InputError
from supernet.runtime.report import ConsoleReport, Report, RunReport, Silent
from supernet.runtime.run import Run
from supernet.runtime.seeding import random_states_kept
from supernet.search.method import Method
from supernet.search.methods import darts
from supernet.search.progressive.search import StagedSearch, check_stages, search_stages
from supernet.search.recipe import SearchRecipe
from supernet.space import Space
from supernet.space.architecture import Architecture
from supernet.training.evaluation import evaluate
from supernet.training.from_scratch import FinalNetwork, train_from_scratch
from supernet.training.lengths import batch_size_for
from supernet.training.loop import Recipe
from supernet.training.meters import Averages
from supernet.training.schedules import Cosine
from supernet.training.tasks import CLASSIFICATION, Task

_FEW_STEPS = Recipe(
    schedule=Cosine(0.05), drop_path=0.0, cutout=0, auxiliary_weight=0.0, label_smoothing=0.1, least_steps=20
)


def find(
    space: Space,
    data: Data,
    *,
    method: Method | None = None,
    epochs: int | None = None,
    recipe: SearchRecipe | None = None,
    truth: Score | None = None,
    task: Task = CLASSIFICATION,
    seed: int = 0,
    device: str = "auto",
    directory: str | Path | None = None,
    progress: bool = False,
) -> Architecture:
    """Searches a space for an architecture, on one half of the training images and the other.

    Args:
        space: what can be built, in the size of the search, such as `Darts(channels=8, cells=3)`.
        data: the images; those to test by are not looked at.
        method: how to search, one of `supernet.methods`; None: DARTS, first order.
        epochs: of a search of some hundred steps, as small data want it (`Method.few_steps`); None: the search on
            CIFAR-10 that the method's authors published.
        recipe: another length, batch and learning rate of the weights; with it `epochs` stays None.
        truth: what is known of an architecture, such as a table: reported every epoch for the current one.
        task: what is learnt and judged: one label an image, or a task of your own.
        seed: of all initial weights, batches and draws, in [0, 2**32).
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        directory: a folder for TensorBoard, metrics, checkpoints and genotype.json; a search that was stopped goes on
            from there when the same call is made again. None: nothing is kept.
        progress: whether a line an epoch is printed, and a bar on a terminal.

    Returns:
        The architecture found.

    Raises:
        InputError: where settings or data do not go together, or the folder holds another search.

    Example:
        >>> import supernet
        >>> space = supernet.NasBench201(channels=4, cells=1, stages=2, nodes=2)
        >>> found = supernet.find(space, supernet.data.digits(), epochs=1)
        >>> found.space, len(found)
        ('nasbench201', 5)
    """
    _check(space=space, data=data, method=method, epochs=epochs, seed=seed, device=device, directory=directory)
    method, (weights, architecture) = _fitted(method or darts(), epochs, recipe, data, seed)
    place = _Place(directory, find_device(device), seed, progress, {"space": space, "method": method}, data)
    planned = StagedSearch.of(method, space, data.shape, len(data.classes), engine("fused", place.device), seed)
    check_stages(planned)
    with place.settled():
        found = search_stages(
            planned, weights, architecture, data.augmentation, run_of=place.run, task=task, truth=truth
        )
    if place.directory is not None:
        found.architecture.save(place.directory / "genotype.json")
    return found.architecture


def train(
    architecture: Architecture,
    space: Space,
    data: Data,
    *,
    epochs: int | None = None,
    recipe: Recipe | None = None,
    held_out: float = 0.1,
    task: Task = CLASSIFICATION,
    seed: int = 0,
    device: str = "auto",
    directory: str | Path | None = None,
    progress: bool = False,
) -> Predictor:
    """Trains the network of an architecture from scratch and makes a model of it.

    Args:
        architecture: the genotype, found or published (`supernet.published`).
        space: of the architecture, in the size of the final network, such as `space.resized(channels=16, cells=5)`.
        data: the images; those to test by are not looked at.
        epochs: of a training of some hundred steps, as small data want it; None: DARTS' training on CIFAR-10, which
            takes 600.
        recipe: another training; with it `epochs` stays None.
        held_out: share of the training images that the network is judged by after each epoch where the data have no
            validation images, in [0, 1); 0: none.
        task: what is learnt and judged: one label an image, or a task of your own.
        seed: of the initial weights and of all batches and draws, in [0, 2**32).
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        directory: a folder for TensorBoard, metrics, checkpoints and model.safetensors; a training that was stopped
            goes on from there when the same call is made again. None: nothing is kept.
        progress: whether a line an epoch is printed, and a bar on a terminal.

    Returns:
        The model: call it with images, save it.

    Raises:
        InputError: where settings or data do not go together, or the folder holds another training.

    Example:
        >>> import supernet
        >>> space = supernet.Darts(channels=4, cells=3)
        >>> model = supernet.train(supernet.published("darts_v2"), space, supernet.data.digits(), epochs=1)
        >>> model.classes[:3], model.shape
        (('0', '1', '2'), (1, 8, 8))
    """
    _check(architecture=architecture, space=space, data=data, epochs=epochs, held_out=held_out, seed=seed)
    _check(device=device, directory=directory)
    if not 0 <= held_out < 1:
        raise InputError(f"held_out={held_out}: needs a share below 1, such as 0.1, or 0")
    _refuse_both(epochs, recipe, Recipe)
    images, valid = data.train, data.valid
    if valid is None and held_out:
        images, valid = (data.train.subset(part) for part in hold_out(data.train.labels, held_out, seed, data.classes))
    if epochs is not None:
        recipe = replace(_FEW_STEPS, epochs=epochs, batch_size=batch_size_for(len(images), _FEW_STEPS.least_steps))
    used = recipe or Recipe()
    place = _Place(directory, find_device(device), seed, progress, {"space": space, "held_out": held_out}, data)
    final = FinalNetwork(space, data.shape, len(data.classes), engine=engine("fused", place.device), seed=seed)
    run = place.run("retrain")
    try:
        with place.settled():
            network, trained = train_from_scratch(
                final, architecture, images, valid, data.augmentation, used, run=run, task=task
            )
    finally:
        run.report.close()
    plain = engine("reference").apply(network)  # as `load` makes it, so that both answer the same to the last digit
    score = trained.valid.score if trained.valid else None
    model = Predictor(
        plain.eval(),
        space=space,
        architecture=architecture,
        classes=data.classes,
        shape=data.shape,
        augmentation=data.augmentation,
        provenance={"data": data.name, "seed": seed, f"validation {task.score}": score},
    )
    if place.directory is not None:
        model.save(place.directory / NAME)
    return model


def judge(model: Predictor, data: Data, *, task: Task = CLASSIFICATION, batch_size: int = 64) -> Averages:
    """Tests a model on the test images. They can be opened once for each data set read: judge at the end.

    Args:
        model: what `train` or `load` gave.
        data: whose test images are opened.
        task: what is judged; the one that the model was trained for.
        batch_size: images at once.

    Returns:
        Loss, accuracy (`score`) and balanced accuracy (`others`) over all test images, and what the best answer that
        does not look at the image would score (`chance`).

    Raises:
        InputError: where the model is of images of another size or of other classes.
        RuntimeError: where the test images were opened before.

    Example:
        >>> import supernet
        >>> data = supernet.data.digits()
        >>> model = supernet.train(supernet.published("darts_v2"), supernet.Darts(4, 3), data, epochs=1)
        >>> 0.0 <= supernet.judge(model, data).score <= 1.0
        True
    """
    _check(model=model, data=data)
    if (model.shape, model.classes) != (data.shape, data.classes):
        raise InputError(
            f"model: is of images {model.shape} of {len(model.classes)} classes, the data are of {data.shape} and "
            f"{len(data.classes)}; judge it by data that it was trained for"
        )
    device = next(model.network.parameters()).device
    images = data.test.open().to(device)
    return evaluate(model.network, images, data.augmentation, batch_size=batch_size, device=device, task=task)


def _fitted(
    method: Method, epochs: int | None, recipe: SearchRecipe | None, data: Data, seed: int
) -> tuple[Method, list[Source]]:
    """The method with the recipe that is asked for, and the halves of the training images that go with it."""
    _refuse_both(epochs, recipe, SearchRecipe)
    if recipe is not None:
        method = method.with_recipe(recipe)
    elif epochs is not None:
        method = method.few_steps(epochs=epochs)
    places = search_halves(data.train.labels, method.recipe.share, seed, data.classes)
    halves = [data.train.subset(half) for half in places]
    if epochs is not None:
        size = batch_size_for(len(halves[0]), method.recipe.least_steps)
        method = method.with_recipe(replace(method.recipe, batch_size=size))
    return method, halves


def _check(**given: Any) -> None:
    """Raises InputError where an argument is of another kind than it has to be, with what it has to be."""
    for name, value in given.items():
        kinds, words = _KINDS[name]
        plain = is_dataclass(value) and not isinstance(value, type) if name == "space" else isinstance(value, kinds)
        if not plain or isinstance(value, bool):
            said = value.__qualname__ if isinstance(value, type | FunctionType) else str(value)[:60]
            raise InputError(f"{name}={said}: needs {words}")


_KINDS: dict[str, tuple[Any, str]] = {
    "space": (object, "a space, such as supernet.Darts()"),
    "data": (Data, "images, such as supernet.data.digits()"),
    "method": (Method | None, "a method, such as supernet.methods.pc_darts()"),
    "architecture": (Architecture, "an architecture, found or supernet.published"),
    "model": (Predictor, "a model that supernet.train or supernet.load gave"),
    "epochs": (int | None, "a whole number"),
    "held_out": (int | float, "a share below 1, such as 0.1, or 0"),
    "seed": (int, f"a whole number from 0 to {2**32 - 1}"),
    "device": (str, "auto, cpu, cuda or cuda:N"),
    "directory": (str | Path | None, "the path of a folder"),
}


def _refuse_both(epochs: int | None, recipe: SearchRecipe | Recipe | None, kind: type[SearchRecipe | Recipe]) -> None:
    if recipe is not None and not isinstance(recipe, kind):
        raise InputError(
            f"recipe={str(recipe)[:60]}: needs a {kind.__name__}, such as supernet.{kind.__name__}(epochs=8)"
        )
    if recipe is not None and epochs is not None:
        raise InputError(f"epochs={epochs}: the recipe says them, too (epochs={recipe.epochs}); give one of both")


@dataclass(frozen=True)
class _Place:
    """Where and how a call runs, and what its checkpoints have to share with it."""

    folder: str | Path | None
    device: torch.device
    seed: int
    progress: bool
    settings: Mapping[str, Any]
    data: Data

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed={self.seed}: needs to lie between 0 and {2**32 - 1}")

    @property
    def directory(self) -> Path | None:
        return None if self.folder is None else Path(self.folder)

    def run(self, name: str) -> Run:
        """A run that reports and saves under a name."""
        console = Console(quiet=not self.progress)
        if self.directory is None:
            report: Report = ConsoleReport(console) if self.progress else Silent()
            return Run(device=self.device, seed=self.seed, report=report)
        said = {name: described(value) for name, value in self.settings.items()}
        return Run(
            device=self.device,
            seed=self.seed,
            report=RunReport(self.directory, name, console),
            checkpoint=self.directory / "checkpoints" / f"{name}.pt",
            fingerprint={**said, "data": self.data.name, IMAGES: self.data.fingerprint, "seed": self.seed},
        )

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Within it PyTorch gives the same numbers every time; afterwards all of the caller's settings are back."""
        with random_states_kept(), numerics_settled(deterministic=True):
            yield


def described(value: Any) -> str:
    """A setting in words that are the same in another process: functions by their names, dataclasses field by field.

    Example:
        >>> described(partial(Cosine, 0.1)), described(Cosine(0.1))
        ('Cosine(0.1)', 'Cosine(start=0.1, end=0.0, warm_up=0, span=None)')
    """
    if isinstance(value, partial):
        given = [*map(described, value.args), *(f"{k}={described(v)}" for k, v in sorted(value.keywords.items()))]
        return f"{described(value.func)}({', '.join(given)})"
    if is_dataclass(value) and not isinstance(value, type):
        given = [f"{f.name}={described(getattr(value, f.name))}" for f in fields(value)]
        return f"{type(value).__name__}({', '.join(given)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {described(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(described, value))})"
    return str(getattr(value, "__qualname__", None) or repr(value))
