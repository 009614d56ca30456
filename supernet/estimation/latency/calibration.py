"""From the sum over parts to the whole network: a line that is fitted to measured networks, and how far it is off.

A whole network is slower than its parts. A part that is timed again and again has its weights in the nearest cache; in
a network they come from farther away each time. So a network takes

    a + b * (sum over its parts of their milliseconds) + c * (megabytes of its weights)

where a, b and c make the squares of the relative errors small on some networks. Whether c helps is decided on the same
networks, each one predicted from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

LEAST = 4
"""Networks that a line can be fitted to, at least."""

_LARGEST = 1e9  # of a line's numbers; no network takes that many milliseconds

_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """Milliseconds of a network: constant + factor * (sum over its parts) + megabyte * (megabytes of its weights).

    Args:
        constant: milliseconds; a little below 0 where the parts have taken more by themselves than in networks.
        factor: of the sum, above 0.
        megabyte: milliseconds for each megabyte, 0 or more.

    Raises:
        InputError: a number is out of its range.
    """

    constant: float = 0.0
    factor: float = 1.0
    megabyte: float = 0.0

    def __post_init__(self) -> None:
        allowed = {
            "constant": (-_LARGEST < self.constant < _LARGEST, f"above {-_LARGEST:g}"),
            "factor": (0 < self.factor < _LARGEST, "above 0"),
            "megabyte": (0 <= self.megabyte < _LARGEST, "of 0 or more"),
        }
        for name, (right, words) in allowed.items():
            if not right:
                given = str(getattr(self, name))[:40]
                raise InputError(f"{name}={given}: needs a number {words} and below {_LARGEST:g}")

    def __call__(self, milliseconds: float, megabytes: float) -> float:
        """What a network of these parts takes."""
        return self.constant + self.factor * milliseconds + self.megabyte * megabytes


def fit(sums: Sequence[float], megabytes: Sequence[float], measured: Sequence[float]) -> Line:
    """Fits a line to measured networks by relative least squares.

    Args:
        sums: milliseconds of each network's parts.
        megabytes: of each network's weights.
        measured: milliseconds of each network, above 0.

    Returns:
        The line. It counts megabytes where they cost time and the networks are predicted better so, each from the
        others. Where networks would take less the more their parts take, it goes through the origin.

    Raises:
        InputError: there are fewer than four networks, or the sums of all are equal.

    Example:
        >>> line = fit([1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0], [2.5, 4.5, 6.5, 8.5])
        >>> round(line.constant, 6), round(line.factor, 6), line.megabyte
        (0.5, 2.0, 0.0)
    """
    truth = np.asarray(measured, dtype=np.float64)
    if len(truth) < LEAST:
        raise InputError(f"measured: {quantity(len(truth), 'network')}; a line needs {LEAST} or more")
    if min(sums) == max(sums):
        raise InputError("sums: all networks have the same; a line needs different ones")
    short = np.stack([np.ones(len(truth)), np.asarray(sums)], axis=1)
    long = np.concatenate([short, np.asarray(megabytes)[:, None]], axis=1)
    if np.linalg.matrix_rank(long / np.abs(long).max(axis=0).clip(1e-30)) == long.shape[1]:
        constant, factor, megabyte = map(float, _solved(long, truth))
        if factor > 0 and megabyte > 0 and _left_out(long, truth) < _left_out(short, truth):
            return Line(constant, factor, megabyte)
    constant, factor = map(float, _solved(short, truth))
    return Line(constant, factor) if factor > 0 else through_origin(sums, measured)


def through_origin(sums: Sequence[float], measured: Sequence[float]) -> Line:
    """Fits a line without a constant: it is above 0 wherever the parts take time.

    Args:
        sums: milliseconds of each network's parts, some above 0.
        measured: milliseconds of each network, above 0.

    Returns:
        The line.

    Example:
        >>> line = through_origin([1.0, 2.0], [2.0, 4.0])
        >>> line.constant, round(line.factor, 6)
        (0.0, 2.0)
    """
    found = _solved(np.asarray(sums, dtype=np.float64)[:, None], np.asarray(measured, dtype=np.float64))
    return Line(factor=float(found[0]))


def _solved(matrix: _Numbers, truth: _Numbers) -> _Numbers:
    found = np.linalg.lstsq(matrix / truth[:, None], np.ones(len(truth)), rcond=None)[0]
    return np.asarray(found, dtype=np.float64)


def _left_out(matrix: _Numbers, truth: _Numbers) -> float:
    """The mean relative error of each network's prediction from all others."""
    every = np.arange(len(truth))
    errors = [matrix[i] @ _solved(matrix[every != i], truth[every != i]) / truth[i] - 1 for i in every]
    return float(np.mean(np.abs(errors)))


@dataclass(frozen=True)
class Accuracy:
    """How far predictions are from measurements.

    Args:
        networks: how many.
        mape: the mean absolute error in percent of the measurement.
        bias: the mean error in percent.
        within: the share of networks within a tenth of their measurement, in percent.
        spearman: the rank correlation; None below three networks or where all are equal.
    """

    networks: int
    mape: float
    bias: float
    within: float
    spearman: float | None

    def __str__(self) -> str:
        rank = "not known" if self.spearman is None else f"{self.spearman:.3f}"
        return (
            f"error {self.mape:.1f} % ({self.bias:+.1f} %), within 10 %: {self.within:.0f} %, Spearman {rank} "
            f"({quantity(self.networks, 'network')})"
        )


def accuracy(predicted: Sequence[float], measured: Sequence[float]) -> Accuracy:
    """Compares predictions with measurements.

    Args:
        predicted: milliseconds of some networks.
        measured: milliseconds of the same networks, above 0; one or more.

    Returns:
        The errors.

    Example:
        >>> str(accuracy([1.1, 2.0, 2.4], [1.0, 2.0, 3.0]))
        'error 10.0 % (-3.3 %), within 10 %: 67 %, Spearman 1.000 (3 networks)'
    """
    truth = np.asarray(measured, dtype=np.float64)
    errors = np.asarray(predicted, dtype=np.float64) / truth - 1
    from scipy.stats import spearmanr  # slow to import, and few need it

    ordered = len(truth) > 2 and min(predicted) < max(predicted) and min(measured) < max(measured)
    return Accuracy(
        networks=len(truth),
        mape=100 * float(np.abs(errors).mean()),
        bias=100 * float(errors.mean()),
        within=100 * float((np.abs(errors) <= 0.1 + 1e-12).mean()),
        spearman=float(spearmanr(predicted, measured).statistic) if ordered else None,
    )
