"""Rank statistics against scipy, against loops over all pairs, and where there is too little to say."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from supernet.estimation.rank_statistics import Estimate, agreement, precision, rho, tau, top_tau
from supernet.runtime.errors import InputError

RNG = np.random.default_rng(0)
TIED = [(RNG.integers(0, 6, n).astype(float), RNG.integers(0, 4, n).astype(float)) for n in (5, 12, 60, 60)]
CONTINUOUS = [(x := RNG.normal(size=n), 0.5 * x + RNG.normal(size=n)) for n in (7, 60, 130)]


def tau_by_pairs(x, y):
    both = x_only = y_only = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        both, x_only, y_only = both + a * b, x_only + a * a, y_only + b * b
    return both / math.sqrt(x_only * y_only)


@pytest.mark.parametrize(("x", "y"), [*TIED, *CONTINUOUS])
def test_tau_and_rho_with_ties(x, y):
    assert tau(x, y) == pytest.approx(tau_by_pairs(x, y), abs=1e-12)
    assert tau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert rho(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize(("x", "y"), [(*pair,) for pair in [*TIED[2:], *CONTINUOUS[1:]]])
def test_the_top_decile_is_that_of_the_truth_with_all_that_equal_its_last(x, y):
    last = sorted(y, reverse=True)[math.ceil(len(y) / 10) - 1]
    chosen = [place for place, truth in enumerate(y) if truth >= last]
    expected = None
    if len(chosen) >= 5 and len({x[i] for i in chosen}) > 1 and len({y[i] for i in chosen}) > 1:
        expected = pytest.approx(tau_by_pairs(x[chosen], y[chosen]), abs=1e-12)
    assert top_tau(x, y) == expected
    assert agreement(x, y, resamples=0).top_n == len(chosen)


def test_precision_is_the_mean_over_all_ways_to_break_ties():
    x = np.repeat([3.0, 2.0, 1.0], [3, 4, 43])  # the tenth, 5 of 50, ends among the four
    y = np.arange(50.0)[::-1].copy()
    y[[2, 10]] = y[[10, 2]]
    best = set(np.argsort(-y)[:5].tolist())
    ways = [len(best & {0, 1, 2, *two}) / 5 for two in itertools.combinations(range(3, 7), 2)]
    assert precision(x, y) == pytest.approx(np.mean(ways))


def test_precision_without_ties_counts_the_common_ones():
    x, y = CONTINUOUS[2]
    best = set(np.argsort(-x)[:13]) & set(np.argsort(-y)[:13])
    assert precision(x, y) == pytest.approx(len(best) / 13)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0, 2.0], [1.0, 2.0]), ([1.0] * 9, range(9)), (range(9), [2.0] * 9)])
def test_too_few_or_no_order_is_no_number(x, y):
    found = agreement(list(x), list(y))
    assert (found.tau, found.rho) == (Estimate(None), Estimate(None))
    assert str(found.tau) == str(found.top_tau) == str(found.precision) == "too few"


def test_infinite_scores_are_ranked():
    x = [-math.inf, -math.inf, 1.0, 2.0, 3.0, math.inf]
    assert agreement(x, range(6), resamples=0).tau.value == pytest.approx(tau_by_pairs([0, 0, 1, 2, 3, 4], range(6)))


def test_intervals_are_percentiles_of_resamples():
    x, y = CONTINUOUS[1]
    rng = np.random.default_rng([3, 0xB007])
    draws = [rng.integers(len(x), size=len(x)) for _ in range(50)]
    low, high = np.percentile([stats.kendalltau(x[d], y[d]).statistic for d in draws], [2.5, 97.5])
    found = agreement(x, y, resamples=50, seed=3)
    assert (found.tau.low, found.tau.high) == (pytest.approx(low), pytest.approx(high))
    assert found == agreement(x, y, resamples=50, seed=3) != agreement(x, y, resamples=50, seed=4)


def test_intervals_cover_the_truth_in_nineteen_of_twenty_samples():
    true = 2 / math.pi * math.asin(0.6)  # tau of a bivariate normal distribution with correlation 0.6
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=60)
        y = 0.6 * x + 0.8 * rng.normal(size=60)
        found = agreement(x, y, resamples=100, seed=seed).tau
        covered += found.low <= true <= found.high
    assert 50 <= covered <= 60


def test_bad_input():
    with pytest.raises(InputError, match="truths: has 1 number, scores has 2"):
        agreement([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="NaN"):
        agreement([1.0, math.nan], [1.0, 2.0])
