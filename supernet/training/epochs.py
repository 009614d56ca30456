"""What a search and a training share: optimiser, learning rate, meter, clock, checkpoint and progress of a loop.

A loop that is stopped at any step and started again with the same arguments ends as if it had never been stopped. The
loop itself says what a step is, what is reported of an epoch and what else has a state:

    epochs = Epochs(network, train, recipe, run, name="retrain")
    epochs.resume({"network": network})
    while epochs.epoch < recipe.epochs:
        for _ in epochs.steps():
            epochs.meter.add(loss, score_sum, images)
        averages = epochs.close()
        epochs.save()
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Protocol

from torch import nn

from supernet.data.batches import Source, steps_per_epoch
from supernet.runtime.autosave import Autosave, check_progress
from supernet.runtime.checkpoint import Stateful
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.runtime.text import quantity
from supernet.training.fine_tuning import FineTuning
from supernet.training.meters import Averages, Meter, check_finite
from supernet.training.schedules import Schedule
from supernet.training.sgd import sgd


class LoopRecipe(Protocol):
    """What the recipes of a search and of a training have in common."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def least_steps(self) -> int: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def momentum(self) -> float: ...
    @property
    def nesterov(self) -> bool: ...
    @property
    def weight_decay(self) -> float: ...


class Epochs:
    """A loop over epochs: its progress, and all that it does between steps and between epochs.

    Args:
        network: on its device already; its parameters get an SGD optimiser as the recipe says.
        source: the images that an epoch goes over.
        recipe: epochs, batches, learning rate and optimiser.
        run: where the loop reports and saves.
        name: of the loop, in its lines and its checkpoint's settings.
        tuning: which of the parameters move, and how fast; None: all do alike.
    """

    def __init__(
        self,
        network: nn.Module,
        source: Source,
        recipe: LoopRecipe,
        run: Run,
        *,
        name: str,
        tuning: FineTuning | None = None,
    ) -> None:
        self._network, self._recipe, self._run, self._name = network, recipe, run, name
        rate, decay = recipe.schedule(0, recipe.epochs), recipe.weight_decay
        groups = None if tuning is None else tuning.groups(network)
        self.optimizer = sgd(
            network, rate, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov, groups=groups
        )
        self.per_epoch = steps_per_epoch(source, recipe.batch_size, recipe.least_steps, run.processes.count)
        self.step, self.epoch, self.epochs = 0, 0, recipe.epochs
        self.images_per_second, self.seconds_left = 0.0, 0.0  # of the epoch that has just ended
        self.meter = Meter(run.device)
        self._autosave = Autosave(run, {}, self._check)

    @property
    def progress(self) -> float:
        """How far the loop is, in [0, 1)."""
        return self.step / (self.per_epoch * self.epochs)

    def resume(self, parts: Mapping[str, Stateful], **settings: Any) -> None:
        """Continues from the checkpoint, where there is one.

        Args:
            parts: what has a state besides the loop and its optimiser, by name.
            settings: frozen dataclasses by name; a checkpoint of other settings, or of another recipe, is refused.

        Raises:
            InputError: where the checkpoint is damaged or belongs to something else.
        """
        used = {self._name: self._recipe, **settings}
        said = {f"{name}.{f.name}": str(getattr(node, f.name)) for name, node in used.items() for f in fields(node)}
        run = replace(self._run, fingerprint={**self._run.fingerprint, **said})
        self._autosave = Autosave(run, {**parts, "optimizer": self.optimizer, "epochs": self}, self._check)
        self._autosave.restore()
        self._run.report.resume(self.step + 1)

    def steps(self) -> Iterator[None]:
        """The steps that the current epoch still has; between two of them the loop saves, or stops where it was asked.

        Raises:
            Interrupted: after saving, where the run was asked to stop.
            NotFinite: where the loss or a weight became infinite or not a number.
        """
        began, first, seen = time.monotonic(), self.step, self.meter.count
        total = self.per_epoch * self.epochs
        for group in self.optimizer.param_groups:
            group["lr"] = self._recipe.schedule(self.epoch, self.epochs) * group.get("factor", 1.0)
        while self.step < (self.epoch + 1) * self.per_epoch:
            self._autosave.between_steps()
            yield
            self.step += 1
            self._run.report.progress(self.step, total, f"{self._name}: epoch {self.epoch + 1} of {self.epochs}")
        self._check()  # waits for the device, so before the clock
        seconds = max(time.monotonic() - began, 1e-9)
        self.images_per_second = (self.meter.count - seen) / seconds
        self.seconds_left = seconds / max(1, self.step - first) * (total - self.step)

    def close(self) -> Averages:
        """Ends the epoch and gives its averages."""
        averages = self.meter.read()
        self.meter.reset()
        self.epoch += 1
        return averages

    def save(self) -> None:
        """Writes the checkpoint now."""
        self._autosave.save()

    def _check(self) -> None:
        check_finite(self.meter, self._network, self.step, self._run.checkpoint)

    def state_dict(self) -> dict[str, Any]:
        return {"meter": self.meter.state_dict(), "step": self.step, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        count = quantity(self._run.processes.count, "process", "processes")
        try:
            check_progress(state["step"], state["epoch"], self.per_epoch, self.epochs)
        except InputError as error:  # what is left of a pass is a step where all processes get two of its images
            raise InputError(
                f"{error} in {count}; take as many as it was begun in, if that is another number"
            ) from None
        self.meter.load_state_dict(state["meter"])
        self.step, self.epoch = state["step"], state["epoch"]
