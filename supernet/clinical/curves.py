"""The points of ROC, precision-recall and reliability curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 15


@dataclass(frozen=True, eq=False)
class Curve:
    """A line through points, from the left to the right.

    Args:
        across: (P,) the coordinates from the left, in [0, 1].
        up: (P,) the coordinates from below, in [0, 1].
    """

    across: Floats
    up: Floats


def roc(scores: Floats, positive: NDArray[np.bool_]) -> Curve | None:
    """Sensitivity over 1 - specificity, with a point for each threshold.

    Args:
        scores: (N,) the larger, the more likely of the class.
        positive: (N,) whether the image is of the class.

    Returns:
        The curve from (0, 0) to (1, 1); None where all images are of one kind.

    Example:
        >>> curve = roc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        >>> curve.across.tolist(), curve.up.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    if positive.all() or not positive.any():
        return None
    found, missed = _named(scores, positive)
    across, up = (np.concatenate(([0.0], counts / counts[-1])) for counts in (missed, found))
    return Curve(across, up)


def precision_recall(scores: Floats, positive: NDArray[np.bool_]) -> Curve | None:
    """Precision over recall, with a point for each threshold. The area of its steps is the average precision.

    Args:
        scores: (N,) the larger, the more likely of the class.
        positive: (N,) whether the image is of the class.

    Returns:
        The curve, whose first point has the recall 0 and the precision 1; None where no image is of the class.
    """
    if not positive.any():
        return None
    found, missed = _named(scores, positive)
    across, up = found / found[-1], found / (found + missed)
    return Curve(np.concatenate(([0.0], across)), np.concatenate(([1.0], up)))


@dataclass(frozen=True, eq=False)
class Reliability:
    """Probabilities beside what came true, in bins of equal width that have images.

    Args:
        said: (B,) the mean probability of each bin.
        true: (B,) the share of its images that are of the class.
        images: (B,) how many it has.
    """

    said: Floats
    true: Floats
    images: NDArray[np.int64]


def reliability(probabilities: Floats, positive: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Sorts images into bins by the probability that the network gave the class.

    Args:
        probabilities: (N,) of the class.
        positive: (N,) whether the image is of the class.
        bins: how many of equal width, each with its upper end.

    Returns:
        The bins that have images.
    """
    number = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], probabilities, side="left")
    images = np.bincount(number, minlength=bins)
    held = images > 0
    said, true = (np.bincount(number, w, minlength=bins)[held] / images[held] for w in (probabilities, positive * 1.0))
    return Reliability(said, true, images[held].astype(np.int64))


def thinned(curve: Curve, most: int) -> Curve:
    """Fewer points of the same line, for a picture.

    Args:
        curve: its points.
        most: how many are left at most, but for the two ends.

    Returns:
        The points without those that lie on a straight line between their neighbours; of more than `most`, some that
        are spread evenly along the line.
    """
    across, up = curve.across, curve.up
    if len(across) > 2:
        first, second = np.diff(across), np.diff(up)
        turns = np.abs(first[:-1] * second[1:] - first[1:] * second[:-1]) > 1e-15
        kept = np.concatenate(([True], turns, [True]))
        across, up = across[kept], up[kept]
    if len(across) > most + 2:
        along = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(across)) + np.abs(np.diff(up)))))
        chosen = np.unique(np.searchsorted(along, np.linspace(0.0, along[-1], most)).clip(max=len(along) - 1))
        chosen = np.unique(np.concatenate(([0], chosen, [len(along) - 1])))
        across, up = across[chosen], up[chosen]
    return Curve(across, up)


def _named(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(T,) each: images of the class, and others, at or above each threshold, the highest threshold first."""
    values, groups = np.unique(scores, return_inverse=True)
    groups = groups.reshape(-1)
    found, missed = (np.bincount(groups[k], minlength=len(values))[::-1].cumsum() for k in (positive, ~positive))
    return found.astype(np.float64), missed.astype(np.float64)
