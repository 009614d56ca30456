"""ATSS, held to a plain reading of the paper's algorithm 1: box by box, level by level."""

import pytest
import torch
from torchvision.ops import box_iou

from supernet.detection.assignment import assign
from supernet.runtime.errors import InputError

STRIDES = (8, 16, 32)


def places_of(height, width):
    rows, sizes = [], []
    for stride in STRIDES:
        level = [((j + 0.5) * stride, (i + 0.5) * stride) for i in range(-(-height // stride)) for j in
                 range(-(-width // stride))]  # fmt: skip
        rows += [(x, y, float(stride)) for x, y in level]
        sizes.append(len(level))
    return torch.tensor(rows), sizes


def some_labels(images, most, height, width, seed):
    """Rows of padding stand between boxes, a fifth of which is to be ignored."""
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, most, 2, generator=draw) * torch.tensor([width, height]) * 0.8
    size = torch.rand(images, most, 2, generator=draw) ** 2 * torch.tensor([width, height]) * 0.8 + 3
    end = torch.minimum(corner + size, torch.tensor([float(width), float(height)]))
    kind = torch.randint(-1, 3, (images, most, 1), generator=draw).float()
    ignored = (torch.rand(images, most, 1, generator=draw) < 0.2).float()
    return torch.cat((kind, corner, end, ignored, torch.ones_like(kind)), -1)


def by_the_paper(labels, places, sizes, k=9):
    """For each box: candidates, threshold, centre inside; then each place goes to the box of the largest overlap."""
    best, owner = torch.full((len(places),), -1.0), torch.zeros(len(places), dtype=torch.long)
    levels = torch.arange(len(places)).split(sizes)
    for row, (kind, *box, ignored, _) in enumerate(labels.tolist()):
        if kind < 0 or ignored:
            continue
        centre = torch.tensor([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        distance = (places[:, :2] - centre).norm(dim=1)
        candidates = torch.cat([level[distance[level].argsort()[:k]] for level in levels])
        x, y, stride = places[candidates].T
        squares = torch.stack((x - 4 * stride, y - 4 * stride, x + 4 * stride, y + 4 * stride), 1)
        overlap = box_iou(squares, torch.tensor([box]))[:, 0]
        threshold = overlap.mean() + overlap.std()
        inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
        if inside.any():  # ours: the best of those inside, where none reaches the paper's threshold
            threshold = min(threshold, overlap[inside].max())
        chosen = inside & (overlap >= threshold)
        for place, value in zip(candidates[chosen], overlap[chosen], strict=True):
            if value > best[place]:
                best[place], owner[place] = value, row
    return owner, best >= 0


@pytest.mark.parametrize("size", [(96, 128), (101, 75)])
@pytest.mark.parametrize("seed", range(4))
def test_places_are_those_of_the_paper(seed, size):
    places, sizes = places_of(*size)
    labels = some_labels(3, 12, *size, seed)
    given = assign(labels, places, sizes)
    assert given.positive.sum() > 20
    for number in range(3):
        owner, positive = by_the_paper(labels[number], places, sizes)
        assert torch.equal(given.positive[number], positive)
        assert torch.equal(given.box[number], owner)


def test_places_in_ignored_boxes_count_neither_way():
    places, sizes = places_of(96, 128)
    labels = some_labels(4, 12, 96, 128, seed=5)
    given = assign(labels, places, sizes)
    x, y, _ = places.T
    for number, rows in enumerate(labels.tolist()):
        hidden = torch.zeros(len(places), dtype=torch.bool)
        for kind, left, top, right, bottom, ignored, _ in rows:
            if kind >= 0 and ignored:
                hidden |= (x > left) & (x < right) & (y > top) & (y < bottom)
        assert hidden.any()
        assert torch.equal(given.counted[number], ~hidden | given.positive[number])


def test_pictures_do_not_change_one_another_and_need_no_boxes():
    places, sizes = places_of(64, 64)
    labels = some_labels(3, 6, 64, 64, seed=1)
    labels[1] = 0
    labels[1, :, 0] = -1
    together = assign(labels, places, sizes)
    assert not together.positive[1].any()
    assert together.counted[1].all()
    alone = assign(labels[2:], places, sizes)
    assert torch.equal(alone.box[0], together.box[2])
    none = assign(labels[:, :0], places, sizes)
    assert not none.positive.any()
    assert none.counted.all()


def test_a_thousand_boxes_in_parts(monkeypatch):
    places, sizes = places_of(96, 128)
    labels = some_labels(2, 1000, 96, 128, seed=2)
    whole = assign(labels, places, sizes)
    monkeypatch.setattr("supernet.detection.assignment._MOST", 1000)
    parts = assign(labels, places, sizes)
    for name in ("box", "positive", "counted"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def test_levels_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="places=252: levels of 192, 48 places need 240"):
        assign(torch.zeros(1, 1, 7), places_of(96, 128)[0], [192, 48])


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_small_box_has_its_places_too(levels):
    """It lies within all squares, which overlap it alike: none is above their mean and standard deviation."""
    places, sizes = places_of(96, 128)
    places, sizes = places[: sum(sizes[:levels])], sizes[:levels]
    labels = torch.tensor([[[0.0, 40.0, 40.0, 56.0, 56.0, 0.0, 256.0]]])
    given = assign(labels, places, sizes)
    assert places[given.positive[0]].tolist() == [[x, y, 8.0] for y in (44.0, 52.0) for x in (44.0, 52.0)]
