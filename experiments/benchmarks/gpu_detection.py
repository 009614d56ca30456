"""Detectors on a GPU: steps of a search and of a training by the detector's loss, recorded as graphs and eager."""

from __future__ import annotations

import time
from functools import partial

import torch
from torch import Tensor, nn

from experiments.benchmarks.gpu_rows import Row, Rows
from experiments.benchmarks.gpu_sizes import Scale
from experiments.benchmarks.setting import synchronise
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.data.box_changes import BoxChanges
from supernet.data.targets import BOX
from supernet.detection.head import AnchorFree
from supernet.estimation.problem import SearchProblem
from supernet.execution.engines import engine
from supernet.genotypes.literature import published
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.search.loop import search
from supernet.search.methods import drnas
from supernet.search.recipe import SearchRecipe
from supernet.space.choosers import Decided, Undecided
from supernet.space.supernet import Supernet
from supernet.training.loop import Recipe, Training
from supernet.training.schedules import Cosine
from supernet.training.tasks.detection import Detection

_BATCH, _EPOCHS = 8, 3
_OBJECTS = 12


def step_detection(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Milliseconds of a step on 8 pictures, their changes included; the first epoch, which records, is not timed."""
    size = "x".join(map(str, scale.pictures))
    for graphs in (True, False):
        words = "graphs" if graphs else "eager"
        rows.measure(f"training {size} {words}", partial(_training, graphs, scale, device))
        rows.measure(f"search {size} {words}", partial(_search, graphs, scale, device))


def check_detection(scale: Scale, device: torch.device, rows: Rows) -> None:
    """The largest difference of a weight between an epoch of recorded steps and one of steps as they are: 0."""
    rows.measure("graphs and eager", partial(_difference, scale, device))


def _difference(scale: Scale, device: torch.device) -> Row:
    one, other = (_trained(graphs, scale, device, 1)[0] for graphs in (True, False))
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    differences = [float((a - b).abs().max()) for a, b in pairs if a.is_floating_point()]
    return {"largest": max(differences), "right": max(differences) == 0.0}


def _training(graphs: bool, scale: Scale, device: torch.device) -> Row:
    _, taken = _trained(graphs, scale, device, _EPOCHS)
    later = taken[1:]
    return {"first_ms": taken[0], "ms": sum(later) / len(later), "steps": scale.rounds}


def _trained(graphs: bool, scale: Scale, device: torch.device, epochs: int) -> tuple[nn.Module, list[float]]:
    """A detector after some epochs, and the milliseconds of a step in each."""
    task = _task()
    torch.manual_seed(0)
    choose, shape = Decided(published("darts_v2")), (3, *scale.pictures)
    network = engine("fused", device).apply(scale.detector.network(choose, shape, task.outputs(task.classes)))
    recipe = Recipe(_EPOCHS, _BATCH, Cosine(0.02), drop_path=0.0, cutout=0, auxiliary_weight=0.0, average=0.995)
    run = Run(device, graphs=graphs)
    training = Training(network, _pictures(scale), None, _changes(), recipe, run=run, task=task)
    taken = []
    for epoch in range(1, epochs + 1):
        synchronise(device)
        began = time.perf_counter()
        training.to(epoch)
        synchronise(device)
        taken.append((time.perf_counter() - began) / scale.rounds * 1e3)
    return network, taken


def _search(graphs: bool, scale: Scale, device: torch.device) -> Row:
    """Whole searches of one and of three epochs: their difference is what two epochs take, validation included.

    The very first search of a process compiles kernels, some 50 s of them on an H100, and is not counted.
    """
    taken = []
    for epochs in (1, 1, _EPOCHS):
        task, shape = _task(), (3, *scale.pictures)
        torch.manual_seed(0)
        network = engine("fused", device).apply(scale.detector.network(Undecided(), shape, task.outputs(task.classes)))
        source, run = _pictures(scale), Run(device, graphs=graphs)
        problem = SearchProblem(Supernet(network), source, source, _changes(), run, task)
        strategy = drnas().make_strategy(scale.detector.name, problem.supernet.decisions, seed=0)
        synchronise(device)
        began = time.perf_counter()
        search(problem, strategy, SearchRecipe(epochs=epochs, batch_size=_BATCH, schedule=Cosine(0.02)))
        synchronise(device)
        taken.append((time.perf_counter() - began) * 1e3)
    compiled, first, whole = taken
    return {
        "compiled_ms": compiled,
        "first_ms": first / scale.rounds,
        "ms": (whole - first) / (_EPOCHS - 1) / scale.rounds,
        "steps": scale.rounds,
    }


def _task() -> Detection:
    return Detection(("one", "two", "three"), AnchorFree(classes=3))


def _changes() -> Augmentation:
    return Augmentation((0.5,) * 3, (0.25,) * 3, boxes=BoxChanges())


def _pictures(scale: Scale) -> Resident:
    """Random pictures with random boxes."""
    count, (height, width), draw = scale.rounds * _BATCH, scale.pictures, generator(0, 0xB0)
    images = torch.randint(256, (count, 3, height, width), dtype=torch.uint8, generator=draw)
    return Resident(images, _boxes(count, height, width, draw))


def _boxes(count: int, height: int, width: int, draw: torch.Generator) -> Tensor:
    labels = torch.zeros(count, _OBJECTS, len(BOX))
    labels[..., 0] = torch.randint(3, (count, _OBJECTS), generator=draw)
    centre, half = (torch.rand(count, _OBJECTS, 2, generator=draw) for _ in range(2))
    sides = torch.tensor((width, height), dtype=torch.float32)
    first, last = ((centre + sign * (0.05 + 0.1 * half)).clamp(0, 1) * sides for sign in (-1, 1))
    labels[..., 1:3], labels[..., 3:5] = first, last
    labels[..., 6] = (last - first).prod(-1)
    return labels
