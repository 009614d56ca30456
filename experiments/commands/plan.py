"""Estimates what a job will need before it runs: supernet-plan takes the overrides of supernet.

Parameters are counted; memory and time are measured on the machine at hand with a few steps and no file is written. A
search in several stages has a row for each.

    supernet-plan experiment=darts_cifar10 data.download=true
    supernet-plan runtime.engine=reference search.batch_size=32
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from supernet.data.batches import Batch, Source, steps_per_epoch, training_batches
from supernet.estimation.costs import parameters
from supernet.execution.precision import Accelerated
from supernet.execution.step_graph import PATIENCE, StepGraph
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.search.loop import step_request as search_request
from supernet.search.progressive.search import BuiltStage, build_stage
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.training.averages import MovingAverage
from supernet.training.loop import Recipe
from supernet.training.loop import step_request as training_request
from supernet.training.meters import Meter
from supernet.training.sgd import sgd

from .. import command_line as words
from ..console import command
from ..job import Job, prepare, random_cell
from ..schema import plain
from ..searching import check_search, named_parts, search_name

_STEPS = 3
_MARGIN = 0.7  # of the free memory: gradients, optimisers and what is computed on the way need the rest


@dataclass(frozen=True)
class Need:
    """What a stage needs. Bytes an image are those kept for the gradient; `fits` is the largest batch for the memory
    that is free now, None where that is unknown."""

    stage: str
    parameters: int
    batch: int
    bytes_per_image: float
    fits: int | None
    seconds_per_epoch: float
    epochs: int


@command("supernet-plan")
def main() -> None:
    """Runs the command `supernet-plan`. A mistake is reported in one line, with exit code 2."""
    given = words.prepared(sys.argv[1:])
    if any(word in ("-h", "--help") for word in given):
        print(__doc__)
        return
    words.check_options(given)
    try:
        with initialize_config_module("supernet.conf", version_base="1.3"):
            settings = plain(compose("config", overrides=given))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(words.told(error)) from None
    show(Console(), plan(settings))


def plan(settings: dict[str, Any]) -> list[Need]:
    """What the search and the retraining of one cell (a random one stands in for the found one) will need."""
    with tempfile.TemporaryDirectory() as directory:
        job = prepare(settings, Path(directory), Interruption())
        check_search(job)
    needs = [] if settings["genotype"] else list(_search(job))
    return needs if job.retrain_recipe is None else [*needs, _retraining(job, job.retrain_recipe)]


def _search(job: Job) -> Iterator[Need]:
    """Measures each stage. Which operations will be left after the first is not known: the last ones of each edge are
    taken, which are convolutions in the spaces of this library."""
    planned, kept = job.search, dict[str, tuple[str, ...]]()
    for number, stage in enumerate(planned.stages):
        with named_parts(job):
            built = build_stage(planned, number, kept)
        decisions = built.supernet.decisions.values()
        kept = built.kept(stage.stage.keep, {d.name: torch.arange(float(len(d.options))) for d in decisions})
        yield _stage(job, number, built)


def _stage(job: Job, number: int, built: BuiltStage) -> Need:
    supernet, strategy = built.supernet, built.inner
    recipe, task = job.search.stages[number].recipe, job.task
    supernet.to(job.device).train()
    strategy.to(job.device)
    optimizer = _sgd(supernet, recipe)
    assert job.divided.search is not None
    half = job.data.train.subset(job.divided.search[0])
    run = job.run("plan")
    accelerated, meter = Accelerated(supernet, run), Meter(run.device)
    steps = StepGraph(run, supernet, accelerated, [optimizer])

    def step(batch: Batch) -> None:
        with accelerated:
            taken = Step(supernet, batch, batch, task, optimizer, 0.0, accelerated=accelerated)
            steps(search_request(taken, strategy, recipe.clip, meter))

    def forward(batch: Batch) -> Any:
        weights = strategy.sample(Step(supernet, batch, batch, task, optimizer, progress=0.0))
        return supernet(batch.images, weights)

    return _need(search_name(job, number), job, supernet, half, recipe, step, forward)


def _retraining(job: Job, recipe: Recipe) -> Need:
    network = job.final.build(random_cell(job, 0))
    task = job.task.regularised(recipe.auxiliary_weight, recipe.label_smoothing)
    network.to(job.device).train()
    optimizer = _sgd(network, recipe)
    run = job.run("plan")
    accelerated, trainee = Accelerated(network, run), _Trainee(optimizer, Meter(run.device))
    average = MovingAverage(network, recipe.average) if recipe.average else None
    steps = StepGraph(run, network, accelerated, [optimizer])
    kept = job.data.train if job.divided.retrain is None else job.data.train.subset(job.divided.retrain[0])

    def step(batch: Batch) -> None:
        with accelerated:
            steps(training_request(network, batch, task, trainee, recipe.clip, average))

    return _need("retraining", job, network, kept, recipe, step, lambda batch: network(batch.images))


@dataclass(frozen=True)
class _Trainee:
    optimizer: torch.optim.Optimizer
    meter: Meter


def _sgd(network: nn.Module, recipe: SearchRecipe | Recipe) -> torch.optim.SGD:
    """Makes the optimiser as the loops do: one with fewer parts would need less time and memory."""
    rate = recipe.schedule(0, recipe.epochs)
    return sgd(network, rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov)


def _need(
    stage: str,
    job: Job,
    network: nn.Module,
    source: Source,
    recipe: Any,
    step: Callable[[Batch], None],
    forward: Callable[[Batch], Any],
) -> Need:
    source = source.to(job.device)
    size = min(recipe.batch_size, len(source))
    batches = training_batches(source, size, job.data.augmentation, seed=job.seed, device=job.device)
    batch = next(batches)
    few = [Batch(batch.images[:n], batch.labels[:n]) for n in (2, 4) if n <= size]
    kept = [_kept(forward, each) for each in few]
    per_image = (kept[-1] - kept[0]) / (len(few[-1]) - len(few[0])) if len(few) > 1 else kept[0] / len(few[0])
    fits = _fits(job.device, network, per_image)
    if fits is not None and fits < size:
        batch = Batch(batch.images[:fits], batch.labels[:fits])  # time per image stands in for the rest
    for _ in range(PATIENCE + 1 if job.run("plan").records else 1):
        step(batch)
    _wait(job.device)
    began = time.monotonic()
    for _ in range(_STEPS):
        step(batch)
    _wait(job.device)
    seconds = (time.monotonic() - began) / _STEPS * size / len(batch)
    steps = steps_per_epoch(source, recipe.batch_size, recipe.least_steps)
    return Need(stage, parameters(network), recipe.batch_size, per_image, fits, seconds * steps, recipe.epochs)


def _kept(forward: Callable[[Batch], Any], batch: Batch) -> int:
    """Bytes that a forward pass keeps for the gradient."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward(batch)
    del output
    return sum(sizes.values())


