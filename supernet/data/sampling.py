"""The order in which a pass goes over images: each once, or so that all classes come alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from supernet.data.targets import most_named, presence


def class_groups(labels: Tensor) -> list[Tensor]:
    """Finds the images that show each class.

    Args:
        labels: of N images, of any kind.

    Returns:
        The places of the images of each class that has any, and those of the images that show none, where there are
        such. An image that shows several classes is in the groups of all of them.

    Example:
        >>> [places.tolist() for places in class_groups(torch.tensor([[1, 1], [0, -1], [0, 1]]))]
        [[0], [0, 2], [1]]
    """
    shown = presence(labels, most_named(labels))
    columns = [*shown.T, ~shown.any(1)]
    return [places for places in (column.nonzero().flatten() for column in columns) if len(places)]


def uniform_order(count: int, stream: torch.Generator) -> Tensor:
    """Draws an order of so many images, each of them once.

    Example:
        >>> sorted(uniform_order(4, torch.Generator()).tolist())
        [0, 1, 2, 3]
    """
    return torch.randperm(count, generator=stream)


def balanced_order(groups: Sequence[Tensor], count: int, stream: torch.Generator) -> Tensor:
    """Draws an order in which each group has the same number of places (class-aware sampling, Shen et al. 2016).

    The images of a group come alike, too: none of them comes a further time before all have come.

    Args:
        groups: the images of each class (`class_groups`).
        count: how many places there are.
        stream: of the random numbers.

    Returns:
        (count,) places of images.

    Example:
        >>> rare, frequent = torch.tensor([7]), torch.arange(6)
        >>> order = balanced_order([rare, frequent], 8, torch.Generator())
        >>> (order == 7).sum().item(), len(set(order.tolist()))
        (4, 5)
    """
    share, left = divmod(count, len(groups))
    more = set(torch.randperm(len(groups), generator=stream)[:left].tolist())
    drawn = []
    for number, places in enumerate(groups):
        wanted = share + (number in more)
        rounds = -(-wanted // len(places))
        order = torch.rand(rounds, len(places), generator=stream).argsort(1).flatten()
        drawn.append(places[order[:wanted]])
    return torch.cat(drawn)[torch.randperm(count, generator=stream)]
