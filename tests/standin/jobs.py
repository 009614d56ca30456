"""Small jobs of the product, on the CPU and on the stand-in: `python -m tests.standin tests/standin/jobs.py NAME...`.

Each prints one line of JSON: what it gave on the CPU with the reference executor, on the device, and on the device with
CUDA graphs, and what was counted meanwhile. `tests/test_standin.py` compares.
"""

import contextlib
import inspect
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident
from supernet.deployment.predictor import Predictor
from supernet.estimation.problem import SearchProblem
from supernet.estimation.supernet_accuracy import RecalibratedScore, SupernetScore
from supernet.execution.engines import Engine, engine
from supernet.execution.precision import Accelerated
from supernet.execution.stacked.executor import Stacked
from supernet.execution.step_graph import StepGraph
from supernet.genotypes.literature import published
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search import methods
from supernet.search.black_box.evolution import AgingEvolution
from supernet.search.black_box.exploring import Budget, explore
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.differentiable.architects import conjugate_gradient, first_order, unrolled
from supernet.search.loop import step_request
from supernet.search.progressive.search import StagedSearch, search_stages
from supernet.search.strategy import Step
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.dropout import dropped, set_drop_path, set_skip_dropout
from supernet.space.inverted_residual import Style
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201
from supernet.space.operations import OPERATIONS
from supernet.space.supernet import Supernet
from supernet.space.survey import candidates_of
from supernet.training.averages import MovingAverage
from supernet.training.fine_tuning import FineTuning
from supernet.training.from_scratch import FinalNetwork
from supernet.training.loop import Recipe, train
from supernet.training.loop import step_request as training_request
from supernet.training.meters import Meter
from supernet.training.schedules import Cosine
from supernet.training.sgd import sgd
from supernet.training.tasks import Classification
from tests.standin import account

