"""Training of a chosen network from scratch, and the evaluation of any.

A training that is stopped at any step and started again with the same arguments ends with the same weights.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Source, steps_per_epoch, training_batches
from supernet.execution.precision import Accelerated
from supernet.runtime.autosave import Autosave, check_progress
from supernet.runtime.checkpoint import Stateful
from supernet.runtime.errors import InputError
from supernet.runtime.limits import Limit
from supernet.runtime.run import Run
from supernet.space.dropout import set_drop_path
from supernet.training.evaluation import evaluate
from supernet.training.meters import Averages, Meter, check_finite, memory_gb
from supernet.training.schedules import Cosine, Schedule
from supernet.training.sgd import sgd
from supernet.training.tasks import Classification, Task


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the CIFAR-10 evaluation of DARTS (Liu et al. 2019, section 3.2).

    `clip`: largest norm of the gradient (infinity: none). `drop_path`: probability the ramp leads to. `cutout`: side
    of the erased square in pixels. `keep`: weights of the "last" epoch, as published, or of the "best" on validation.
    `least_steps`: an epoch goes over the images as often as it takes for so many steps; few images are then trained on
    as long as many.
    """

    epochs: int = 600
    batch_size: int = 96
    schedule: Schedule = field(default_factory=lambda: Cosine(0.025))
    momentum: float = 0.9
    weight_decay: float = 3e-4
    nesterov: bool = False
    clip: Limit = 5.0
    drop_path: float = 0.2
    cutout: int = 16
    auxiliary_weight: float = 0.4
    label_smoothing: float = 0.0
    keep: Literal["last", "best"] = "last"
    least_steps: int = 0

    def __post_init__(self) -> None:
        allowed = {
            "epochs": (self.epochs >= 1, "needs at least 1"),
            "batch_size": (self.batch_size >= 1, "needs at least 1"),
            "momentum": (0.0 <= self.momentum < 1.0, "needs to lie in [0, 1), such as 0.9"),
            "weight_decay": (0.0 <= self.weight_decay < math.inf, "needs 0 or more, such as 3e-4"),
            "nesterov": (not self.nesterov or self.momentum > 0.0, "needs a momentum above 0"),
            "clip": (self.clip > 0.0, "needs to be above 0, or inf for no clipping"),
            "drop_path": (0.0 <= self.drop_path < 1.0, "needs to lie in [0, 1), such as 0.2"),
            "cutout": (self.cutout >= 0, "needs 0 pixels or more"),
            "auxiliary_weight": (0.0 <= self.auxiliary_weight < math.inf, "needs 0 or more, such as 0.4"),
            "label_smoothing": (0.0 <= self.label_smoothing < 1.0, "needs to lie in [0, 1), such as 0.1"),
            "least_steps": (self.least_steps >= 0, "needs 0 steps an epoch or more"),
            "keep": (self.keep in ("last", "best"), "use last or best"),
        }
        for name, (right, way_out) in allowed.items():
            if not right:
                raise InputError(f"retrain.{name}={getattr(self, name)}: {way_out}")
        self.schedule(0, self.epochs)  # a schedule may refuse a number of epochs


@dataclass(frozen=True)
class Trained:
    """What a training gave: the averages of the epoch whose weights the network now has, and that epoch's number."""

    epochs: int
    train: Averages
    valid: Averages | None


