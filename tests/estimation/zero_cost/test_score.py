"""The score: built networks, shared passes, seeds, and every task that a proxy cannot do."""

import logging
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from supernet.data.batches import Batch
from supernet.detection.head import AnchorFree
from supernet.estimation.zero_cost.probe import layers_of
from supernet.estimation.zero_cost.score import PROXIES, ZeroCostScore
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import random_states, random_states_kept
from supernet.space.architecture import random_architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201, from_string
from supernet.space.operations import OPERATIONS
from supernet.space.supernet import Supernet
from supernet.training.tasks import CLASSIFICATION, Detection, MultiLabel
from supernet.training.tasks.classification import Classification

SPACE = NasBench201(channels=4, cells=1, stages=2, nodes=2)
CELLS = [
    from_string(text)
    for text in (
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|",
        "|skip_connect~0|+|none~0|nor_conv_3x3~1|",
        "|avg_pool_3x3~0|+|skip_connect~0|nor_conv_1x1~1|",
    )
]
ALL = tuple(PROXIES)


def batches(count=6, side=8, classes=3, number=2):
    stream = torch.Generator().manual_seed(0)
    shape = (count, 1, side, side)
    return tuple(
        Batch(torch.randn(shape, generator=stream), torch.randint(classes, (count,), generator=stream))
        for _ in range(number)
    )


def score(proxies=ALL, **changes):
    settings = {"space": SPACE, "shape": (1, 8, 8), "classes": 3, "batches": batches()} | changes
    return ZeroCostScore(proxies=proxies, **settings)


def test_all_proxies_at_once_are_each_by_itself():
    together = score()(CELLS[0]).values
    assert tuple(together) == ALL
    for name in ALL:
        assert score((name,))(CELLS[0]).values == {name: pytest.approx(together[name], rel=1e-6)}


BACKBONE = NasBench201(channels=4, cells=1, stages=2, nodes=2)
FINDINGS = MultiLabel()
DETECTOR = Detection(("a", "b"), AnchorFree(2, width=8, towers=1, strides=(1, 2)))


def of_task(task, proxies, number=2):
    """The score of several labels or of boxes, one of whose images shows nothing and one a crowd."""
    images = [batch.images for batch in batches(number=number)]
    labels = torch.tensor([[1, 0, 1], [0, 1, 1], [-1, 0, 1], [-1, -1, -1], [0, 0, 0], [1, 1, 1]])
    if isinstance(task, Detection):
        labels = torch.full((6, 2, 7), -1.0)
        for image in (0, 1, 2, 4):
            labels[image, 0] = torch.tensor([image % 2, 1, 1, 4 + image % 3, 6, 0, 20])
        labels[4, 1] = torch.tensor([1.0, 3, 3, 8, 8, 1, 25])
    given = tuple(Batch(each, labels) for each in images)
    return score(proxies, space=BACKBONE, classes=labels.shape[1], batches=given, task=task)


@pytest.mark.parametrize("task", [FINDINGS, DETECTOR], ids=["multilabel", "detection"])
def test_all_proxies_but_that_of_classes_measure_the_network_of_every_task(task):
    names = tuple(name for name in ALL if name != "epe")
    given = of_task(task, names)
    values = given(CELLS[0]).values
    assert all(math.isfinite(value) for value in values.values())
    probe = given.probe(CELLS[0])
    probe.network.train()
    output = probe.network(probe.batch.images)
    weights = [layer.weight for layer in layers_of(probe.network)]
    gradients = torch.autograd.grad(task.loss(output, probe.batch), weights)
    expected = sum((weight * gradient).abs().sum() for weight, gradient in zip(weights, gradients, strict=True))
    assert values["snip"] == pytest.approx(expected.item(), rel=1e-4)
    with pytest.raises(InputError, match=r"^proxies=epe: .* one class number an image, .* no classes: synflow, snip, "):
        of_task(task, ("epe",))


