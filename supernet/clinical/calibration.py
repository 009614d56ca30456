"""Probabilities that mean what they say: how far they are from it, and a temperature that brings them nearer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.clinical.curves import BINS, reliability
from supernet.clinical.logistic import log_sigmoid, log_sum_exp, sigmoid
from supernet.clinical.scores import Scores

Floats = NDArray[np.float64]
_LIMITS = (0.05, 20.0)  # of a temperature: beyond it lie sets that say too little


@dataclass(frozen=True)
class Calibration:
    """What is done to the logits of a network before they become probabilities: logits / temperature + bias.

    Args:
        temperature: one number (Guo et al. 2017); or one for each label, where an image may have several.
        bias: one number for each output; zeros where none was wanted.

    Example:
        >>> Calibration(2.0, (0.0, 0.5)).applied(np.array([[1.0, 3.0]])).tolist()
        [[0.5, 2.0]]
    """

    temperature: float | tuple[float, ...]
    bias: tuple[float, ...]

    def applied(self, logits: Floats) -> Floats:
        """Returns the calibrated logits (N, K) of logits (N, K)."""
        return np.asarray(logits / np.asarray(self.temperature) + np.asarray(self.bias))

    def plain(self) -> dict[str, Any]:
        """The form that a file holds: {"temperature": a number or a list, "bias": a list}."""
        temperature = list(self.temperature) if isinstance(self.temperature, tuple) else self.temperature
        return {"temperature": temperature, "bias": list(self.bias)}


def calibration_error(probabilities: Floats, positive: NDArray[np.bool_], bins: int = BINS) -> float | None:
    """The expected calibration error (Naeini et al. 2015) of the probabilities of one class.

    Images are sorted into bins of equal width by their probability. In each, the mean probability is held against the
    share of images that are of the class; the distances are averaged over the images.

    Args:
        probabilities: (N,) of the class.
        positive: (N,) whether the image is of the class.
        bins: how many.

    Returns:
        The error in [0, 1]; None where there are no images.

    Example:
        >>> calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
        0.4
    """
    if not len(probabilities):
        return None
    binned = reliability(probabilities, positive, bins)
    return float((np.abs(binned.said - binned.true) * binned.images).sum() / len(probabilities))


def brier(probabilities: Floats, positive: NDArray[np.bool_]) -> float | None:
    """The mean squared distance between probability and answer (Brier 1950).

    Args:
        probabilities: (N,) of the class.
        positive: (N,) whether the image is of the class.

    Returns:
        It, in [0, 1]; None where there are no images.

    Example:
        >>> round(brier(np.array([0.9, 0.8]), np.array([True, False])), 3)
        0.325
    """
    return float(np.square(probabilities - positive).mean()) if len(probabilities) else None


def probabilities(scores: Scores, number: int) -> Floats:
    """The probabilities that these logits give a class.

    Args:
        scores: the logits and labels.
        number: of the class.

    Returns:
        (images whose answer is known,), in [0, 1].
    """
    return sigmoid(scores.question(number).log_odds)


def calibrate(valid: Scores, *, bias: bool = False) -> Calibration:
    """Fits a temperature to validation images, by the likelihood of their labels.

    The labels are smoothed as Platt (1999) does, by one image of each answer, so that a small set that the network
    answers without a mistake does not ask for probabilities of 0 and 1. A set without images, or a label of which all
    known answers are alike, changes nothing.

    Args:
        valid: the logits and labels of the validation images.
        bias: whether each output gets a bias, too: for networks whose training was corrected for rare classes, which
            shifts their probabilities.

    Returns:
        The calibration.

    Example:
        >>> sure = Scores([[0.0, 8.0], [0.0, 8.0], [0.0, 8.0], [8.0, 0.0]], [1, 1, 0, 0])  # says .9997, is right in 3/4
        >>> 5 < calibrate(sure).temperature < 20
        True
    """
    outputs = valid.logits.shape[1]
    if not valid.several:
        if len(np.unique(valid.labels)) < 2:
            return Calibration(1.0, (0.0,) * outputs)
        temperature, biases = _fit_softmax(valid.logits, valid.labels, bias)
        return Calibration(temperature, tuple(biases.tolist()))
    fits = [_fit_sigmoid(q.log_odds, q.positive, bias) for q in map(valid.question, range(outputs))]
    return Calibration(tuple(t for t, _ in fits), tuple(b for _, b in fits))


def _fit_softmax(logits: Floats, labels: NDArray[np.int64], bias: bool) -> tuple[float, Floats]:
    """Temperature and biases (K,), whose mean is 0. The loss is convex in 1/temperature and the biases."""
    images, outputs = logits.shape
    totals = np.bincount(labels, minlength=outputs)[labels][:, None] + outputs
    targets = np.repeat(1.0 / totals, outputs, axis=1)
    targets[np.arange(images), labels] += (totals[:, 0] - outputs) / totals[:, 0]

    def loss(x: Floats) -> tuple[float, Floats]:
        z = logits * x[0] + x[1:]
        log_said = z - log_sum_exp(z)[:, None]
        off = (np.exp(log_said) - targets) / images
        value = -(targets * log_said).sum() / images
        return float(value), np.concatenate(([(off * logits).sum()], off.sum(0) if bias else np.zeros(outputs)))

    found = _minimum(loss, 1 + outputs)
    return 1 / float(found[0]), found[1:] - found[1:].mean()


def _fit_sigmoid(log_odds: Floats, positive: NDArray[np.bool_], bias: bool) -> tuple[float, float]:
    """Temperature and bias of one label."""
    own = int(positive.sum())
    others = len(positive) - own
    if not own or not others:
        return 1.0, 0.0
    targets = np.where(positive, (own + 1) / (own + 2), 1 / (others + 2))

    def loss(x: Floats) -> tuple[float, Floats]:
        z = log_odds * x[0] + x[1]
        off = (sigmoid(z) - targets) / len(z)
        value = -(targets * log_sigmoid(z) + (1 - targets) * log_sigmoid(-z)).mean()
        return float(value), np.array([(off * log_odds).sum(), off.sum() if bias else 0.0])

    found = _minimum(loss, 2)
    return 1 / float(found[0]), float(found[1])


def _minimum(loss: Any, parameters: int) -> Floats:
    """The inverse temperature and the biases of the least loss, from 1 and zeros on."""
    from scipy.optimize import minimize  # slow to import, and needed once in a run

    start = np.zeros(parameters)
    start[0] = 1.0
    bounds = [(1 / _LIMITS[1], 1 / _LIMITS[0]), *[(None, None)] * (parameters - 1)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9})
    return np.asarray(found.x)
