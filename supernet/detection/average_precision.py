"""Average precision as COCO defines it (Lin et al. 2014), of a whole set at once.

The surest detection of a picture and class comes first. It takes the truth that it overlaps most among those that are
free and overlap it enough; crowds stay free for all. That is done for 10 overlaps from .50 to .95 and for 4 ranges of
the truths' areas. Truths that are crowds or out of range are ignored, and so is what takes them, and what takes nothing
and is itself out of range. Precision is read at 101 recalls.

Of all pairs only those that overlap enough are kept. The first detections of all pictures and classes choose together,
then the second ones, for all overlaps and ranges: as many steps as a picture has objects, whatever their number.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernet.detection.decoding import Detections
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = (1, 10, 100)
"""How many detections of a picture and class count, of which there are three figures of recall."""
RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Areas of the truths in square pixels of the original picture, both ends included."""

_PAIRS = 1 << 22  # overlaps that are computed at once

Numbers = NDArray[Any]


@dataclass(frozen=True)
class AveragePrecision:
    """What detections are worth. Figures of a class without truths are NaN and do not count in means.

    Args:
        precision: (classes, ranges, overlaps): average precision, with 100 detections.
        recall: (classes, ranges, overlaps, 3): what is found with 1, 10, 100 detections.
        curves: (classes, 101): the precision at each of `RECALLS`, for an overlap of .50.
        best: (classes, 3): precision, recall and least confidence where F1 is largest, for an overlap of .50.
        truths: (classes,): how many there are that are not ignored.
    """

    precision: Numbers
    recall: Numbers
    curves: Numbers
    best: Numbers
    truths: Numbers

    @property
    def map50_95(self) -> float:
        """The mean over classes and overlaps: COCO's main figure, often called mAP."""
        return _mean(self.precision[:, 0])

    @property
    def map50(self) -> float:
        """The mean over classes for an overlap of .50, the figure of PASCAL VOC."""
        return _mean(self.precision[:, 0, 0])

    @property
    def map75(self) -> float:
        """The mean over classes for an overlap of .75."""
        return _mean(self.precision[:, 0, 5])

    def of_range(self, name: str) -> float:
        """The mean over classes and overlaps of the truths of a range of areas (`RANGES`)."""
        return _mean(self.precision[:, list(RANGES).index(name)])

    def recall_of(self, name: str = "all", most: int = 100) -> float:
        """The mean recall over classes and overlaps, of a range of areas, with 1, 10 or 100 detections."""
        return _mean(self.recall[:, list(RANGES).index(name), :, MOST.index(most)])

    @property
    def of_classes(self) -> list[tuple[float, float]]:
        """Of each class the mean over all overlaps, and the figure for an overlap of .50."""
        return [(_mean(each[0]), float(each[0, 0])) for each in self.precision]

    def summary(self) -> list[float]:
        """COCO's twelve figures in their order: six of precision, six of recall."""
        sizes = list(RANGES)[1:]
        precisions = [self.map50_95, self.map50, self.map75, *map(self.of_range, sizes)]
        return precisions + [self.recall_of(most=most) for most in MOST] + [self.recall_of(name) for name in sizes]


