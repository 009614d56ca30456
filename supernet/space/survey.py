"""Lists the decisions of a space without building modules: a chooser records what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from torch import nn

from supernet.runtime.seeding import generator
from supernet.space.architecture import Architecture, Decision, random_architecture
from supernet.space.choices import NumberChoice
from supernet.space.choosers import NO_OPERATIONS, Undecided
from supernet.space.genes import Candidates
from supernet.space.heads import Outputs
from supernet.space.operations import OPERATIONS, Operation, Site
from supernet.space.supernet import Supernet

_RANDOM_STREAM = 0x4A4D


@dataclass(frozen=True)
class _Survey:
    """A chooser that builds no operations and remembers which were asked for on how many channels."""

    channels: dict[str, set[int]] = field(default_factory=dict)
    searching: bool = True

    def operation(self, decision: Decision, site: Site, own: Mapping[str, Operation] = NO_OPERATIONS) -> nn.Module:
        self.channels.setdefault(decision.name, set()).add(site.channels_in)
        return nn.Identity()

    def inputs(self, decision: Decision) -> tuple[tuple[str, ...], nn.Module]:
        return decision.options, nn.Identity()

    def number(self, decision: Decision) -> tuple[tuple[str, ...], NumberChoice | None]:
        return decision.options, NumberChoice(decision)


def random_cell(
    space: Any,
    seed: int = 0,
    number: int = 0,
    *,
    factories: Mapping[str, Operation] | None = None,
    shape: tuple[int, int, int] = (3, 32, 32),
    outputs: Outputs = 10,
) -> Architecture:
    """Draws an architecture from a space, to compare with what a search finds.

    Args:
        space: the space, such as `Darts()`.
        seed: of the draw.
        number: cells of one seed are numbered, from 0.
        factories: what builds each operation, by name; None: the library's own.
        shape: of an image: channels, height, width; spaces may ask other questions for other images.
        outputs: how many classes, or the head that makes something else of the maps.

    Returns:
        The architecture.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201, to_string
        >>> to_string(random_cell(NasBench201(nodes=1), seed=1))
        '|none~0|'
    """
    decisions = decisions_of(space, factories=factories, shape=shape, outputs=outputs)
    return random_architecture(space.name, decisions, generator(seed, _RANDOM_STREAM, number))


def decisions_of(
    space: Any,
    *,
    factories: Mapping[str, Operation] | None = None,
    shape: tuple[int, int, int] = (3, 32, 32),
    outputs: Outputs = 10,
) -> dict[str, Decision]:
    """Lists all decisions of a space, without making weights.

    Args:
        space: the space, such as `Darts()`.
        factories: what builds each operation, by name; None: the library's own.
        shape: of an image: channels, height, width; spaces may ask other questions for other images.
        outputs: how many classes, or the head that makes something else of the maps.

    Returns:
        The decisions by name.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201
        >>> sorted(decisions_of(NasBench201(nodes=1)))
        ['cell/1', 'cell/1/0']
    """
    with torch.device("meta"):
        return Supernet(space.network(Undecided(factories or OPERATIONS), shape, outputs)).decisions


def candidates_of(
    space: Any,
    *,
    decisions: Mapping[str, Decision] | None = None,
    fits: Callable[[Architecture], bool] | None = None,
    repair: Callable[[Architecture, Random], Architecture] | None = None,
) -> Candidates:
    """The architectures of a space that can be tried; those that compute the same count as one.

    Args:
        space: the space, such as `Darts()`. Where it has a method `canonical`, from an architecture to a form
            that equal ones share, that says which compute the same.
        decisions: of a supernet of it; None: all of the space.
        fits: whether an architecture keeps the limits; None: all do.
        repair: makes one keep them; None: those that do not are thrown away.

    Returns:
        The candidates.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201
        >>> candidates_of(NasBench201()).count
        15625
    """
    asked = decisions_of(space) if decisions is None else decisions
    return Candidates(space.name, asked, canonical=getattr(space, "canonical", None), fits=fits, repair=repair)


def survey(space: Any, shape: tuple[int, int, int], outputs: Outputs) -> dict[str, set[int]]:
    """Lists the operations that a space asks for, without making weights.

    Args:
        space: whose network is walked through.
        shape: of an image: channels, height, width.
        outputs: how many classes, or the head that makes something else of the maps.

    Returns:
        By the name of each operation decision, on how many channels it is asked.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201
        >>> asked = survey(NasBench201(channels=4, cells=1, stages=2, nodes=1), (3, 8, 8), outputs=10)
        >>> {name: sorted(channels) for name, channels in asked.items()}
        {'cell/1/0': [4, 8]}
    """
    asked = _Survey()
    with torch.device("meta"):
        space.network(asked, shape, outputs)
    return asked.channels


def divisor(most: int, asked: Mapping[str, set[int]]) -> int:
    """Finds the largest divisor of all numbers of channels that leaves two channels or more.

    Args:
        most: the largest that it may be.
        asked: the channels of each decision, as `survey` finds them.

    Returns:
        The divisor; 1 where there is no other.

    Example:
        >>> divisor(4, {"a": {16, 32}}), divisor(4, {"a": {6, 12}}), divisor(4, {"a": {4, 5}})
        (4, 3, 1)
    """
    channels = set().union(*asked.values())
    fitting = (d for d in range(most, 1, -1) if all(c % d == 0 and c // d >= 2 for c in channels))
    return next(fitting, 1)
