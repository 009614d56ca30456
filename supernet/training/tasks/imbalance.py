"""Corrections of the loss for classes or labels that are rare.

All of them shift the probabilities of the network: calibration on validation images has to fit a bias afterwards
(`supernet.clinical.calibration.calibrate`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from supernet.data.targets import kind_of
from supernet.runtime.errors import InputError

Frequencies = tuple[float, ...]
"""The share of the training images that each class has; of those whose label is known, where there are several."""


class Imbalance(Protocol):
    """A correction, a frozen dataclass of settings. What it knows of the data are the frequencies of the classes."""

    def of_classes(self, logits: Tensor, labels: Tensor, frequencies: Frequencies, label_smoothing: float) -> Tensor:
        """The mean loss, a scalar, of one class an image: logits (batch, classes), labels (batch,)."""
        ...

    def of_labels(self, logits: Tensor, targets: Tensor, frequencies: Frequencies) -> Tensor:
        """The loss of each label, (batch, labels): logits of that shape, and targets between 0 and 1."""
        ...


@dataclass(frozen=True)
class LogitAdjustment:
    """Adds the logarithm of a class's frequency to its logit while training (Menon et al. 2021, equation 10).

    The network then has to be surer of a rare class than of a frequent one to have the same loss, and its own logits,
    without the addition, answer as if all classes were alike frequent: they minimise the balanced error.

    Args:
        tau: how much of the logarithm is added; 1 is consistent with the balanced error.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> logits, rare = torch.zeros(1, 2), torch.tensor([1])
        >>> LogitAdjustment().of_classes(logits, rare, (0.9, 0.1), 0.0)  # -log(0.1)
        tensor(2.3026)
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.tau < math.inf:
            raise InputError(f"tau={self.tau}: needs to be positive, such as 1.0")

    def of_classes(self, logits: Tensor, labels: Tensor, frequencies: Frequencies, label_smoothing: float) -> Tensor:
        added = _constant(tuple(self.tau * math.log(share) for share in frequencies), logits)
        return cross_entropy(logits + added, labels, label_smoothing=label_smoothing)

    def of_labels(self, logits: Tensor, targets: Tensor, frequencies: Frequencies) -> Tensor:
        """The same for two classes, yes and no, of each label."""
        odds = tuple(self.tau * (math.log(share) - math.log1p(-share)) for share in frequencies)
        return binary_cross_entropy_with_logits(logits + _constant(odds, logits), targets, reduction="none")


@dataclass(frozen=True)
class ClassWeights:
    """Weights each image by how rare its class is, so that all classes weigh alike together.

    Args:
        most: the largest weight, in multiples of that of a class of mean frequency; of a label, in multiples of "no".
            A class of a few images would otherwise rule every batch that has one.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> ClassWeights().weights((0.9, 0.1))
        (0.5555555555555556, 5.0)
    """

    most: float = 10.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.most < math.inf:
            raise InputError(f"most={self.most}: needs 1 or more, such as 10")

    def weights(self, frequencies: Frequencies) -> tuple[float, ...]:
        """The weight of each class: 1 where all are alike frequent."""
        return tuple(min(1 / (len(frequencies) * share), self.most) for share in frequencies)

    def of_classes(self, logits: Tensor, labels: Tensor, frequencies: Frequencies, label_smoothing: float) -> Tensor:
        weight = _constant(self.weights(frequencies), logits)
        return cross_entropy(logits, labels, weight, label_smoothing=label_smoothing)

    def of_labels(self, logits: Tensor, targets: Tensor, frequencies: Frequencies) -> Tensor:
        """Yes weighs as much as all that is no, up to the largest weight; a frequent label weighs less than 1."""
        weight = _constant(tuple(min((1 - share) / share, self.most) for share in frequencies), logits)
        return binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")


@dataclass(frozen=True)
class Focal:
    """Makes images count less the surer they are answered rightly (Lin et al. 2017, equations 4 and 5).

    Args:
        gamma: how much less; 0 is the plain loss.
        alpha: the weight of yes, and 1 - alpha that of no, where an image may have several labels; None: both 1. Where
            it has one class it is not used.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> sure = torch.tensor([[0.0, 4.0]])
        >>> Focal(gamma=2.0).of_classes(sure, torch.tensor([1]), (0.5, 0.5), 0.0) < 1e-5
        tensor(True)
    """

    gamma: float = 2.0
    alpha: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.gamma < math.inf:
            raise InputError(f"gamma={self.gamma}: needs 0 or more, such as 2.0")
        if self.alpha is not None and not 0.0 < self.alpha < 1.0:
            raise InputError(f"alpha={self.alpha}: needs to lie between 0 and 1, such as 0.25, or None")

    def of_classes(self, logits: Tensor, labels: Tensor, frequencies: Frequencies, label_smoothing: float) -> Tensor:
        plain = cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        right = logits.log_softmax(1).gather(1, labels[:, None])[:, 0].exp()
        return ((1 - right).clamp_min(0) ** self.gamma * plain).mean()

    def of_labels(self, logits: Tensor, targets: Tensor, frequencies: Frequencies) -> Tensor:
        plain = binary_cross_entropy_with_logits(logits, targets, reduction="none")
        yes = logits.sigmoid()
        wrong = yes * (1 - targets) + (1 - yes) * targets
        weight = 1.0 if self.alpha is None else self.alpha * targets + (1 - self.alpha) * (1 - targets)
        return weight * wrong**self.gamma * plain


def frequencies_of(labels: Tensor, classes: int) -> Frequencies:
    """Measures how frequent each class is.

    Args:
        labels: (N,) classes, or (N, classes) with 1, 0 and -1 (unknown).
        classes: how many there are.

    Returns:
        The shares, none of which is 0 or 1: a class without an image counts as if it had one.

    Example:
        >>> frequencies_of(torch.tensor([0, 0, 0, 1]), 3)
        (0.75, 0.25, 0.25)
    """
    if kind_of(labels) == "classes":
        counts, known = torch.bincount(labels, minlength=classes).tolist(), [max(len(labels), 2)] * classes
    else:
        counts, known = (labels == 1).sum(0).tolist(), [max(n, 2) for n in (labels >= 0).sum(0).tolist()]
    return tuple(min(max(count, 1), of - 1) / of for count, of in zip(counts, known, strict=True))


def check_imbalance(imbalance: object) -> None:
    """Raises InputError where something that is no correction was given for one."""
    missing = [name for name in ("of_classes", "of_labels") if not callable(getattr(imbalance, name, None))]
    if imbalance is not None and missing:
        raise InputError(f"imbalance={str(imbalance)[:60]}: has no {missing[0]}; use one of supernet.tasks, or None")


def _constant(values: Sequence[float], like: Tensor) -> Tensor:
    """The numbers on the device of a tensor, copied there once: a loss that copied would make the host wait."""
    return _copied(tuple(values), like.device, like.dtype)


@lru_cache(maxsize=64)
def _copied(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # the first use may be an evaluation, and the next one takes gradients
        return torch.tensor(values, device=device, dtype=dtype)
