"""Estimates what a job will need before it runs: supernet-plan takes the overrides of supernet.

Parameters are counted; memory and time are measured on the machine at hand with a few steps and no file is written. A
search in several stages has a row for each.

    supernet-plan experiment=darts_cifar10 data.download=true
    supernet-plan runtime.engine=reference search.batch_size=32

With several devices a step is measured on the share of the batch that one of them gets, what it would send is counted
within that step, and the way between two processes of this machine is measured; for more than two it is worked out.

    supernet-plan runtime.devices=2 runtime.threads=1
    supernet-plan plan.devices=8,64 search.batch_size=1024 retrain.batch_size=1024
    supernet-plan plan.devices=8 plan.bandwidth=100 plan.latency=5    # GB/s and microseconds, of your machines
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from supernet.runtime.autosave import Autosave
from supernet.runtime.checkpoint import Stateful
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.processes import ALONE
from supernet.search.loop import step_request as search_request
from supernet.search.progressive.search import BuiltStage, build_stage
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.training.averages import MovingAverage
from supernet.training.joining import prepare_network
from supernet.training.loop import Recipe
from supernet.training.loop import step_request as training_request
from supernet.training.meters import Meter
from supernet.training.sgd import sgd
from supernet.training.tasks.joined import joined

from .. import command_line as words
from ..console import command
from ..job import Job, prepare, random_cell
from ..rehearsal import Rehearsal
from ..schema import plain
from ..searching import check_search, named_parts, search_name
from ..several_devices import Asked, Share, asked, duration, links_for, show_shares

_STEPS = 3
_MARGIN = 0.7  # of the free memory: gradients, optimisers and what is computed on the way need the rest


@dataclass(frozen=True)
class Need:
    """What a stage needs on one device. Bytes an image are those kept for the gradient; `fits` is the largest batch for
    the memory that is free now, None where that is unknown."""

    stage: str
    parameters: int
    batch: int
    bytes_per_image: float
    fits: int | None
    seconds_per_epoch: float
    epochs: int
    steps_per_epoch: int = 1


@dataclass(frozen=True)
class _Loop:
    """A stage that is ready to be measured.

    Args:
        stage: its name.
        job: whose processes take its steps.
        network: that it trains.
        source: the images that the weights learn from.
        recipe: of a search or a training.
        step: takes one.
        forward: of a few images, without a task.
        parts: what processes compare and save.
        sets: batches of a step: those of a search are two.
    """

    stage: str
    job: Job
    network: nn.Module
    source: Source
    recipe: SearchRecipe | Recipe
    step: Callable[[Batch], None]
    forward: Callable[[Batch], Any]
    parts: Mapping[str, Stateful]
    sets: int = 1


@command("supernet-plan")
def main() -> None:
    """Runs the command `supernet-plan`. A mistake is reported in one line, with exit code 2."""
    own, typed = asked(sys.argv[1:])
    given = words.prepared(typed)
    if any(word in ("-h", "--help") for word in given):
        print(__doc__)
        return
    words.check_options(given)
    try:
        with initialize_config_module("supernet.conf", version_base="1.3"):
            settings = plain(compose("config", overrides=given))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(words.told(error)) from None
    own = own.with_devices_of(settings["runtime"])
    job = _prepared(settings, own)
    needs = plan(job)
    show(Console(), needs)
    if own.devices:
        shares = [_share(loop, need) for count in own.devices for loop, need in _beside(job, count, needs)]
        show_shares(Console(), shares, links_for(own, job.device, shares), job.device)


def _prepared(settings: dict[str, Any], own: Asked) -> Job:
    """The job for the largest number of devices, where mistakes such as too small a batch show."""
    runtime = settings["runtime"]
    several = Rehearsal(
        count=max(own.devices, default=1), every=runtime["compare_every"], synchronised=runtime["synchronise_norms"]
    )
    with tempfile.TemporaryDirectory() as directory:
        job = prepare(settings, Path(directory), Interruption(), several if own.devices else ALONE)
        own.check(job.device)
        check_search(job.alone())
    return job


def plan(job: Job) -> list[Need]:
    """What the search and the retraining of one cell (a random one stands in for the found one) need on one device."""
    return [_need(loop) for loop in _loops(job.alone())]


def _beside(job: Job, count: int, needs: Sequence[Need]) -> Iterator[tuple[_Loop, Need]]:
    """The stages for one of so many devices, each with what one device needs."""
    assert isinstance(job.processes, Rehearsal)
    processes = replace(job.processes, count=count, held=[])
    return zip(_loops(replace(job, template=replace(job.template, processes=processes))), needs, strict=True)


def _loops(job: Job) -> Iterator[_Loop]:
    if not job.settings["genotype"]:
        yield from _search(job)
    if job.retrain_recipe is not None:
        yield _retraining(job, job.retrain_recipe)


def _search(job: Job) -> Iterator[_Loop]:
    """Makes each stage. Which operations will be left after the first is not known: the last ones of each edge are
    taken, which are convolutions in the spaces of this library."""
    planned, kept = job.search, dict[str, tuple[str, ...]]()
    for number, stage in enumerate(planned.stages):
        with named_parts(job):
            built = build_stage(planned, number, kept)
        decisions = built.supernet.decisions.values()
        kept = built.kept(stage.stage.keep, {d.name: torch.arange(float(len(d.options))) for d in decisions})
        yield _stage(job, number, built)


def _stage(job: Job, number: int, built: BuiltStage) -> _Loop:
    supernet, strategy = built.supernet, built.inner
    recipe, task = job.search.stages[number].recipe, joined(job.task, job.processes)
    supernet.to(job.device).train()
    prepare_network(supernet, job.processes)
    strategy.to(job.device)
    optimizer = _sgd(supernet, recipe)
    assert job.divided.search is not None
    half = job.data.train.subset(job.divided.search[0])
    run = job.run("plan")
    accelerated, meter = Accelerated(supernet, run), Meter(run.device)
    steps = StepGraph(run, supernet, accelerated, [optimizer])

    def step(batch: Batch) -> None:
        with accelerated:
            taken = Step(supernet, batch, batch, task, optimizer, 0.0, accelerated=accelerated, processes=job.processes)
            steps(search_request(taken, strategy, recipe.clip, meter))

    def forward(batch: Batch) -> Any:
        weights = strategy.sample(Step(supernet, batch, batch, job.task, optimizer, progress=0.0))
        return supernet(batch.images, weights)

    parts: dict[str, Stateful] = {"supernet": supernet, "strategy": strategy, "optimizer": optimizer}
    return _Loop(search_name(job, number), job, supernet, half, recipe, step, forward, parts, sets=2)


def _retraining(job: Job, recipe: Recipe) -> _Loop:
    network = job.final.build(random_cell(job, 0))
    task = joined(job.task.regularised(recipe.auxiliary_weight, recipe.label_smoothing), job.processes)
    network.to(job.device).train()
    prepare_network(network, job.processes)
    optimizer = _sgd(network, recipe)
    run = job.run("plan")
    accelerated, trainee = Accelerated(network, run), _Trainee(optimizer, Meter(run.device))
    average = MovingAverage(network, recipe.average) if recipe.average else None
    steps = StepGraph(run, network, accelerated, [optimizer])
    kept = job.data.train if job.divided.retrain is None else job.data.train.subset(job.divided.retrain[0])

    def step(batch: Batch) -> None:
        with accelerated:
            steps(training_request(network, batch, task, trainee, recipe.clip, average, processes=job.processes))

    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer}
    if average is not None:
        parts["average"] = average
    return _Loop("retraining", job, network, kept, recipe, step, lambda batch: network(batch.images), parts)


@dataclass(frozen=True)
class _Trainee:
    optimizer: torch.optim.Optimizer
    meter: Meter


def _sgd(network: nn.Module, recipe: SearchRecipe | Recipe) -> torch.optim.SGD:
    """Makes the optimiser as the loops do: one with fewer parts would need less time and memory."""
    rate = recipe.schedule(0, recipe.epochs)
    return sgd(network, rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov)


def _need(loop: _Loop) -> Need:
    job, recipe = loop.job, loop.recipe
    source = loop.source.to(job.device)
    size = min(recipe.batch_size, len(source))
    batch = _batch(loop, source, size)
    few = [Batch(batch.images[:n], batch.labels[:n]) for n in (2, 4) if n <= size]
    kept = [_kept(loop.forward, each) for each in few]
    per_image = (kept[-1] - kept[0]) / (len(few[-1]) - len(few[0])) if len(few) > 1 else kept[0] / len(few[0])
    fits = _fits(job.device, loop.network, per_image)
    if fits is not None and fits < size:
        batch = Batch(batch.images[:fits], batch.labels[:fits])  # time per image stands in for the rest
    _warm_up(loop, batch)
    seconds = _step_seconds(loop, batch) * size / len(batch)
    steps = steps_per_epoch(source, recipe.batch_size, recipe.least_steps)
    counted = parameters(loop.network)
    return Need(loop.stage, counted, recipe.batch_size, per_image, fits, seconds * steps, recipe.epochs, steps)


def _share(loop: _Loop, alone: Need) -> Share:
    """Measures a step of one of several devices, and counts what it sends between two steps and within one."""
    job, recipe, processes = loop.job, loop.recipe, loop.job.processes
    assert isinstance(processes, Rehearsal)
    count, source = processes.count, loop.source.to(job.device)
    whole = min(recipe.batch_size, len(source))
    fits = whole if alone.fits is None else max(2, alone.fits) * count
    batch = _batch(loop, source, min(whole, fits))
    _warm_up(loop, batch)
    between = Autosave(replace(job.run("plan"), checkpoint=None), loop.parts, lambda: None)
    processes.held.clear()
    between.between_steps()
    loop.step(batch)
    meetings = tuple(processes.held)
    seconds = _step_seconds(loop, batch) * processes.sizes(whole)[0] / len(batch)
    began = time.monotonic()
    processes.compare(loop.parts, "the plan")
    return Share(
        stage=loop.stage,
        count=count,
        batch=processes.sizes(recipe.batch_size)[0],
        bytes_kept=processes.sizes(recipe.batch_size)[0] * alone.bytes_per_image + 4 * _weights(loop.network),
        compute=seconds,
        compare=(time.monotonic() - began) / processes.every,
        meetings=meetings,
        images=recipe.batch_size * loop.sets,
        steps=steps_per_epoch(source, recipe.batch_size, recipe.least_steps, count) * recipe.epochs,
        alone=alone.seconds_per_epoch * alone.epochs,
    )


def _batch(loop: _Loop, source: Source, size: int) -> Batch:
    job = loop.job
    place: dict[str, Any] = {"seed": job.seed, "device": job.device, "processes": job.processes}
    return next(training_batches(source, size, job.data.augmentation, **place))


def _warm_up(loop: _Loop, batch: Batch) -> None:
    for _ in range(PATIENCE + 1 if loop.job.run("plan").records else 1):
        loop.step(batch)


def _step_seconds(loop: _Loop, batch: Batch) -> float:
    _wait(loop.job.device)
    began = time.monotonic()
    for _ in range(_STEPS):
        loop.step(batch)
    _wait(loop.job.device)
    return (time.monotonic() - began) / _STEPS


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
    return max(1, int((_MARGIN * free - 4 * _weights(network)) / max(per_image, 1.0)))


def _weights(network: nn.Module) -> int:
    """Bytes of the parameters. Gradients, momentum and a virtual or flat copy take as much each."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


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


if __name__ == "__main__":
    main()
