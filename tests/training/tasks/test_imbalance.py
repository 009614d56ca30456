"""Corrections for rare classes: against their equations, element by element."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchvision.ops import sigmoid_focal_loss

from supernet.runtime.errors import InputError
from supernet.training.tasks.imbalance import ClassWeights, Focal, LogitAdjustment, check_imbalance, frequencies_of

DRAWS = torch.Generator().manual_seed(0)
LOGITS = torch.randn(40, 3, generator=DRAWS)
LABELS = torch.randint(3, (40,), generator=DRAWS)
TARGETS = torch.randint(2, (40, 3), generator=DRAWS).float()
SHARES = (0.7, 0.2, 0.1)
ALL = (LogitAdjustment(), ClassWeights(), Focal())


def test_logit_adjustment_is_equation_10():
    """Menon et al. 2021: -log(exp(f_y + tau log pi_y) / sum of exp(f_y' + tau log pi_y'))."""
    z, losses = (LOGITS.exp() * torch.tensor(SHARES) ** 1.5), []
    for row, label in zip(z, LABELS, strict=True):
        losses.append(-(row[label] / row.sum()).log())
    found = LogitAdjustment(1.5).of_classes(LOGITS, LABELS, SHARES, 0.0)
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_logit_adjustment_of_labels_is_that_of_yes_and_no():
    for n, share in enumerate(SHARES):
        both = torch.stack((torch.zeros(40), LOGITS[:, n]), 1)
        wanted = LogitAdjustment().of_classes(both, TARGETS[:, n].long(), (1 - share, share), 0.0)
        found = LogitAdjustment().of_labels(LOGITS, TARGETS, SHARES)[:, n].mean()
        torch.testing.assert_close(found, wanted)


def test_an_adjusted_network_without_knowledge_thinks_all_classes_alike():
    """The least loss of a constant answer: plain, the frequencies; adjusted, none is likelier than another."""
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    for imbalance, wanted in ((None, torch.tensor(SHARES)), (LogitAdjustment(), torch.full((3,), 1 / 3))):
        answer = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.LBFGS([answer], max_iter=50)

        def loss(answer=answer, optimizer=optimizer, imbalance=imbalance):
            optimizer.zero_grad()
            logits = answer.expand(100, 3)
            value = imbalance.of_classes(logits, labels, SHARES, 0.0) if imbalance else cross_entropy(logits, labels)
            value.backward()
            return value

        optimizer.step(loss)
        torch.testing.assert_close(answer.detach().softmax(0), wanted, rtol=0, atol=1e-3)


def test_weights_make_classes_weigh_alike_up_to_a_limit():
    weights = ClassWeights().weights(SHARES)
    assert [w * s for w, s in zip(weights, SHARES, strict=True)] == pytest.approx([1 / 3] * 3)
    assert ClassWeights(2.0).weights(SHARES) == pytest.approx((1 / 2.1, 1 / 0.6, 2.0))
    each = cross_entropy(LOGITS, LABELS, reduction="none")
    weight = torch.tensor(weights)[LABELS]
    torch.testing.assert_close(
        ClassWeights().of_classes(LOGITS, LABELS, SHARES, 0.0), (each * weight).sum() / weight.sum()
    )
    plain = binary_cross_entropy_with_logits(LOGITS, TARGETS, reduction="none")
    yes = torch.tensor([0.3 / 0.7, 4.0, 5.0])  # 0.9/0.1 is above the limit
    torch.testing.assert_close(
        ClassWeights(5.0).of_labels(LOGITS, TARGETS, SHARES), torch.where(TARGETS == 1, yes, 1.0) * plain
    )


@pytest.mark.parametrize(("gamma", "alpha"), [(0.0, None), (2.0, None), (1.5, 0.25)])
def test_focal_as_torchvision(gamma, alpha):
    wanted = sigmoid_focal_loss(LOGITS, TARGETS, alpha=-1 if alpha is None else alpha, gamma=gamma)
    torch.testing.assert_close(Focal(gamma, alpha).of_labels(LOGITS, TARGETS, SHARES), wanted)


def test_focal_of_classes_is_equation_4():
    right = LOGITS.softmax(1)[torch.arange(40), LABELS]
    torch.testing.assert_close(
        Focal(2.0).of_classes(LOGITS, LABELS, SHARES, 0.0), (-((1 - right) ** 2) * right.log()).mean()
    )
    torch.testing.assert_close(
        Focal(0.0).of_classes(LOGITS, LABELS, SHARES, 0.1), cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    )


@pytest.mark.parametrize("imbalance", ALL)
def test_gradients_are_finite_for_sure_answers_also_after_a_use_without_gradients(imbalance):
    logits = torch.tensor([[80.0, 0.0, -80.0], [0.0, 300.0, 0.0]], requires_grad=True)
    labels, targets = torch.tensor([0, 1]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    with torch.inference_mode():
        imbalance.of_classes(logits, labels, (0.5, 0.3, 0.2), 0.0)
    total = imbalance.of_classes(logits, labels, (0.5, 0.3, 0.2), 0.1)
    total = total + imbalance.of_labels(logits, targets, (0.5, 0.3, 0.2)).mean()
    total.backward()
    assert logits.grad.isfinite().all()


def test_frequencies_are_never_0_or_1():
    assert frequencies_of(torch.tensor([0, 0, 0, 2]), 4) == (0.75, 0.25, 0.25, 0.25)
    assert frequencies_of(torch.tensor([0, 0]), 1) == (0.5,)
    labels = torch.tensor([[1, 0, -1], [1, 0, -1], [1, -1, -1], [0, 1, -1]])
    assert frequencies_of(labels, 3) == (0.75, pytest.approx(1 / 3), 0.5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LogitAdjustment(0.0), "^tau=0.0"),
        (lambda: LogitAdjustment(math.nan), "^tau=nan"),
        (lambda: ClassWeights(0.5), "^most=0.5"),
        (lambda: Focal(-1.0), "^gamma=-1.0"),
        (lambda: Focal(2.0, 1.0), "^alpha=1.0"),
        (lambda: check_imbalance("focal"), "^imbalance=focal: has no of_classes"),
    ],
)
def test_nonsense_is_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()
