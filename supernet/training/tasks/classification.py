"""One label an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from supernet.data.batches import Batch
from supernet.data.dataset import Data
from supernet.runtime.errors import InputError
from supernet.training.tasks.task import Output


@dataclass(frozen=True)
class Classification:
    """One label an image, judged by accuracy.

    Args:
        auxiliary_weight: the loss is the cross entropy plus this multiple of the auxiliary head's cross entropy.
        label_smoothing: share of a label that is spread over all classes, in [0, 1).

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

    score: ClassVar[str] = "accuracy"
    running: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        if not 0.0 <= self.auxiliary_weight < math.inf:
            raise InputError(f"auxiliary_weight={self.auxiliary_weight}: needs 0 or more, such as 0.4")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise InputError(f"label_smoothing={self.label_smoothing}: needs to lie in [0, 1), such as 0.1")

    def outputs(self, classes: Sequence[str]) -> int:
        """A logit for each class."""
        return len(classes)

    def inputs(self, batch: Batch) -> Tensor:
        """The images (batch, channels, height, width)."""
        return batch.images

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The mean over the batch, a scalar; the auxiliary logits count only where the network gives some."""
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        loss = cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        if auxiliary is None or self.auxiliary_weight == 0.0:
            return loss
        return loss + self.auxiliary_weight * cross_entropy(
            auxiliary, batch.labels, label_smoothing=self.label_smoothing
        )

    def score_sum(self, output: Output, batch: Batch) -> Tensor:
        """The number of images whose largest logit is their label's, a 0-dimensional integer tensor."""
        return self._right(output, batch).sum()

    def tally(self, output: Output, batch: Batch) -> Tensor:
        """(2, classes) whole numbers: images of each label whose largest logit is their label's, and all of them."""
        logits = output[0] if isinstance(output, tuple) else output
        own = batch.labels[:, None] == torch.arange(logits.shape[1], device=logits.device)  # no wait for the device
        return torch.stack(((own & self._right(output, batch)[:, None]).sum(0), own.sum(0)))

    def scores(self, tallies: Sequence[Tensor]) -> dict[str, float]:
        """Accuracy, and its mean over the classes that there are, in which each class counts alike."""
        right, images = torch.stack(list(tallies)).sum(0).tolist()
        shares = [of_it / all_of_it for of_it, all_of_it in zip(right, images, strict=True) if all_of_it]
        balanced = sum(shares) / max(len(shares), 1)
        return {self.score: sum(right) / max(sum(images), 1), "balanced_accuracy": balanced}

    def chance(self, tallies: Sequence[Tensor]) -> float:
        """The share of the largest class: the accuracy of always naming it."""
        _, images = torch.stack(list(tallies)).sum(0).tolist()
        return max(images) / max(sum(images), 1)

    def regularised(self, auxiliary_weight: float, label_smoothing: float) -> Classification:
        """The same task with an auxiliary loss and smoothed labels."""
        return replace(self, auxiliary_weight=auxiliary_weight, label_smoothing=label_smoothing)

    def _right(self, output: Output, batch: Batch) -> Tensor:
        """Whether each image's largest logit is its label's, (batch,)."""
        logits = output[0] if isinstance(output, tuple) else output
        return logits.detach().argmax(dim=1) == batch.labels


def classification(data: Data) -> Classification:
    """One label an image, judged by accuracy.

    Args:
        data: the images.

    Returns:
        The task.

    Raises:
        InputError: the data say something else of an image.

    Example:
        >>> import supernet
        >>> classification(supernet.data.digits()).score
        'accuracy'
    """
    if data.kind != "classes":
        raise InputError(f"{data.name}: images have {data.kind}, and classification needs one class each")
    return Classification()


CLASSIFICATION = Classification()
"""The task of a search or a training for which no other is given."""
