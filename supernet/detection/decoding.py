"""From a head's output to the objects of each picture: scores, a threshold, and one box of many that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.detection.boxes import clipped
from supernet.detection.losses import predictions
from supernet.runtime.errors import InputError


@dataclass(frozen=True)
class Detections:
    """The objects of one picture, the surest first.

    Args:
        boxes: (objects, 4): x1, y1, x2, y2, in pixels of the picture that the network was given.
        scores: (objects,), in [0, 1].
        classes: (objects,) whole numbers.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: slice | Tensor) -> Detections:
        """Some of them."""
        return Detections(self.boxes[chosen], self.scores[chosen], self.classes[chosen])

    def to(self, device: torch.device | str) -> Detections:
        """The same on another device."""
        return Detections(self.boxes.to(device), self.scores.to(device), self.classes.to(device))


def decode(
    output: Tensor,
    *,
    conf: float = 0.25,
    iou: float = 0.6,
    max_det: int = 100,
    classes: Sequence[int] | None = None,
    size: tuple[int, int] | None = None,
    several: bool = True,
    most: int = 1000,
) -> list[Detections]:
    """Finds the objects of each picture.

    The score of a class at a place is the square root of its probability times the place's quality. Of boxes of one
    class that overlap, the surest stays (non-maximum suppression). Boxes that are not finite or have no area are left
    out.

    Args:
        output: (N, places, classes + 8), as `AnchorFreeHead.forward` gives it.
        conf: the least score, in [0, 1].
        iou: by how much boxes of one class may overlap, in [0, 1].
        max_det: objects of a picture at most.
        classes: those that are looked for; None: all.
        size: the (height, width) of the pictures, at whose borders boxes are cut; None: they are not cut.
        several: a place can show objects of several classes; otherwise the surest class of each alone counts.
        most: candidates of a picture at most before any is suppressed.

    Returns:
        The objects of each picture.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> output = torch.tensor([[[9.0, -9.0, 9.0, 2.0, 2.0, 8.0, 8.0, 4.0, 4.0, 8.0]]])  # one place, two classes
        >>> decode(output)[0].classes, decode(output, classes=[1])[0].classes
        (tensor([0]), tensor([], dtype=torch.int64))
    """
    _check(output, conf, iou, max_det, classes)
    if not len(output):
        return []
    found = candidates(output, conf=conf, classes=classes, size=size, several=several, most=most)
    return suppressed(found, iou=iou, max_det=max_det)


@dataclass(frozen=True)
class Candidates:
    """The surest boxes of N pictures before any is suppressed.

    Args:
        boxes: (N, most, 4).
        scores: (N, most), from the surest on; -1 where there is no candidate.
        classes: (N, most) whole numbers.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def candidates(
    output: Tensor,
    *,
    conf: float,
    classes: Sequence[int] | None = None,
    size: tuple[int, int] | None = None,
    several: bool = True,
    most: int = 1000,
) -> Candidates:
    """Does the first half of `decode`, for which no device has to be waited for.

    Args:
        output: of one picture or more; this and the other arguments are those of `decode`.
        conf: the least score.
        classes: those that are looked for.
        size: of the pictures.
        several: a place can show several classes.
        most: candidates of a picture.

    Returns:
        The candidates of all pictures.
    """
    with torch.no_grad(), torch.autocast(output.device.type, enabled=False):
        found = predictions(output.float())
        scores = _scores(found.classes, found.quality, classes, several)
        boxes = found.boxes if size is None else clipped(found.boxes, *size)
        sound = boxes.isfinite().all(-1) & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        scores = torch.where(sound[..., None] & (scores >= conf), scores, -1.0)  # not a number is no score either
        best, where = scores.flatten(1).topk(min(most, scores[0].numel()))
        place, kind = where // scores.shape[-1], where % scores.shape[-1]
        return Candidates(boxes.gather(1, place[..., None].expand(-1, -1, 4)), best, kind)


def suppressed(found: Candidates, *, iou: float, max_det: int) -> list[Detections]:
    """Does the second half of `decode`: of boxes of one class that overlap, the surest stays.

    Args:
        found: the candidates.
        iou: by how much boxes of one class may overlap.
        max_det: objects of a picture at most.

    Returns:
        The objects of each picture.
    """
    from torchvision.ops import batched_nms  # slow to import, and only detectors need it

    made = []
    for boxes, scores, kinds in zip(found.boxes, found.scores, found.classes, strict=True):
        there = Detections(boxes, scores, kinds)[scores >= 0]
        made.append(there[batched_nms(there.boxes, there.scores, there.classes, iou)[:max_det]])
    return made


def _scores(logits: Tensor, quality: Tensor, classes: Sequence[int] | None, several: bool) -> Tensor:
    """(N, places, classes); -1 where a class is not looked for."""
    scores = (logits.sigmoid() * quality.sigmoid()[..., None]).sqrt()
    if not several:
        scores = torch.where(scores == scores.amax(-1, keepdim=True), scores, -1.0)
    if classes is not None:
        others = torch.ones(scores.shape[-1], dtype=torch.bool)
        others[list(classes)] = False
        scores = scores.masked_fill(others.to(scores.device), -1.0)
    return scores


def _check(output: Tensor, conf: float, iou: float, max_det: int, classes: Sequence[int] | None) -> None:
    for name, share in {"conf": conf, "iou": iou}.items():
        if not 0.0 <= share <= 1.0:
            raise InputError(f"{name}={share}: needs to lie in [0, 1], such as {0.25 if name == 'conf' else 0.6}")
    if max_det < 1:
        raise InputError(f"max_det={max_det}: needs at least 1, such as 100")
    known = output.shape[-1] - 8
    if unknown := [number for number in classes or () if not 0 <= number < known]:
        raise InputError(f"classes={list(classes or ())}: there is no class {unknown[0]}; use 0 to {known - 1}")
