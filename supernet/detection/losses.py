"""What a detector minimises: focal loss of the classes, overlap of the boxes, and the quality of a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.detection.assignment import Assignment, assign
from supernet.detection.boxes import areas, intersections, overlaps
from supernet.detection.head import CONSTANTS, level_sizes


@dataclass(frozen=True)
class Predictions:
    """The columns of a head's output.

    Args:
        classes: (N, places, classes) logits.
        quality: (N, places) logits: how well a place is placed in its box.
        boxes: (N, places, 4): x1, y1, x2, y2 in pixels of the picture.
        places: (places, 3): centre x, centre y, stride.
    """

    classes: Tensor
    quality: Tensor
    boxes: Tensor
    places: Tensor


def predictions(output: Tensor) -> Predictions:
    """Takes a head's output apart.

    Args:
        output: (N, places, classes + 8), as `AnchorFreeHead.forward` gives it, of one picture or more.

    Returns:
        Its columns.
    """
    classes = output.shape[-1] - 5 - CONSTANTS
    logits, quality, boxes, constants = output.split((classes, 1, 4, CONSTANTS), -1)
    return Predictions(logits, quality[..., 0], boxes, constants[0].detach())


def detection_loss(
    output: Tensor, labels: Tensor, size: tuple[int, int], strides: Sequence[int], box_weight: float = 2.0
) -> Tensor:
    """Computes the loss of a batch, in training and in evaluation mode alike.

    It is the focal loss of the classes (Lin et al. 2017), plus `box_weight` times 1 - GIoU of the boxes at positive
    places (Rezatofighi et al. 2019), weighted by their centredness, plus the cross entropy of the centredness (Tian et
    al. 2019, equation 3). Sums are divided by how much is positive in the batch: by 1 where nothing is. It is computed
    in single precision or better, also under autocast, and does not wait for the device.

    Args:
        output: (N, places, classes + 8), as `AnchorFreeHead.forward` gives it.
        labels: (N, M, 7), as `assign` takes them; M may be 0.
        size: the (height, width) of the pictures, in pixels.
        strides: of the head's levels.
        box_weight: of the boxes.

    Returns:
        A scalar.
    """
    with torch.autocast(output.device.type, enabled=False):
        found = predictions(output.to(torch.promote_types(output.dtype, torch.float32)))
        given = _assigned(found, labels, size, strides)
        positive = given.positive.to(found.boxes.dtype)
        wanted = _own_rows(labels, given)
        count = positive.sum().clamp_min(1)
        centred = centredness(wanted[..., 1:5], found.places) * positive
        boxes = (giou_loss(found.boxes, wanted[..., 1:5]) * centred).sum() / centred.sum().clamp_min(1)
        entropy = F.binary_cross_entropy_with_logits(found.quality, centred, reduction="none")
        return _class_loss(found, wanted, given) / count + box_weight * boxes + (entropy * positive).sum() / count


def distillation_loss(output: Tensor, teacher: Tensor, box_weight: float = 2.0) -> Tensor:
    """Computes how far a detector's output is from that of another one, its teacher, place by place.

    It is the quality focal loss with the teacher's probabilities (Li et al. 2020, equation 4, beta = 2), and, weighted
    by the teacher's scores, 1 - GIoU with its boxes and the cross entropy with its quality. Its gradient is zero where
    both are equal.

    Args:
        output: (N, places, classes + 8), as `AnchorFreeHead.forward` gives it.
        teacher: of the same shape; it gets no gradient.
        box_weight: of the boxes.

    Returns:
        A scalar: the sums over all places, divided by the sum of the teacher's scores, or by 1 where that is less.
    """
    with torch.autocast(output.device.type, enabled=False):
        own, wanted = (
            predictions(x.to(torch.promote_types(x.dtype, torch.float32))) for x in (output, teacher.detach())
        )
        likely, quality = wanted.classes.sigmoid(), wanted.quality.sigmoid()
        score = (likely.amax(-1) * quality).sqrt()
        entropy = F.binary_cross_entropy_with_logits(own.classes, likely, reduction="none")
        classes = ((own.classes.sigmoid() - likely).square() * entropy).sum()
        qualities = F.binary_cross_entropy_with_logits(own.quality, quality, reduction="none")
        boxes = giou_loss(own.boxes, wanted.boxes)
        return (classes + ((box_weight * boxes + qualities) * score).sum()) / score.sum().clamp_min(1)


def mean_overlap(output: Tensor, labels: Tensor, size: tuple[int, int], strides: Sequence[int]) -> Tensor:
    """Measures how well the boxes of the positive places overlap the boxes that they learn.

    Args:
        output: as `detection_loss` takes it.
        labels: (N, M, 7).
        size: the (height, width) of the pictures, in pixels.
        strides: of the head's levels.

    Returns:
        The mean intersection over union over the positive places of the batch, a scalar without gradient; 0 where
        there are none.
    """
    found = predictions(output.detach().to(torch.promote_types(output.dtype, torch.float32)))
    given = _assigned(found, labels, size, strides)
    overlap = overlaps(found.boxes, _own_rows(labels, given)[..., 1:5]) * given.positive
    return overlap.sum() / given.positive.sum().clamp_min(1)


def centredness(boxes: Tensor, places: Tensor) -> Tensor:
    """Computes how near the centre of its box a place lies (Tian et al. 2019, equation 3).

    Args:
        boxes: (N, places, 4), of each place.
        places: (places, 3).

    Returns:
        (N, places), 1 in the centre and 0 on and beyond a side.

    Example:
        >>> box, place = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]]), torch.tensor([[2.0, 4.0, 8.0]])
        >>> centredness(box, place)
        tensor([[0.5774]])
    """
    x, y = places[:, 0], places[:, 1]
    left, top, right, bottom = boxes.unbind(-1)
    across, down = ((x - left), (right - x)), ((y - top), (bottom - y))
    shares = [torch.minimum(*pair).clamp_min(0) / torch.maximum(*pair).clamp_min(1e-6) for pair in (across, down)]
    return (shares[0] * shares[1]).sqrt()


def giou_loss(boxes: Tensor, wanted: Tensor, least: float = 1e-7) -> Tensor:
    """Computes 1 - GIoU, box by box: 0 for equal boxes, up to 2 for boxes that are far apart.

    torchvision's form of it picks the boxes that overlap on the host, for which a GPU would have to be waited for.

    Args:
        boxes: (..., 4).
        wanted: (..., 4).
        least: that unions and hulls count at least.

    Returns:
        (...).

    Example:
        >>> giou_loss(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 2.0, 1.0]))
        tensor(1.)
    """
    common = intersections(boxes, wanted)
    union = areas(boxes) + areas(wanted) - common
    corner = torch.minimum(boxes[..., :2], wanted[..., :2])
    sides = (torch.maximum(boxes[..., 2:], wanted[..., 2:]) - corner).clamp_min(0)
    hull = sides[..., 0] * sides[..., 1]
    return 1 - common / union.clamp_min(least) + (hull - union) / hull.clamp_min(least)


def _assigned(found: Predictions, labels: Tensor, size: tuple[int, int], strides: Sequence[int]) -> Assignment:
    return assign(labels.to(found.places.dtype), found.places, level_sizes(*size, strides))


def _own_rows(labels: Tensor, given: Assignment) -> Tensor:
    """(N, places, 7): the labels of each place's box; where a place has none, some box's, or zeros."""
    if not labels.shape[1]:
        return labels.new_zeros((*given.box.shape, labels.shape[2]))
    return labels.gather(1, given.box[..., None].expand(-1, -1, labels.shape[2]))


def _class_loss(found: Predictions, wanted: Tensor, given: Assignment) -> Tensor:
    """The focal loss, summed over all places that count."""
    from torchvision.ops import sigmoid_focal_loss  # slow to import, and only detectors need it

    known = torch.arange(found.classes.shape[-1], device=wanted.device)
    target = (wanted[..., :1] == known) & given.positive[..., None]
    losses = sigmoid_focal_loss(found.classes, target.to(found.classes.dtype), reduction="none")
    return (losses * given.counted[..., None]).sum()
