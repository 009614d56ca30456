"""Which places of a picture learn which box: adaptive training sample selection (ATSS, Zhang et al. 2020, algorithm 1).

Each box has as candidates the places nearest to its centre, some of each level. Of these, those become positive whose
square of 8 strides overlaps the box by the mean of the candidates plus their standard deviation or more, and whose
centre lies in the box. So a box finds the levels of its size without any table of sizes.

Where no candidate in the box reaches that, those that overlap the box most are positive all the same: a small box lies
within all squares of a level, and their equal overlaps are below such a threshold. A box that lies between the centres
of all places has none; a head with a finer level finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.detection.boxes import overlaps
from supernet.runtime.errors import InputError

_HALF_SQUARE = 4.0  # strides from the centre of a place to the sides of its square
_MOST = 1 << 25  # distances at once: 128 MiB


@dataclass(frozen=True)
class Assignment:
    """What each place learns.

    Args:
        box: (N, places) whole numbers: the row of its box among the picture's boxes; 0 where it has none.
        positive: (N, places): whether it has a box.
        counted: (N, places): whether it counts as positive or negative; places in boxes to be ignored do not.
    """

    box: Tensor
    positive: Tensor
    counted: Tensor


def assign(labels: Tensor, places: Tensor, sizes: Sequence[int], candidates: int = 9) -> Assignment:
    """Assigns the boxes of pictures to places. Nothing waits for the device.

    Args:
        labels: (N, M, 7): class (-1: a row of padding), x1, y1, x2, y2 in pixels, whether the box is to be ignored,
            and a column that plays no part here.
        places: (P, 3): centre x, centre y, stride; level by level.
        sizes: how many places each level has.
        candidates: of each box on each level.

    Returns:
        The assignment. A place that several boxes want has the one that its square overlaps most, and of equal ones
        the first.

    Raises:
        InputError: the levels have not as many places as there are.

    Example:
        >>> places = torch.tensor([[4.0, 4.0, 8.0], [12.0, 4.0, 8.0], [20.0, 4.0, 8.0]])
        >>> labels = torch.tensor([[[0.0, 9.0, 1.0, 15.0, 7.0, 0.0, 36.0]]])
        >>> assign(labels, places, sizes=[3], candidates=3).positive
        tensor([[False,  True, False]])
    """
    if sum(sizes) != len(places):
        raise InputError(f"places={len(places)}: levels of {', '.join(map(str, sizes))} places need {sum(sizes)}")
    boxes, real = labels[..., 1:5], labels[..., 0] >= 0
    ignored = labels[..., 5] > 0
    if not boxes.shape[1]:
        nothing = torch.zeros(len(labels), len(places), dtype=torch.long, device=labels.device)
        return Assignment(nothing, nothing > 0, nothing == 0)
    near = _nearest(boxes, places, sizes, candidates)
    x, y, stride = places[near].unbind(-1)  # (N, M, K) each
    half = stride * _HALF_SQUARE
    squares = torch.stack((x - half, y - half, x + half, y + half), -1)
    overlap = overlaps(squares, boxes[:, :, None])
    inside = _inside(boxes[:, :, None], x, y) & (real & ~ignored)[..., None]
    most = torch.where(inside, overlap, -1.0).amax(2, keepdim=True)
    threshold = torch.minimum(overlap.mean(2, keepdim=True) + _deviation(overlap), most)
    good = inside & (overlap >= threshold)
    box, positive = _owners(near, torch.where(good, overlap, -1.0), len(places))
    return Assignment(box, positive, positive | ~_covered(boxes, real & ignored, places))


def _nearest(boxes: Tensor, places: Tensor, sizes: Sequence[int], candidates: int) -> Tensor:
    """(N, M, K) rows of the places of each level that are nearest to the centre of each box."""
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    found, start = [], 0
    for size in sizes:
        level, count = places[start : start + size], min(candidates, size)
        images = max(1, _MOST // max(1, centres.shape[1] * size))
        nearest = [_squared(part, level).topk(count, largest=False).indices for part in centres.split(images)]
        found.append(torch.cat(nearest) + start)
        start += size
    return torch.cat(found, -1)


def _squared(centres: Tensor, places: Tensor) -> Tensor:
    """(N, M, places) squares of the distances."""
    across = centres[..., 0, None] - places[:, 0]
    down = centres[..., 1, None] - places[:, 1]
    return across.square_().addcmul_(down, down)


def _deviation(overlap: Tensor) -> Tensor:
    """The standard deviation over the candidates, (N, M, 1); of a single candidate 0."""
    return overlap.std(2, keepdim=True) if overlap.shape[2] > 1 else torch.zeros_like(overlap)


def _inside(boxes: Tensor, x: Tensor, y: Tensor) -> Tensor:
    left, top, right, bottom = boxes.unbind(-1)
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def _owners(near: Tensor, overlap: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """Gives each place the box that overlaps it most: (N, places) rows of boxes, and whether there is one.

    Both steps are reductions that do not depend on an order, so that a GPU computes the same every time.
    """
    images, boxes, count = near.shape
    flat, wanted = near.flatten(1), overlap.flatten(1)
    best = wanted.new_full((images, places), -1.0).scatter_reduce(1, flat, wanted, "amax")
    row = torch.arange(boxes, device=near.device).repeat_interleave(count).expand(images, -1)
    wins = (wanted >= 0) & (wanted == best.gather(1, flat))
    owner = row.new_full((images, places), boxes).scatter_reduce(1, flat, torch.where(wins, row, boxes), "amin")
    positive = owner < boxes
    return torch.where(positive, owner, 0), positive


def _covered(boxes: Tensor, which: Tensor, places: Tensor) -> Tensor:
    """(N, places): whether the centre of a place lies in one of some boxes."""
    x, y = places[:, 0], places[:, 1]
    images = max(1, _MOST // max(1, boxes.shape[1] * len(places)))
    parts = zip(boxes.split(images), which.split(images), strict=True)
    return torch.cat([(_inside(b[:, :, None], x, y) & w[..., None]).any(1) for b, w in parts])
