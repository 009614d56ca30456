"""Boxes as (x1, y1, x2, y2): left, top, right, bottom, in pixels; the picture begins at 0."""

from __future__ import annotations

import torch
from torch import Tensor


def areas(boxes: Tensor) -> Tensor:
    """Computes the area of each box.

    Args:
        boxes: (..., 4).

    Returns:
        (...), in square pixels; 0 for a box whose sides are turned round.

    Example:
        >>> areas(torch.tensor([[0.0, 0.0, 4.0, 2.0], [3.0, 3.0, 1.0, 5.0]]))
        tensor([8., 0.])
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp_min(0)
    return sides[..., 0] * sides[..., 1]


def intersections(first: Tensor, second: Tensor) -> Tensor:
    """Computes the area that boxes have in common, box by box.

    Args:
        first: (..., 4).
        second: (..., 4), of a shape that can be broadcast with the first one.

    Returns:
        (...), in square pixels.
    """
    corner = torch.maximum(first[..., :2], second[..., :2])
    sides = (torch.minimum(first[..., 2:], second[..., 2:]) - corner).clamp_min(0)
    return sides[..., 0] * sides[..., 1]


def overlaps(first: Tensor, second: Tensor, least: float = 1e-9) -> Tensor:
    """Computes the intersection over union of boxes, box by box.

    Args:
        first: (..., 4).
        second: (..., 4), of a shape that can be broadcast with the first one: (N, M, 1, 4) and (N, 1, P, 4) give all
            pairs.
        least: that the union counts at least, so that two boxes without area have an overlap of 0.

    Returns:
        (...), in [0, 1].

    Example:
        >>> overlaps(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 3.0, 2.0]))
        tensor(0.3333)
    """
    common = intersections(first, second)
    return common / (areas(first) + areas(second) - common).clamp_min(least)


def clipped(boxes: Tensor, height: float, width: float) -> Tensor:
    """Cuts boxes at the borders of a picture.

    Args:
        boxes: (..., 4).
        height: of the picture, in pixels.
        width: of the picture, in pixels.

    Returns:
        (..., 4). A box that lies outside has no area.

    Example:
        >>> clipped(torch.tensor([-3.0, 2.0, 50.0, 9.0]), height=8, width=16)
        tensor([ 0.,  2., 16.,  8.])
    """
    left, top, right, bottom = boxes.unbind(-1)
    across, down = [x.clamp(0, width) for x in (left, right)], [y.clamp(0, height) for y in (top, bottom)]
    return torch.stack((across[0], down[0], across[1], down[1]), -1)
