"""Draws architectures within limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random

import torch

from supernet.estimation.limits import Limits
from supernet.runtime.seeding import generator
from supernet.space.architecture import Architecture, Decision
from supernet.space.genes import Candidates

_TRIES = 20  # draws of which one has to keep the limits, before one is repaired
_REPAIR = 0x4E9A


def drawn_within(
    limits: Limits | None,
    decisions: Mapping[str, Decision],
    draw: Callable[[torch.Generator], Architecture],
    seed: int,
    *key: int,
) -> Architecture:
    """Draws until an architecture keeps the limits; where none of some draws does, the last one is repaired.

    Without limits, and where the first draw keeps them, it is the draw of the stream of `seed` and `key`.

    Args:
        limits: what architectures may cost; None: anything.
        decisions: of the supernet, by name.
        draw: generator -> an architecture.
        seed: of the draws.
        key: of this draw.

    Returns:
        The architecture.

    Raises:
        InputError: no architecture keeps the limits.

    Example:
        >>> from supernet.space.architecture import random_architecture
        >>> edges = {"edge": Decision("edge", ("none", "a"))}
        >>> drawn_within(None, edges, lambda stream: random_architecture("mine", edges, stream), 0)["edge"]
        ('a',)
    """
    drawn = draw(generator(seed, *key))
    if not limits:
        return drawn
    for number in range(_TRIES):
        if limits.fits(drawn):
            return drawn
        drawn = draw(generator(seed, *key, _REPAIR, number))
    rng = Random(generator(seed, *key, _REPAIR).initial_seed())
    return limits.repaired(drawn, rng, decisions)


def candidates_within(space: str, decisions: Mapping[str, Decision], limits: Limits | None) -> Candidates:
    """The architectures of a supernet that can be tried: each that keeps the limits.

    Args:
        space: the name of the space.
        decisions: of the supernet, by name.
        limits: what architectures may cost; None: anything.

    Returns:
        The candidates.

    Example:
        >>> candidates_within("mine", {"edge": Decision("edge", ("a", "b"))}, None).count
        2
    """
    if not limits:
        return Candidates(space, decisions)
    return Candidates(space, decisions, fits=limits.fits, repair=partial(limits.repaired, decisions=decisions))
