import math

import pytest
import torch

from supernet.data.batches import Batch
from supernet.runtime.errors import InputError
from supernet.training.tasks import Classification

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.4, 0.3]], dtype=torch.float64)
AUXILIARY = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 2.0]], dtype=torch.float64)
BATCH = Batch(torch.zeros(2, 1, 2, 2), torch.tensor([0, 2]))


def by_hand(logits, smoothing=0.0):
    target = torch.nn.functional.one_hot(BATCH.labels, 3).double() * (1 - smoothing) + smoothing / 3
    return -(target * logits.log_softmax(1)).sum(1).mean()


def test_loss_against_the_formula():
    torch.testing.assert_close(Classification().loss(LOGITS, BATCH), by_hand(LOGITS))
    torch.testing.assert_close(Classification(label_smoothing=0.1).loss(LOGITS, BATCH), by_hand(LOGITS, 0.1))
    both = Classification(0.4, 0.1).loss((LOGITS, AUXILIARY), BATCH)
    torch.testing.assert_close(both, by_hand(LOGITS, 0.1) + 0.4 * by_hand(AUXILIARY, 0.1))
    torch.testing.assert_close(Classification().loss((LOGITS, AUXILIARY), BATCH), by_hand(LOGITS))


def test_the_score_counts_the_main_logits():
    assert Classification().score_sum(LOGITS, BATCH) == 1
    assert Classification().score_sum((LOGITS, AUXILIARY), BATCH) == 1
    assert Classification().inputs(BATCH) is BATCH.images


def test_right_answers_by_class():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.4, 0.3], [0.0, 0.0, 9.0]])
    batch = Batch(torch.zeros(3, 1, 2, 2), torch.tensor([0, 2, 2]))
    for output in (logits, (logits, -logits)):
        assert Classification().tally(output, batch).tolist() == [[1, 0, 1], [1, 0, 2]]


def test_balanced_accuracy_weighs_classes_alike():
    parts = [([3, 0, 0], [4, 1, 0]), ([4, 1, 0], [4, 1, 0])]
    tallies = [torch.tensor(part) for part in parts]
    found = Classification().scores(tallies)
    assert found == {"accuracy": 0.8, "balanced_accuracy": (7 / 8 + 1 / 2) / 2}  # a class without images counts not
    assert Classification().chance(tallies) == 0.8


def test_a_training_smooths_and_judges_plainly():
    task = Classification().regularised(0.4, 0.1)
    assert task == Classification(0.4, 0.1)
    assert task.score == Classification().score == "accuracy"


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_the_auxiliary_weight_is_a_number(weight):
    with pytest.raises(InputError, match="auxiliary_weight"):
        Classification(auxiliary_weight=weight)
