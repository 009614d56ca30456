"""The settings of the search loop that do not depend on the method."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from supernet.runtime.errors import InputError
from supernet.runtime.limits import Limit
from supernet.training.schedules import Cosine, Schedule


@dataclass(frozen=True)
class SearchRecipe:
    """How a supernet is searched; the defaults are the CIFAR-10 search of DARTS (Liu et al. 2019, section 3.1).

    More than twelve settings: each is a figure that the papers vary by itself, or that the data ask for.

    Args:
        epochs: passes over the data that the weights learn from, 1 or more.
        batch_size: images of each half in one step, 2 or more.
        share: the part of the training data that the weights learn from, in (0, 1); the rest judges the architecture.
        schedule: gives the learning rate of the weights in each epoch.
        momentum: of the weights' SGD, in [0, 1).
        nesterov: whether that momentum looks ahead (Sutskever et al. 2013).
        weight_decay: how much of the weights is added to their gradient; 0 or more.
        clip: the largest norm of the weights' gradient; inf: no limit.
        warm_up: the number of epochs at the start in which the alphas do not change; fewer than `epochs`.
        skip_dropout: the rate of dropout after skip connections at the start, in [0, 1), which the function
            `skip_dropout` of this module lowers; it acts only where the supernet was built with such dropout.
        drop_path: the probability that an image does without an edge, at the end of a ramp over the epochs, in [0, 1)
            (R-DARTS, Zela et al. 2020, as their code has it).
        least_steps: an epoch goes over the images again until it has at least this many steps; 0: once.
        balanced: whether an epoch shows all classes alike, in both halves, in place of each image once.

    Raises:
        InputError: a setting lies outside its range.

    Example:
        >>> recipe = SearchRecipe(epochs=100, warm_up=15)
        >>> [round(recipe.schedule(epoch, recipe.epochs), 3) for epoch in (0, 50, 99)]
        [0.025, 0.013, 0.001]
    """

    epochs: int = 50
    batch_size: int = 64
    share: float = 0.5
    schedule: Schedule = field(default_factory=lambda: Cosine(0.025, 0.001))
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 3e-4
    clip: Limit = 5.0
    warm_up: int = 0
    skip_dropout: float = 0.0
    drop_path: float = 0.0
    least_steps: int = 0
    balanced: bool = False

    def __post_init__(self) -> None:
        allowed = {
            "epochs": (self.epochs >= 1, "needs at least 1"),
            "batch_size": (self.batch_size >= 2, "needs at least 2, batch norm cannot do with less"),
            "share": (0.0 < self.share < 1.0, "needs to lie between 0 and 1, such as 0.5"),
            "momentum": (0.0 <= self.momentum < 1.0, "needs to lie in [0, 1), such as 0.9"),
            "nesterov": (not self.nesterov or self.momentum > 0.0, "needs a momentum above 0"),
            "weight_decay": (0.0 <= self.weight_decay < math.inf, "needs 0 or more, such as 3e-4"),
            "clip": (self.clip > 0.0, "needs to be above 0, or inf for no clipping"),
            "skip_dropout": (0.0 <= self.skip_dropout < 1.0, "needs to lie in [0, 1), such as 0.1"),
            "warm_up": (0 <= self.warm_up < self.epochs, f"needs 0 to {self.epochs - 1}, fewer than epochs"),
            "drop_path": (0.0 <= self.drop_path < 1.0, "needs to lie in [0, 1), such as 0.2"),
            "least_steps": (self.least_steps >= 0, "needs 0 steps an epoch or more"),
        }
        for name, (right, way_out) in allowed.items():
            if not right:
                raise InputError(f"{name}={getattr(self, name)}: {way_out}")


def skip_dropout(most: float, epoch: int, epochs: int, warm_up: int) -> float:
    """Gives the rate of dropout after skip connections in one epoch (P-DARTS, Chen et al. 2019, section 3.3).

    While the alphas do not change, the rate is `most` (epochs - epoch - 1) / epochs, as in the authors' code. From then
    on it is `most` exp(-0.2 (epoch - warm_up)).

    Args:
        most: the rate from which it falls, in [0, 1).
        epoch: the epoch, counted from 0.
        epochs: how many epochs the search has.
        warm_up: the number of epochs in which the alphas do not change.

    Returns:
        The rate, in [0, `most`].

    Example:
        >>> [round(skip_dropout(0.4, epoch, epochs=25, warm_up=10), 3) for epoch in (0, 9, 10, 24)]
        [0.384, 0.24, 0.4, 0.024]
    """
    if epoch < warm_up:
        return most * (epochs - epoch - 1) / epochs
    return most * math.exp(-0.2 * (epoch - warm_up))