def test_of_a_detector_boxes_and_head_play_no_part_where_features_or_logits_are_meant():
    cell = CELLS[0]
    given = of_task(DETECTOR, ("jacov", "zen", "synflow"))
    probe = given.probe(cell)
    images = probe.batch.images.clone().requires_grad_()
    logits = probe.network.train()(images)[..., :2]
    (expected,) = torch.autograd.grad(logits.sum(), images)
    torch.testing.assert_close(given.probe(cell).jacobian, expected.flatten(1), rtol=1e-3, atol=1e-7)
    wider = Detection(("a", "b"), AnchorFree(2, width=16, towers=2, strides=(1, 2)))
    assert of_task(wider, ("zen",))(cell).values == pytest.approx({"zen": given(cell).values["zen"]}, rel=1e-6)


def test_without_a_task_it_is_classification():
    assert score()(CELLS[0]) == score(task=CLASSIFICATION)(CELLS[0]) == score(task=Classification())(CELLS[0])


def test_the_order_of_calls_and_what_was_drawn_before_play_no_part():
    given = score()
    forwards = [given(cell) for cell in CELLS]
    torch.manual_seed(123)
    backwards = [given(cell) for cell in reversed(CELLS)]
    assert forwards == backwards[::-1]
    assert len({tuple(measured.values.values()) for measured in forwards}) == 3


def test_random_states_outside_stay_as_they_were():
    before = random_states()
    score()(CELLS[0])
    after = random_states()
    assert torch.equal(before["torch"], after["torch"])
    assert (before["python"], before["numpy"]) == (after["python"], after["numpy"])
    drawn = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002 - the global generator is meant
    assert len(set(drawn)) == 3


def test_the_seed_decides_the_weights_and_what_zen_draws():
    one, two = score(seed=0)(CELLS[0]).values, score(seed=1)(CELLS[0]).values
    assert all(one[name] != two[name] for name in ALL)
    probe = score(seed=1).probe(CELLS[0])
    assert probe.seed == 1
    with random_states_kept():
        again = score(seed=1).probe(CELLS[0])
    for ours, theirs in zip(probe.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_network_is_the_plain_one_with_pytorchs_own_weights():
    network = score().probe(CELLS[0]).network
    plain = SPACE.network(Decided(CELLS[0]), (1, 8, 8), 3)
    assert {name: p.shape for name, p in network.named_parameters()} == {
        name: p.shape for name, p in plain.named_parameters()
    }
    for layer in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        bound = 1 / math.sqrt(layer.weight[0].numel())
        assert 0.5 * bound < layer.weight.abs().max().item() <= bound


def test_the_cost_is_the_images_that_the_network_is_given():
    assert score(("l2_norm",))(CELLS[0]).cost == {"images": 0.0}
    assert score(("synflow",))(CELLS[0]).cost == {"images": 1.0}
    assert score(("snip", "jacov", "grasp"))(CELLS[0]).cost == {"images": 6.0}
    assert score(("zico",))(CELLS[0]).cost == {"images": 12.0}
    assert score()(CELLS[0]).cost == {"images": 1.0 + 6 + 6 + 6 + 12}  # synflow, the pass, zico's, naswot, zen's two


def test_a_value_that_is_not_finite_is_the_worst_and_is_said(caplog):
    """A cell that nothing passes: its logits do not depend on the image."""
    nothing = from_string("|none~0|+|none~0|none~1|")
    with caplog.at_level(logging.WARNING, "supernet"):
        values = score()(nothing).values
    (record,) = caplog.records
    assert record.getMessage().startswith("synflow, jacov, naswot, zen, epe: not finite, counted as -inf, for ")
    assert {name for name, value in values.items() if value == -math.inf} == {
        "synflow",
        "jacov",
        "naswot",
        "zen",
        "epe",
    }
    assert not any(math.isnan(value) for value in values.values())
    caplog.clear()
    score()(CELLS[0])
    assert not caplog.records


@pytest.mark.parametrize("auxiliary", [False, True])
def test_cells_of_darts_are_measured_too(auxiliary):
    space = Darts(channels=4, cells=3, nodes=2, auxiliary=auxiliary)
    decisions = Supernet(space.network(Undecided(), (1, 8, 8), 3)).decisions
    architecture = random_architecture("darts", decisions, torch.Generator().manual_seed(0))
    values = score(space=space)(architecture).values
    assert tuple(values) == ALL
    assert all(math.isfinite(value) for value in values.values())
    if auxiliary:  # the head draws its weights before the classifier does; graph and layers are the same
        plain = score(space=space.resized(auxiliary=False))(architecture).values
        assert values["l2_norm"] == pytest.approx(plain["l2_norm"], rel=0.05)


def test_operations_of_ones_own_are_built():
    class Scaled(nn.Module):
        def forward(self, x):
            return 2.0 * x

    space = NasBench201(channels=4, cells=1, stages=2, nodes=2, operations=("twice",))
    cell = from_string("|twice~0|+|twice~0|twice~1|")
    given = score(("synflow",), space=space, factories={**OPERATIONS, "twice": lambda site: Scaled()})
    once = score(("synflow",))(from_string("|skip_connect~0|+|skip_connect~0|skip_connect~1|"))
    assert given(cell).values["synflow"] > once.values["synflow"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"proxies": ("naswot", "sinflow")}, r"^proxies=sinflow: no such proxy; known: synflow, snip, "),
        ({"proxies": ()}, r"^proxies=\[\]: needs different ones"),
        ({"proxies": ("snip", "snip")}, r"^proxies=\['snip', 'snip'\]: needs different ones"),
        ({"batches": ()}, r"^batches=0: needs one batch of images or more"),
        ({"batches": batches(side=6)}, r"^batches: number 0 has images of \(1, 6, 6\), and shape=\(1, 8, 8\)"),
        ({"batches": batches(count=1)}, r"^proxies=snip: needs 2 images or more in a batch, number 0 has 1"),
        ({"proxies": ("jacov",), "batches": batches(count=1)}, r"^proxies=jacov: needs 2 images or more"),
        ({"proxies": ("zico",), "batches": batches(number=1)}, r"^proxies=zico: compares 2 batches or more, and there"),
        ({"classes": 1, "batches": batches(classes=1)}, r"^proxies=snip: needs labels, and classes=1: of one class"),
        ({"classes": 2}, r"^proxies=snip: needs labels, from 0 to 1, and these go from 0 to 2; these need none: synfl"),
    ],
)
def test_what_cannot_be_done_is_one_line(changes, says):
    with pytest.raises(InputError, match=says) as told:
        score(**changes)
    assert "\n" not in str(told.value)


