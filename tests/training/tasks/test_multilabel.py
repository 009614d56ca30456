import math

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits

from supernet.data.batches import Batch, Resident
from supernet.data.dataset import CommonSettings, Parts, assemble
from supernet.runtime.errors import InputError
from supernet.training.tasks import Focal, MultiLabel, classification, implied, multilabel
from supernet.training.tasks.multilabel import SCORES

DRAWS = torch.Generator().manual_seed(0)
LOGITS = torch.randn(30, 3, generator=DRAWS)
LABELS = torch.randint(-1, 2, (30, 3), generator=DRAWS)
BATCH = Batch(torch.zeros(30, 1, 2, 2), LABELS)
KNOWN = LABELS >= 0


def data(labels: torch.Tensor):
    parts = Resident(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), labels)
    return assemble("films", Parts(parts, parts, parts), CommonSettings(mean=(0.5,), std=(0.5,)))


def test_the_loss_is_the_mean_over_what_is_known():
    wanted = binary_cross_entropy_with_logits(LOGITS[KNOWN], (LABELS[KNOWN] == 1).float())
    torch.testing.assert_close(MultiLabel().loss(LOGITS, BATCH), wanted)
    smooth = (LABELS[KNOWN] == 1).float() * 0.9 + 0.05
    wanted = binary_cross_entropy_with_logits(LOGITS[KNOWN], smooth)
    torch.testing.assert_close(MultiLabel(label_smoothing=0.1).loss(LOGITS, BATCH), wanted)
    both = MultiLabel(0.4).loss((LOGITS, -LOGITS), BATCH)
    torch.testing.assert_close(both, MultiLabel().loss(LOGITS, BATCH) + 0.4 * MultiLabel().loss(-LOGITS, BATCH))


def test_distillation_has_no_gradient_where_a_network_says_what_its_teacher_says():
    own, teacher = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    MultiLabel().distillation((own, -own), (teacher, -teacher)).backward()
    assert teacher.grad is None
    torch.testing.assert_close(own.grad, torch.zeros_like(own))
    (shifted,) = torch.autograd.grad(MultiLabel().distillation(own + 1, teacher), own)
    assert (shifted > 0).all(), "a softmax would not see that all labels were said to be likelier"


def test_an_unknown_label_has_no_gradient_and_none_known_is_no_loss():
    logits = LOGITS.clone().requires_grad_()
    MultiLabel().loss(logits, BATCH).backward()
    assert torch.equal(logits.grad == 0, ~KNOWN)
    assert MultiLabel().loss(LOGITS, Batch(BATCH.images, torch.full((30, 3), -1))) == 0


def test_scores_as_scikit_learn_over_several_batches():
    task, parts = MultiLabel(), (slice(0, 7), slice(7, 30))
    tallies = [task.tally(LOGITS[part], Batch(BATCH.images[part], LABELS[part])) for part in parts]
    found, known = task.scores(tallies), [KNOWN[:, n] for n in range(3)]
    areas = [roc_auc_score(LABELS[k, n], LOGITS[k, n]) for n, k in enumerate(known)]
    precisions = [average_precision_score(LABELS[k, n], LOGITS[k, n]) for n, k in enumerate(known)]
    right = ((LOGITS > 0) == (LABELS == 1))[KNOWN].float().mean()
    assert found == pytest.approx(
        {"auroc": sum(areas) / 3, "average_precision": sum(precisions) / 3, "label_accuracy": float(right)}
    )
    assert task.chance(tallies) == 0.5
    shares = [(LABELS[k, n] == 1).float().mean() for n, k in enumerate(known)]
    assert MultiLabel(score="average_precision").chance(tallies) == pytest.approx(sum(shares) / 3)
    most = sum(max((LABELS[k, n] == 1).sum(), (LABELS[k, n] == 0).sum()) for n, k in enumerate(known)) / KNOWN.sum()
    assert MultiLabel(score="label_accuracy").chance(tallies) == pytest.approx(float(most))


def test_chance_without_labels():
    wanted = {"auroc": 0.5, "average_precision": 0.0, "label_accuracy": 0.5}
    assert {score: MultiLabel(score=score).chance_without_labels(14) for score in SCORES} == wanted


def test_the_running_score_is_the_share_of_known_labels_of_each_image():
    logits = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    batch = Batch(torch.zeros(3, 1, 2, 2), torch.tensor([[1, 0], [-1, 1], [-1, -1]]))
    for output in (logits, (logits, -logits)):
        assert MultiLabel().score_sum(output, batch) == 1.5


def test_what_no_image_decides_scores_as_a_guess():
    task = MultiLabel()
    found = task.scores([task.tally(LOGITS, Batch(BATCH.images, torch.ones(30, 3, dtype=torch.int64)))])
    assert (found["auroc"], found["average_precision"]) == (0.5, 0.0)


def test_a_correction_knows_the_frequencies_of_the_training_images():
    given = data(LABELS)
    task = multilabel(given, "average_precision", Focal())
    assert task.score == "average_precision"
    assert task.frequencies[0] == pytest.approx(float((LABELS[:, 0] == 1).sum() / KNOWN[:, 0].sum()))
    wanted = Focal().of_labels(LOGITS, (LABELS == 1).float(), task.frequencies)[KNOWN].mean()
    torch.testing.assert_close(task.loss(LOGITS, BATCH), wanted)
    assert hash(task.regularised(0.4, 0.1))
    assert implied(given) == MultiLabel()
    assert implied(given, "label_accuracy", Focal()) == multilabel(given, "label_accuracy", Focal())
    assert task.outputs(given.classes) == 3


def test_data_of_another_kind_are_refused_in_one_line():
    with pytest.raises(InputError, match="films: images have labels, and classification needs one class each"):
        classification(data(LABELS))
    with pytest.raises(InputError, match="films: images have classes, and this task needs several labels"):
        multilabel(data(torch.arange(30) % 2))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"score": "accuracy"}, "^score=accuracy: use auroc, average_precision, label_accuracy"),
        ({"label_smoothing": 1.0}, "^label_smoothing"),
        ({"auxiliary_weight": math.inf}, "^auxiliary_weight"),
        ({"imbalance": 3}, "^imbalance=3"),
    ],
)
def test_nonsense_is_refused(settings, said):
    with pytest.raises(InputError, match=said):
        MultiLabel(**settings)
