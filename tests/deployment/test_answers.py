"""What a file knows of its task: calibrated answers, and settings that a stranger has changed."""

import numpy as np
import pytest
import torch

from supernet.deployment.answers import ANSWERS, Asked, Objects, OneLabel, SeveralLabels, answer_of, plain_answer
from supernet.detection.head import AnchorFree
from supernet.runtime.errors import InputError

ALL = [
    OneLabel(1.5, (0.1, -0.2)),
    SeveralLabels((0.5, 2.0), (0.0, 1.0), (0.3, 0.6)),
    SeveralLabels(2.0),
    Objects(AnchorFree(1, width=32, towers=1, strides=(8, 16)), conf=0.4),
    Objects(conf=(0.3, 0.5), iou=0.5),
]


@pytest.mark.parametrize("answer", ALL, ids=lambda answer: answer.name)
def test_an_answer_goes_through_a_file(answer):
    assert answer_of(plain_answer(answer)) == answer
    assert ANSWERS[answer.name] is type(answer)


def test_logits_are_calibrated():
    logits = torch.tensor([[0.0, 2.0]])
    expected = torch.tensor([[0.0 / 2 + 0.1, 2.0 / 2 - 0.1]])
    assert torch.allclose(OneLabel(2.0, (0.1, -0.1)).values(logits), expected.softmax(1))
    assert torch.equal(OneLabel().values(logits), logits.softmax(1))
    several = SeveralLabels((1.0, 4.0), (0.0, 1.0)).values(logits)
    assert torch.allclose(several, torch.tensor([[0.0, 1.5]]).sigmoid())


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"name": "os.system", "settings": {}}, "'os.system' is unknown; known: one_label"),
        ({"name": "one_label", "settings": {"surprise": 1}}, "setting 'surprise' is unknown"),
        ({"name": "one_label", "settings": {"temperature": 0}}, "temperature=0"),
        ({"name": "one_label", "settings": {"temperature": "x"}}, "temperature=x"),
        ({"name": "one_label", "settings": {"temperature": float("nan")}}, "temperature=nan"),
        ({"name": "one_label", "settings": {"bias": [1e9]}}, "bias="),
        ({"name": "several_labels", "settings": {"thresholds": [0.5, 1.5]}}, "thresholds=1.5"),
        ({"name": "several_labels", "settings": {"temperature": []}}, "temperature="),
        ({"name": "objects", "settings": {"width": 10**9}}, "width="),
        ({"name": "objects", "settings": {"width": 32.0}}, "width="),
        ({"name": "objects", "settings": {"strides": [8] * 99}}, "strides="),
        ({"name": "objects", "settings": {"classes": 3}}, "setting 'classes'"),
        ({"name": "objects", "settings": {"conf": 2}}, "conf=2"),
        ({"name": "objects", "settings": {"conf": [0.5, "x"]}}, "conf=x"),
        ({"name": "objects", "settings": {"iou": None}}, "iou=None"),
        ({"name": "objects", "settings": {"head": {}}}, "setting 'head'"),
    ],
)
def test_settings_of_a_stranger_are_refused(plain, says):
    with pytest.raises(InputError, match=says) as error:
        answer_of(plain)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("answer", "classes", "says"),
    [
        (OneLabel(), ("a",), "2 classes or more"),
        (OneLabel(bias=(1.0,)), ("a", "b"), "bias: 1 number for 2 classes"),
        (SeveralLabels(thresholds=(0.5, 0.5)), ("a",), "thresholds: 2 numbers for 1"),
        (SeveralLabels((1.0, 2.0)), ("a", "b", "c"), "temperature: 2 numbers for 3"),
        (Objects(), (), "1 class or more"),
        (Objects(conf=(0.5, 0.5)), ("a",), "conf: 2 numbers for 1"),
    ],
)
def test_settings_of_other_classes_are_refused(answer, classes, says):
    with pytest.raises(InputError, match=says):
        answer.check_classes(classes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"conf": 1.5},
        {"conf": True},
        {"iou": -0.1},
        {"max_det": 0},
        {"max_det": 2.5},
        {"conf": "0.3"},
        {"conf": np.bool_(True)},
        {"iou": torch.ones(2)},
    ],
)
def test_what_cannot_be_asked(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"{name}="):
        Asked(**wrong)


def test_a_detector_that_answers_no_numbers_is_refused():
    with pytest.raises(InputError, match="infinite values or none"):
        Objects().check(torch.tensor([float("nan")]), "model")


@pytest.mark.parametrize("answer", [OneLabel(), SeveralLabels()], ids=lambda answer: answer.name)
def test_logits_have_the_values_that_they_are_made_of(answer):
    values = answer.values(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(answer.values(answer.logits(values)), values)
    assert answer.logits(torch.tensor([[0.0, 1.0]])).isfinite().all()
