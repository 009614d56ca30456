"""Average precision is that of COCO: held to pycocotools on random sets, and to sets that can be counted by hand."""

import contextlib
import io

import numpy as np
import pytest
import torch

from supernet.detection.average_precision import RECALLS, area_scales, average_precision
from supernet.detection.decoding import Detections
from supernet.runtime.errors import InputError


def found(*rows):
    """Detections of rows (class, x1, y1, x2, y2, score)."""
    rows = torch.tensor(np.array(rows, dtype=np.float64)).reshape(-1, 6)
    return Detections(rows[:, 1:5], rows[:, 5], rows[:, 0].long())


def truth(*rows):
    """Truths of rows (class, x1, y1, x2, y2, crowd)."""
    rows = torch.tensor(np.array(rows, dtype=np.float64)).reshape(-1, 6)
    area = (rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2])
    return torch.cat((rows, area[:, None]), 1)


def random_set(seed, images=40, classes=4, most=12):
    """Pictures with crowds, with equal scores, without truths or without detections; the last class has no truths.

    Corners are quarters of a pixel, so that both libraries compute with the same numbers.
    """
    draw = np.random.default_rng(seed)
    detections, truths = [], []
    for _ in range(images):
        there = draw.integers(0, most) * (draw.random() > 0.2)
        corner, size = draw.integers(0, 800, (there, 2)) / 4, draw.choice([8, 16, 48, 120, 300], (there, 2)) / 4
        size *= draw.integers(1, 4, (there, 2))
        own, crowd = draw.integers(0, classes - 1, there), draw.random(there) < 0.15
        rows = np.column_stack([own, corner, corner + size, crowd])
        copies = rows[draw.integers(0, max(there, 1), draw.integers(0, 2 * most))] if there else rows
        near = copies[:, 1:5] + draw.integers(-20, 20, (len(copies), 4)) / 8
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        kinds = np.where(draw.random(len(copies)) < 0.2, draw.integers(0, classes, len(copies)), copies[:, 0])
        scores = draw.integers(0, 8, len(copies)) / 8  # many are equally sure
        detections.append(found(*np.column_stack([kinds, near, scores])))
        truths.append(truth(*rows))
    return detections, truths, classes


