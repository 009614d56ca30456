"""The search: alternating steps of the alphas and of the weights, as DARTS does (Liu et al. 2019, algorithm 1).

A search that is stopped at any step and started again with the same arguments ends with the same architecture,
weights and statistics, bit for bit on one CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from supernet.data.batches import Batch, Source, training_batches
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Score
from supernet.estimation.supernet_accuracy import SupernetScore, supernet_averages
from supernet.execution.modes import evaluating
from supernet.execution.step_graph import Numbers, Request, StepGraph, at_rates
from supernet.runtime.checkpoint import Stateful
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file
from supernet.runtime.seeding import generator, random_states_kept
from supernet.search.collapse.monitor import CollapseMonitor
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.recipe import SearchRecipe, skip_dropout
from supernet.search.reporting import SearchRecord, report_epoch
from supernet.search.strategy import Step, Strategy
from supernet.space.architecture import Architecture
from supernet.space.dropout import set_drop_path, set_skip_dropout
from supernet.space.supernet import Supernet
from supernet.training.epochs import Epochs
from supernet.training.flat import clip_gradients
from supernet.training.joining import join, prepare_network
from supernet.training.meters import Averages, Meter
from supernet.training.tasks.joined import joined

NO_MONITOR = MonitorSettings(every=0)
_TRAIN_STREAM, _VALID_STREAM = 1, 2


@dataclass(frozen=True)
class Searched:
    """What a search gave.

    Args:
        architecture: the one found.
        train: the supernet's averages in the last epoch on the half of the data that the weights learn from.
        valid: its averages on the half that the architecture is judged by.
        runners_up: what the strategy would have chosen in its place, the best first; () where it ranks none.
    """

    architecture: Architecture
    train: Averages
    valid: Averages
    runners_up: Sequence[Architecture] = ()


def search(
    problem: SearchProblem,
    strategy: Strategy,
    recipe: SearchRecipe,
    *,
    monitor: MonitorSettings = NO_MONITOR,
    truth: Score | None = None,
) -> Searched:
    """Trains the problem's supernet and, in turns with it, the strategy; continues from the run's checkpoint, if any.

    Args:
        problem: supernet, both halves of the data, task and run.
        strategy: says which weights the supernet runs with, and chooses in the end.
        recipe: epochs, batches, learning rate of the weights.
        monitor: looks for the signs of a collapse, and may stop the search or roll it back.
        truth: what is known of an architecture, such as a table; reported every epoch as "table/<name>".

    Returns:
        The architecture found, and how the supernet did in the last epoch.

    Raises:
        InputError: where settings do not go together, or the checkpoint is of other settings.
        NotFinite: where the search diverges.
        Interrupted: after saving, where the run was asked to stop.
    """
    problem, epochs, record, watch = _resumed(problem, strategy, recipe, monitor)
    steps, score = _steps(problem, recipe, epochs), SupernetScore(problem, recipe.batch_size)
    graph = StepGraph(problem.run, problem.supernet, problem.accelerated, [epochs.optimizer])
    while (epoch := epochs.epoch) < recipe.epochs and watch.stopped is None:
        strategy.begin_epoch(epoch / recipe.epochs, score)
        with _dropping(problem.supernet, recipe, epoch):
            graph.settle()
            for _ in epochs.steps():
                step, learn_alphas = next(steps), epoch >= recipe.warm_up
                with problem.accelerated:
                    graph(step_request(step, strategy, recipe.clip, epochs.meter, learn_alphas=learn_alphas))
                epochs.meter.add_count(step.train.count)
        with problem.accelerated, evaluating(problem.supernet):
            record.close(epochs.close(), supernet_averages(problem, strategy.expected(), recipe.batch_size))
        report_epoch(record, epochs, strategy, problem, watch.look(epoch, record.valid.score), truth)
        if watch.conclude(epoch, epochs.step):  # rolled back
            steps = _steps(problem, recipe, epochs)
        epochs.save()
    if watch.stopped is not None:
        return Searched(watch.stopped, record.train, record.valid)
    return Searched(strategy.finish(score), record.train, record.valid, tuple(strategy.runners_up()))


def restore(
    problem: SearchProblem, strategy: Strategy, recipe: SearchRecipe, *, monitor: MonitorSettings = NO_MONITOR
) -> SearchProblem:
    """Gives the supernet and the strategy what a finished search has left in the run's checkpoint; trains nothing.

    Args:
        problem: as it was given to `search`, with the checkpoint in its run.
        strategy: as it was given to `search`.
        recipe: the recipe of that search.
        monitor: its collapse monitor.

    Returns:
        The problem with supernet and images on the run's device; its run saves nothing, so that the file stays.

    Raises:
        InputError: there is no checkpoint, it is of other settings, or its search is not finished.
    """
    path = problem.run.checkpoint
    if path is None or not is_file(path):
        raise InputError(f"checkpoint={path}: no such file; a search leaves it, and without it there is no supernet")
    with random_states_kept():
        problem, epochs, _, watch = _resumed(problem, strategy, recipe, monitor)
    if epochs.epoch < recipe.epochs and watch.stopped is None:
        raise InputError(
            f"checkpoint={path}: its search is at epoch {epochs.epoch} of {recipe.epochs}; finish it first"
        )
    return replace(problem, run=replace(problem.run, checkpoint=None))


def _resumed(
    problem: SearchProblem, strategy: Strategy, recipe: SearchRecipe, monitor: MonitorSettings
) -> tuple[SearchProblem, Epochs, SearchRecord, CollapseMonitor]:
    """All parts of a search on the device, as its checkpoint says, or at their start."""
    problem = problem.on_device()
    prepare_network(problem.supernet, problem.run.processes)
    strategy.to(problem.run.device)
    epochs, record = Epochs(problem.supernet, problem.train, recipe, problem.run, name="search"), SearchRecord()
    parts: dict[str, Stateful] = {"supernet": problem.supernet, "strategy": strategy, "record": record}
    watch = CollapseMonitor(monitor, problem, strategy, recipe, epochs, parts)
    epochs.resume({**parts, "monitor": watch}, monitor=monitor)
    return problem, epochs, record, watch


def search_step(step: Step, strategy: Strategy, clip: float, *, learn_alphas: bool = True) -> tuple[Tensor, Tensor]:
    """Takes one step of the alphas, then one of the weights.

    Where the strategy wants several paths in one step (FairNAS), their gradients are added up and clipped once.
    Operations of single paths that did not run, or ran on edges without weight alone, have no gradient and stay as they
    are.

    Args:
        step: the batches, the supernet and its optimiser.
        strategy: learns from the step and says which weights the supernet runs with.
        clip: largest norm of the weights' gradient.
        learn_alphas: False: the alphas do not change.

    Returns:
        The training batch's mean loss and the sum of its images' scores, both 0-dimensional and without gradient; of
        several paths their means.
    """
    if learn_alphas:
        strategy.update(step)
    paths = strategy.samples(step)
    step.optimizer.zero_grad()
    losses, scores = zip(*strategy.backward(step, paths), strict=True)
    for parameter in step.supernet.idle(paths):
        parameter.grad = None  # a gradient of zeros would still let decay and momentum move it
    join(step.processes, step.optimizer, step.supernet)
    strategy.limit_gradients(step)
    clip_gradients(step.optimizer, clip)
    step.optimizer.step()
    return _mean(losses), _mean(scores)


def step_request(step: Step, strategy: Strategy, clip: float, meter: Meter, *, learn_alphas: bool = True) -> Request:
    """Makes a step of a search something that a `StepGraph` can take: recorded as a whole, or as it is.

    Args:
        step: as `search_step` takes it.
        strategy: learns from the step.
        clip: largest norm of the weights' gradient.
        meter: its sums are part of the step, its counts are not.
        learn_alphas: False: the alphas do not change.

    Returns:
        The step; its result is the training batch's mean loss and the sum of its images' scores.
    """
    allowed = strategy.recording(step, learn_alphas=learn_alphas)
    key, host = (None, None) if allowed is None else allowed
    rates = [group["lr"] for group in step.optimizer.param_groups]

    def take(tensors: Sequence[Tensor], numbers: Numbers) -> Sequence[Tensor]:
        train, valid = (
            replace(batch, images=images, labels=labels)
            for batch, images, labels in zip((step.train, step.valid), tensors[::2], tensors[1::2], strict=True)
        )
        with at_rates(step.optimizer, numbers[1:]):
            here = replace(step, train=train, valid=valid, progress=numbers[0])
            loss, score = search_step(here, strategy, clip, learn_alphas=learn_alphas)
        meter.add_sums(loss, score, train.count)
        return loss, score

    batches = [step.train.images, step.train.labels, step.valid.images, step.valid.labels]
    return Request(key, batches, [step.progress, *rates], take, host, [step.task])


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).float().mean()


def _steps(problem: SearchProblem, recipe: SearchRecipe, epochs: Epochs) -> Iterator[Step]:
    """The steps from where the loop is, without end, each with a batch of both halves."""
    run, task = problem.run, joined(problem.task, problem.run.processes)

    def half(source: Source, stream: int) -> Iterator[Batch]:
        size, seed = recipe.batch_size, generator(run.seed, stream).initial_seed()
        place: dict[str, Any] = {"seed": seed, "start": epochs.step, "device": run.device, "processes": run.processes}
        return training_batches(source, size, problem.augmentation, **place, balanced=recipe.balanced)

    halves = half(problem.train, _TRAIN_STREAM), half(problem.valid, _VALID_STREAM)
    for train, valid in zip(*halves, strict=True):
        yield Step(
            supernet=problem.supernet,
            train=train,
            valid=valid,
            task=task,
            optimizer=epochs.optimizer,
            progress=epochs.progress,
            accelerated=problem.accelerated,
            epochs=recipe.epochs,
            processes=run.processes,
        )


@contextmanager
def _dropping(supernet: Supernet, recipe: SearchRecipe, epoch: int) -> Iterator[None]:
    """Turns on drop path and skip dropout at this epoch's rates while its context is open."""
    set_drop_path(supernet, recipe.drop_path * epoch / max(1, recipe.epochs - 1))
    set_skip_dropout(supernet, skip_dropout(recipe.skip_dropout, epoch, recipe.epochs, recipe.warm_up))
    try:
        yield
    finally:
        set_drop_path(supernet, 0.0)
        set_skip_dropout(supernet, 0.0)
