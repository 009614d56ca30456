"""What a network ends in: a linear classifier, or a head of a task's own on the maps of several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn


@dataclass(frozen=True)
class Feature:
    """The maps at the end of a stage of a network, (batch, channels, height / stride, width / stride).

    Args:
        channels: how many maps there are.
        stride: pixels of the image between two places of a map.
    """

    channels: int
    stride: int


class Head(Protocol):
    """Settings from which the end of a network is built, a frozen dataclass, such as those of a detector."""

    def build(self, features: Sequence[Feature]) -> nn.Module:
        """Builds the head.

        Args:
            features: what the network gives, the finest first.

        Returns:
            A module that is called with the maps, an argument for each feature, and gives one tensor (batch, ...).
        """
        ...


Outputs = int | Head
"""What a network gives: so many logits, by a linear classifier on the mean of the last maps, or what a head makes."""
