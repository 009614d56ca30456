"""How well a score ranks architectures: rank correlations with the truth, over all of them and among the best.

A high correlation over a whole space can come from the worst architectures alone, which every score finds. What a
search needs is the order among the best; therefore each number has its counterpart in the true top decile.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

LEAST = 5
"""Architectures below which an order says nothing: three are in perfect order by chance once in six times."""

SHARE = 0.1
_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number from a sample, with the interval in which it lies in 95 of 100 samples drawn from that sample.

    Args:
        value: the number; None where there is too little to say it.
        low: the lower end of the interval; None where it is not known.
        high: its upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "too few"
        if self.low is None or self.high is None:
            return f"{self.value:+.2f}"
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class Agreement:
    """How well a score agrees with the truth over `n` architectures.

    Args:
        n: how many.
        tau: Kendall's tau-b over all, in [-1, 1].
        rho: Spearman's rho over all, in [-1, 1].
        top_n: how many are in the true top decile (those that equal its last count, too).
        top_tau: Kendall's tau-b within the true top decile.
        precision: the share of the best tenth by the score that is in the best tenth by the truth, in [0, 1].
    """

    n: int
    tau: Estimate
    rho: Estimate
    top_n: int
    top_tau: Estimate
    precision: Estimate


def agreement(scores: Sequence[float], truths: Sequence[float], *, resamples: int = 1000, seed: int = 0) -> Agreement:
    """Compares a score with the truth.

    Where a number cannot be said - below five architectures, or where score or truth is the same everywhere - it is
    None. Intervals are percentile bootstraps; a resample in which a number cannot be said does not count, and where
    that are more than half there is no interval.

    Args:
        scores: of the architectures, the larger the better; infinite ones are allowed.
        truths: of the same architectures in the same order.
        resamples: how often the architectures are drawn again, with replacement; 0: no intervals.
        seed: of those draws.

    Returns:
        All numbers.

    Raises:
        InputError: the lengths differ, or a number is NaN.

    Example:
        >>> found = agreement([1, 2, 3, 4, 5, 7, 6], [1, 2, 3, 4, 5, 6, 7], resamples=0)
        >>> str(found.tau), str(found.rho), str(found.top_tau)
        ('+0.90', '+0.96', 'too few')
    """
    if len(scores) != len(truths):
        raise InputError(f"truths: has {quantity(len(truths), 'number')}, scores has {len(scores)}; needs as many")
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    if np.isnan(x).any() or np.isnan(y).any():
        raise InputError("scores, truths: a number is NaN; leave that architecture out")
    rng = np.random.default_rng([seed, 0xB007])
    draws = [rng.integers(len(x), size=len(x)) for _ in range(resamples if len(x) >= LEAST else 0)]

    def estimate(of: Callable[[_Numbers, _Numbers], float | None]) -> Estimate:
        found = [value for draw in draws if (value := of(x[draw], y[draw])) is not None]
        value = of(x, y)
        if value is None or not found or 2 * len(found) < len(draws):
            return Estimate(value)
        low, high = np.percentile(found, [2.5, 97.5])
        return Estimate(value, float(low), float(high))

    top = int(_top(y).sum()) if len(y) else 0
    return Agreement(len(x), estimate(tau), estimate(rho), top, estimate(top_tau), estimate(precision))


def tau(scores: _Numbers, truths: _Numbers) -> float | None:
    """Kendall's tau-b: concordant less discordant pairs, over the geometric mean of the pairs tied in neither.

    Args:
        scores: (n,).
        truths: (n,).

    Returns:
        In [-1, 1]; None below five architectures, and where one of both is the same everywhere.

    Example:
        >>> round(tau(np.array([1.0, 2.0, 3.0, 4.0, 4.0]), np.array([1.0, 2.0, 4.0, 3.0, 5.0])), 3)
        0.738
    """
    if not _ranks(scores, truths):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(kendalltau(scores, truths, method="asymptotic").statistic)


def rho(scores: _Numbers, truths: _Numbers) -> float | None:
    """Spearman's rho: the correlation of the ranks, equal numbers having the mean of theirs.

    Args:
        scores: (n,).
        truths: (n,).

    Returns:
        In [-1, 1]; None below five architectures, and where one of both is the same everywhere.

    Example:
        >>> round(rho(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([1.0, 2.0, 4.0, 3.0, 5.0])), 3)
        0.9
    """
    if not _ranks(scores, truths):
        return None
    a, b = (rankdata(values) - (len(values) + 1) / 2 for values in (scores, truths))
    return float((a @ b) / math.sqrt((a @ a) * (b @ b)))


def top_tau(scores: _Numbers, truths: _Numbers) -> float | None:
    """Kendall's tau-b among the architectures of the true top decile.

    Args:
        scores: (n,).
        truths: (n,).

    Returns:
        In [-1, 1]; None where the decile has fewer than five architectures or no order.

    Example:
        >>> values = np.arange(50.0)
        >>> round(top_tau(-values, values), 6)
        -1.0
    """
    if not len(truths):
        return None
    top = _top(truths)
    return tau(scores[top], truths[top])


def precision(scores: _Numbers, truths: _Numbers) -> float | None:
    """The share of the best tenth by the score that is in the best tenth by the truth.

    Where equal numbers straddle the end of a tenth, each of them counts as far as there is room: the result is the mean
    over all ways to break the ties. 0.1 is chance.

    Args:
        scores: (n,).
        truths: (n,).

    Returns:
        In [0, 1]; None where a tenth is fewer than five architectures.

    Example:
        >>> values = np.arange(100.0)
        >>> precision(values, values), precision(-values, values), round(precision(0 * values, values), 3)
        (1.0, 0.0, 0.1)
    """
    count = math.ceil(SHARE * len(truths))
    if count < LEAST:
        return None
    return float(_membership(scores, count) @ _membership(truths, count)) / count


def _ranks(scores: _Numbers, truths: _Numbers) -> bool:
    """Whether there is an order to compare."""
    return len(scores) >= LEAST and bool(scores.min() < scores.max()) and bool(truths.min() < truths.max())


def _top(truths: _Numbers) -> NDArray[np.bool_]:
    """Which are in the top decile, with all that equal its last."""
    count = max(1, math.ceil(SHARE * len(truths)))
    return truths >= np.partition(truths, -count)[-count]


def _membership(values: _Numbers, count: int) -> _Numbers:
    """For each number the probability to be among the `count` largest, ties broken by lot."""
    last = np.partition(values, -count)[-count]
    above, equal = values > last, values == last
    return above + equal * (count - above.sum()) / equal.sum()
