"""From outputs to objects: thresholds, suppression, the choice of classes, and outputs that are no numbers."""

import math

import pytest
import torch

from supernet.detection.decoding import decode
from supernet.runtime.errors import InputError


def output_of(*places, classes=2):
    """An output of one picture: of each place the probabilities of its classes, its quality, and its box."""
    rows = []
    for probabilities, quality, box in places:
        logits = [math.log(p / (1 - p)) for p in (*probabilities, quality)]
        rows.append([*logits, *box, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 8.0])
    return torch.tensor([rows]).reshape(1, -1, classes + 8)


A, B = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 10.0, 10.0)  # overlap by .9


def test_a_score_is_that_of_class_and_place():
    (found,) = decode(output_of(((0.81, 0.01), 0.25, A)))
    assert found.classes.tolist() == [0]
    assert found.scores.tolist() == pytest.approx([math.sqrt(0.81 * 0.25)])
    assert found.boxes.tolist() == [list(A)]
    assert len(decode(output_of(((0.81, 0.01), 0.25, A)), conf=0.5)[0]) == 0


def test_of_boxes_of_one_class_the_surest_stays():
    output = output_of(((0.6, 0.01), 0.9, A), ((0.8, 0.01), 0.9, B), ((0.01, 0.7), 0.9, A))
    (found,) = decode(output)
    assert found.classes.tolist() == [0, 1]
    assert found.boxes.tolist() == [list(B), list(A)]
    assert len(decode(output, iou=0.95)[0]) == 3
    assert decode(output, max_det=1)[0].boxes.tolist() == [list(B)]


def test_classes_that_are_not_asked_for_do_not_take_part():
    output = output_of(((0.6, 0.5), 0.9, A))
    assert decode(output)[0].classes.tolist() == [0, 1]
    assert decode(output, classes=[1])[0].classes.tolist() == [1]
    assert decode(output, classes=[])[0].classes.tolist() == []
    assert decode(output, several=False)[0].classes.tolist() == [0]


def test_pictures_do_not_change_one_another():
    torch.manual_seed(0)
    output = torch.randn(3, 50, 3 + 8)
    output[..., 4:6], output[..., 6:8] = torch.rand(3, 50, 2) * 30, 30 + torch.rand(3, 50, 2) * 30
    for number, found in enumerate(decode(output, conf=0.1)):
        (alone,) = decode(output[number : number + 1], conf=0.1)
        assert 0 < len(found) < 150
        assert torch.equal(found.boxes, alone.boxes)
        assert torch.equal(found.scores, alone.scores)
        assert (found.scores.diff() <= 0).all()


def test_boxes_are_cut_at_the_borders_and_those_outside_are_left_out():
    output = output_of(((0.9, 0.01), 0.9, (-5.0, -5.0, 20.0, 8.0)), ((0.9, 0.01), 0.9, (17.0, 2.0, 30.0, 9.0)))
    assert len(decode(output)[0]) == 2
    (found,) = decode(output, size=(12, 16))
    assert found.boxes.tolist() == [[0.0, 0.0, 16.0, 8.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", range(7))
def test_what_is_no_number_is_left_out(bad, column):
    output = output_of(((0.9, 0.01), 0.9, A), ((0.8, 0.01), 0.9, (20.0, 20.0, 30.0, 30.0)))
    output[0, 0, column] = bad
    (found,) = decode(output)
    assert found.boxes.isfinite().all()
    assert found.scores.isfinite().all()
    assert [20.0, 20.0, 30.0, 30.0] in found.boxes.tolist()


def test_one_class_and_no_picture():
    assert decode(output_of(((0.9,), 0.9, A), classes=1))[0].classes.tolist() == [0]
    assert decode(torch.zeros(0, 5, 10)) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conf": 1.5}, r"conf=1.5: needs to lie in \[0, 1\], such as 0.25"),
        ({"iou": math.nan}, "iou=nan: needs to lie in"),
        ({"max_det": 0}, "max_det=0: needs at least 1"),
        ({"classes": [2]}, r"classes=\[2\]: there is no class 2; use 0 to 1"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        decode(output_of(((0.9, 0.01), 0.9, A)), **settings)
