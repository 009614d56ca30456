"""Areas and precisions: against scikit-learn, scipy, and DeLong's own definition."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, roc_auc_score

from supernet.clinical.ranking import (
    auroc,
    average_precision,
    bootstrap,
    delong,
    difference,
    influences,
    macro_auroc,
)
from supernet.clinical.scores import Scores

CASES = [(20, 0), (60, 1), (60, 0), (300, 2), (300, 0)]  # images, digits after the point: the fewer, the more ties


def drawn(images: int, digits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng([seed, images, digits])
    positive = draws.random(images) < 0.3
    positive[:4] = [True, True, False, False]
    return (draws.normal(size=images) + 1.2 * positive).round(digits), positive


@pytest.mark.parametrize(("images", "digits"), CASES)
def test_area_and_precision_as_scikit_learn_with_ties(images, digits):
    scores, positive = drawn(images, digits)
    assert len(np.unique(scores)) < images
    area = auroc(scores, positive)
    assert area == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    statistic = mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert area == pytest.approx(statistic / (positive.sum() * (~positive).sum()), abs=1e-12)
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


def delong_variance(scores: np.ndarray, positive: np.ndarray) -> float:
    """DeLong et al. 1988, equations 4 to 6, pair by pair."""
    x, y = scores[positive][:, None], scores[~positive][None]
    wins = (x > y) + 0.5 * (x == y)
    return float(wins.mean(1).var(ddof=1) / len(x) + wins.mean(0).var(ddof=1) / y.size)


@pytest.mark.parametrize(("images", "digits"), CASES)
def test_influences_are_delongs_variance(images, digits):
    scores, positive = drawn(images, digits)
    moved = influences(scores, positive)
    assert np.square(moved).sum() == pytest.approx(delong_variance(scores, positive), rel=1e-10)
    assert moved.sum() == pytest.approx(0.0, abs=1e-12)


def test_the_bootstrap_agrees_with_delong():
    scores, positive = drawn(300, 2)
    exact, (area, precision) = delong(scores, positive), bootstrap(scores, positive)
    assert area.value == exact.value
    assert (area.low, area.high) == pytest.approx((exact.low, exact.high), abs=0.012)
    assert precision.low < precision.value < precision.high
    again = bootstrap(scores, positive)
    assert again == (area, precision), "the same draws"
    assert bootstrap(scores, positive, seed=1) != again


def test_replicates_have_as_many_images_of_both_kinds_and_are_those_of_scikit_learn():
    """One replicate is made by hand of the same draws."""
    scores, positive = drawn(60, 1)
    draws = np.random.default_rng(3)
    own, others = (scores[kind][draws.integers(kind.sum(), size=(1, kind.sum()))[0]] for kind in (positive, ~positive))
    truth = np.repeat([True, False], [len(own), len(others)])
    area, precision = bootstrap(scores, positive, replicates=1, seed=3)
    assert area.low == area.high == pytest.approx(roc_auc_score(truth, np.concatenate((own, others))), abs=1e-12)
    wanted = average_precision_score(truth, np.concatenate((own, others)))
    assert precision.low == pytest.approx(wanted, abs=1e-12)


def several(seed: int = 0, images: int = 400) -> Scores:
    draws = np.random.default_rng(seed)
    common = draws.normal(size=(images, 1))
    labels = (common + draws.normal(size=(images, 3)) > 0.8).astype(int)
    logits = labels + common + draws.normal(size=(images, 3))
    return Scores(logits, labels)


def test_the_macro_area_is_the_mean_and_knows_that_classes_share_images():
    """Held against resampling whole images, which keeps what the classes have in common."""
    scores = several()
    found = macro_auroc(scores, (0, 1, 2))
    assert found.value == pytest.approx(roc_auc_score(scores.labels, scores.logits, average="macro"), abs=1e-12)
    draws = np.random.default_rng(0)
    again = [draws.integers(400, size=400) for _ in range(300)]
    means = [np.mean([auroc(scores.logits[i, c], scores.labels[i, c] == 1) for c in range(3)]) for i in again]
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(means), rel=0.15)


def test_a_macro_area_of_1_is_as_sure_as_that_of_the_rarest_class():
    labels = np.repeat([0, 1, 2], [60, 30, 4])
    scores = Scores(20.0 * np.eye(3)[labels], labels)
    rarest = scores.question(2)
    assert macro_auroc(scores, (0, 1, 2)) == delong(rarest.log_odds, rarest.positive)
    assert macro_auroc(scores, (0, 1)).low > macro_auroc(scores, (0, 1, 2)).low


def test_two_networks_are_compared_on_the_same_images():
    """DeLong's covariance, pair by pair; the same scores differ by nothing."""
    labels = drawn(300, 2)[1].astype(int)
    draws = np.random.default_rng(5)
    first = draws.normal(size=300) + labels
    second = first + 0.5 * draws.normal(size=300)
    one, other = (Scores(np.stack((np.zeros(300), z), 1), labels) for z in (first, second))
    placements = []
    for z in (first, second):
        wins = z[labels == 1][:, None] > z[labels == 0][None]
        placements.append((wins.mean(1), wins.mean(0)))
    (a, b), (c, d) = placements
    variance = (a - c).var(ddof=1) / len(a) + (b - d).var(ddof=1) / len(b)
    found = difference(one, other, (1,))
    assert found.value == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second), abs=1e-12)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * np.sqrt(variance), rel=1e-6)
    assert difference(one, one, (1,)).high == 0.0


def test_what_is_not_defined_is_none():
    scores, one_kind = np.arange(4.0), np.ones(4, dtype=bool)
    assert auroc(scores, one_kind) is None
    assert delong(scores, ~one_kind) is None
    assert bootstrap(scores, one_kind) is None
    assert average_precision(scores, ~one_kind) is None
    nobody = Scores(np.zeros((4, 2)), np.full((4, 2), -1))
    assert macro_auroc(nobody, (0, 1)) is None
    assert difference(nobody, nobody, (0, 1)) is None
