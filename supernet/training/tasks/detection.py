"""The boxes of objects, judged by COCO's average precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from supernet.data.batches import Batch
from supernet.data.dataset import Data
from supernet.data.targets import Kind
from supernet.deployment.answers import Objects
from supernet.detection.average_precision import AveragePrecision, area_scales, average_precision
from supernet.detection.decoding import Candidates, candidates, suppressed
from supernet.detection.head import AnchorFree
from supernet.detection.losses import detection_loss, distillation_loss, mean_overlap, predictions
from supernet.runtime.errors import InputError
from supernet.space.heads import Outputs
from supernet.training.tasks.task import Output

SCORES = ("map50_95", "map50")
"""What detectors can be compared by: the mean over overlaps from .50 to .95, or with an overlap of .50 alone."""

_CONF, _IOU, _MOST = 0.001, 0.6, 100  # as COCO judges: nearly all that is found counts, and at most 100 boxes


@dataclass(frozen=True)
class Detection:
    """The boxes of objects: an anchor-free head learns and is judged by average precision.

    Args:
        classes: their names.
        head: what the network ends in; its number of classes follows from the names.
        score: "map50_95" or "map50".

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> import torch
        >>> task = Detection(("cell",), AnchorFree(1, width=8, strides=(8,)))
        >>> labels = torch.tensor([[[0.0, 0.0, 0.0, 8.0, 8.0, 0.0, 64.0]]])
        >>> batch = Batch(torch.zeros(1, 3, 8, 8), labels)
        >>> output = torch.tensor([[[9.0, 9.0, 0.0, 0.0, 8.0, 8.0, 4.0, 4.0, 8.0]]])  # one place: it is right
        >>> task.scores([task.tally(output, batch)])["map50"]
        1.0
    """

    classes: tuple[str, ...]
    head: AnchorFree = field(default_factory=lambda: AnchorFree(classes=1))
    score: str = "map50_95"

    running: str = field(default="iou", init=False)
    kind: ClassVar[Kind] = "boxes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.score not in SCORES:
            raise InputError(f"score={self.score}: detectors are compared by {' or '.join(SCORES)}")
        object.__setattr__(self, "head", replace(self.head, classes=len(self.classes)))

    @property
    def answer(self) -> Objects:
        """What a file has to know of the task."""
        return Objects(self.head)

    def outputs(self, classes: Sequence[str]) -> AnchorFree:
        """The head for these classes."""
        return replace(self.head, classes=len(classes))

    def inputs(self, batch: Batch) -> Tensor:
        """The images (batch, channels, height, width)."""
        return batch.images

    def logits(self, output: Output) -> Tensor:
        """The logits of the classes at all places, (batch, places, classes), without boxes and constants."""
        return predictions(_whole(output)).classes

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The loss of the batch (`detection_loss`), a scalar; sums are divided by what is positive in the batch."""
        return detection_loss(_whole(output), batch.labels, _size(batch), self.head.strides)

    def distillation(self, output: Output, teacher: Output) -> Tensor:
        """The distance to the teacher's classes, boxes and quality, place by place (`distillation_loss`)."""
        return distillation_loss(_whole(output), _whole(teacher))

    def score_sum(self, output: Output, batch: Batch) -> Tensor:
        """The mean overlap of the boxes at positive places with those that they learn, times the number of images."""
        return mean_overlap(_whole(output), batch.labels, _size(batch), self.head.strides) * len(batch)

    def tally(self, output: Output, batch: Batch) -> tuple[Candidates, Tensor]:
        """The candidates of the batch, before any is suppressed, and its boxes."""
        return candidates(_whole(output), conf=_CONF, size=_size(batch)), batch.labels

    def judged(self, tallies: Sequence[tuple[Candidates, Tensor]]) -> AveragePrecision:
        """All figures of a whole set. Areas are those of the original pictures.

        Args:
            tallies: of all batches.

        Returns:
            The figures, of each class, too.
        """
        found, truths = [], []
        for each, labels in tallies:
            here = Candidates(each.boxes.cpu(), each.scores.cpu(), each.classes.cpu())
            found += suppressed(here, iou=_IOU, max_det=_MOST)
            truths += list(labels.cpu())
        return average_precision(found, truths, len(self.classes), area_scales(truths))

    def scores(self, tallies: Sequence[tuple[Candidates, Tensor]]) -> dict[str, float]:
        """The means over the classes, and of each class "ap50_" and its name; of what has no truths there is none.

        Precision and recall are the means over the classes where F1 is best, for an overlap of .50.
        """
        judged = self.judged(tallies)
        figures = {"map50_95": judged.map50_95, "map50": judged.map50, "map75": judged.map75}
        there = judged.truths > 0
        if there.any():
            figures |= {"precision": float(judged.best[there, 0].mean()), "recall": float(judged.best[there, 1].mean())}
        own = zip(self.classes, judged.of_classes, strict=True)
        figures |= {f"ap50_{name}": at_half for name, (_, at_half) in own}
        known = {name: figure for name, figure in figures.items() if not math.isnan(figure)}
        return {self.score: 0.0, **known}

    def chance(self, tallies: Sequence[tuple[Candidates, Tensor]]) -> None:
        """Nobody knows the best boxes of an answer that does not look."""
        return

    def chance_without_labels(self, outputs: Outputs) -> float:
        """Boxes that lie anywhere find next to nothing."""
        return 0.0

    def regularised(self, auxiliary_weight: float, label_smoothing: float) -> Detection:
        """The task as it is: a network with a head has no auxiliary classifier, and nearly all places show nothing, of
        which there are no labels to be smoothed."""
        return self


def detection(
    data: Data, score: str = "map50_95", width: int = 64, towers: int = 2, strides: Sequence[int] = (8, 16, 32)
) -> Detection:
    """The boxes of objects, judged by average precision.

    Args:
        data: the images.
        score: "map50_95" or "map50".
        width: channels of the head, a multiple of 8.
        towers: convolutions of each of the head's two towers.
        strides: of the maps that the head reads, from fine to coarse.

    Returns:
        The task.

    Raises:
        InputError: the data say something else of an image, or a setting is out of its range.
    """
    if data.kind != Detection.kind:
        raise InputError(f"{data.name}: images have {data.kind}, and detection needs the boxes of objects")
    return Detection(data.classes, AnchorFree(len(data.classes), width, towers, tuple(strides)), score)


def _whole(output: Output) -> Tensor:
    assert isinstance(output, Tensor), "a head gives one tensor"
    return output


def _size(batch: Batch) -> tuple[int, int]:
    height, width = batch.images.shape[2:]
    return height, width
