"""One label an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from supernet.data.batches import Batch
from supernet.data.dataset import Data
from supernet.data.targets import Kind
from supernet.deployment.answers import ONE_LABEL, OneLabel
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.heads import Outputs
from supernet.training.tasks.imbalance import Frequencies, Imbalance, frequencies_of
from supernet.training.tasks.logits import check_settings, loss_with_auxiliary
from supernet.training.tasks.ranking import RANKINGS, Answers, chance_of, ranked
from supernet.training.tasks.task import Output, logits_of, soft_cross_entropy

SCORES = ("accuracy", "balanced_accuracy", *RANKINGS)


@dataclass(frozen=True)
class Classification:
    """One label an image, judged by accuracy or by another score.

    Args:
        auxiliary_weight: the loss is the cross entropy plus this multiple of the auxiliary head's cross entropy.
        label_smoothing: share of a label that is spread over all classes, in [0, 1).
        score: what networks are compared by: "accuracy"; "balanced_accuracy", its mean over the classes; "auroc" and
            "average_precision", the means over the classes of one class against all others. Of two classes the second
            is asked.
        imbalance: a correction of the loss for rare classes; None: none.
        frequencies: how frequent each class is among the training images, for the correction.

    Raises:
        InputError: where a setting is out of its range.

    Example:
        >>> batch = Batch(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]))
        >>> logits = torch.tensor([[3.0, 1.0], [2.0, 0.0]])  # both say class 0
        >>> task = Classification()
        >>> task.scores([task.tally(logits, batch)])[task.score]
        0.5
    """

    auxiliary_weight: float = 0.0
    label_smoothing: float = 0.0
    score: str = "accuracy"
    imbalance: Imbalance | None = None
    frequencies: Frequencies = ()

    running: ClassVar[str] = "accuracy"
    kind: ClassVar[Kind] = "classes"
    answer: ClassVar[OneLabel] = ONE_LABEL

    def __post_init__(self) -> None:
        check_settings(self.auxiliary_weight, self.label_smoothing, self.score, SCORES, self.imbalance)

    def outputs(self, classes: Sequence[str]) -> int:
        """A logit for each class."""
        return len(classes)

    def inputs(self, batch: Batch) -> Tensor:
        """The images (batch, channels, height, width)."""
        return batch.images

    def logits(self, output: Output) -> Tensor:
        """Those of the network itself (batch, classes), without an auxiliary head's."""
        return logits_of(output)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The mean over the batch, a scalar; the auxiliary logits count only where the network gives some."""
        return loss_with_auxiliary(output, self.auxiliary_weight, lambda logits: self._loss(logits, batch.labels))

    def distillation(self, output: Output, teacher: Output) -> Tensor:
        """The cross entropy with the teacher's probabilities."""
        return soft_cross_entropy(output, teacher)

    def score_sum(self, output: Output, batch: Batch) -> Tensor:
        """The number of images whose largest logit is their label's, a 0-dimensional integer tensor."""
        return self._right(output, batch).sum()

    def tally(self, output: Output, batch: Batch) -> Tensor | Answers:
        """(2, classes) whole numbers: images of each label whose largest logit is their label's, and all of them.

        Scores of rankings need the logits themselves.
        """
        return Answers.of(output, batch) if self.score in RANKINGS else self._counts(output, batch)

    def _counts(self, output: Output, batch: Batch) -> Tensor:
        logits = logits_of(output)
        own = batch.labels[:, None] == torch.arange(logits.shape[1], device=logits.device)  # no wait for the device
        return torch.stack(((own & self._right(output, batch)[:, None]).sum(0), own.sum(0)))

    def scores(self, tallies: Sequence[Tensor | Answers]) -> dict[str, float]:
        """Accuracy, its mean over the classes that there are, in which each class counts alike, and rankings."""
        counted, answers = self._told(tallies)
        right, images = counted.tolist()
        shares = [of_it / all_of_it for of_it, all_of_it in zip(right, images, strict=True) if all_of_it]
        balanced = sum(shares) / max(len(shares), 1)
        known = {"accuracy": sum(right) / max(sum(images), 1), "balanced_accuracy": balanced}
        return known if answers is None else {**known, **ranked(*answers)}

    def chance(self, tallies: Sequence[Tensor | Answers]) -> float:
        """The score of one answer for all images: the largest class, or for rankings the frequencies."""
        counted, answers = self._told(tallies)
        _, images = counted.tolist()
        if answers is not None:
            return chance_of(self.score, answers[1], len(images))
        if self.score == "balanced_accuracy":
            return 1 / max(sum(count > 0 for count in images), 1)
        return max(images) / max(sum(images), 1)

    def chance_without_labels(self, outputs: Outputs) -> float:
        """An accuracy of one class among all, 0 of a head, of which this task has none; of rankings what is theirs."""
        return RANKINGS.get(self.score, 1 / outputs if isinstance(outputs, int) else 0.0)

    def regularised(self, auxiliary_weight: float, label_smoothing: float) -> Classification:
        """The same task with an auxiliary loss and smoothed labels."""
        return replace(self, auxiliary_weight=auxiliary_weight, label_smoothing=label_smoothing)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.imbalance is None:
            return cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return self.imbalance.of_classes(logits, labels, self.frequencies, self.label_smoothing)

    def _told(self, tallies: Sequence[Tensor | Answers]) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The counts of the whole set, and its logits and labels where they were kept."""
        counts = [each for each in tallies if isinstance(each, Tensor)]
        kept = [each for each in tallies if isinstance(each, Answers)]
        if not kept:
            return torch.stack(counts).sum(0), None
        logits, labels = Answers.together(kept)
        return self._counts(logits, Batch(logits, labels)), (logits, labels)

    def _right(self, output: Output, batch: Batch) -> Tensor:
        """Whether each image's largest logit is its label's, (batch,)."""
        return logits_of(output).detach().argmax(dim=1) == batch.labels


def classification(data: Data, score: str = "accuracy", imbalance: Imbalance | None = None) -> Classification:
    """One label an image.

    Args:
        data: the images.
        score: what networks are compared by, see `Classification`.
        imbalance: a correction of the loss for rare classes; None: none.

    Returns:
        The task.

    Raises:
        InputError: the data say something else of an image, or a setting is out of its range.

    Example:
        >>> import supernet
        >>> classification(supernet.data.digits(), score="auroc").score
        'auroc'
    """
    if data.kind != Classification.kind:
        raise InputError(f"{data.name}: images have {data.kind}, and classification needs one class each")
    frequencies = () if imbalance is None else frequencies_of(data.train.labels, len(data.classes))
    return Classification(score=score, imbalance=imbalance, frequencies=frequencies)


def binary(data: Data, score: str = "auroc", imbalance: Imbalance | None = None) -> Classification:
    """Yes or no: one of two classes, of which the second is the finding.

    Args:
        data: the images.
        score: what networks are compared by, see `Classification`.
        imbalance: a correction of the loss for rare classes; None: none.

    Returns:
        The task.

    Raises:
        InputError: the data have another number of classes, or say something else of an image.
    """
    if len(data.classes) != 2:
        raise InputError(f"{data.name}: has {quantity(len(data.classes), 'class')}, and a binary task needs 2")
    return classification(data, score, imbalance)


CLASSIFICATION = Classification()
"""The task of a search or a training for which no other is given."""
