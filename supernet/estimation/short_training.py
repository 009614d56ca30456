"""Scores an architecture by a short training of its plain network, which can go on later where it rested.

    score = ShortTrainingScore(final, train, valid, augmentation, Recipe(epochs=27))
    score(architecture, 3)  # three epochs of a schedule of 27
    score(architecture, 9)  # six more

The second call gives, bit for bit, what nine epochs at once give.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.data.reading import hashed
from supernet.data.resized import Resized
from supernet.data.splits import stratified_subset
from supernet.estimation.scores import Measured
from supernet.runtime.checkpoint import CELL, IMAGES
from supernet.runtime.errors import InputError
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.runtime.seeding import random_states, random_states_kept, restore_random_states
from supernet.space.architecture import Architecture
from supernet.training.from_scratch import FinalNetwork
from supernet.training.loop import Recipe, Training
from supernet.training.meters import NotFinite
from supernet.training.tasks import CLASSIFICATION, Task

TRAINING_SPEED = "training_speed"
"""The name of the value that the training losses give."""


@dataclass(frozen=True)
class Fidelity:
    """What makes a training cheaper than the real one; the defaults leave everything as it is.

    Args:
        epochs: after how many a training rests if no other number is asked for; None: all of the recipe.
        share: of the training images that is learnt from, in (0, 1]; each class keeps its share.
        height: of the images in pixels, which are resized to it, their width, padding and cut-out with it; None: as
            they are.
        channels: of the network; None: those of the final network.
        cells: the same.

    Raises:
        InputError: a number is out of its range.

    Example:
        >>> Fidelity(epochs=12, height=16, channels=8).share
        1.0
    """

    epochs: int | None = None
    share: float = 1.0
    height: int | None = None
    channels: int | None = None
    cells: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "height", "channels", "cells"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value}: needs 1 or more; leave it out for that of the final training")
        if not 0.0 < self.share <= 1.0:
            raise InputError(f"share={self.share}: needs to lie in (0, 1], such as 0.25")

    def sizes(self) -> dict[str, int]:
        """The sizes of the network that differ from the final one's."""
        return {n: value for n in ("channels", "cells") if (value := getattr(self, n)) is not None}