def train(
    network: nn.Module,
    train: Source,
    valid: Source | None,
    augmentation: Augmentation,
    recipe: Recipe,
    *,
    run: Run,
) -> Trained:
    """Trains `network` in place by SGD and returns how it went; continues from `run.checkpoint` where there is one.

    A checkpoint of another recipe is refused. Raises InputError on settings that do not go together, NotFinite where
    the training diverges, and Interrupted, after autosave, where the run was asked to stop.
    """
    if recipe.keep == "best" and valid is None:
        raise InputError("retrain.keep=best: needs validation images to choose by; use keep=last or hold some out")
    network.to(run.device).train()
    train, valid = train.to(run.device), None if valid is None else valid.to(run.device)
    task = Classification(recipe.auxiliary_weight, recipe.label_smoothing)
    rate, decay = recipe.schedule(0, recipe.epochs), recipe.weight_decay
    optimizer = sgd(network, rate, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov)
    accelerated = Accelerated(network, run)
    per_epoch = steps_per_epoch(train, recipe.batch_size, recipe.least_steps)
    state = _State(Meter(run.device), per_epoch, recipe.epochs)
    parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "state": state}
    settings = {f"retrain.{f.name}": str(getattr(recipe, f.name)) for f in fields(recipe)}
    run = replace(run, fingerprint={**run.fingerprint, **settings})
    autosave = Autosave(run, parts, lambda: check_finite(state.meter, network, state.step, run.checkpoint))
    autosave.restore()
    run.report.resume(state.step + 1)
    total = per_epoch * recipe.epochs
    augmentation = replace(augmentation, cutout=recipe.cutout)
    batches = training_batches(
        train, recipe.batch_size, augmentation, seed=run.seed, start=state.step, device=run.device
    )
    for epoch in range(state.epoch, recipe.epochs):
        began, first, seen = time.monotonic(), state.step, state.meter.count
        for group in optimizer.param_groups:
            group["lr"] = recipe.schedule(epoch, recipe.epochs)
        set_drop_path(network, recipe.drop_path * epoch / recipe.epochs)
        while state.step < (epoch + 1) * per_epoch:
            autosave.between_steps()
            batch = next(batches)
            with accelerated:
                loss, correct = train_step(network, batch, task, optimizer, recipe.clip)
            state.meter.add(loss, correct, len(batch))
            state.step += 1
            run.report.progress(state.step, total, f"retrain: epoch {epoch + 1} of {recipe.epochs}")
        check_finite(state.meter, network, state.step, run.checkpoint)  # waits for the device, so before the clock
        seconds = max(time.monotonic() - began, 1e-9)
        speed, left = (state.meter.count - seen) / seconds, seconds / (state.step - first) * (total - state.step)
        averages = None
        if valid is not None:
            size, plain = recipe.batch_size, Classification()  # judged without smoothing
            with accelerated:
                averages = evaluate(network, valid, augmentation, batch_size=size, device=run.device, task=plain)
        state.end_epoch(network, averages, recipe)
        _report_epoch(state, averages, recipe, speed=speed, left=left, run=run)
        autosave.save()
    if state.weights:
        network.load_state_dict(state.weights)
    return state.kept


def train_step(
    network: nn.Module, batch: Batch, task: Task, optimizer: torch.optim.Optimizer, clip: float
) -> tuple[Tensor, Tensor]:
    """One step of the weights; the loss and the right answers of its batch."""
    output = network(task.inputs(batch))
    loss = task.loss(output, batch)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    optimizer.step()
    return loss.detach(), task.correct(output, batch)


@dataclass
class _State:
    """How far a training is, what it would return, and the weights to return where they are not the last.

    It has `epochs` of `per_epoch` steps.
    """

    meter: Meter
    per_epoch: int
    epochs: int
    step: int = 0
    epoch: int = 0
    train: Averages = field(default_factory=lambda: Averages(0.0, 0.0, 0))
    kept: Trained = field(default_factory=lambda: Trained(0, Averages(0.0, 0.0, 0), None))
    weights: dict[str, Tensor] = field(default_factory=dict)

    def end_epoch(self, network: nn.Module, valid: Averages | None, recipe: Recipe) -> None:
        self.epoch += 1
        self.train = self.meter.read()
        best = self.kept.valid.accuracy if self.kept.valid is not None else -1.0
        if recipe.keep == "last" or (valid is not None and valid.accuracy > best):
            self.kept = Trained(self.epoch, self.train, valid)
            if recipe.keep == "best":
                self.weights = {name: value.clone() for name, value in network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        counts = {"step": self.step, "epoch": self.epoch}
        return {"meter": self.meter.state_dict(), "kept": asdict(self.kept), "weights": self.weights, **counts}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        check_progress(state["step"], state["epoch"], self.per_epoch, self.epochs)
        self.meter.load_state_dict(state["meter"])
        kept = state["kept"]
        valid = None if kept["valid"] is None else Averages(**kept["valid"])
        self.kept = Trained(kept["epochs"], Averages(**kept["train"]), valid)
        self.step, self.epoch, self.weights = state["step"], state["epoch"], state["weights"]


def _report_epoch(
    state: _State, valid: Averages | None, recipe: Recipe, *, speed: float, left: float, run: Run
) -> None:
    """Scalars and a line about the epoch that has just ended, and a fresh meter for the next."""
    scalars = {
        "retrain/loss/train": state.train.loss,
        "retrain/accuracy/train": state.train.accuracy,
        "retrain/drop_path": recipe.drop_path * (state.epoch - 1) / recipe.epochs,
        "lr/weights": recipe.schedule(state.epoch - 1, recipe.epochs),
        "sys/images_per_second": speed,
        "sys/memory_gb": memory_gb(run.device),
    }
    if valid is not None:
        scalars |= {"retrain/loss/valid": valid.loss, "retrain/accuracy/valid": valid.accuracy}
        if valid.balanced is not None:
            scalars["retrain/balanced_accuracy/valid"] = valid.balanced
    run.report.scalars(scalars, state.step)
    run.report.line(
        f"retrain {state.epoch:>3}/{recipe.epochs}  train loss {state.train.loss:.3f} "
        f"accuracy {state.train.accuracy:.3f}"
        + ("" if valid is None else f"  valid {valid.accuracy:.3f}")
        + f"  {left:.0f} s left"
    )
    state.meter.reset()
