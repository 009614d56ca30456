"""What tasks of logits share: the auxiliary head's part, and settings that are refused in the same words."""

import math

import pytest
import torch

from supernet.data.batches import Batch
from supernet.runtime.errors import InputError
from supernet.training.tasks import Classification, MultiLabel
from supernet.training.tasks.logits import loss_with_auxiliary
from supernet.training.tasks.task import logits_of

KINDS = (Classification, MultiLabel)


def test_the_logits_are_the_network_s_own():
    pair = torch.zeros(2, 3), torch.ones(2, 3)
    assert logits_of(pair) is pair[0]
    assert logits_of(pair[1]) is pair[1]


def test_an_auxiliary_head_counts_by_its_weight_and_is_not_asked_at_0():
    asked = []

    def loss(logits):
        asked.append(logits)
        return logits.sum()

    own, auxiliary = torch.tensor([1.0, 2.0]), torch.tensor([math.inf])
    assert loss_with_auxiliary((own, auxiliary), 0.0, loss) == 3.0
    assert loss_with_auxiliary(own, 0.4, loss) == 3.0
    assert asked == [own, own]
    assert loss_with_auxiliary((own, own), 0.5, loss) == 4.5


@pytest.mark.parametrize("kind", KINDS)
def test_no_score_and_no_answer_sees_the_auxiliary_head(kind):
    draws = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(8, 3, generator=draws), torch.randint(2, (8, 3), generator=draws)
    batch, task = Batch(torch.zeros(8, 1, 2, 2), labels.argmax(1) if kind is Classification else labels), kind()
    assert task.score_sum((logits, -logits), batch) == task.score_sum(logits, batch)
    assert task.scores([task.tally((logits, -logits), batch)]) == task.scores([task.tally(logits, batch)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"auxiliary_weight": -0.1}, "^auxiliary_weight=-0.1: needs 0 or more, such as 0.4$"),
        ({"auxiliary_weight": math.nan}, "^auxiliary_weight=nan: "),
        ({"auxiliary_weight": math.inf}, "^auxiliary_weight=inf: "),
        ({"label_smoothing": 1.0}, r"^label_smoothing=1.0: needs to lie in \[0, 1\), such as 0.1$"),
        ({"score": "map50"}, "^score=map50: use .*auroc, average_precision"),
        ({"imbalance": "focal"}, "^imbalance=focal: has no of_classes"),
    ],
)
def test_settings_out_of_their_range_are_refused(kind, settings, said):
    with pytest.raises(InputError, match=said):
        kind(**settings)
