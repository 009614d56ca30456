"""The area under the ROC curve with DeLong's interval, average precision, and both by the bootstrap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from supernet.clinical.intervals import LEVEL, Interval, of_area, of_quantiles
from supernet.clinical.logistic import normal_quantile
from supernet.clinical.scores import Question, Scores

Floats = NDArray[np.float64]
REPLICATES = 2000
_NUMBERS = 1 << 21  # drawn at once: 16 MB


def auroc(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    """The area under the ROC curve: how often an image of the class has the higher score of two; ties count half.

    This is the statistic of Mann and Whitney (1947), exact whatever the scores are.

    Args:
        scores: (N,) the larger, the more likely of the class.
        positive: (N,) whether the image is of the class.

    Returns:
        The area; None where all images are of one kind.

    Example:
        >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    over = _midranks(scores)[positive].sum() - positives * (positives + 1) / 2
    return float(over / (positives * negatives))


def influences(scores: Floats, positive: NDArray[np.bool_]) -> Floats:
    """How much each image moves the area under the curve: their squares sum to DeLong's variance of it.

    DeLong et al. (1988) split the area into one share for each image (its placement among those of the other kind),
    found here by ranks (Sun and Xu 2014). Sums of influences over classes or networks that saw the same images have the
    variance of the sum of the areas, because each image appears once.

    Args:
        scores: (N,) the larger, the more likely of the class.
        positive: (N,) whether the image is of the class; at least two are, and two are not.

    Returns:
        (N,) numbers whose sum is 0.
    """
    ranks, area = _midranks(scores), auroc(scores, positive) or 0.0
    moved = np.zeros(len(scores))
    for own, sign in ((positive, 1.0), (~positive, -1.0)):
        count, others = int(own.sum()), int((~own).sum())
        beaten = (ranks[own] - _midranks(scores[own])) / others  # the share of the other kind that lies below
        placement = beaten if sign > 0 else 1.0 - beaten
        with np.errstate(divide="ignore", invalid="ignore"):  # of a single image nothing is known
            moved[own] = (placement - area) / np.sqrt(np.float64(count) * (count - 1))
    return moved


def delong(scores: Floats, positive: NDArray[np.bool_], level: float = LEVEL) -> Interval | None:
    """The area under the ROC curve with an interval from DeLong's variance (1988), on the scale of log odds.

    Args:
        scores: (N,) the larger, the more likely of the class.
        positive: (N,) whether the image is of the class.
        level: of confidence, in (0, 1).

    Returns:
        The area and its interval; None where all images are of one kind.

    Example:
        >>> print(delong(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])))
        .750 (.069 to .992)
    """
    area = auroc(scores, positive)
    if area is None:
        return None
    variance = float(np.square(influences(scores, positive)).sum())
    positives = int(positive.sum())
    return of_area(area, variance, positives, len(positive) - positives, level)


def macro_auroc(scores: Scores, classes: Sequence[int], level: float = LEVEL) -> Interval | None:
    """The mean of the classes' areas. Its interval knows that one image counts in several classes.

    Args:
        scores: of a set of images.
        classes: the numbers of those over which the mean is taken; those whose area is not defined are left out.
        level: of confidence, in (0, 1).

    Returns:
        The mean and its interval; None where no class has an area.
    """
    questions = [q for q in map(scores.question, classes) if 0 < q.positive.sum() < len(q.positive)]
    if not questions:
        return None
    mean, moved = _mean_area(questions), _moved(scores, questions)
    rarest = min(questions, key=lambda q: min(q.positive.sum(), (~q.positive).sum()))
    positives = int(rarest.positive.sum())
    return of_area(mean, float(np.square(moved).sum()), positives, len(rarest.positive) - positives, level)


def difference(one: Scores, other: Scores, classes: Sequence[int], level: float = LEVEL) -> Interval | None:
    """By how much the (mean) area of one network exceeds another's on the same images (DeLong's paired comparison).

    Args:
        one: the scores of a network.
        other: those of the other network for the same images, in the same order.
        classes: the numbers of the classes over which the mean is taken.
        level: of confidence, in (0, 1).

    Returns:
        The difference and its interval, of the normal distribution; None where it is not defined.
    """
    defined = [c for c in classes if 0 < one.question(c).positive.sum() < len(one.question(c).positive)]
    if not defined:
        return None
    mine, yours = ([each.question(c) for c in defined] for each in (one, other))
    gain = _mean_area(mine) - _mean_area(yours)
    deviation = float(np.sqrt(np.square(_moved(one, mine) - _moved(other, yours)).sum()))
    half = normal_quantile(level) * deviation
    return Interval(gain, gain - half, gain + half) if np.isfinite(half) else None


