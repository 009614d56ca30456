"""What a batch means: how it enters a network and what the output is measured by. The loops never look inside one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from supernet.data.batches import Batch
from supernet.runtime.errors import InputError

Output = Tensor | tuple[Tensor, Tensor]
"""What a network gives: logits (batch, classes), or those and the logits of its auxiliary head."""


class Task(Protocol):
    """What the loops ask of a problem."""

    def inputs(self, batch: Batch) -> Tensor:
        """What of the batch goes into the network."""
        ...

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The mean loss over the batch, a scalar."""
        ...

    def correct(self, output: Output, batch: Batch) -> Tensor:
        """How many of the batch are answered rightly, a 0-dimensional tensor."""
        ...

    def by_class(self, output: Output, batch: Batch) -> Tensor:
        """(2, classes): how many of each class in the batch are answered rightly, and how many there are."""
        ...


@dataclass(frozen=True)
class Classification:
    """One label an image: cross entropy, smoothed or not, plus `auxiliary_weight` times that of an auxiliary head."""

    auxiliary_weight: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.auxiliary_weight < math.inf:
            raise InputError(f"auxiliary_weight={self.auxiliary_weight}: needs 0 or more, such as 0.4")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise InputError(f"label_smoothing={self.label_smoothing}: needs to lie in [0, 1), such as 0.1")

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

    def correct(self, output: Output, batch: Batch) -> Tensor:
        """The number of images whose largest logit is their label's, a 0-dimensional integer tensor."""
        return self._right(output, batch).sum()

    def by_class(self, output: Output, batch: Batch) -> Tensor:
        """(2, classes) whole numbers: images of each label whose largest logit is their label's, and all of them."""
        logits = output[0] if isinstance(output, tuple) else output
        own = batch.labels[:, None] == torch.arange(logits.shape[1], device=logits.device)  # no wait for the device
        return torch.stack(((own & self._right(output, batch)[:, None]).sum(0), own.sum(0)))

    def _right(self, output: Output, batch: Batch) -> Tensor:
        """(batch,) whether each image's largest logit is its label's."""
        logits = output[0] if isinstance(output, tuple) else output
        return logits.detach().argmax(dim=1) == batch.labels
