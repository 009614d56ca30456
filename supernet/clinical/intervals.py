"""Intervals of confidence for shares and for areas under a curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.clinical.logistic import normal_quantile, sigmoid

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval of confidence.

    Args:
        value: the estimate.
        low: the lower end.
        high: the upper end.

    Example:
        >>> print(Interval(0.95, 0.931, 0.9649))
        .950 (.931 to .965)
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{short(self.value)} ({short(self.low)} to {short(self.high)})"


def short(value: float | None, digits: int = 3) -> str:
    """A number below or equal to 1 as papers write it: without the 0 before the point.

    Args:
        value: the number; None where it is not known.
        digits: after the point.

    Returns:
        The text; "-" for None.

    Example:
        >>> short(0.9444), short(1.0), short(-0.25, 2), short(None)
        ('.944', '1.000', '-.25', '-')
    """
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def wilson(successes: int, trials: int, level: float = LEVEL) -> Interval | None:
    """The share of successes with Wilson's interval (1927), which is sound for few trials and for shares of 0 and 1.

    Args:
        successes: how many there are.
        trials: of how many.
        level: of confidence, in (0, 1).

    Returns:
        The share and its interval; None where there was no trial.

    Example:
        >>> print(wilson(81, 263))  # Newcombe 1998, table I: .2553 to .3662
        .308 (.255 to .366)
    """
    if trials == 0:
        return None
    z = normal_quantile(level)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    low = 0.0 if successes == 0 else max(0.0, middle - half)  # exact where rounding would leave 1e-17
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return Interval(share, low, high)


def of_area(area: float, variance: float, positives: int, negatives: int, level: float = LEVEL) -> Interval:
    """The interval of an area under the ROC curve, by the logarithm of its odds, so that it stays within 0 and 1.

    Where the variance says nothing, because the area is 0 or 1 or there is a single image of one kind, the interval is
    Newcombe's (2006, part 2, method 5), which needs the numbers of images alone: an area of 1 of twenty images is
    less sure than one of thousands.

    Args:
        area: the estimate, in [0, 1].
        variance: of the estimate; it may be nan where it is not known.
        positives: images of the class, at least 1.
        negatives: all others, at least 1.
        level: of confidence, in (0, 1).

    Returns:
        The estimate and its interval.

    Example:
        >>> print(of_area(0.9, 0.001, 50, 50))
        .900 (.819 to .947)
        >>> print(of_area(1.0, 0.0, 10, 10))
        1.000 (.800 to 1.000)
    """
    z = normal_quantile(level)
    if not variance > 0.0 or not 0.0 < area < 1.0 or min(positives, negatives) < 2:
        low, high = (_newcombe(area, positives, negatives, side * z) for side in (-1, 1))
        return Interval(area, low, high)
    half = z * math.sqrt(variance) / (area * (1 - area))  # the delta method
    low, high = (float(sigmoid(math.log(area / (1 - area)) + side * half)) for side in (-1, 1))
    return Interval(area, low, high)


def _newcombe(area: float, positives: int, negatives: int, z: float) -> float:
    """One end: the area from which the estimate is |z| standard deviations away, after Hanley and McNeil (1982).

    Both numbers of images in their formula are replaced by the mean of the two.
    """
    from scipy.optimize import brentq  # slow to import, and seldom needed

    others = (positives + negatives) / 2 - 1

    def deviation(truth: float) -> float:
        terms = 1 + others * (1 - truth) / (2 - truth) + others * truth / (1 + truth)
        return math.sqrt(max(truth * (1 - truth) * terms, 0.0) / (positives * negatives))

    def away(truth: float) -> float:
        return truth - area - z * deviation(truth)

    edge = 0.0 if z < 0 else 1.0
    within = min(max(area, 1e-12), 1 - 1e-12)  # at 0 and 1 themselves no truth deviates: a root that is not meant
    return edge if area == edge else float(brentq(away, edge, within))


def of_quantiles(value: float, replicates: NDArray[np.float64], level: float = LEVEL) -> Interval:
    """The interval between two quantiles of bootstrap replicates (Efron 1979).

    Args:
        value: the estimate from all images.
        replicates: estimates from images that were drawn again.
        level: of confidence, in (0, 1).

    Returns:
        The estimate and the quantiles.
    """
    low, high = np.quantile(replicates, ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, float(low), float(high))
