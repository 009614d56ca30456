"""Learning rates as pure functions of the epoch: resuming restores an integer and nothing else.

Each takes (epoch, epochs), where `epoch` counts from 0 (a fraction is allowed) and `epochs` is the length of the
training. During the first `warm_up` epochs the rate climbs in a line to `start` instead, epoch 0 at start / warm_up;
the curve itself is not shifted by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from supernet.runtime.errors import InputError

Schedule = Callable[[float, int], float]
"""(epoch, epochs) -> learning rate."""


def _check(start: float, warm_up: int) -> None:
    if not 0.0 < start < math.inf:
        raise InputError(f"start={start}: needs to be positive and finite, such as 0.025")
    if warm_up < 0:
        raise InputError(f"warm_up={warm_up}: needs 0 epochs or more")


def _check_end(start: float, end: float) -> None:
    if not 0.0 <= end <= start:
        raise InputError(f"end={end}: needs to lie between 0 and start={start}")


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end` (SGDR, Loshchilov & Hutter 2017, equation 5, without restarts).

    `span`: epochs of the whole curve, of which a shorter training sees the beginning (None: as long as the training).
    """

    start: float
    end: float = 0.0
    warm_up: int = 0
    span: int | None = None

    def __post_init__(self) -> None:
        _check(self.start, self.warm_up)
        _check_end(self.start, self.end)
        if self.span is not None and self.span < 1:
            raise InputError(f"span={self.span}: needs 1 epoch or more; leave it out for the length of the training")

    def __call__(self, epoch: float, epochs: int) -> float:
        if epoch < self.warm_up:
            return self.start * min(1.0, (epoch + 1) / self.warm_up)
        span = self.span or epochs
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * min(epoch, span) / span)) / 2


@dataclass(frozen=True)
class Linear:
    """A line from `start` to `end`, whose last step down is divided among the last `tail` epochs.

    P-DARTS and PC-DARTS train on ImageNet with tail=5, because one step of the line is large near its end. The line
    then spans epochs - tail epochs, and needs at least one. Raises InputError where epochs <= tail.
    """

    start: float
    end: float = 0.0
    warm_up: int = 0
    tail: int = 0

    def __post_init__(self) -> None:
        _check(self.start, self.warm_up)
        _check_end(self.start, self.end)
        if self.tail < 0:
            raise InputError(f"tail={self.tail}: needs 0 epochs or more")

    def __call__(self, epoch: float, epochs: int) -> float:
        span = epochs - self.tail
        if span < 1:
            raise InputError(f"epochs={epochs}: needs more than tail={self.tail}; lower the tail or train longer")
        if epoch < self.warm_up:
            return self.start * min(1.0, (epoch + 1) / self.warm_up)
        left = (span - epoch) / span if epoch < span else (epochs - epoch) / (span * self.tail)
        return self.end + (self.start - self.end) * left


@dataclass(frozen=True)
class Exponential:
    """`start` times `factor` to the power of the epoch (DARTS on ImageNet: 0.1 and 0.97)."""

    start: float
    factor: float
    warm_up: int = 0

    def __post_init__(self) -> None:
        _check(self.start, self.warm_up)
        if not 0.0 < self.factor <= 1.0:
            raise InputError(f"factor={self.factor}: needs to lie in (0, 1], such as 0.97")

    def __call__(self, epoch: float, epochs: int) -> float:
        if epoch < self.warm_up:
            return self.start * min(1.0, (epoch + 1) / self.warm_up)
        return float(self.start * self.factor**epoch)
