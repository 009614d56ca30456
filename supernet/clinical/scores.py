"""What a network said of a set of images, beside the truth: what all other modules here begin with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supernet.clinical.logistic import log_sum_exp
from supernet.runtime.errors import InputError


@dataclass(frozen=True)
class Question:
    """One class against all others, over the images whose answer is known.

    Args:
        log_odds: (N,) the logarithm of the odds that the network gives the class: the larger, the surer.
        positive: (N,) whether the image is of the class.
        images: (N,) which images of the set these are.
    """

    log_odds: NDArray[np.float64]
    positive: NDArray[np.bool_]
    images: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scores:
    """The logits of a set of images, and their labels.

    Args:
        logits: (N, K) what the network gave. Not probabilities, which tie near 0 and 1.
        labels: (N,) the class of each image, 0 to K - 1: the probabilities are the softmax of the logits. Or (N, K)
            with 1 yes, 0 no and -1 unknown: they are the sigmoid of each logit.

    Raises:
        InputError: the arrays do not fit each other, or a logit is not finite.

    Example:
        >>> scores = Scores([[0.0, 2.0], [1.0, 0.0]], [1, 0])
        >>> scores.question(1).log_odds.tolist()
        [2.0, -1.0]
    """

    logits: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __init__(self, logits: ArrayLike, labels: ArrayLike) -> None:
        values, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
        if values.ndim != 2 or values.shape[1] == 0:
            raise InputError(f"logits: of shape {values.shape}; need (images, outputs)")
        if truth.dtype.kind not in "iub" or truth.shape not in (values.shape[:1], values.shape):
            raise InputError(
                f"labels: {truth.dtype} of shape {truth.shape}; need whole numbers of shape {values.shape[:1]}, or of "
                f"{values.shape} for several labels an image"
            )
        if not np.isfinite(values).all():
            raise InputError("logits: some are infinite or not a number")
        low, high = (0, values.shape[1] - 1) if truth.ndim == 1 else (-1, 1)
        if truth.size and not low <= truth.min() <= truth.max() <= high:
            raise InputError(f"labels: {truth.min()} to {truth.max()}; need to lie between {low} and {high}")
        object.__setattr__(self, "logits", values)
        object.__setattr__(self, "labels", truth.astype(np.int64))

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def several(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels.ndim == 2

    @property
    def asked(self) -> tuple[int, ...]:
        """The classes that are reported: all, but of two that exclude each other the second, the finding."""
        outputs = self.logits.shape[1]
        return (1,) if not self.several and outputs == 2 else tuple(range(outputs))

    def question(self, number: int) -> Question:
        """One class against all others.

        Args:
            number: of the class.

        Returns:
            The logarithms of its odds and the answers, without the images of which the answer is unknown.
        """
        if not self.several:
            positive = self.labels == number
            return Question(self._against_others(number), positive, np.arange(len(self), dtype=np.int64))
        known = np.flatnonzero(self.labels[:, number] >= 0)
        return Question(self.logits[known, number], self.labels[known, number] == 1, known)

    def with_logits(self, logits: NDArray[np.float64]) -> Scores:
        """The same labels with other logits (N, K), such as calibrated ones."""
        return replace(self, logits=logits)

    def _against_others(self, number: int) -> NDArray[np.float64]:
        """log p/(1 - p) of the softmax, (N,); computed from logits, so that sure answers do not tie."""
        others = np.delete(self.logits, number, axis=1)
        if others.shape[1] == 1:  # exact, where log_sum_exp would round
            return self.logits[:, number] - others[:, 0]
        return np.asarray(self.logits[:, number] - log_sum_exp(others))
