"""The whole job in four calls: find an architecture, train its network, judge it, use it. The commands do the same.

data = supernet.data.digits()
space = supernet.Darts(channels=8, cells=3, nodes=3)
found = supernet.find(space, data, method=supernet.methods.pc_darts(), epochs=8)
model = supernet.train(found, space.resized(channels=16, cells=5), data, epochs=20)
supernet.judge(model, data)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supernet.asked_search import AskedSearch, Costed, refuse_both
from supernet.calls import Place, check_kinds
from supernet.data.batches import Source
from supernet.data.dataset import Data
from supernet.data.splits import hold_out
from supernet.deployment.bundle import NAME
from supernet.deployment.onnx_predictor import OnnxPredictor
from supernet.deployment.predictor import Predictor
from supernet.estimation.scores import Measured, Score
from supernet.estimation.space_costs import GivenCost
from supernet.execution.engines import engine
from supernet.runtime.devices import find_device
from supernet.runtime.errors import InputError
from supernet.runtime.processes import ALONE, Processes
from supernet.search.method import Method
from supernet.search.progressive.search import stage_name
from supernet.search.recipe import SearchRecipe
from supernet.space import Space
from supernet.space.architecture import Architecture
from supernet.space.choosers import Undecided
from supernet.space.heads import Outputs
from supernet.space.operations import OPERATIONS, Operation
from supernet.space.supernet import Supernet
from supernet.space.survey import random_cell
from supernet.training.evaluation import evaluate, evaluate_probabilities
from supernet.training.from_scratch import FinalNetwork, train_from_scratch
from supernet.training.lengths import batch_size_for
from supernet.training.loop import Recipe
from supernet.training.meters import Averages
from supernet.training.schedules import Cosine
from supernet.training.tasks import CLASSIFICATION, Task, implied
from supernet.training.transfer import Transfer, beginning

_FEW_STEPS = Recipe(
    schedule=Cosine(0.05), drop_path=0.0, cutout=0, auxiliary_weight=0.0, label_smoothing=0.1, least_steps=20
)
_DETECTOR = replace(  # pictures of objects are large, and a detector wants many small steps
    _FEW_STEPS,
    nesterov=True,
    weight_decay=1e-4,
    clip=10.0,
    label_smoothing=0.0,
    average=0.995,
)


def find(
    space: Space,
    data: Data,
    *,
    method: Method | None = None,
    epochs: int | None = None,
    recipe: SearchRecipe | None = None,
    truth: Score | None = None,
    limits: Mapping[str, float] | None = None,
    costs: Mapping[str, GivenCost] | None = None,
    final: Space | None = None,
    task: Task | None = None,
    operations: Mapping[str, Operation] | None = None,
    seed: int = 0,
    device: str = "auto",
    directory: str | Path | None = None,
    progress: bool = False,
    processes: Processes = ALONE,
) -> Architecture:
    """Searches a space for an architecture: its weights learn from one half of the training images, it from the other.

    One search at a time in a process: it settles how PyTorch computes, and gives that back at the end.

    Args:
        space: what can be built, in the size of the search, such as `Darts(channels=8, cells=3)`.
        data: the images; those to test by are not looked at.
        method: how to search, one of `supernet.methods`; None: DARTS, first order.
        epochs: of a search of some hundred steps, as small data want it: larger learning rates, small batches, one
            epoch of warm-up (`Method.few_steps`); None: the method's own recipe, the search on CIFAR-10 that its
            authors published, of 50 epochs or more.
        recipe: a `supernet.SearchRecipe` in place of both; with it `epochs` stays None.
        truth: what is known of an architecture, such as a table: reported every epoch for the current one.
        limits: the most that the final network may cost, such as {"macs": 50e6, "parameters": 1e6}; "memory" (peak of
            the activations for one image) and "bytes" (of the stored network) are counted, too. Under a limit on a
            table of this machine the network that is found is measured, and the next one where it breaks the limit.
        costs: costs of your own by name, for `limits` and for terms of the loss, such as {"latency": table}: what
            `supernet.read_latencies` gives, a form, or a function from an architecture to a number.
        final: the space in the size of the final network, whose costs they are; None: `space`.
        task: what is learnt and judged, one of `supernet.tasks` or of your own; None: what the data imply.
        operations: operations of your own by name: functions from a `Site` to a module.
        seed: of all initial weights, batches and draws, in [0, 2**32).
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        directory: a folder for TensorBoard, metrics, checkpoints and genotype.json; a search that was stopped goes on
            from there when the same call is made again. None: nothing is kept.
        progress: whether a line an epoch is printed, and a bar on a terminal.
        processes: those that make the same call together, each with its share of every batch, as
            `with supernet.together() as processes` gives them under torchrun. All get the same answer.

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
    costed = Costed(limits, costs, final)
    asked = AskedSearch.of(
        space, data, method, epochs, recipe, task, operations, seed, device, directory, progress, costed
    )
    check_kinds(processes=processes)
    asked = replace(asked, place=replace(asked.place, processes=processes))
    planned, place = asked.planned, asked.place
    if truth is not None:
        factories, outputs = planned.chooser.factories, planned.outputs
        _check_truth(truth, random_cell(space, seed, factories=factories, shape=data.shape, outputs=outputs))
    place.refuse_other_searches([stage_name(number, len(planned.stages)) for number in range(len(planned.stages))])
    with place.settled():
        architecture = asked.architecture(data, truth)
    if place.directory is not None and processes.leads:
        architecture.save(place.directory / "genotype.json")
    return architecture