SHAPE, CLASSES = (3, 8, 8), 3
DARTS = Darts(channels=8, cells=3, nodes=2, operations=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"))
MOBILE = Mobile(
    (
        Stage((8,), depths=(1, 2), kernels=(3, 5), expansions=(2, 4)),
        Stage((8, 16), stride=2, kernels=(3, 5), squeeze=(False, True), activations=("relu", "hardswish")),
    ),
    stem=8,
    head=16,
    stem_stride=1,
    dropout=0.0,
    style=Style(kernel_transforms=True),
)
AUGMENTATION = Augmentation((0.5,) * 3, (0.25,) * 3, crop_padding=1)
SETTLED = 4
"""Steps of an epoch after which what is waited for counts: libraries are set up, constants sent, graphs recorded."""


@dataclass(frozen=True)
class Place:
    """Where a job runs, and how."""

    device: str = "cpu"
    executor: str = "reference"
    graphs: bool = False
    precision: Any = "float32"

    def engine(self) -> Engine:
        """What runs cells; "matmul" is the stacked form with products of matrices."""
        if self.executor == "matmul":
            return Engine(Stacked("matmul"))
        return engine(self.executor, self.device)

    def run(self, **more: Any) -> Run:
        """The run of a loop here."""
        return Run(torch.device(self.device), graphs=self.graphs, precision=self.precision, **more)


class Recorder(Silent):
    """Keeps what is reported, but times and memory."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def scalars(self, values: Any, step: int) -> None:
        self.values |= {f"{step} {tag}": value for tag, value in values.items() if not tag.startswith("sys/")}


@dataclass
class Waits:
    """How often steps have waited for the device, by line, once they were settled; and how many those were."""

    lines: Counter[str]
    steps: int = 0


@contextmanager
def watched_steps() -> Iterator[Waits]:
    """Within it the steps of all loops are watched."""
    real, found = StepGraph.__call__, Waits(Counter())
    taken: WeakKeyDictionary[StepGraph, int] = WeakKeyDictionary()  # a freed one's id is another's

    def watched(self: StepGraph, request: Any) -> Any:
        taken[self] = taken.get(self, 0) + 1
        before = account.waits()
        result = real(self, request)
        if (taken[self] - 1) % (SETTLED + 2) >= SETTLED:
            found.lines.update(account.waits() - before)
            found.steps += 1
        return result

    StepGraph.__call__ = watched  # type: ignore[method-assign]
    try:
        yield found
    finally:
        StepGraph.__call__ = real  # type: ignore[method-assign]


def half(seed: int, count: int = 12, side: int = SHAPE[1]) -> Resident:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, SHAPE[0], side, side), generator=stream, dtype=torch.uint8)
    return Resident(images, torch.arange(count) % CLASSES)


def small(name: str, **parts: Any) -> methods.Method:
    """A method for two epochs of `SETTLED` + 2 steps."""
    function = getattr(methods, name)
    few = {"candidates": 2, "batches": 1, "finalists": 1}
    method = function(**{k: v for k, v in few.items() if k in inspect.signature(function).parameters})
    method = method.with_parts(**parts).few_steps(epochs=2, batch_size=6)
    # Small steps: large ones make much of how a sum is rounded.
    return replace(method, recipe=replace(method.recipe, least_steps=SETTLED + 2, schedule=Cosine(0.005)))


def search(place: Place, name: str, space: Any = DARTS, recipe: Any = None, monitor: Any = None, **parts: Any) -> Any:
    """What a search reports and finds."""
    return staged(place, name, space, recipe, monitor, **parts)(place)


def staged(
    place: Place, name: str, space: Any = DARTS, recipe: Any = None, monitor: Any = None, **parts: Any
) -> Callable[..., dict[str, Any]]:
    """A search that is called with a place, and more of its run, again and again until it is finished."""
    method = small(name, **parts)
    watch = monitor or (MonitorSettings(every=0) if method.monitor.on_rise == "go_on" else method.monitor)
    method = replace(method, recipe=replace(method.recipe, **recipe or {}), monitor=watch)

    def go(place: Place, **more: Any) -> dict[str, Any]:
        planned = StagedSearch.of(method, space, SHAPE, CLASSES, place.engine(), 0)
        report = more.pop("report", Recorder())
        torch.manual_seed(0)  # of drop path, which draws from the device's generator
        found = search_stages(
            planned, half(0), half(1), AUGMENTATION, run_of=lambda _: place.run(report=report, **more)
        )
        return {**report.values, "found": found.architecture.to_json()}

    return go


class StopAfter(Recorder):
    """Asks a loop to stop after so many steps."""

    def __init__(self, steps: int, interruption: Interruption) -> None:
        super().__init__()
        self._steps, self._interruption = steps, interruption

    def progress(self, done: int, total: int, message: str) -> None:
        if done == self._steps:
            self._interruption.signal = signal.SIGTERM


def resumed(place: Place, before: str, after: str) -> Any:
    """A search that stops on one device and goes on on another; on the CPU, the same search without a stop."""
    go = staged(place, "darts")
    if place.device == "cpu":
        return go(place)
    with tempfile.TemporaryDirectory() as folder:
        file, interruption = Path(folder) / "checkpoint.pt", Interruption()
        one, other = (
            replace(place, device=d, executor="fused" if d == "cuda" else "reference") for d in (before, after)
        )
        report = StopAfter(SETTLED + 2, interruption)
        with contextlib.suppress(Interrupted):
            go(one, checkpoint=file, report=report, interruption=interruption)
        return {**report.values, **go(other, checkpoint=file)}


def retraining(place: Place, **changes: Any) -> Any:
    """A training with auxiliary head, drop path and averaged weights; and what its network says of images."""
    report = Recorder()
    settings = {"epochs": 2, "batch_size": 6, "cutout": 2, "least_steps": SETTLED + 2, "keep": "best"}
    settings |= {"average": 0.9, **changes}
    final = FinalNetwork(Darts(channels=4, cells=3, auxiliary=True), (3, 32, 32), CLASSES, engine=place.engine())
    images, valid = half(0, side=32), half(1, side=32)
    run = place.run(report=report)
    network = final.build(published("darts_v2"))
    torch.manual_seed(0)
    train(network, images, valid, AUGMENTATION, Recipe(**settings), run=run)
    model = Predictor(
        engine("reference").apply(network.eval()),
        space=final.space,
        architecture=published("darts_v2"),
        classes=("a", "b", "c"),
        shape=(3, 32, 32),
        augmentation=AUGMENTATION,
        provenance={},
    )
    sure = model.probabilities(valid.images.to(place.device)).cpu().flatten().tolist()
    return {**report.values, **{f"probability {n}": value for n, value in enumerate(sure)}}


def ten_steps(place: Place, architect: Any) -> Any:
    """Ten steps of a search with Gumbel noise, drop path and skip dropout, while rates and progress move."""
    device, method = torch.device(place.device), small("snas", architect=architect)
    torch.manual_seed(0)
    chooser = Undecided({**OPERATIONS, "skip_connect": dropped(OPERATIONS["skip_connect"])})
    supernet = Supernet(place.engine().apply(DARTS.network(chooser, SHAPE, CLASSES))).to(device)
    strategy = method.make_strategy(DARTS.name, supernet.decisions).to(device)
    optimizer, passes, meter = (
        sgd(supernet, 0.005, 0.9, weight_decay=3e-4),
        Accelerated(supernet, place.run()),
        Meter(device),
    )
    graph = StepGraph(place.run(), supernet, passes, [optimizer])
    set_drop_path(supernet, 0.3)
    set_skip_dropout(supernet, 0.3)
    found: dict[str, Any] = {}
    torch.manual_seed(0)
    for number in range(10):
        optimizer.param_groups[0]["lr"] = 0.005 * (1 - number / 20)
        train, valid = (
            Batch(b.images.float().to(device) / 255, b.labels.to(device))
            for b in (half(2 * number), half(2 * number + 1))
        )
        step = Step(supernet, train, valid, Classification(), optimizer, number / 10, passes)
        with passes:
            loss, score = graph(step_request(step, strategy, 5.0, meter))
        meter.add_count(len(train))
        found |= {f"{number} loss": loss.item(), f"{number} score": score.item()}
    return {
        **found,
        **sums("supernet", supernet.state_dict()),
        **sums("logits", strategy.logits),
        "recorded": graph.recorded,
    }


def ten_training_steps(place: Place) -> Any:
    """Ten steps of a training with auxiliary head, drop path, averaged weights and a frozen part; the rates move."""
    device = torch.device(place.device)
    final = FinalNetwork(Darts(channels=4, cells=3, auxiliary=True), (3, 32, 32), CLASSES, engine=place.engine())
    network = final.build(published("darts_v2")).to(device).train()
    frozen, slow = (frozenset(n for n in network.state_dict() if n.startswith(part)) for part in ("stem", "cells.1"))
    tuning = FineTuning(frozen, slow, rate=0.5)
    groups = tuning.groups(network)
    optimizer = sgd(network, 0.005, 0.9, weight_decay=3e-4, groups=groups)
    passes = Accelerated(network, place.run())
    graph, trainee = StepGraph(place.run(), network, passes, [optimizer]), Trainee(optimizer, Meter(device))
    average = MovingAverage(network, 0.9)
    set_drop_path(network, 0.3)
    found: dict[str, Any] = {}
    torch.manual_seed(0)
    with tuning.held(network):
        for number in range(10):
            for group in optimizer.param_groups:
                group["lr"] = 0.005 * (1 - number / 20) * group["factor"]
            images = half(number, 6, side=32)
            batch = Batch(images.images.float().to(device) / 255, images.labels.to(device))
            request = training_request(network, batch, Classification(0.4), trainee, 5.0, average, number + 1)
            with passes:
                loss, _ = graph(request)
            found[f"{number} loss"] = loss.item()
    tensors = {**sums("network", network.state_dict()), **sums("network's average", average.state)}
    return {**found, **tensors, "recorded": graph.recorded}


@dataclass(frozen=True)
class Trainee:
    """What a training's step trains by."""

    optimizer: torch.optim.Optimizer
    meter: Meter


def explored(place: Place, score: Any, explorer: Any = AgingEvolution, **settings: Any) -> Any:
    """What an explorer finds of a supernet of single paths, untrained, that says something else of each image."""
    space = NasBench201(channels=4, cells=1, stages=2, nodes=2)
    torch.manual_seed(0)
    network = place.engine().apply(space.network(Undecided(single=True), SHAPE, CLASSES))
    torch.nn.init.normal_(next(module for module in network.modules() if isinstance(module, torch.nn.Linear)).weight)
    problem = SearchProblem(Supernet(network), half(0, 60), half(1, 60), AUGMENTATION, place.run()).on_device()
    who = explorer(candidates_of(space), **settings)
    found = explore(who, score(problem, 6), Budget(evaluations=6))
    return {f"{n} {name}": value for n, each in enumerate(found.evaluations) for name, value in each.values.items()}


def sums(name: str, tensors: Any) -> dict[str, float]:
    """A number for each tensor that changes with any of its elements."""
    return {
        f"{name} {key}": (t.double().cpu() * torch.arange(1.0, t.numel() + 1).view(t.shape)).sum().item()
        for key, t in tensors.items()
    }


METHODS = {name: partial(search, name=name) for name in sorted({*dir(methods)} - {"Method", "adam"})}
JOBS: dict[str, Callable[..., Any]] = {
    **METHODS,
    "adagrad": partial(search, name="darts", optimizer=partial(torch.optim.Adagrad, lr=3e-4)),
    "conjugate_gradient": partial(search, name="darts", architect=conjugate_gradient),
    "drop path": partial(search, name="darts", recipe={"drop_path": 0.4}),
    "monitor": partial(search, name="darts", monitor=MonitorSettings(since=0.0, iterations=2)),
    "nasbench201": partial(search, name="darts", space=NasBench201(channels=4, cells=1, stages=2, nodes=2)),
    "mobile darts": partial(search, name="darts", space=MOBILE),
    "mobile spos": partial(search, name="spos", space=MOBILE),
    "mobile bignas": partial(search, name="bignas", space=MOBILE),
    "mobile once_for_all": partial(search, name="once_for_all", space=MOBILE),
    "explored": partial(explored, score=SupernetScore, population=2, sample=2),
    "explored again": partial(explored, score=RecalibratedScore, population=2, sample=2),
    "retraining": retraining,
    "ten steps": partial(ten_steps, architect=first_order),
    "ten steps of second order": partial(ten_steps, architect=unrolled),
    "ten training steps": ten_training_steps,
    **{
        f"{a} to {b}": partial(resumed, before=a, after=b)
        for a, b in (("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda"))
    },
}
MANNERS = {
    "": Place("cuda", "fused"),
    "matmul": Place("cuda", "matmul"),
    "reference": Place("cuda", "reference"),
    "bfloat16": Place("cuda", "fused", precision="bfloat16"),
}
"""How a job runs on the device: "darts/bfloat16" is "darts" in one of these."""


def outcome(name: str) -> dict[str, Any]:
    """What a job gives in each place, and what was counted on the device."""
    job, manner = JOBS[name.partition("/")[0]], MANNERS[name.partition("/")[2]]
    began = time.monotonic()
    found: dict[str, Any] = {"cpu": job(Place(precision=manner.precision))}
    account.clear()
    with watched_steps() as waits:
        found |= {"plain": job(manner), "graphs": job(replace(manner, graphs=True))}
    counted = {"beside": account.beside(), "journal": account.journal(), "replays": account.replayed["graphs"]}
    return {**found, **counted, "waits": waits.lines, "steps": waits.steps, "seconds": time.monotonic() - began}


if __name__ == "__main__":
    for word in sys.argv[1:]:
        print(json.dumps({word: outcome(word)}), flush=True)
