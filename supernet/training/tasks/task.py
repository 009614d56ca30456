"""The interface of a task: which part of a batch enters a network, what it ends in, and how its output is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor
from torch.nn.functional import cross_entropy

from supernet.data.batches import Batch
from supernet.data.targets import Kind
from supernet.deployment.answers import Answer
from supernet.space.heads import Outputs

Output = Tensor | tuple[Tensor, Tensor]
"""What a network gives: logits (batch, classes), those and its auxiliary head's, or what a head of a task makes."""

SoftLoss = Callable[[Output, Output], Tensor]
"""(output of a network, output of its teacher) -> a scalar, the mean over the batch."""


def logits_of(output: Output) -> Tensor:
    """The logits (batch, classes) of what a network gave, without those of its auxiliary head."""
    return output[0] if isinstance(output, tuple) else output


def soft_cross_entropy(output: Output, teacher: Output) -> Tensor:
    """The cross entropy between a teacher's probabilities and a network's (Hinton et al. 2015, temperature 1).

    Its gradient is that of the divergence KL(teacher || network). Auxiliary heads do not count. It is for one label an
    image: `Task.distillation` says what a task has.

    Args:
        output: logits of the network, (batch, classes).
        teacher: that of the teacher, of the same shape; it gets no gradient.

    Returns:
        The mean over the batch, a scalar.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> soft_cross_entropy(unsure, sure)
        tensor(0.6931)
    """
    return cross_entropy(logits_of(output), logits_of(teacher).detach().softmax(-1))


class Task(Protocol):
    """The interface between the loops and a problem, such as one label an image or the boxes of objects.

    `score` names what networks are compared by, the larger the better, and `running` what is summed while they train,
    which can be something cheaper: both stand in tags and lines.
    """

    @property
    def score(self) -> str: ...

    @property
    def running(self) -> str: ...

    @property
    def kind(self) -> Kind:
        """What it learns from: the "classes" of images, their "labels" or "boxes" (`supernet.data.targets`)."""
        ...

    @property
    def answer(self) -> Answer:
        """What the output of a trained network says of a picture: a model's file keeps it."""
        ...

    def outputs(self, classes: Sequence[str]) -> Outputs:
        """What the network of these classes ends in: so many logits, or a head of the task's own."""
        ...

    def inputs(self, batch: Batch) -> Tensor:
        """Returns the part of the batch that enters the network, (batch, channels, height, width)."""
        ...

    def logits(self, output: Output) -> Tensor:
        """The logits of the classes in what a network gave, (batch, ..., classes), and nothing else of it."""
        ...

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The mean loss over the batch, a scalar, of a network in training or in evaluation mode."""
        ...

    def distillation(self, output: Output, teacher: Output) -> Tensor:
        """How far an output is from that of a teacher, which gets no gradient: the mean over the batch, a scalar.

        Networks that learn by distillation (Hinton et al. 2015) minimise it.
        """
        ...

    def score_sum(self, output: Output, batch: Batch) -> Tensor:
        """The sum of the running scores of the batch's images, 0-dimensional."""
        ...

    def tally(self, output: Output, batch: Batch) -> Any:
        """Returns what is needed of a batch to score the whole set; it does not wait for the device."""
        ...

    def scores(self, tallies: Sequence[Any]) -> Mapping[str, float]:
        """The scores of a whole set by name, of the tallies of all its batches, that of `score` among them."""
        ...

    def chance(self, tallies: Sequence[Any]) -> float | None:
        """The score of the best answer that does not look at the image; None where that is not known."""
        ...

    def chance_without_labels(self, outputs: Outputs) -> float:
        """What chance reaches of `score` where no label is known, in [0, 1): a front's hypervolume begins there.

        Args:
            outputs: what a network ends in.

        Returns:
            The score; 0 where it depends on the labels.
        """
        ...

    def regularised(self, auxiliary_weight: float, label_smoothing: float) -> Task:
        """The same task with the loss that a training from scratch minimises."""
        ...
