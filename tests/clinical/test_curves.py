import numpy as np
import pytest
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from supernet.clinical.curves import Curve, precision_recall, reliability, roc, thinned


def drawn(images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    positive = draws.random(images) < 0.4
    return (draws.normal(size=images) + positive).round(1), positive


def test_points_as_scikit_learn():
    scores, positive = drawn()
    across, up, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert roc(scores, positive).across == pytest.approx(across)
    assert roc(scores, positive).up == pytest.approx(up)
    precision, recall, _ = precision_recall_curve(positive, scores)
    assert precision_recall(scores, positive).across == pytest.approx(recall[::-1])
    assert precision_recall(scores, positive).up == pytest.approx(precision[::-1])


def test_a_thinned_line_is_the_same_line():
    _, positive = drawn(3000)
    whole = roc(np.random.default_rng(1).normal(size=3000) + positive, positive)
    fewer = thinned(whole, 10_000)
    assert len(fewer.across) < 0.8 * len(whole.across)
    assert auc(fewer.across, fewer.up) == pytest.approx(auc(whole.across, whole.up), abs=1e-12)
    few = thinned(whole, 100)
    assert len(few.across) <= 102
    assert (few.across[0], few.up[0], few.across[-1], few.up[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert auc(few.across, few.up) == pytest.approx(auc(whole.across, whole.up), abs=0.005)
    straight = thinned(Curve(np.linspace(0, 1, 9), np.linspace(0, 1, 9)), 100)
    assert straight.across.tolist() == [0.0, 1.0]


def test_bins_have_their_upper_end_and_empty_ones_are_left_out():
    binned = reliability(np.array([0.0, 0.2, 0.21, 1.0]), np.array([False, True, False, True]), bins=5)
    assert binned.images.tolist() == [2, 1, 1]
    assert binned.said == pytest.approx([0.1, 0.21, 1.0])
    assert binned.true.tolist() == [0.5, 0.0, 1.0]


def test_a_curve_of_one_kind_of_image_is_none():
    assert roc(np.arange(3.0), np.ones(3, dtype=bool)) is None
    assert precision_recall(np.arange(3.0), np.zeros(3, dtype=bool)) is None
