"""Probabilities and log odds. SciPy has them, too, but takes half a second to import, which a search need not wait."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def sigmoid(log_odds: ArrayLike) -> Floats:
    """The probabilities of log odds, without overflow.

    Example:
        >>> sigmoid([-800.0, 0.0, 800.0]).tolist()
        [0.0, 0.5, 1.0]
    """
    return np.asarray(np.exp(log_sigmoid(log_odds)))


def log_sigmoid(log_odds: ArrayLike) -> Floats:
    """The logarithms of `sigmoid`, exact where that rounds to 0 or 1."""
    return np.asarray(-np.logaddexp(0.0, -np.asarray(log_odds, dtype=np.float64)))


def log_sum_exp(logits: Floats) -> Floats:
    """(N,) the logarithms of the sums of the exponentials of each row of (N, K)."""
    return np.asarray(np.logaddexp.reduce(logits, axis=1))


def normal_quantile(level: float) -> float:
    """How many standard deviations around its mean hold this share of a normal distribution.

    Example:
        >>> round(normal_quantile(0.95), 4)
        1.96
    """
    return NormalDist().inv_cdf((1 + level) / 2)
