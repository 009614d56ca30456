"""What a model says of images: the probability of each class, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from supernet.runtime.errors import InputError

_OFF = 1e-3  # of a sum of probabilities from 1
_ROUNDED = 1e-6


@dataclass(frozen=True)
class Probabilities:
    """How probable each class is.

    Args:
        data: (classes,), which sum to 1.

    Example:
        >>> import torch
        >>> probabilities = Probabilities(torch.tensor([0.25, 0.75]))
        >>> probabilities.top1, float(probabilities.top1conf), probabilities.top5
        (1, 0.75, [1, 0])
    """

    data: Tensor

    @property
    def top1(self) -> int:
        """The number of the most probable class."""
        return int(self.data.argmax())

    @property
    def top1conf(self) -> Tensor:
        """The probability of the most probable class, a tensor of one value; `float()` makes it a number."""
        return self.data.max()

    @property
    def top5(self) -> list[int]:
        """The numbers of the five most probable classes, or of all if there are fewer, the most probable first."""
        return [int(i) for i in self.data.topk(min(5, len(self.data))).indices]

    @property
    def top5conf(self) -> list[float]:
        """The probabilities of `top5`."""
        return [float(self.data[i]) for i in self.top5]


@dataclass(frozen=True)
class Result:
    """What a network says of one image.

    Args:
        names: the name of each class by its number.
        probs: how probable each class is.
        path: the file of the image, if it was one.
    """

    names: dict[int, str]
    probs: Probabilities
    path: str | None = None


def labelled(result: Result, count: int = 5) -> Iterator[tuple[str, float]]:
    """Yields the names and the probabilities of the most probable classes.

    Args:
        result: what a network says of one image.
        count: how many classes, at most 5.

    Yields:
        (name, probability), the most probable first.

    Example:
        >>> import torch
        >>> names, shares = {0: "cat", 1: "dog"}, torch.tensor([0.25, 0.75])
        >>> list(labelled(Result(names, Probabilities(shares))))
        [('dog', 0.75), ('cat', 0.25)]
    """
    for index in result.probs.top5[:count]:
        yield result.names[index], float(result.probs.data[index])


def check_probabilities(answers: Tensor, origin: str) -> None:
    """Refuses answers that are no probabilities, such as those of a file with weights of anybody.

    Args:
        answers: (N, classes).
        origin: of what, for the message.

    Raises:
        InputError: one is not finite or outside [0, 1], or those of an image do not sum to 1.

    Example:
        >>> import torch
        >>> check_probabilities(torch.tensor([[0.25, 0.75]]), "model.onnx")
    """
    if not answers.numel():
        return
    reason = ""
    if not answers.isfinite().all():
        reason = "infinite values or none (NaN)"
    elif not ((answers >= -_ROUNDED) & (answers <= 1 + _ROUNDED)).all():
        reason = f"values from {float(answers.min()):.3g} to {float(answers.max()):.3g}"
    elif float(off := (answers.double().sum(1) - 1).abs().max()) > _OFF:
        reason = f"values whose sum is {float(off):.3g} off 1"
    if reason:
        raise InputError(f"{origin}: answers with {reason}, which are no probabilities; train it, or export it, again")
