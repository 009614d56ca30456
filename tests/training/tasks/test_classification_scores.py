"""Scores of classification besides the accuracy."""

import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, roc_auc_score

import supernet
from supernet.data.batches import Batch
from supernet.runtime.errors import InputError
from supernet.training.tasks import Classification, LogitAdjustment, binary, classification
from supernet.training.tasks.classification import SCORES

DRAWS = torch.Generator().manual_seed(0)
LOGITS = torch.randn(60, 3, generator=DRAWS)
LABELS = torch.randint(3, (60,), generator=DRAWS)


def told(task: Classification, logits: torch.Tensor, labels: torch.Tensor) -> list:
    parts = (slice(0, 25), slice(25, 60))
    return [task.tally(logits[p], Batch(torch.zeros(len(labels[p]), 1, 2, 2), labels[p])) for p in parts]


def test_rankings_as_scikit_learn():
    task = Classification(score="auroc")
    found = task.scores(told(task, LOGITS, LABELS))
    truth, said = torch.nn.functional.one_hot(LABELS, 3), LOGITS.softmax(1)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, said))
    assert found["average_precision"] == pytest.approx(average_precision_score(truth, said))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(LABELS, LOGITS.argmax(1)))
    assert found["accuracy"] == pytest.approx(accuracy_score(LABELS, LOGITS.argmax(1)))
    plain = Classification()
    assert plain.scores(told(plain, LOGITS, LABELS)) == {n: found[n] for n in ("accuracy", "balanced_accuracy")}


def test_of_two_classes_the_second_is_asked():
    labels, task = (LABELS > 0).long(), Classification(score="average_precision")
    tallies = told(task, LOGITS[:, :2], labels)
    margin = LOGITS[:, 1] - LOGITS[:, 0]
    assert task.scores(tallies)["average_precision"] == pytest.approx(average_precision_score(labels, margin))
    assert task.chance(tallies) == pytest.approx(float(labels.float().mean()))


def test_chances():
    for score, chance in (("auroc", 0.5), ("balanced_accuracy", 1 / 3)):
        task = Classification(score=score)
        assert task.chance(told(task, LOGITS, LABELS)) == pytest.approx(chance)


def test_chance_without_labels():
    """Three classes do not make an area of a third: an area begins at one half, however many classes there are."""
    wanted = {"accuracy": 1 / 3, "balanced_accuracy": 1 / 3, "auroc": 0.5, "average_precision": 0.0}
    assert {score: Classification(score=score).chance_without_labels(3) for score in SCORES} == wanted


def test_a_diverged_network_scores_as_something():
    """Its loss tells; the score must not fail before it does."""
    task = Classification(score="auroc")
    assert 0.0 <= task.scores(told(task, LOGITS * torch.nan, LABELS))["auroc"] <= 1.0


def test_the_loss_of_a_correction():
    digits = supernet.data.digits()
    task = classification(digits, imbalance=LogitAdjustment())
    assert task.frequencies == pytest.approx([0.1] * 10, abs=0.01)
    logits, labels = torch.randn(5, 10, generator=DRAWS), torch.arange(5)
    batch = Batch(torch.zeros(5, 1, 2, 2), labels)
    wanted = LogitAdjustment().of_classes(logits, labels, task.frequencies, 0.1)
    torch.testing.assert_close(task.regularised(0.0, 0.1).loss(logits, batch), wanted)
    with pytest.raises(InputError, match="digits: has 10 classes, and a binary task needs 2"):
        binary(digits)
    with pytest.raises(InputError, match="score=loss"):
        classification(digits, score="loss")
