"""Thresholds: against trying all of them."""

import numpy as np
import pytest

from supernet.clinical.operating_points import Counts, counts, operating_point, threshold
from supernet.clinical.scores import Scores


def shares(scores, positive, at):
    named = scores >= at
    return named[positive].mean(), (~named[~positive]).mean()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("target", [0.9, 0.95, 1.0])
def test_the_best_threshold_of_all(seed, target):
    draws = np.random.default_rng(seed)
    positive = np.arange(80) % 4 == 0
    scores = (draws.normal(size=80) + 1.5 * positive).round(1)
    tried = {at: shares(scores, positive, at) for at in np.unique(scores)}
    of_specificity = [(sensitivity, -at) for at, (sensitivity, kept) in tried.items() if kept >= target]
    found = threshold(scores, positive, "specificity", target)
    if not of_specificity:
        assert found is None
    else:
        assert tried[found][1] >= target
        assert tried[found][0] == max(of_specificity)[0]
    found = threshold(scores, positive, "sensitivity", target)
    assert tried[found][0] >= target
    assert tried[found][1] == max(kept for sensitivity, kept in tried.values() if sensitivity >= target)


def test_twenty_images_allow_one_mistake():
    """19 of 20 are 95 %; and 55 of 100 are 55 %, although 0.55 * 100 is above 55 in floating point."""
    scores, positive = np.arange(40.0), np.arange(40) >= 20
    assert threshold(scores, positive, "sensitivity", 0.95) == 21.0
    assert threshold(scores[::-1].copy(), positive, "specificity", 0.95) == 39.0
    assert threshold(np.arange(100.0), np.ones(100, dtype=bool), "sensitivity", 0.55) == 45.0


def test_a_threshold_is_fixed_on_validation_and_tried_on_test():
    valid = Scores(np.array([[0, z] for z in range(10)]), np.repeat([0, 1], 5)).question(1)
    test = Scores(np.array([[0, z] for z in (0, 7, 4, 9)]), [0, 0, 1, 1]).question(1)
    point = operating_point(valid, test, "sensitivity", 0.95)
    assert point.log_odds == 5.0
    assert point.valid == Counts(5, 0, 5, 0)
    assert point.test == Counts(1, 1, 1, 1)
    assert (point.test.sensitivity.value, point.test.specificity.value) == (0.5, 0.5)
    assert point.test.positive_predictive_value.value == 0.5
    assert point.test.negative_predictive_value.value == 0.5
    assert point.probability == pytest.approx(1 / (1 + np.exp(-5.0)))


def test_where_nothing_reaches_the_target():
    scores, positive = np.array([1.0, 0.0, 1.0]), np.array([True, False, False])
    assert threshold(scores, positive, "specificity", 0.95) is None
    assert threshold(scores, ~positive & False, "sensitivity", 0.95) is None
    assert threshold(scores, positive, "probability", 0.5) == 0.0
    nobody = Scores(np.zeros((1, 1)), [[1]]).question(0)
    point = operating_point(nobody, nobody, "specificity", 0.95)
    assert (point.log_odds, point.probability, point.valid, point.test) == (None, None, None, None)
    assert counts(scores, positive & False, 0.5).sensitivity is None