def test_labels_that_are_no_class_numbers_are_refused_where_they_are_looked_at():
    (batch,) = batches(number=1)
    for labels in (torch.rand(6), torch.zeros(6, 8, 8, dtype=torch.int64)):
        with pytest.raises(InputError, match=r"^proxies=epe: needs labels, one class number an image, and these are "):
            score(("epe",), batches=(Batch(batch.images, labels),))
        score(("synflow", "jacov", "naswot", "zen", "l2_norm"), batches=(Batch(batch.images, labels),))(CELLS[0])
    boxes = Batch(batch.images, torch.zeros(6, 2, 7))
    with pytest.raises(InputError, match=r"one class number an image, and these are torch\.float32 of shape"):
        score(("epe",), batches=(boxes,), classes=1)
    assert score(("synflow",), batches=(boxes,), classes=1)(CELLS[0]).values["synflow"] > 0


def test_one_image_is_enough_for_proxies_that_look_at_none():
    given = score(("synflow", "l2_norm"), batches=batches(count=1, number=1), classes=1)
    assert all(math.isfinite(value) for value in given(CELLS[0]).values.values())


def test_an_architecture_of_another_space_is_refused():
    with pytest.raises(InputError, match=r"^architecture: is of space 'nasbench201', and the space is 'darts'"):
        score(space=Darts(channels=4, cells=1, nodes=2))(CELLS[0])


def test_a_network_without_relus_is_refused_by_name():
    class Smooth(NasBench201):
        def network(self, choose, shape, outputs):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))

    with pytest.raises(InputError, match=r"^proxies=naswot: .* has none; leave it out$"):
        score(("naswot",), space=Smooth())(CELLS[0])