def of_pycocotools(detections, truths, classes):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    annotations = []
    for image, rows in enumerate(truths):
        for kind, left, top, right, bottom, crowd, area in rows.tolist():
            box = [left, top, right - left, bottom - top]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(kind), "bbox": box, "area": area}
                | {"iscrowd": int(crowd)}
            )
    rows = [
        [image, box[0], box[1], box[2] - box[0], box[3] - box[1], score, kind]
        for image, each in enumerate(detections)
        for box, score, kind in zip(each.boxes.tolist(), each.scores.tolist(), each.classes.tolist(), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco.COCO()
        known.dataset = {
            "images": [{"id": image} for image in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": kind} for kind in range(classes)],
        }
        known.createIndex()
        judge = evaluation.COCOeval(known, known.loadRes(np.array(rows).reshape(-1, 7)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


@pytest.mark.parametrize("seed", range(6))
def test_all_figures_are_those_of_pycocotools(seed):
    sets = random_set(seed, images=3 if seed == 5 else 40, most=60 if seed == 4 else 12)
    judge, ours = of_pycocotools(*sets), average_precision(*sets)
    summary = np.nan_to_num(np.array(ours.summary()), nan=-1.0)
    assert np.abs(summary - judge.stats).max() < 1e-9
    assert 0.05 < ours.map50 < 0.99  # that there is something to compare
    theirs = judge.eval["precision"][..., -1]  # overlaps, recalls, classes, ranges
    each = np.where(theirs > -1, theirs, np.nan).mean(1).transpose(1, 2, 0)
    np.testing.assert_allclose(ours.precision, each, atol=1e-9)
    recall = judge.eval["recall"]  # overlaps, classes, ranges, most
    np.testing.assert_allclose(np.nan_to_num(ours.recall, nan=-1.0), recall.transpose(1, 2, 0, 3), atol=1e-9)
    np.testing.assert_allclose(ours.curves, np.where((c := theirs[0, :, :, 0].T) > -1, c, np.nan), atol=1e-9)


def test_more_than_a_hundred_detections_of_a_picture():
    boxes = [(0, 4 * n, 0, 4 * n + 4, 4, 1 - n / 200) for n in range(130)]
    truths = [truth(*[(*box[:5], 0) for box in boxes])]
    judge, ours = of_pycocotools([found(*boxes)], truths, 1), average_precision([found(*boxes)], truths, 1)
    np.testing.assert_allclose(np.nan_to_num(ours.summary(), nan=-1.0), judge.stats, atol=1e-9)
    assert ours.recall_of(most=100) == pytest.approx(100 / 130)


def test_pairs_are_compared_in_parts(monkeypatch):
    sets = random_set(7)
    whole = average_precision(*sets)
    monkeypatch.setattr("supernet.detection.average_precision._PAIRS", 50)
    np.testing.assert_array_equal(average_precision(*sets).precision, whole.precision)


def test_a_set_that_is_counted_by_hand():
    """Two truths, three detections: right, wrong, right. Precision is 1 up to a recall of .5, and 2/3 after it."""
    truths = [truth((0, 0, 0, 8, 8, 0), (0, 20, 20, 28, 28, 0))]
    detections = [found((0, 0, 0, 8, 8, 0.9), (0, 50, 50, 58, 58, 0.8), (0, 20, 20, 28, 28, 0.7))]
    judged = average_precision(detections, truths, classes=2)
    assert judged.map50_95 == judged.map50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    np.testing.assert_allclose(judged.best[0], [2 / 3, 1.0, 0.7])
    assert np.isnan(judged.best[1]).all()
    assert np.isnan(judged.of_classes[1]).all()
    assert judged.truths.tolist() == [2, 0]
    assert judged.curves[0, RECALLS <= 0.5].tolist() == [1.0] * 51


@pytest.mark.parametrize(("second", "right"), [((0, 5, 0, 13, 8, 0.8), False), ((0, -1, 0, 7, 8, 0.8), True)])
def test_of_two_truths_that_are_overlapped_alike_the_last_one_is_taken(second, right):
    """So it is in pycocotools, and so a second detection finds the truth on the left, but not the one on the right."""
    truths = [truth((0, 0, 0, 8, 8, 0), (0, 4, 0, 12, 8, 0))]
    detections = [found((0, 2, 0, 10, 8, 0.9), second)]
    judged = average_precision(detections, truths, 1)
    assert judged.map50 == pytest.approx(1.0 if right else 51 / 101)
    np.testing.assert_allclose(judged.map50, of_pycocotools(detections, truths, 1).stats[1], atol=1e-9)


def test_a_difficult_truth_is_neither_found_nor_missed():
    truths = [truth((0, 0, 0, 8, 8, 0), (0, 20, 20, 28, 28, 1))]
    assert average_precision([found((0, 0, 0, 8, 8, 0.5))], truths, 1).map50_95 == 1.0
    both = [found((0, 0, 0, 8, 8, 0.5), (0, 20, 20, 28, 28, 0.9))]
    assert average_precision(both, truths, 1).map50_95 == 1.0


def test_detections_that_are_equally_sure_count_together_where_f1_is_best():
    detections = [found((0, 0, 0, 8, 8, 0.5), (0, 30, 30, 38, 38, 0.5))]
    judged = average_precision(detections, [truth((0, 0, 0, 8, 8, 0))], 1)
    np.testing.assert_allclose(judged.best[0], [0.5, 1.0, 0.5])


def test_areas_are_those_of_the_original_picture():
    """A box of 8 x 8 pixels in a picture that was made smaller by 16 each way is a large one."""
    truths = [truth((0, 0, 0, 8, 8, 0))]
    truths[0][:, 6] *= 256
    detections = [found((0, 0, 0, 8, 8, 0.5), (0, 40, 40, 48, 48, 0.9))]
    small, large = (average_precision(detections, truths, 1, scales) for scales in (None, [256.0]))
    assert small.of_range("large") == 1.0  # the wrong one counts as small
    assert large.of_range("large") == pytest.approx(0.5)
    assert np.isnan(small.of_range("small"))
    assert np.isnan(large.of_range("medium"))


def test_the_scale_of_a_picture_is_the_median_over_its_truths():
    first, second = truth(*[(0, 0, 0, 8, 8, 0)] * 3), truth((0, 0, 0, 4, 4, 0), (0, 5, 5, 5, 9, 0), (-1, 0, 0, 1, 1, 0))
    first[:, 6] *= torch.tensor([4.0, 100.0, 9.0])
    second[0, 6] *= 25
    assert area_scales([first, second, truth()]) == [9.0, 25.0, 17.0]
    assert area_scales([truth()]) == [1.0]


def test_both_ends_of_a_range_of_areas_belong_to_it():
    judged = average_precision([found((0, 0, 0, 32, 32, 0.5))], [truth((0, 0, 0, 32, 32, 0))], 1)
    assert judged.of_range("small") == judged.of_range("medium") == 1.0
    assert np.isnan(judged.of_range("large"))


def test_nothing_found_and_nothing_there():
    nothing = average_precision([found(), found()], [truth((0, 0, 0, 8, 8, 0)), truth()], 1)
    assert nothing.map50_95 == 0.0
    assert nothing.best.tolist() == [[0, 0, 0]]
    assert np.isnan(average_precision([found((0, 0, 0, 8, 8, 0.5))], [truth()], 1).map50)
    assert np.isnan(average_precision([], [], 1).map50_95)


def test_rows_of_padding_are_no_truths():
    row = truth((0, 0, 0, 8, 8, 0))
    padding = torch.tensor([[-1.0, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    judged = average_precision([found((0, 0, 0, 8, 8, 0.5))], [torch.cat((padding, row, padding))], 1)
    assert judged.map50_95 == 1.0
    assert judged.truths.tolist() == [1]


def test_what_does_not_go_together_is_refused():
    with pytest.raises(InputError, match="detections of 1 picture and truths of 2"):
        average_precision([found()], [truth(), truth()], 1)
    with pytest.raises(InputError, match="class 3: there are 2"):
        average_precision([found((3, 0, 0, 8, 8, 0.5))], [truth()], 2)
