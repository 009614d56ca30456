"""What a space asks, found out without building anything: a chooser that only takes notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from supernet.space.architecture import Decision
from supernet.space.operations import Site


@dataclass(frozen=True)
class _Survey:
    """A chooser that builds no operations and remembers which were asked for on how many channels."""

    channels: dict[str, set[int]] = field(default_factory=dict)
    searching: bool = True

    def operation(self, decision: Decision, site: Site) -> nn.Module:
        self.channels.setdefault(decision.name, set()).add(site.channels_in)
        return nn.Identity()

    def inputs(self, decision: Decision) -> tuple[tuple[str, ...], nn.Module]:
        return decision.options, nn.Identity()


def survey(space: Any, shape: tuple[int, int, int], classes: int) -> dict[str, set[int]]:
    """The names of the operation decisions of a space, and on how many channels each is asked."""
    asked = _Survey()
    with torch.device("meta"):
        space.network(asked, shape, classes)
    return asked.channels


def divisor(most: int, asked: Mapping[str, set[int]]) -> int:
    """The largest divisor of all numbers of channels, `most` at most, that leaves two channels or more; else 1."""
    channels = set().union(*asked.values())
    fitting = (d for d in range(most, 1, -1) if all(c % d == 0 and c // d >= 2 for c in channels))
    return next(fitting, 1)
