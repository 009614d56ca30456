"""Training of a chosen network from scratch.

A training that is stopped at any step and started again with the same arguments ends with the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Source, training_batches
from supernet.execution.precision import Accelerated
from supernet.execution.step_graph import Numbers, Request, StepGraph, at_rates
from supernet.runtime.checkpoint import Stateful
from supernet.runtime.errors import InputError
from supernet.runtime.limits import Limit
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.run import Run
from supernet.space.dropout import set_drop_path
from supernet.training.averages import MovingAverage
from supernet.training.epochs import Epochs
from supernet.training.evaluation import evaluate
from supernet.training.fine_tuning import FineTuning
from supernet.training.flat import clip_gradients
from supernet.training.joining import join, prepare_network
from supernet.training.meters import Averages, Meter, memory_gb
from supernet.training.schedules import Cosine, Schedule
from supernet.training.tasks import CLASSIFICATION, Task
from supernet.training.tasks.joined import joined
from supernet.training.transfer import Taken


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the CIFAR-10 evaluation of DARTS (Liu et al. 2019, section 3.2).

    More than twelve settings: each is a figure that the papers vary by itself.

    Args:
        epochs: passes over the training images, 1 or more.
        batch_size: images in one step, 1 or more.
        schedule: gives the learning rate in each epoch.
        momentum: of SGD, in [0, 1).
        weight_decay: how much of the weights is added to their gradient; 0 or more.
        nesterov: whether the momentum looks ahead (Sutskever et al. 2013).
        clip: the largest norm of the gradient; inf: no limit.
        drop_path: the probability, at the end of a ramp over the epochs, that an image does without an edge, in [0, 1).
        cutout: the side of the erased square in pixels; 0: none is erased.
        auxiliary_weight: how much of the auxiliary head's loss is added to the network's; 0 or more.
        label_smoothing: the part of each label that is spread over all classes, in [0, 1).
        keep: the weights of the "last" epoch, as published, or those of the "best" epoch on validation.
        least_steps: an epoch goes over the images again until it has at least this many steps, so that a small data
            set is trained on as long as a large one; 0: once.
        average: the decay of a moving average of the weights, which then is what is evaluated and kept, in [0, 1): with
            0.99 that of some hundred steps; 0: none.
        balanced: whether an epoch shows all classes alike (`balanced_order`), in place of each image once.

    Raises:
        InputError: a setting lies outside its range, or the schedule refuses the number of epochs.

    Example:
        >>> recipe = Recipe(epochs=100)
        >>> [round(recipe.schedule(epoch, recipe.epochs), 4) for epoch in (0, 50, 100)]
        [0.025, 0.0125, 0.0]
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
    average: float = 0.0
    balanced: bool = False

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
            "average": (0.0 <= self.average < 1.0, "needs to lie in [0, 1), such as 0.99, or 0 for none"),
            "keep": (self.keep in ("last", "best"), "use last or best"),
        }
        for name, (right, way_out) in allowed.items():
            if not right:
                raise InputError(f"{name}={getattr(self, name)}: {way_out}")
        self.schedule(0, self.epochs)  # a schedule may refuse a number of epochs


@dataclass(frozen=True)
class Trained:
    """What a training gave: the averages of the epoch whose weights the network now has, and that epoch's number.

    Args:
        epochs: the number of that epoch, counted from 1; 0 before the first.
        train: the averages over its training batches.
        valid: the averages on the validation images after it; None where there were none.
        taken: what the network had from another one at first; None: it began from scratch.
    """

    epochs: int
    train: Averages
    valid: Averages | None
    taken: Taken | None = None


def train(
    network: nn.Module,
    train: Source,
    valid: Source | None,
    augmentation: Augmentation,
    recipe: Recipe,
    *,
    run: Run,
    task: Task = CLASSIFICATION,
    tuning: FineTuning | None = None,
) -> Trained:
    """Trains a network by SGD, from the weights that it has; continues from the run's checkpoint where there is one.

    Args:
        network: any module for the images; it is trained in place and moved to the run's device.
        train: the images that it learns from.
        valid: the images that it is judged by after each epoch; None: it is not.
        augmentation: what is done to the images of a training batch; the recipe says how large a cut-out is.
        recipe: epochs, batches, learning rate, regularisation.
        run: device, seed, report, checkpoint.
        task: what is learnt and judged.
        tuning: what of the network stays as it is or learns more slowly; None: all learns alike.

    Returns:
        How the training went.

    Raises:
        InputError: where settings do not go together, or the checkpoint is of another recipe.
        NotFinite: where the training diverges.
        Interrupted: after saving, where the run was asked to stop.
    """
    training = Training(network, train, valid, augmentation, recipe, run=run, task=task, tuning=tuning)
    training.to(recipe.epochs)
    return training.finish()


class Training:
    """A training that goes on until any epoch, and later further: `train` takes one to the end of its recipe.

    The schedules span all epochs of the recipe, wherever it rests. What is frozen is so only while it trains, however
    that ends. Its state is plain data (`state_dict`); with a checkpoint in the run it continues from there when it is
    made. It draws from the global generators, whose state (`runtime.seeding.random_states`) is not its own, but is in
    the checkpoint.

    Args:
        network: any module for the images; it is trained in place and moved to the run's device.
        train: the images that it learns from.
        valid: the images that it is judged by after each epoch; None: it is not.
        augmentation: what is done to the images of a training batch; the recipe says how large a cut-out is.
        recipe: epochs, batches, learning rate, regularisation.
        run: device, seed, report, checkpoint.
        task: what is learnt and judged.
        tuning: what of the network stays as it is or learns more slowly; None: all learns alike.

    Raises:
        InputError: where settings do not go together, or the checkpoint is of another recipe.

    Example:
        >>> from supernet.data.batches import Resident
        >>> images = Resident(torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1] * 3))
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        >>> plain = Augmentation((0.5,), (0.5,))
        >>> training = Training(network, images, None, plain, Recipe(epochs=9, cutout=0), run=Run())
        >>> training.to(1)
        >>> training.to(4)
        >>> training.epoch, len(training.losses), training.finish().epochs
        (4, 4, 4)
    """

    def __init__(
        self,
        network: nn.Module,
        train: Source,
        valid: Source | None,
        augmentation: Augmentation,
        recipe: Recipe,
        *,
        run: Run,
        task: Task = CLASSIFICATION,
        tuning: FineTuning | None = None,
    ) -> None:
        if recipe.keep == "best" and valid is None:
            raise InputError("keep=best: needs validation images to choose by; use keep=last or hold some out")
        network.to(run.device).train()
        prepare_network(network, run.processes)
        self._tuning = tuning or FineTuning()
        self._network, self._recipe, self._run, self._task = network, recipe, run, task
        self._train, self._valid = train.to(run.device), None if valid is None else valid.to(run.device)
        self._augmentation = replace(augmentation, cutout=recipe.cutout)
        self._learning = joined(task.regularised(recipe.auxiliary_weight, recipe.label_smoothing), run.processes)
        self._accelerated = Accelerated(network, run)
        self._epochs = Epochs(network, self._train, recipe, run, name="retrain", tuning=tuning)
        self._record = _Record()
        self._average = MovingAverage(network, recipe.average) if recipe.average else None
        self._graph = StepGraph(run, network, self._accelerated, [self._epochs.optimizer])
        parts = self._parts()
        self._epochs.resume({name: parts[name] for name in parts if name not in ("optimizer", "epochs")})
        self.images = 0  # that this object has learnt from, each time it saw them

    @property
    def epoch(self) -> int:
        """How many epochs are complete."""
        return self._epochs.epoch

    @property
    def losses(self) -> Sequence[float]:
        """The mean training loss of each complete epoch."""
        return self._record.losses

    def to(self, epoch: int) -> None:
        """Trains until this many epochs are complete; nothing where they are.

        Raises:
            NotFinite: where the training diverges.
            Interrupted: after saving, where the run was asked to stop.
        """
        run, recipe, epochs = self._run, self._recipe, self._epochs
        place: dict[str, Any] = {
            "seed": run.seed,
            "start": epochs.step,
            "device": run.device,
            "processes": run.processes,
        }
        size, augmentation = recipe.batch_size, self._augmentation
        batches = training_batches(self._train, size, augmentation, **place, balanced=recipe.balanced)
        with self._tuning.held(self._network):
            while epochs.epoch < min(epoch, recipe.epochs):
                set_drop_path(self._network, recipe.drop_path * epochs.epoch / recipe.epochs)
                self._graph.settle()
                for _ in epochs.steps():
                    batch = next(batches)
                    with self._accelerated:
                        self._graph(self._request(batch))
                    epochs.meter.add_count(batch.count)
                    self.images += batch.count
                averages = None if self._valid is None else self.evaluate(self._valid)
                train = epochs.close()
                weights = self._network.state_dict() if self._average is None else self._average.state
                self._record.add(Trained(epochs.epoch, train, averages), weights, recipe.keep)
                _report_epoch(self._record.last, epochs, recipe, self._task, run)
                epochs.save()

    def _request(self, batch: Batch) -> Request:
        epochs, clip = self._epochs, self._recipe.clip
        average, number = self._average, epochs.step + 1
        return step_request(self._network, batch, self._learning, epochs, clip, average, number, self._run.processes)

    def evaluate(self, source: Source) -> Averages:
        """Measures the network as it is now, or the average of its weights, with the loss of the task itself."""
        run = self._run
        where: Any = {"device": run.device, "task": self._task, "processes": run.processes}
        settings: Any = {"batch_size": self._recipe.batch_size, **where}
        averaged = nullcontext() if self._average is None else self._average.instead()
        with averaged, self._accelerated:
            return evaluate(self._network, source.to(self._run.device), self._augmentation, **settings)

    def finish(self) -> Trained:
        """Gives the network the weights that the recipe keeps, and returns how their epoch went."""
        if self._record.weights:
            self._network.load_state_dict(self._record.weights)
        elif self._average is not None:
            self._network.load_state_dict(self._average.state)
        return self._record.kept

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Stateful]:
        optimizer, epochs = self._epochs.optimizer, self._epochs
        average: dict[str, Stateful] = {} if self._average is None else {"average": self._average}
        return {"network": self._network, **average, "optimizer": optimizer, "epochs": epochs, "record": self._record}


def train_step(
    network: nn.Module,
    batch: Batch,
    task: Task,
    optimizer: torch.optim.Optimizer,
    clip: float,
    processes: Processes = ALONE,
) -> tuple[Tensor, Tensor]:
    """Takes one step of the weights.

    Args:
        network: in training mode.
        batch: images (batch, channels, height, width) and labels (batch,) on the network's device.
        task: what is minimised.
        optimizer: of the network's parameters.
        clip: largest norm of the gradient.
        processes: those that share the batch; the task then is `joined`.

    Returns:
        The batch's mean loss and the sum of its images' scores, both 0-dimensional and without gradient.
    """
    output = network(task.inputs(batch))
    loss = task.loss(output, batch)
    optimizer.zero_grad()
    loss.backward()
    join(processes, optimizer, network)
    clip_gradients(optimizer, clip)
    optimizer.step()
    return loss.detach(), task.score_sum(output, batch)


def step_request(
    network: nn.Module,
    batch: Batch,
    task: Task,
    epochs: Trainee,
    clip: float,
    average: MovingAverage | None = None,
    number: int = 1,
    processes: Processes = ALONE,
) -> Request:
    """Makes a step of a training something that a `StepGraph` can take: recorded as a whole, or as it is.

    Args:
        network: in training mode.
        batch: images and labels on the network's device.
        task: what is minimised.
        epochs: has the optimiser, and the meter, whose sums are part of the step; its counts are not.
        clip: largest norm of the gradient.
        average: of the network's weights, which the step moves, too; None: there is none.
        number: of the step, counted from 1; the average wants to know.
        processes: those that share the batch; the task then is `joined`.

    Returns:
        The step; its result is the batch's mean loss and the sum of its images' scores.
    """
    optimizer = epochs.optimizer
    groups = len(optimizer.param_groups)

    def take(tensors: Sequence[Tensor], numbers: Numbers) -> Sequence[Tensor]:
        with at_rates(optimizer, numbers[:groups]):
            here = replace(batch, images=tensors[0], labels=tensors[1])
            loss, score = train_step(network, here, task, optimizer, clip, processes)
        epochs.meter.add_sums(loss, score, batch.count)
        if average is not None:
            average.update(numbers[groups])
        return loss, score

    numbers = [group["lr"] for group in optimizer.param_groups]
    numbers += [] if average is None else [average.share(number)]
    return Request("train", [batch.images, batch.labels], numbers, take, parts=[task])


class Trainee(Protocol):
    """An optimiser, and a meter of the losses under it."""

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...
    @property
    def meter(self) -> Meter: ...


@dataclass
class _Record:
    """What a training has come to: the epoch that it would return, its weights where they are not the last, losses."""

    last: Trained = field(default_factory=lambda: Trained(0, Averages(0.0, 0.0, 0), None))
    kept: Trained = field(default_factory=lambda: Trained(0, Averages(0.0, 0.0, 0), None))
    weights: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def add(self, epoch: Trained, weights: Mapping[str, Tensor], keep: Literal["last", "best"]) -> None:
        self.last = epoch
        self.losses.append(epoch.train.loss)
        best = self.kept.valid.score if self.kept.valid is not None else -math.inf
        if keep == "last" or (epoch.valid is not None and epoch.valid.score > best):
            self.kept = epoch
            if keep == "best":
                self.weights = {name: value.clone() for name, value in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"kept": asdict(self.kept), "weights": self.weights, "losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        kept = state["kept"]
        valid = None if kept["valid"] is None else Averages(**kept["valid"])
        self.kept, self.weights = Trained(kept["epochs"], Averages(**kept["train"]), valid), state["weights"]
        self.losses = list(state.get("losses", ()))  # older checkpoints have none


def _report_epoch(ended: Trained, epochs: Epochs, recipe: Recipe, task: Task, run: Run) -> None:
    """Sends scalars and a line about the epoch that has just ended."""
    valid, epoch = ended.valid, ended.epochs
    named = "" if task.score == task.running else f"{task.score} "
    scalars = {
        "retrain/loss/train": ended.train.loss,
        f"retrain/{task.running}/train": ended.train.score,
        "retrain/drop_path": recipe.drop_path * (epoch - 1) / recipe.epochs,
        "lr/weights": recipe.schedule(epoch - 1, recipe.epochs),
        "sys/images_per_second": epochs.images_per_second,
        "sys/memory_gb": memory_gb(run.device),
    }
    if valid is not None:
        scalars |= {"retrain/loss/valid": valid.loss, f"retrain/{task.score}/valid": valid.score}
        scalars |= {f"retrain/{name}/valid": value for name, value in valid.others.items()}
    run.report.scalars(scalars, epochs.step)
    run.report.line(
        f"retrain {epoch:>3}/{recipe.epochs}  train loss {ended.train.loss:.3f} {task.running} {ended.train.score:.3f}"
        + ("" if valid is None else f"  valid {named}{valid.score:.3f}")
        + f"  {epochs.seconds_left:.0f} s left"
    )