def train(
    architecture: Architecture,
    space: Space,
    data: Data,
    *,
    epochs: int | None = None,
    recipe: Recipe | None = None,
    held_out: float = 0.1,
    task: Task | None = None,
    init: Transfer | Predictor | str | Path | None = None,
    operations: Mapping[str, Operation] | None = None,
    seed: int = 0,
    device: str = "auto",
    directory: str | Path | None = None,
    progress: bool = False,
    processes: Processes = ALONE,
) -> Predictor:
    """Trains the network of an architecture, from scratch or from `init`, and makes a model of it.

    Args:
        architecture: the genotype, found or published (`supernet.published`).
        space: of the architecture, in the size of the final network, such as `space.resized(channels=16, cells=5)`.
        data: the images; those to test by are not looked at.
        epochs: of a training of some hundred steps, as small data want it: without cut-out and drop path, with
            smoothed labels; of a detector in batches of 8 at a smaller rate, with a moving average of the weights;
            None: DARTS' training on CIFAR-10, of 600 epochs.
        recipe: a `supernet.Recipe` in place of both; with it `epochs` stays None.
        held_out: share of the training images that the network is judged by after each epoch where the data have no
            validation images, in [0, 1); 0: none.
        task: what is learnt and judged, one of `supernet.tasks` or of your own; None: what the data imply.
        init: a model whose weights the network begins with where they fit, or what `load` takes; a `supernet.Transfer`
            of it freezes some or lets them learn more slowly. None: all weights are new.
        operations: operations of your own by name: functions from a `Site` to a module.
        seed: of the initial weights and of all batches and draws, in [0, 2**32).
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        directory: a folder for TensorBoard, metrics, checkpoints and model.safetensors; a training that was stopped
            goes on from there when the same call is made again. None: nothing is kept.
        progress: whether a line an epoch is printed, and a bar on a terminal.
        processes: those that make the same call together, each with its share of every batch, as
            `with supernet.together() as processes` gives them under torchrun. All get the same answer.

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
    check_kinds(architecture=architecture, space=space, data=data, epochs=epochs, held_out=held_out, seed=seed)
    check_kinds(device=device, directory=directory, init=init)
    refuse_both(epochs, recipe, Recipe)
    start = None if init is None else beginning(init)
    data = data if start is None else replace(data, augmentation=start.normalised(data.augmentation))
    images, valid = _divided(data, held_out, seed)
    if epochs is not None:
        recipe = _few_steps(data, epochs, len(images))
    used = recipe or Recipe()
    task, factories = task or implied(data), {**OPERATIONS, **(operations or {})}
    outputs = task.outputs(data.classes)
    _check_fit(architecture, space, data, outputs, used, factories)
    same = {"space": space, "held_out": held_out} | ({} if task == CLASSIFICATION else {"task": task})
    check_kinds(processes=processes)
    place = Place(directory, find_device(device), seed, progress, same, data, processes=processes)
    used_engine = engine("fused", place.device)
    final = FinalNetwork(space, data.shape, outputs, factories, used_engine, seed)
    run = place.run("retrain")
    try:
        with place.settled():
            more: dict[str, Any] = {"run": run, "task": task, "transfer": start, "classes": data.classes}
            network, trained = train_from_scratch(final, architecture, images, valid, data.augmentation, used, **more)
    finally:
        run.report.close()
    score = trained.valid.score if trained.valid else None
    known: dict[str, str | float | int | None] = {"data": data.name, "seed": seed, f"validation {task.score}": score}
    model = _model(network, space, architecture, data, task, known)
    if place.directory is not None and processes.leads:
        model.save(place.directory / NAME)
    return model


def _few_steps(data: Data, epochs: int, images: int) -> Recipe:
    """The recipe of so many epochs of so many images."""
    size = batch_size_for(images, _FEW_STEPS.least_steps)
    if data.kind == "boxes":
        schedule = Cosine(0.02, 2e-4, warm_up=epochs // 15)
        return replace(_DETECTOR, epochs=epochs, schedule=schedule, batch_size=min(8, size))
    return replace(_FEW_STEPS, epochs=epochs, batch_size=size)


def _model(
    network: nn.Module,
    space: Space,
    architecture: Architecture,
    data: Data,
    task: Task,
    provenance: Mapping[str, str | float | int | None],
) -> Predictor:
    """A trained network with all that is needed to use it."""
    plain = engine("reference").apply(network)  # as `load` makes it, so that both answer the same to the last digit
    return Predictor(
        plain.eval(),
        space=space,
        architecture=architecture,
        classes=data.classes,
        shape=data.shape,
        augmentation=data.augmentation,
        provenance=provenance,
        answer=task.answer,
    )


def _divided(data: Data, held_out: float, seed: int) -> tuple[Source, Source | None]:
    """The images to train on, and those to judge by after each epoch."""
    if not 0 <= held_out < 1:
        raise InputError(f"held_out={held_out}: needs a share below 1, such as 0.1, or 0")
    if data.valid is not None or not held_out:
        return data.train, data.valid
    places = hold_out(data.train.labels, held_out, seed, data.classes, data.groups)
    images, valid = (data.train.subset(part) for part in places)
    return images, valid


def judge(model: Predictor | OnnxPredictor, data: Data, *, task: Task | None = None, batch_size: int = 64) -> Averages:
    """Tests a model on the test images. They can be opened once for each data set read: judge at the end.

    Args:
        model: what `train` or `load` gave; an exported one, too.
        data: whose test images are opened.
        task: what is judged, the one that the model was trained for; None: what the data imply.
        batch_size: images at once.

    Returns:
        Loss, the task's score and its `others` (of classification accuracy and balanced accuracy) over all test images,
        and what the best answer that does not look at the image would score (`chance`).

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
    check_kinds(model=model, data=data)
    if type(batch_size) is not int or batch_size < 1:
        raise InputError(f"batch_size={batch_size}: needs 1 image or more")
    if model.shape != data.shape:
        raise InputError(f"model: is of images {model.shape}, the data are {data.shape}; judge it by data of its own")
    if model.classes != data.classes:
        own, other = (", ".join(classes)[:60] for classes in (model.classes, data.classes))
        raise InputError(f"model: its classes are {own}, those of the data {other}; judge it by data of its own")
    images, task = data.test.open(), task or implied(data)
    if isinstance(model, OnnxPredictor):
        return evaluate_probabilities(model.probabilities, images, data.augmentation, batch_size=batch_size, task=task)
    device = next(model.network.parameters()).device
    normalised = replace(data.augmentation, mean=model.augmentation.mean, std=model.augmentation.std)
    return evaluate(model.network, images.to(device), normalised, batch_size=batch_size, device=device, task=task)