def average_precision(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    """The sum of the precisions at all thresholds, each weighted by the recall that it adds; ties are one threshold.

    Args:
        scores: (N,) the larger, the more likely of the class.
        positive: (N,) whether the image is of the class.

    Returns:
        It, in (0, 1]; None where no image is of the class.

    Example:
        >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])), 4)
        0.8333
    """
    if not positive.any():
        return None
    groups, count = _groups(scores)
    own, others = (np.bincount(groups[kind], minlength=count)[None] for kind in (positive, ~positive))
    return float(_precisions(own, others)[0])


def bootstrap(
    scores: Floats, positive: NDArray[np.bool_], *, replicates: int = REPLICATES, seed: int = 0, level: float = LEVEL
) -> tuple[Interval, Interval] | None:
    """Area under the ROC curve and average precision with intervals of a stratified bootstrap.

    Images of the class and all others are drawn again separately, so that each replicate has as many of both.

    Args:
        scores: (N,) the larger, the more likely of the class.
        positive: (N,) whether the image is of the class.
        replicates: how often.
        seed: of the draws.
        level: of confidence, in (0, 1).

    Returns:
        Both, with the quantiles of their replicates; None where all images are of one kind.
    """
    area, precision = auroc(scores, positive), average_precision(scores, positive)
    if area is None or precision is None:
        return None
    areas, precisions = [], []
    for own, others in _resampled(scores, positive, replicates, np.random.default_rng(seed)):
        below = others.cumsum(1) - others / 2
        areas.append((own * below).sum(1) / (own[0].sum() * others[0].sum()))
        precisions.append(_precisions(own, others))
    of_areas, of_precisions = np.concatenate(areas), np.concatenate(precisions)
    return of_quantiles(area, of_areas, level), of_quantiles(precision, of_precisions, level)


def _mean_area(questions: Sequence[Question]) -> float:
    return float(np.mean([auroc(q.log_odds, q.positive) or 0.0 for q in questions]))


def _moved(scores: Scores, questions: Sequence[Question]) -> Floats:
    """(N,) how much each image of the set moves the mean of the areas."""
    moved = np.zeros(len(scores))
    for question in questions:
        moved[question.images] += influences(question.log_odds, question.positive) / len(questions)
    return moved


def _groups(scores: Floats) -> tuple[NDArray[np.intp], int]:
    """(N,) the number of each score among all different ones, from the lowest, and how many are different."""
    values, groups = np.unique(scores, return_inverse=True)
    return groups.reshape(-1), len(values)


def _midranks(scores: Floats) -> Floats:
    """(N,) ranks from 1 on; equal scores share the mean of theirs."""
    groups, _ = _groups(scores)
    counts = np.bincount(groups)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(ranks[groups])


def _precisions(own: NDArray[np.int64], others: NDArray[np.int64]) -> Floats:
    """(R,) average precisions of (R, G) images of the class and others with each of G scores, the lowest first."""
    own, others = own[:, ::-1], others[:, ::-1]
    found, named = own.cumsum(1), (own + others).cumsum(1)
    return np.asarray((own * found / np.maximum(named, 1)).sum(1) / own.sum(1))


def _resampled(
    scores: Floats, positive: NDArray[np.bool_], replicates: int, draws: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Some replicates at a time: (R, G) images of the class, and others, with each of the G different scores."""
    groups, count = _groups(scores)
    at_once = max(1, _NUMBERS // max(len(scores), 1))
    for begin in range(0, replicates, at_once):
        rows = min(at_once, replicates - begin)
        drawn = []
        for kind in (groups[positive], groups[~positive]):
            again = kind[draws.integers(len(kind), size=(rows, len(kind)))] + np.arange(rows)[:, None] * count
            drawn.append(np.bincount(again.reshape(-1), minlength=rows * count).reshape(rows, count))
        yield drawn[0], drawn[1]
