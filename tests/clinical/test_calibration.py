"""Calibration: against scikit-learn, loops, and probabilities that are known."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import brier_score_loss

from supernet.clinical.calibration import Calibration, brier, calibrate, calibration_error, probabilities
from supernet.clinical.report import calibration_of
from supernet.clinical.scores import Scores

DRAWS = np.random.default_rng(0)


def sampled(logits: np.ndarray) -> np.ndarray:
    """Labels that have just these probabilities."""
    return (softmax(logits, axis=1).cumsum(1) < DRAWS.random((len(logits), 1))).sum(1)


def test_error_and_brier_by_loop_and_by_scikit_learn():
    said = DRAWS.random(500)
    positive = DRAWS.random(500) < said**2
    error = 0.0
    for n in range(15):
        inside = (said > n / 15) & (said <= (n + 1) / 15)
        error += abs(said[inside].mean() - positive[inside].mean()) * inside.sum() / 500
    assert calibration_error(said, positive) == pytest.approx(error, abs=1e-12)
    assert brier(said, positive) == pytest.approx(brier_score_loss(positive, said), abs=1e-12)
    assert (calibration_error(said[:0], positive[:0]), brier(said[:0], positive[:0])) == (None, None)


def test_a_known_temperature_is_found_again():
    logits = DRAWS.normal(size=(20_000, 3)) * 2
    found = calibrate(Scores(3.0 * logits, sampled(logits)))
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert found.bias == (0.0, 0.0, 0.0)


def test_the_temperature_is_the_one_of_the_least_loss():
    """Without smoothing of labels, by another method. Smoothing moves it by little where there are many images."""
    logits = DRAWS.normal(size=(5_000, 2)) * 2
    labels = sampled(logits / 2)

    def loss(temperature: float) -> float:
        return -log_softmax(logits / temperature, axis=1)[np.arange(5_000), labels].mean()

    wanted = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-9}).x
    assert calibrate(Scores(logits, labels)).temperature == pytest.approx(wanted, rel=2e-3)


def test_a_bias_undoes_what_a_correction_for_rare_classes_did():
    """Logit adjustment (Menon et al. 2021) leaves a network that thinks all classes are alike frequent."""
    logits = DRAWS.normal(size=(20_000, 3)) + np.log([0.8, 0.15, 0.05])
    adjusted = logits - np.log([0.8, 0.15, 0.05])
    scores = Scores(adjusted, sampled(logits))
    found = calibrate(scores, bias=True)
    wanted = np.log([0.8, 0.15, 0.05])
    assert found.bias == pytest.approx(wanted - wanted.mean(), abs=0.1)
    for number in range(3):
        positive = scores.labels == number
        after = probabilities(scores.with_logits(found.applied(adjusted)), number)
        assert calibration_error(after, positive) < 0.01 < calibration_error(probabilities(scores, number), positive)


def test_labels_that_do_not_exclude_each_other_have_a_temperature_each():
    logits = DRAWS.normal(size=(20_000, 2)) * 2
    labels = (DRAWS.random((20_000, 2)) < expit(logits)).astype(int)
    labels[:, 1] = np.where(np.arange(20_000) < 50, 1, -1)  # all that is known of it is yes
    found = calibrate(Scores(logits * [2.0, 1.0] + [0.7, 0.0], labels), bias=True)
    assert found.temperature == pytest.approx((2.0, 1.0), rel=0.05)
    assert found.bias == pytest.approx((-0.35, 0.0), abs=0.05)


@pytest.mark.parametrize(
    "labels", [[0, 0, 1, 1], [0, 0, 0, 1], [[0, 0], [0, 1], [1, 1], [1, 0]], [[0, 1], [0, 1], [1, 1], [0, 0]]]
)
def test_a_small_set_without_mistakes_does_not_ask_for_certainty(labels):
    wanted = np.asarray(labels) if np.ndim(labels) == 2 else np.eye(2)[labels]
    found = calibrate(Scores(wanted * 2.0 - 1.0, labels), bias=True)
    after = found.applied(wanted * 2.0 - 1.0)
    said = softmax(after, axis=1) if np.ndim(labels) == 1 else expit(after)
    yes, no = wanted.sum(0), (1 - wanted).sum(0)
    assert said == pytest.approx(np.where(wanted, (yes + 1) / (yes + 2), 1 / (no + 2)), abs=1e-3), "of Platt"


def test_a_set_that_says_nothing_changes_nothing():
    assert calibrate(Scores(np.ones((3, 2)), [1, 1, 1]), bias=True) == Calibration(1.0, (0.0, 0.0))
    assert calibrate(Scores(np.ones((0, 2)), np.zeros(0, dtype=int))) == Calibration(1.0, (0.0, 0.0))


@pytest.mark.parametrize("calibration", [Calibration(1.5, (0.0, 0.25)), Calibration((1.5, 2.0), (0.0, 0.25))])
def test_plain_and_back(calibration):
    assert calibration_of(calibration.plain()) == calibration


@pytest.mark.parametrize(
    "plain",
    [
        {"temperature": 0.0, "bias": [0.0]},
        {"temperature": float("nan"), "bias": [0.0]},
        {"temperature": True, "bias": [0.0]},
        {"temperature": [1.0], "bias": [0.0, 0.0]},
        {"temperature": [], "bias": []},
        {"temperature": 1.0, "bias": ["0"]},
        {"temperature": 1.0, "bias": 0.0},
        {"bias": [0.0]},
    ],
)
def test_damaged_ones_are_refused(plain):
    with pytest.raises((ValueError, KeyError)):
        calibration_of(plain)
