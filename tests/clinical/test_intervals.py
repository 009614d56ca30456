"""Intervals: against published examples and closed forms."""

import numpy as np
import pytest
from scipy.stats import binomtest

from supernet.clinical.intervals import of_area, of_quantiles, short, wilson

PUBLISHED = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]


@pytest.mark.parametrize(("successes", "trials", "low", "high"), PUBLISHED)
def test_wilson_as_published(successes, trials, low, high):
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    found = wilson(successes, trials)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize("trials", [1, 7, 624])
def test_wilson_as_scipy_and_exact_at_both_ends(trials):
    for successes in {0, 1, trials // 2, trials}:
        found, wanted = wilson(successes, trials, 0.9), binomtest(successes, trials).proportion_ci(0.9, "wilson")
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert wilson(0, trials).low == 0.0
    assert wilson(trials, trials).high == 1.0
    assert wilson(0, 0) is None


def test_an_area_s_interval_is_symmetric_in_the_log_odds_and_within_0_and_1():
    found = of_area(0.97, 0.0004, 50, 50)
    low, middle, high = (np.log(p / (1 - p)) for p in (found.low, 0.97, found.high))
    assert high - middle == pytest.approx(middle - low)
    assert high - middle == pytest.approx(1.959964 * 0.02 / (0.97 * 0.03), rel=1e-6)


def test_an_area_of_1_is_the_surer_the_more_images_there_are():
    """No variance can be estimated there. With one image of each kind nothing is sure."""
    ends = [of_area(1.0, 0.0, n, n).low for n in (1, 10, 100, 10_000)]
    assert 0.0 < ends[0] < 0.25 < 0.7 < ends[1] < ends[2] < ends[3] < 1.0
    assert of_area(1.0, 0.0, 10, 10).high == 1.0
    mirrored = of_area(0.0, 0.0, 10, 10)
    assert (mirrored.low, mirrored.high) == (0.0, pytest.approx(1 - ends[1]))
    unknown = of_area(0.8, float("nan"), 1, 30)
    assert 0.0 < unknown.low < 0.8 < unknown.high < 1.0


def hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """The standard deviation of Hanley and McNeil 1982, with the mean of both numbers in both terms (Newcombe 2006)."""
    more = (positives + negatives) / 2 - 1
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + more * (q1 - area**2) + more * (q2 - area**2)
    return float(np.sqrt(variance / (positives * negatives)))


@pytest.mark.parametrize(("area", "positives", "negatives"), [(1.0, 10, 10), (0.0, 7, 30), (1.0, 5, 200), (0.8, 1, 30)])
def test_the_estimate_is_as_far_from_an_end_of_newcombe_s_as_the_level_says(area, positives, negatives):
    found = of_area(area, float("nan"), positives, negatives)
    ends = [end for end in (found.low, found.high) if end != area]
    assert len(ends) == (1 if area in (0.0, 1.0) else 2)
    for end in ends:
        assert abs(area - end) == pytest.approx(1.959964 * hanley_mcneil(end, positives, negatives), rel=1e-6)


def test_quantiles_and_text():
    interval = of_quantiles(0.5, np.linspace(0.0, 1.0, 1001))
    assert (interval.low, interval.high) == pytest.approx((0.025, 0.975))
    assert str(interval) == ".500 (.025 to .975)"
    assert [short(v) for v in (None, 0.0, 1.0, -0.0123)] == ["-", ".000", "1.000", "-.012"]