def _fits(device: torch.device, network: nn.Module, per_image: float) -> int | None:
    free = _free(device)
    if free is None:
        return None
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return max(1, int((_MARGIN * free - 4 * weights) / max(per_image, 1.0)))


def _free(device: torch.device) -> int | None:
    """Bytes of memory that are free on the device; None where that cannot be asked."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file)
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def show(console: Console, needs: list[Need]) -> None:
    """Prints the table, and what to do where the batch does not fit."""
    table = Table(title="Before the run")
    for column in ("stage", "parameters", "batch", "memory", "fits", "epoch", "all epochs"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for n in needs:
        fits = "unknown" if n.fits is None else f"{n.fits:,}"
        memory = f"{n.batch * n.bytes_per_image / 1e9:.2f} GB"
        row = (n.stage, f"{n.parameters:,}", str(n.batch), memory, fits)
        table.add_row(*row, duration(n.seconds_per_epoch), duration(n.seconds_per_epoch * n.epochs))
    console.print(table)
    console.print(f"memory: kept for the gradient. fits: largest batch for the free memory. Time from {_STEPS} steps.")
    for n in needs:
        if n.fits is not None and n.fits < n.batch:
            key = "retrain" if n.stage == "retraining" else "search"
            console.print(
                f"{n.stage}: a batch of {n.batch} does not fit; {key}.batch_size={n.fits}, "
                "runtime.checkpoint_cells=true or chooser=partial (search) need less",
                markup=False,
            )


def duration(seconds: float) -> str:
    """Formats seconds for a reader."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    main()