@dataclass(frozen=True)
class ShortTrainingScore:
    """Trains the plain network of an architecture for some epochs and measures it on validation images.

    The values are the task's score and `training_speed`: minus the sum of the mean training losses of the last `summed`
    epochs (SoTL-E, Ru et al. 2020, "Revisiting the Train Loss: an Efficient Performance Estimator for NAS"), which
    compares architectures that were trained for the same number of epochs. Where a training diverges, the network is
    judged as it is then, which is about chance, and its training speed is minus infinity. The cost is what this call
    took: epochs, images (learnt from and validated on) and seconds.

    Asked again for more epochs, a training goes on from its kept state: weights, optimiser, place in the batches and
    random numbers. A state that is gone, or of more epochs than are asked for, costs the training again, and the values
    are the same.

    Args:
        final: builds the networks; the fidelity changes its sizes.
        train: the images that are learnt from.
        valid: the images that are judged by, once, after the last epoch that is asked for.
        augmentation: what is done to the images of a training batch.
        recipe: of the training; its epochs are the most that can be asked for. The weights of the last epoch are
            judged, whatever its `keep` says.
        run: device, seed, report of divergence, stop signals; its checkpoint is not used.
        task: what is learnt and judged.
        fidelity: what is left out.
        schedule: "once": one training under a schedule over all epochs of the recipe, which rests and goes on.
            "each_rung": each call trains anew under a schedule over the epochs that are asked for, annealed at its end.
        states: the folder of the states, a file for each architecture, which also continues a stopped training; None:
            they are kept in memory, for as long as this score.
        summed: over how many epochs the training losses are summed, 1 or more.

    Raises:
        InputError: `schedule` or `summed` is out of its range; in a call, the number of epochs is, or the folder has
            states of another training.

    Example:
        >>> from supernet.data.batches import Resident
        >>> from supernet.genotypes.lookup import published
        >>> from supernet.space.darts import Darts
        >>> images = Resident(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1] * 4))
        >>> final = FinalNetwork(Darts(channels=2, cells=1), (1, 4, 4), 2)
        >>> score = ShortTrainingScore(final, images, images, Augmentation((0.5,), (0.5,)), Recipe(epochs=4, cutout=0))
        >>> first, second = score(published("darts_v2"), 1), score(published("darts_v2"), 3)
        >>> first.values["accuracy"], first.cost["epochs"], second.cost["epochs"], second.cost["images"]
        (0.5, 1.0, 2.0, 24.0)
    """

    final: FinalNetwork
    train: Source
    valid: Source
    augmentation: Augmentation
    recipe: Recipe
    run: Run = field(default_factory=Run)
    task: Task = CLASSIFICATION
    fidelity: Fidelity = field(default_factory=Fidelity)
    schedule: Literal["once", "each_rung"] = "once"
    states: Path | None = None
    summed: int = 1
    _kept: dict[str, bytes] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.schedule not in ("once", "each_rung"):
            raise InputError(f"schedule={self.schedule}: use once or each_rung")
        if self.summed < 1:
            raise InputError(f"summed={self.summed}: needs 1 epoch or more")

    @property
    def most(self) -> int:
        """The most epochs that can be asked for."""
        return self.recipe.epochs

    @property
    def continues(self) -> bool:
        """Whether a second call for an architecture costs only the epochs that it has more."""
        return self.schedule == "once"

    def __call__(self, architecture: Architecture, epochs: int | None = None) -> Measured:
        """Trains until this many epochs are complete; None: those of the fidelity.

        Raises:
            InputError: where the recipe has fewer epochs, or the folder's state is of another training.
            Interrupted: where the run was asked to stop; in a folder the training is saved before.
        """
        epochs = self.fidelity.epochs or self.most if epochs is None else epochs
        if not 1 <= epochs <= self.most:
            raise InputError(f"epochs={epochs}: the recipe's schedule has {self.most}; ask for 1 to {self.most}")
        began = time.monotonic()
        with random_states_kept():
            name = _name(architecture)
            training = self._training(name, architecture, epochs)
            if further := training.epoch > epochs:
                training = self._training(name, architecture, epochs, anew=True)
            had, speed = training.epoch, -math.inf
            try:
                training.to(epochs)
                speed, done = -sum(training.losses[-self.summed :]), training.epoch
                if not further:
                    self._keep(name, training)
            except NotFinite as error:
                self.run.report.line(f"short training of {name}: {error}")
                done = training.epoch + 1  # it is not complete, but was paid for
            averages = training.evaluate(self._reduced.valid)
        images, seconds = training.images + averages.count, time.monotonic() - began
        cost = {"epochs": float(done - had), "images": float(images), "seconds": seconds}
        return Measured({self.task.score: averages.score, TRAINING_SPEED: speed}, cost)

    def rested(self, architecture: Architecture) -> bytes | None:
        """The state that is kept in memory, for another process to go on with; None where there is none."""
        return self._kept.get(_name(architecture))

    def take_up(self, architecture: Architecture, state: bytes | None) -> None:
        """Keeps what `rested` gave in another process, in place of what is kept of the architecture here."""
        self._kept.pop(_name(architecture), None)
        if state is not None:
            self._kept[_name(architecture)] = state

    def _training(self, name: str, architecture: Architecture, epochs: int, anew: bool = False) -> Training:
        """The training of an architecture, from its kept state where there is one."""
        reduced, once = self._reduced, self.continues
        recipe = replace(reduced.recipe, keep="last", epochs=self.most if once else epochs)
        file = None
        if self.states is not None and not anew:
            file = self.states / (f"{name}.pt" if once else f"{name}-{epochs}.pt")
        said: dict[str, str | int | float] = {
            "network": str(reduced.final.space),
            "seed": self.run.seed,
            "initial": reduced.final.seed,
        }
        said |= {"augmentation": str(reduced.augmentation), IMAGES: reduced.digest, CELL: name}
        fingerprint = {**self.run.fingerprint, **said}
        run = replace(self.run, report=Silent(), checkpoint=file, fingerprint=fingerprint)
        network = reduced.final.build(architecture)
        training = Training(network, reduced.train, None, reduced.augmentation, recipe, run=run, task=self.task)
        if not anew and name in self._kept:
            state = torch.load(io.BytesIO(self._kept[name]), map_location="cpu", weights_only=True)
            training.load_state_dict(state["training"])
            restore_random_states(state["random"])
        return training

    def _keep(self, name: str, training: Training) -> None:
        """Keeps the state in memory, on the CPU, while there are epochs to come; in a folder it is already."""
        self._kept.pop(name, None)
        if self.states is None and self.continues and training.epoch < self.most:
            memory = io.BytesIO()
            torch.save({"training": training.state_dict(), "random": random_states()}, memory)
            self._kept[name] = memory.getvalue()

    @cached_property
    def _reduced(self) -> _Reduced:
        return _Reduced.of(self)


def _name(architecture: Architecture) -> str:
    return hashed((architecture.to_json(),))[:16]


@dataclass(frozen=True)
class _Reduced:
    """What a score trains with after its fidelity has taken away."""

    final: FinalNetwork
    train: Source
    valid: Source
    augmentation: Augmentation
    recipe: Recipe
    digest: str

    @classmethod
    def of(cls, score: ShortTrainingScore) -> _Reduced:
        fidelity, train, valid = score.fidelity, score.train, score.valid
        augmentation, recipe = score.augmentation, score.recipe
        if fidelity.share < 1.0:
            size = max(1, round(fidelity.share * len(train)))
            train = train.subset(stratified_subset(train.labels, size, score.run.seed))
        _, height, width = train.shape
        if fidelity.height is not None and fidelity.height != height:
            ratio, sides = fidelity.height / height, (fidelity.height, max(1, round(width * fidelity.height / height)))
            if ratio > 1:
                raise InputError(f"height={fidelity.height}: the images have {height}; a lower resolution needs fewer")
            train, valid = Resized(train, *sides), Resized(valid, *sides)
            border = round(augmentation.preparation.border * ratio)
            augmentation = replace(
                augmentation,
                crop_padding=round(augmentation.crop_padding * ratio),
                preparation=replace(augmentation.preparation, border=border),
            )
            recipe = replace(recipe, cutout=round(recipe.cutout * ratio))
        sizes: Mapping[str, int] = fidelity.sizes()
        space = score.final.space.resized(**sizes) if sizes else score.final.space
        final = replace(score.final, space=space, shape=augmentation.output(train.shape))
        device = score.run.device
        return cls(final, train.to(device), valid.to(device), augmentation, recipe, train.digest()[:16])