def average_precision(
    detections: Sequence[Detections], truths: Sequence[Tensor], classes: int, scales: Sequence[float] | None = None
) -> AveragePrecision:
    """Judges the detections of pictures.

    Args:
        detections: of each picture, on the CPU; of detections that are equally sure the first one comes first.
        truths: of each picture, (M, 7): class (-1: padding), x1, y1, x2, y2 in the detections' pixels, whether it is
            a crowd or to be ignored, area in pixels of the original picture.
        classes: how many there are.
        scales: of each picture, square pixels of the original for one of the detections'; None: 1.

    Returns:
        The figures.

    Raises:
        InputError: the numbers of pictures differ, or a class is out of range.

    Example:
        >>> truth = torch.tensor([[0.0, 0.0, 0.0, 8.0, 8.0, 0.0, 64.0]])
        >>> found = Detections(torch.tensor([[0.0, 0.0, 8.0, 6.0]]), torch.tensor([0.9]), torch.tensor([0]))
        >>> judged = average_precision([found], [truth], classes=1)
        >>> judged.map50, round(judged.map50_95, 6)  # an overlap of .75
        (1.0, 0.6)
    """
    if len(detections) != len(truths):
        raise InputError(
            f"detections of {quantity(len(detections), 'picture')} and truths of {len(truths)}: need the same number"
        )
    found, there = _found(detections, classes, scales), _there(truths, classes)
    matched, ignored = _matched(found, there)
    parts = [_of_class(found, there, matched, ignored, number) for number in range(classes)]
    count = [int((there.own == number)[~there.outside[:, 0]].sum()) for number in range(classes)]
    precision, recall, curves, best = (np.stack(part) for part in zip(*parts, strict=True))
    return AveragePrecision(precision, recall, curves, best, np.array(count))


def area_scales(truths: Sequence[Tensor]) -> list[float]:
    """Finds out how much larger the original of each picture was, by the areas of its truths.

    Args:
        truths: of each picture, (M, 7), as `average_precision` takes them.

    Returns:
        For each picture the square pixels of the original for one of the truths' boxes: the median over its truths, and
        of a picture without any that over all pictures; 1 where there are no truths at all.

    Example:
        >>> area_scales([torch.tensor([[0.0, 0.0, 0.0, 8.0, 8.0, 0.0, 256.0]]), torch.zeros(0, 7)])
        [4.0, 4.0]
    """
    known: list[float | None] = []
    for rows in truths:
        area = (rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2])
        there = (rows[:, 0] >= 0) & (area > 0) & (rows[:, 6] > 0)
        known.append(float((rows[there, 6] / area[there]).median()) if bool(there.any()) else None)
    usual = float(np.median([scale for scale in known if scale is not None] or [1.0]))
    return [usual if scale is None else scale for scale in known]


@dataclass(frozen=True)
class _Boxes:
    """All detections or all truths, sorted by group (picture x classes + class).

    Args:
        group: (count,).
        own: (count,): the class.
        boxes: (count, 4), double precision.
        outside: (count, ranges): whether the area is out of range, or a truth is to be ignored.
        crowd: (count,): whether a truth is to be ignored.
        scores: (count,).
    """

    group: Numbers
    own: Numbers
    boxes: Numbers
    outside: Numbers
    crowd: Numbers
    scores: Numbers

    @property
    def rank(self) -> Numbers:
        """(count,): the place of each within its group."""
        return np.arange(len(self.group)) - np.searchsorted(self.group, self.group)


def _found(detections: Sequence[Detections], classes: int, scales: Sequence[float] | None) -> _Boxes:
    """The detections, in each group from the surest on; at most 100 of each group."""
    counts = [len(each) for each in detections]
    image = np.repeat(np.arange(len(counts)), counts)
    boxes = _joined([each.boxes for each in detections], (4,))
    scores, own = _joined([each.scores for each in detections]), _joined([each.classes for each in detections])
    own = _checked(own, classes)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if scales is not None:
        areas = areas * np.asarray(scales, dtype=np.float64)[image]
    order = np.lexsort((-scores, image * classes + own))
    group = (image * classes + own)[order]
    order = order[np.arange(len(group)) - np.searchsorted(group, group) < MOST[-1]]
    group, own, none = (image * classes + own)[order], own[order], np.zeros(len(order), bool)
    return _Boxes(group, own, boxes[order], _outside(areas[order]), none, scores[order])