def _check_truth(truth: Score, architecture: Architecture) -> None:
    """What is no table of this space shows now, and not after an epoch."""
    known = truth(architecture) if callable(truth) else truth
    if not isinstance(known, Measured):
        raise InputError(f"truth: gives {type(known).__name__} for an architecture; needs supernet.Measured")


def _check_fit(
    architecture: Architecture,
    space: Space,
    data: Data,
    outputs: Outputs,
    recipe: Recipe,
    factories: Mapping[str, Operation],
) -> None:
    """Raises InputError where an architecture answers what the space does not ask, or a cut-out leaves no image."""
    if architecture.space != space.name:
        raise InputError(
            f"architecture: is of space {architecture.space!r}, and the space is {space.name!r}; give that of the "
            "architecture"
        )
    with torch.device("meta"):
        decisions = Supernet(space.network(Undecided(factories), data.shape, outputs)).decisions
    asked = {decision.group for decision in decisions.values()}
    extra = [n for n in architecture if n not in decisions and n.split("/")[0] in asked and not n.endswith("/output")]
    if extra:
        raise InputError(
            f"architecture: answers {extra[0]}, which the space does not ask; give a space with as many nodes"
        )
    if recipe.cutout >= min(data.shape[1:]):
        raise InputError(
            f"recipe.cutout={recipe.cutout}: erases images of {data.shape[1]} x {data.shape[2]}; give epochs=20 or so "
            "for a recipe of small images, or supernet.Recipe(cutout=0)"
        )
