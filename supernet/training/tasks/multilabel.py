"""Several labels an image, each of which applies, does not, or is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from supernet.data.batches import Batch
from supernet.data.dataset import Data
from supernet.data.targets import Kind
from supernet.deployment.answers import SeveralLabels
from supernet.runtime.errors import InputError
from supernet.space.heads import Outputs
from supernet.training.tasks.imbalance import Frequencies, Imbalance, frequencies_of
from supernet.training.tasks.logits import check_settings, loss_with_auxiliary
from supernet.training.tasks.ranking import RANKINGS, Answers, chance_of, ranked
from supernet.training.tasks.task import Output, logits_of

SCORES = (*RANKINGS, "label_accuracy")


@dataclass(frozen=True)
class MultiLabel:
    """Several labels an image, judged by the mean area under their ROC curves.

    The loss is the binary cross entropy, the mean over the labels of a batch that are known.

    Args:
        auxiliary_weight: the loss is that of the network plus this multiple of its auxiliary head's.
        label_smoothing: share of a label that is spread over yes and no, in [0, 1).
        score: what networks are compared by: "auroc", "average_precision" (the means over the labels), or
            "label_accuracy" (the share of the known labels that are answered rightly), which rare labels hardly move.
        imbalance: a correction of the loss for rare labels; None: none.
        frequencies: how frequent each label is among the training images, for the correction.

    Raises:
        InputError: where a setting is out of its range.

    Example:
        >>> batch = Batch(torch.zeros(3, 1, 4, 4), torch.tensor([[1, 0], [0, 1], [-1, 1]]))
        >>> logits = torch.tensor([[3.0, 1.0], [-2.0, 2.0], [0.0, 0.0]])
        >>> task = MultiLabel()
        >>> task.scores([task.tally(logits, batch)])[task.score]  # the second label: one of two is above its "no"
        0.75
    """

    auxiliary_weight: float = 0.0
    label_smoothing: float = 0.0
    score: str = "auroc"
    imbalance: Imbalance | None = None
    frequencies: Frequencies = ()

    running: ClassVar[str] = "label_accuracy"
    kind: ClassVar[Kind] = "labels"
    answer: ClassVar[SeveralLabels] = SeveralLabels()

    def __post_init__(self) -> None:
        check_settings(self.auxiliary_weight, self.label_smoothing, self.score, SCORES, self.imbalance)

    def outputs(self, classes: Sequence[str]) -> int:
        """A logit for each label."""
        return len(classes)

    def inputs(self, batch: Batch) -> Tensor:
        """The images (batch, channels, height, width)."""
        return batch.images

    def logits(self, output: Output) -> Tensor:
        """Those of the network itself (batch, classes), without an auxiliary head's."""
        return logits_of(output)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The mean over the known labels, a scalar; 0 where none is known."""
        return loss_with_auxiliary(output, self.auxiliary_weight, lambda logits: self._loss(logits, batch.labels))

    def distillation(self, output: Output, teacher: Output) -> Tensor:
        """The binary cross entropy with the teacher's probability of each label, the mean over labels and batch."""
        return binary_cross_entropy_with_logits(logits_of(output), logits_of(teacher).detach().sigmoid())

    def score_sum(self, output: Output, batch: Batch) -> Tensor:
        """The sum over the images of the shares of their known labels that are answered rightly, 0-dimensional."""
        logits = logits_of(output).detach()
        known = batch.labels >= 0
        right = known & ((logits > 0) == (batch.labels == 1))
        return (right.sum(1) / known.sum(1).clamp_min(1)).sum()

    def tally(self, output: Output, batch: Batch) -> Answers:
        """The logits and the labels."""
        return Answers.of(output, batch)

    def scores(self, tallies: Sequence[Answers]) -> dict[str, float]:
        """The means over the labels of area and average precision, and the share of known labels answered rightly."""
        logits, labels = Answers.together(tallies)
        known = labels >= 0
        right = known & ((logits > 0) == (labels == 1))
        return {**ranked(logits, labels), "label_accuracy": float(right.sum() / known.sum().clamp_min(1))}

    def chance(self, tallies: Sequence[Answers]) -> float:
        """What answers that are alike for all images reach: an area of one half, the labels' frequencies."""
        _, labels = Answers.together(tallies)
        if self.score in RANKINGS:
            return chance_of(self.score, labels, labels.shape[1])
        yes, known = (labels == 1).sum(0), (labels >= 0).sum(0)
        return float(torch.maximum(yes, known - yes).sum() / known.sum().clamp_min(1))

    def chance_without_labels(self, outputs: Outputs) -> float:
        """Half of the labels, as each is yes or no; of rankings what is theirs."""
        return RANKINGS.get(self.score, 0.5)

    def regularised(self, auxiliary_weight: float, label_smoothing: float) -> MultiLabel:
        """The same task with an auxiliary loss and smoothed labels."""
        return replace(self, auxiliary_weight=auxiliary_weight, label_smoothing=label_smoothing)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        known = labels >= 0
        targets = (labels == 1).to(logits.dtype)
        if self.label_smoothing:
            targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        if self.imbalance is None:
            each = binary_cross_entropy_with_logits(logits, targets, reduction="none")
        else:
            each = self.imbalance.of_labels(logits, targets, self.frequencies)
        return (each * known).sum() / known.sum().clamp_min(1)


def multilabel(data: Data, score: str = "auroc", imbalance: Imbalance | None = None) -> MultiLabel:
    """Several labels an image.

    Args:
        data: the images.
        score: what networks are compared by, see `MultiLabel`.
        imbalance: a correction of the loss for rare labels; None: none.

    Returns:
        The task.

    Raises:
        InputError: the data say something else of an image, or a setting is out of its range.
    """
    if data.kind != MultiLabel.kind:
        raise InputError(f"{data.name}: images have {data.kind}, and this task needs several labels each (0, 1 or -1)")
    frequencies = () if imbalance is None else frequencies_of(data.train.labels, len(data.classes))
    return MultiLabel(score=score, imbalance=imbalance, frequencies=frequencies)