def _there(truths: Sequence[Tensor], classes: int) -> _Boxes:
    """The truths, in each group in the order in which they were given."""
    counts = [len(each) for each in truths]
    image, rows = np.repeat(np.arange(len(counts)), counts), _joined(list(truths), (7,))
    image, rows = image[rows[:, 0] >= 0], rows[rows[:, 0] >= 0]
    own = _checked(rows[:, 0], classes)
    order = np.argsort(image * classes + own, kind="stable")
    image, own, rows = image[order], own[order], rows[order]
    crowd = rows[:, 5] > 0
    outside = _outside(rows[:, 6]) | crowd[:, None]
    return _Boxes(image * classes + own, own, rows[:, 1:5], outside, crowd, np.zeros(len(rows)))


def _joined(parts: Sequence[Tensor], row: tuple[int, ...] = ()) -> Numbers:
    """All parts as one array in double precision, (count, *row)."""
    return torch.cat([part.detach().double().reshape(-1, *row) for part in parts] or [torch.zeros(0, *row)]).numpy()


def _checked(own: Numbers, classes: int) -> Numbers:
    if len(own) and not 0 <= own.min() <= own.max() < classes:
        raise InputError(f"class {own.max() if own.min() >= 0 else own.min():g}: there are {classes}, from 0 on")
    return own.astype(np.int64)


def _outside(areas: Numbers) -> Numbers:
    ends = np.array(list(RANGES.values()))
    return (areas[:, None] < ends[:, 0]) | (areas[:, None] > ends[:, 1])


def _pairs(found: _Boxes, there: _Boxes) -> tuple[Numbers, Numbers, Numbers]:
    """All pairs of one group that overlap enough for the least of the overlaps: detection, truth, overlap."""
    starts = np.searchsorted(there.group, found.group)
    counts = np.searchsorted(there.group, found.group, side="right") - starts
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for part in _divided(counts):
        own = np.repeat(np.arange(part.start, part.stop), counts[part])
        before = np.repeat(np.cumsum(counts[part]) - counts[part], counts[part])
        truth = np.arange(len(own)) - before + starts[own]
        overlap = _overlaps(found.boxes[own], there.boxes[truth], there.crowd[truth])
        enough = overlap >= OVERLAPS[0]
        parts.append((own[enough], truth[enough], overlap[enough]))
    own, truth, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return own, truth, overlap


def _divided(counts: Numbers) -> Iterator[slice]:
    """Parts of some counts, one after the other, each of about `_PAIRS` together."""
    block = np.cumsum(counts) // _PAIRS
    ends = [*(np.flatnonzero(np.diff(block)) + 1).tolist(), len(counts)]
    start = 0
    for end in ends:
        yield slice(start, end)
        start = end


def _overlaps(found: Numbers, there: Numbers, crowd: Numbers) -> Numbers:
    """Intersection over union, box by box; over the detection's own area where the truth is a crowd."""
    sides = np.minimum(found[:, 2:], there[:, 2:]) - np.maximum(found[:, :2], there[:, :2])
    common = np.where((sides > 0).all(1), sides[:, 0] * sides[:, 1], 0.0)
    first, second = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (found, there))
    union = np.where(crowd, first, first + second - common)
    return common / np.where(union > 0, union, 1.0)


def _matched(found: _Boxes, there: _Boxes) -> tuple[Numbers, Numbers]:
    """Whether each detection takes a truth, and whether it is ignored: (detections, ranges, overlaps) each."""
    shape = len(found.group), len(RANGES), len(OVERLAPS)
    matched = np.zeros(shape, bool)
    ignored = np.broadcast_to(found.outside[:, :, None], shape).copy()
    own, truth, overlap = _pairs(found, there)
    chooser = np.unique(own)  # detections that can take anything at all
    group = found.group[chooser]
    turn = np.arange(len(chooser)) - np.searchsorted(group, group)
    turn = turn[np.searchsorted(chooser, own)]
    order = np.lexsort((truth, overlap, own, turn))
    own, truth, overlap, turn = own[order], truth[order], overlap[order], turn[order]
    taken = np.zeros((len(there.group), *shape[1:]), bool)
    ends = np.searchsorted(turn, np.arange(turn.max(initial=-1) + 2))
    for start, end in itertools.pairwise(ends):
        pairs = slice(start, end)
        _choose(own[pairs], truth[pairs], overlap[pairs], there, taken, matched, ignored)
    return matched, ignored


