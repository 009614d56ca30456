"""The order in which a pass goes over images: each once, or so that all classes come alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.data.targets import kind_of, most_named, presence


@dataclass(frozen=True)
class Groups:
    """Which images are to come alike.

    Args:
        classes: the places of the images of each class that has any. An image that shows several classes is in the
            groups of all of them.
        empty: the places of pictures without objects, which are no class: every picture shows a detector background.
    """

    classes: Sequence[Tensor]
    empty: Tensor


def class_groups(labels: Tensor) -> Groups:
    """Finds the images that show each class.

    Images of which each can have several labels, and that have none, are a class of their own.

    Args:
        labels: of N images, of any kind.

    Returns:
        The groups.

    Example:
        >>> groups = class_groups(torch.tensor([[1, 1], [0, -1], [0, 1]]))
        >>> [places.tolist() for places in groups.classes]
        [[0], [0, 2], [1]]
    """
    shown = presence(labels, most_named(labels))
    classes = [places for places in (column.nonzero().flatten() for column in shown.T) if len(places)]
    none = (~shown.any(1)).nonzero().flatten()
    if kind_of(labels) == "boxes" and classes:
        return Groups(classes, none)
    return Groups([*classes, none] if len(none) else classes, none[:0])


def uniform_order(count: int, stream: torch.Generator) -> Tensor:
    """Draws an order of so many images, each of them once.

    Example:
        >>> sorted(uniform_order(4, torch.Generator()).tolist())
        [0, 1, 2, 3]
    """
    return torch.randperm(count, generator=stream)


def balanced_order(groups: Groups, count: int, stream: torch.Generator) -> Tensor:
    """Draws an order in which each class has the same number of places (class-aware sampling, Shen et al. 2016).

    The images of a class come alike, too: none of them comes a further time before all have come. Pictures without
    objects come once at most, and have no more places than a class.

    Args:
        groups: the images of each class (`class_groups`).
        count: how many places there are.
        stream: of the random numbers.

    Returns:
        (count,) places of images.

    Example:
        >>> rare, frequent, empty = torch.tensor([7]), torch.arange(6), torch.tensor([8, 9])
        >>> order = balanced_order(Groups([rare, frequent], empty), 10, torch.Generator())
        >>> (order == 7).sum().item(), (order > 7).sum().item(), len(set(order.tolist()))
        (4, 2, 7)
    """
    few = min(len(groups.empty), count // (len(groups.classes) + 1))
    share, left = divmod(count - few, len(groups.classes))
    more = set(torch.randperm(len(groups.classes), generator=stream)[:left].tolist())
    drawn = []
    for number, places in enumerate(groups.classes):
        wanted = share + (number in more)
        rounds = -(-wanted // len(places))
        order = torch.rand(rounds, len(places), generator=stream).argsort(1).flatten()
        drawn.append(places[order[:wanted]])
    if few:
        drawn.append(groups.empty[torch.randperm(len(groups.empty), generator=stream)[:few]])
    return torch.cat(drawn)[torch.randperm(count, generator=stream)]
