"""Splits sets whose images show several classes, or belong together, so that both sides show every class alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.runtime.seeding import generator

_STREAM = 0x5EC4


def iterative_split(
    shown: Tensor, fraction: float, seed: int, groups: Tensor | None = None, *, both: bool = True
) -> Tensor:
    """Deals images out to two sides, those of the rarest class first, each to the side that lacks its class most.

    Without groups the first side has round(fraction * N) images; one more or fewer only where a class would be on one
    side alone. With groups it has about as many. A class that two groups or more show is on both sides, unless other
    classes of these groups forbid that.

    Args:
        shown: (N, classes) bool, which classes each image shows; none and several are allowed.
        fraction: the share of the first side, between 0 and 1.
        seed: of the random choice.
        groups: (N,) int64, one number for all images that belong on one side; None: each stands for itself.
        both: whether a class is brought to both sides at the cost of the first side's size.

    Returns:
        (N,) bool, whether an image is on the first side.

    Source: Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data" (ECML PKDD), Algorithm 1.
    Images that show nothing are a class here, too, and groups are dealt out as wholes, large ones first.

    Example:
        >>> shown = torch.tensor([[True, False], [True, True]] * 10)
        >>> first = iterative_split(shown, 0.5, seed=0)
        >>> int(first.sum()), shown[first].sum(0).tolist()
        (10, [10, 5])
    """
    members = torch.arange(len(shown)) if groups is None else groups.unique(return_inverse=True)[1]
    units = _Units.of(torch.cat((shown, ~shown.any(1, keepdim=True)), 1), members, seed)
    side = _dealt(units, min(max(int(fraction * len(shown) + 0.5), 1), len(shown) - 1), len(shown))
    if both:
        _repair(side, units)
    return (torch.tensor(side) == 0)[members]


@dataclass(frozen=True)
class _Units:
    """What is dealt out as wholes: groups of images, or single images.

    Args:
        sizes: how many images each unit has.
        shows: for each unit how many of its images show which class.
        of_class: for each class the units that show it, large ones first, and otherwise in a random order.
    """

    sizes: list[int]
    shows: list[dict[int, int]]
    of_class: list[list[int]]

    @classmethod
    def of(cls, shown: Tensor, members: Tensor, seed: int) -> _Units:
        sizes = torch.bincount(members)
        counts = torch.zeros(len(sizes), shown.shape[1], dtype=torch.int64).index_add_(0, members, shown.long())
        order = torch.randperm(len(sizes), generator=generator(seed, _STREAM))
        order = order[torch.argsort(sizes[order], descending=True, stable=True)]
        shows: list[dict[int, int]] = [{} for _ in sizes]
        places = counts.nonzero()
        for (unit, label), count in zip(places.tolist(), counts[tuple(places.T)].tolist(), strict=True):
            shows[unit][label] = count
        return cls(sizes.tolist(), shows, [order[column[order] > 0].tolist() for column in counts.T])


def _dealt(units: _Units, first: int, total: int) -> list[int]:
    """The side of each unit, 0 or 1; `first` images of `total` belong on side 0."""
    left = [sum(units.shows[unit][label] for unit in those) for label, those in enumerate(units.of_class)]
    lacking = [[first / total * count for count in left], [(1 - first / total) * count for count in left]]
    room, side = [first, total - first], [-1] * len(units.sizes)
    while rest := [(count, label) for label, count in enumerate(left) if count]:
        rarest = min(rest)[1]
        for unit in units.of_class[rarest]:
            if side[unit] >= 0:
                continue
            full = [2 * room[s] < units.sizes[unit] for s in (0, 1)]
            wanted = [(not full[s], lacking[s][rarest], room[s]) for s in (0, 1)]
            chosen = side[unit] = int(wanted[1] > wanted[0])
            room[chosen] -= units.sizes[unit]
            for label, count in units.shows[unit].items():
                lacking[chosen][label] -= count
                left[label] -= count
    return side


def _repair(side: list[int], units: _Units) -> None:
    """Moves the smallest possible unit where a class that several units show is on one side alone."""
    showing = [[sum(side[unit] == s for unit in those) for those in units.of_class] for s in (0, 1)]
    for label, those in enumerate(units.of_class):
        if len(those) < 2 or min(showing[0][label], showing[1][label]):
            continue
        full = int(showing[1][label] > 0)
        free = [u for u in reversed(those) if all(showing[full][other] > 1 for other in units.shows[u])]
        if free:
            side[free[0]] = 1 - full
            for other in units.shows[free[0]]:
                showing[full][other] -= 1
                showing[1 - full][other] += 1
