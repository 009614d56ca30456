"""Thresholds that are fixed on validation images, and what they then reach on test images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from supernet.clinical.intervals import Interval, wilson
from supernet.clinical.logistic import sigmoid
from supernet.clinical.scores import Question

Aim = Literal["specificity", "sensitivity", "probability"]


@dataclass(frozen=True)
class Counts:
    """Right and wrong answers at one threshold.

    Args:
        true_positives: images of the class that were named so.
        false_positives: others that were named so.
        true_negatives: others that were not.
        false_negatives: images of the class that were missed.

    Example:
        >>> print(Counts(81, 0, 0, 182).sensitivity)
        .308 (.255 to .366)
    """

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def sensitivity(self) -> Interval | None:
        """The share of the images of the class that are named so, with Wilson's interval."""
        return wilson(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> Interval | None:
        """The share of the other images that are not named so."""
        return wilson(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def positive_predictive_value(self) -> Interval | None:
        """The share of those named so that are of the class; it holds for the class's frequency in this set."""
        return wilson(self.true_positives, self.true_positives + self.false_positives)

    @property
    def negative_predictive_value(self) -> Interval | None:
        """The share of those not named so that are not; it holds for the class's frequency in this set."""
        return wilson(self.true_negatives, self.true_negatives + self.false_negatives)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, how it was found, and what came of it.

    Args:
        aim: what was asked of the validation images: a "specificity" or a "sensitivity"; or a "probability", which
            asks nothing of them.
        target: its value, in (0, 1).
        log_odds: the threshold: an image whose calibrated log odds reach it is named. None: no threshold reaches the
            target.
        valid: the answers on the validation images.
        test: the answers on the test images.
    """

    aim: Aim
    target: float
    log_odds: float | None
    valid: Counts | None
    test: Counts | None

    @property
    def probability(self) -> float | None:
        """The same threshold as a calibrated probability, in [0, 1]."""
        return None if self.log_odds is None else float(sigmoid(self.log_odds))


ASKED: tuple[tuple[Aim, float], ...] = (("specificity", 0.95), ("sensitivity", 0.95), ("probability", 0.5))


def counts(scores: NDArray[np.float64], positive: NDArray[np.bool_], threshold: float) -> Counts:
    """Counts right and wrong answers.

    Args:
        scores: (N,) the larger, the more likely of the class.
        positive: (N,) whether the image is of the class.
        threshold: an image whose score reaches it is named.

    Returns:
        The four numbers.
    """
    named = scores >= threshold
    kinds = (named & positive, named & ~positive, ~named & ~positive, ~named & positive)
    return Counts(*(int(kind.sum()) for kind in kinds))


def threshold(scores: NDArray[np.float64], positive: NDArray[np.bool_], aim: Aim, target: float) -> float | None:
    """The score that keeps a specificity with as much sensitivity as possible, or the reverse.

    Args:
        scores: (N,) those of the validation images.
        positive: (N,) whether they are of the class.
        aim: "specificity": the lowest score is taken at which it is kept; "sensitivity": the highest.
        target: the least that is wanted, in (0, 1].

    Returns:
        One of the scores; None where no score keeps it or no image tells.

    Example:
        >>> scores, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
        >>> threshold(scores, positive, "specificity", 0.95), threshold(scores, positive, "sensitivity", 0.95)
        (0.8, 0.35)
    """
    if aim == "probability":
        return math.log(target / (1 - target))
    kind = np.sort(scores[~positive] if aim == "specificity" else scores[positive])
    if not len(kind):
        return None
    wanted = math.ceil(target * len(kind) - 1e-9)  # as many have to be answered rightly
    if aim == "sensitivity":
        return float(kind[len(kind) - wanted])
    above = scores[scores > kind[wanted - 1]]
    return float(above.min()) if len(above) else None


def operating_point(valid: Question, test: Question, aim: Aim, target: float) -> OperatingPoint:
    """Fixes a threshold on validation images and tries it on test images.

    Args:
        valid: the calibrated log odds and the answers of the validation images.
        test: those of the test images.
        aim: see `threshold`.
        target: see `threshold`.

    Returns:
        The threshold and the answers on both.
    """
    at = threshold(valid.log_odds, valid.positive, aim, target)
    if at is None:
        return OperatingPoint(aim, target, None, None, None)
    both = (counts(each.log_odds, each.positive, at) for each in (valid, test))
    return OperatingPoint(aim, target, at, *both)