def _choose(
    own: Numbers,
    truth: Numbers,
    overlap: Numbers,
    there: _Boxes,
    taken: Numbers,
    matched: Numbers,
    ignored: Numbers,
) -> None:
    """Lets one detection of each group take a truth; `taken`, `matched` and `ignored` are written to.

    The pairs of a detection go from the least overlap to the largest, of equal ones from the first truth to the last:
    so the last pair that is free is the best one, and one whose truth is not ignored is better than all others.
    """
    free = ~taken[truth] | there.crowd[truth, None, None]
    free &= (overlap[:, None] >= OVERLAPS)[:, None]
    worth = np.arange(len(own))[:, None] + np.where(there.outside[truth], 0, len(own))
    worth = np.where(free, worth[:, :, None], -1)
    starts = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])
    best = np.maximum.reduceat(worth, starts, axis=0)
    row, area, overlaps = np.nonzero(best >= 0)
    chosen = truth[best[row, area, overlaps] % len(own)]
    taken[chosen, area, overlaps] = True
    matched[own[starts][row], area, overlaps] = True
    ignored[own[starts][row], area, overlaps] = there.outside[chosen, area]


def _of_class(
    found: _Boxes, there: _Boxes, matched: Numbers, ignored: Numbers, number: int
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Average precision (ranges, overlaps), recall (ranges, overlaps, 3), the curve and the best point of a class."""
    shape = len(RANGES), len(OVERLAPS)
    precision, recall = np.full(shape, np.nan), np.full((*shape, len(MOST)), np.nan)
    curve, best = np.full(len(RECALLS), np.nan), np.full(3, np.nan)
    mine = np.flatnonzero(found.own == number)
    mine = mine[np.argsort(-found.scores[mine], kind="stable")]
    right = matched[mine] & ~ignored[mine]
    wrong = ~matched[mine] & ~ignored[mine]
    rank, all_right, all_wrong = found.rank[mine], right.cumsum(0), wrong.cumsum(0)
    wanted = (~there.outside[there.own == number]).sum(0)
    for area in np.flatnonzero(wanted):
        shares = all_right[:, area] / wanted[area]
        exact = all_right[:, area] / np.maximum(all_right[:, area] + all_wrong[:, area], 1)
        highest = np.maximum.accumulate(exact[::-1])[::-1]  # from each recall on
        for overlap in range(len(OVERLAPS)):
            at = np.searchsorted(shares[:, overlap], RECALLS)
            read = np.append(highest[:, overlap], 0.0)[at]
            precision[area, overlap] = read.mean()
            if area == 0 and overlap == 0:
                curve, best = read, _best(exact[:, 0], shares[:, 0], found.scores[mine])
        for place, most in enumerate(MOST):
            recall[area, :, place] = right[rank < most, area].sum(0) / wanted[area]
    return precision, recall, curve, best


def _best(precision: Numbers, recall: Numbers, scores: Numbers) -> Numbers:
    """Precision, recall and confidence where F1 is largest; detections that are equally sure count together."""
    last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True]) if len(scores) else np.zeros(0, np.int64)
    if not len(last):
        return np.zeros(3)
    f1 = 2 * precision[last] * recall[last] / np.maximum(precision[last] + recall[last], 1e-12)
    at = last[f1.argmax()]
    return np.array([precision[at], recall[at], scores[at]])


def _mean(numbers: Numbers) -> float:
    """The mean of those that are numbers; NaN where none is."""
    there = numbers[~np.isnan(numbers)]
    return float(there.mean()) if there.size else float("nan")
