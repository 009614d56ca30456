"""The search: alternating steps of the alphas and of the weights, as DARTS does (Liu et al. 2019, algorithm 1).

A search that is stopped at any step and started again with the same arguments ends with the same architecture,
weights and statistics, bit for bit on one CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Source, steps_per_epoch, training_batches
from supernet.estimation.supernet_accuracy import _evaluate, _Judge
from supernet.execution.modes import evaluating
from supernet.execution.precision import Accelerated
from supernet.runtime.autosave import Autosave
from supernet.runtime.checkpoint import Stateful
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.search.collapse.monitor import CollapseMonitor, MonitorSettings
from supernet.search.problem import SearchProblem
from supernet.search.recipe import SearchRecipe, skip_dropout
from supernet.search.reporting import SearchState, report_epoch
from supernet.search.strategy import Step, Strategy
from supernet.space.architecture import Architecture
from supernet.space.dropout import set_drop_path, set_skip_dropout
from supernet.space.supernet import Supernet
from supernet.training.meters import Averages, Meter, check_finite
from supernet.training.sgd import sgd
from supernet.training.tasks import Task

NO_MONITOR = MonitorSettings(every=0)
_TRAIN_STREAM, _VALID_STREAM = 1, 2


@dataclass(frozen=True)
class Searched:
    """What a search gave: the architecture, and the supernet's averages in the last epoch on both halves."""

    architecture: Architecture
    train: Averages
    valid: Averages


def search(
    supernet: Supernet,
    strategy: Strategy,
    train: Source,
    valid: Source,
    augmentation: Augmentation,
    recipe: SearchRecipe,
    *,
    task: Task,
    run: Run,
    known: Callable[[Architecture], Mapping[str, float]] | None = None,
    monitor: MonitorSettings = NO_MONITOR,
) -> Searched:
    """Trains `supernet` on `train` and `strategy` on `valid`; continues from `run.checkpoint` where there is one.

    A checkpoint of another recipe is refused. `known` is what a table knows about an architecture: it is logged every
    epoch for the current one as "table/<name>". `monitor` may stop the search or roll it back.
    Raises NotFinite where the search diverges, and Interrupted, after autosave, where the run was asked to stop.
    """
    supernet.to(run.device).train()
    strategy.to(run.device)
    train, valid = train.to(run.device), valid.to(run.device)
    rate = recipe.schedule(0, recipe.epochs)
    optimizer = sgd(supernet, rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov)
    accelerated = Accelerated(supernet, run)
    per_epoch = steps_per_epoch(train, recipe.batch_size, recipe.least_steps)
    state = SearchState(Meter(run.device), per_epoch, recipe.epochs)
    parts: dict[str, Stateful] = {"supernet": supernet, "strategy": strategy, "optimizer": optimizer, "state": state}
    problem = SearchProblem(supernet, strategy, train, valid, augmentation, task, recipe.batch_size, run, accelerated)
    watch = CollapseMonitor(monitor, problem, parts, optimizer, recipe.epochs, recipe.warm_up)
    parts["monitor"] = watch
    settings = {f"search.{f.name}": str(getattr(recipe, f.name)) for f in fields(recipe)}
    settings |= {f"monitor.{f.name}": str(getattr(monitor, f.name)) for f in fields(monitor)}
    run = replace(run, fingerprint={**run.fingerprint, **settings})
    autosave = Autosave(run, parts, lambda: check_finite(state.meter, supernet, state.step, run.checkpoint))
    autosave.restore()
    run.report.resume(state.step + 1)
    total = per_epoch * recipe.epochs
    batches = _batches(train, valid, augmentation, recipe, run, state.step)
    judge = _Judge(supernet, valid, augmentation, recipe, task, run, accelerated)
    while (epoch := state.epoch) < recipe.epochs and watch.stopped is None:
        strategy.begin_epoch(epoch / recipe.epochs, judge)
        set_drop_path(supernet, recipe.drop_path * epoch / max(1, recipe.epochs - 1))
        set_skip_dropout(supernet, skip_dropout(recipe.skip_dropout, epoch, recipe.epochs, recipe.warm_up))
        began, first = time.monotonic(), state.step
        for group in optimizer.param_groups:
            group["lr"] = recipe.schedule(epoch, recipe.epochs)
        while state.step < (epoch + 1) * per_epoch:
            autosave.between_steps()
            train_batch, valid_batch = next(batches)
            step = Step(
                supernet, train_batch, valid_batch, task, optimizer, state.step / total, accelerated=accelerated
            )
            with accelerated:
                loss, correct = search_step(step, strategy, recipe.clip, learn_alphas=epoch >= recipe.warm_up)
            state.meter.add(loss, correct, len(train_batch))
            state.step += 1
            run.report.progress(state.step, total, f"search: epoch {epoch + 1} of {recipe.epochs}")
        set_drop_path(supernet, 0.0)  # whoever judges the supernet does so without
        set_skip_dropout(supernet, 0.0)
        check_finite(state.meter, supernet, state.step, run.checkpoint)  # waits for the device, too
        seconds = (time.monotonic() - began) / max(1, state.step - first)
        with accelerated, evaluating(supernet):
            state.end_epoch(_evaluate(supernet, strategy.expected(), valid, augmentation, recipe, task, run))
        seen = watch.look(epoch, state.valid.accuracy)
        report_epoch(state, strategy, recipe, optimizer, seconds, run, seen)
        if known is not None:
            truth = known(strategy.finish())
            run.report.scalars({f"table/{name}": value for name, value in truth.items()}, state.step)
        if watch.conclude(epoch, state.step):
            batches = _batches(train, valid, augmentation, recipe, run, state.step)
        autosave.save()
    return Searched(watch.stopped or strategy.finish(judge), state.train, state.valid)


def search_step(step: Step, strategy: Strategy, clip: float, *, learn_alphas: bool = True) -> tuple[Tensor, Tensor]:
    """One step of the alphas, then one of the weights; the loss and the right answers of the latter's batch."""
    if learn_alphas:
        strategy.update(step)
    weights = strategy.sample(step)
    output = step.supernet(step.task.inputs(step.train), weights)
    loss = step.task.loss(output, step.train)
    step.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(step.supernet.slots.now(), clip)
    step.optimizer.step()
    return loss.detach(), step.task.correct(output, step.train)


def _batches(
    train: Source, valid: Source, augmentation: Augmentation, recipe: SearchRecipe, run: Run, start: int
) -> Iterator[tuple[Batch, Batch]]:
    """Endless pairs of batches, one of each half, from step `start` on."""

    def half(source: Source, stream: int) -> Iterator[Batch]:
        seed = generator(run.seed, stream).initial_seed()
        return training_batches(source, recipe.batch_size, augmentation, seed=seed, start=start, device=run.device)

    return zip(half(train, _TRAIN_STREAM), half(valid, _VALID_STREAM), strict=True)
