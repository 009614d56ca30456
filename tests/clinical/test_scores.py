import numpy as np
import pytest
from scipy.special import logit, softmax

from supernet.clinical.scores import Scores
from supernet.runtime.errors import InputError


def test_the_log_odds_are_those_of_the_softmax():
    logits = np.random.default_rng(0).normal(size=(50, 4))
    scores = Scores(logits, np.arange(50) % 4)
    for number in range(4):
        question = scores.question(number)
        assert question.log_odds == pytest.approx(logit(softmax(logits, axis=1)[:, number]))
        assert question.positive.tolist() == [n % 4 == number for n in range(50)]


def test_sure_answers_do_not_tie():
    scores = Scores([[0.0, 800.0], [0.0, 801.0]], [1, 1])
    assert scores.question(1).log_odds.tolist() == [800.0, 801.0]


def test_unknown_labels_are_left_out():
    scores = Scores([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[1, -1], [0, 1], [-1, 0]])
    first, second = map(scores.question, (0, 1))
    assert (first.log_odds.tolist(), first.positive.tolist(), first.images.tolist()) == ([1, 3], [True, False], [0, 1])
    assert (second.log_odds.tolist(), second.images.tolist()) == ([4, 6], [1, 2])


def test_of_two_classes_that_exclude_each_other_one_is_asked():
    assert Scores(np.zeros((2, 2)), [0, 1]).asked == (1,)
    assert Scores(np.zeros((2, 3)), [0, 1]).asked == (0, 1, 2)
    assert Scores(np.zeros((2, 2)), [[0, 1], [1, 1]]).asked == (0, 1)


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (np.zeros(3), [0, 0, 0], "logits: of shape"),
        (np.zeros((3, 2)), [0, 1], "labels: int64 of shape"),
        (np.zeros((3, 2)), [0.0, 1.0, 1.0], "labels: float64"),
        (np.zeros((3, 2)), [0, 1, 2], "labels: 0 to 2; need to lie between 0 and 1"),
        (np.zeros((1, 2)), [[-2, 1]], "labels: -2 to 1; need to lie between -1 and 1"),
        (np.full((1, 2), np.nan), [0], "not a number"),
    ],
)
def test_what_does_not_fit_is_one_line(logits, labels, said):
    with pytest.raises(InputError, match=said):
        Scores(logits, labels)
