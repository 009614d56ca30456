"""How a supernet is searched: the settings of the loop, whatever the method."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from supernet.runtime.errors import InputError
from supernet.runtime.limits import Limit
from supernet.training.schedules import Cosine, Schedule


@dataclass(frozen=True)
class SearchRecipe:
    """How a supernet is searched; the defaults are the CIFAR-10 search of DARTS (section 3.1).

    `share`: part of the training data that the weights learn from, the rest judges the architecture. `nesterov`: their
    momentum looks ahead (Sutskever et al. 2013). `warm_up`: epochs in which the alphas stand still. `clip`: largest
    norm of the weights' gradient. `skip_dropout`: dropout after skip connections at the start
    (`schedules.skip_dropout`), where the supernet was built with it. `drop_path`: probability, at the end of a ramp
    over the epochs, that an image does without an edge (R-DARTS, Zela et al. 2020, as their code). `least_steps`: an
    epoch goes over the images as often as it takes for so many steps.
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
    """The rate of dropout after skip connections (P-DARTS, Chen et al. 2019, section 3.3, as its code has it).

    most (epochs - epoch - 1) / epochs while the alphas stand still, then most exp(-0.2 (epoch - warm_up)).
    """
    if epoch < warm_up:
        return most * (epochs - epoch - 1) / epochs
    return most * math.exp(-0.2 * (epoch - warm_up))
