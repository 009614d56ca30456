"""Search spaces: decisions, operations, choosers, and one file for each space."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import nn

from supernet.space.choosers import Chooser
from supernet.space.darts import Darts
from supernet.space.heads import Outputs
from supernet.space.mobile import Mobile
from supernet.space.nasbench201 import NasBench201


class Space(Protocol):
    """A search space: a frozen dataclass of settings with a network builder that asks a chooser."""

    name: ClassVar[str]

    def network(self, choose: Chooser, shape: tuple[int, int, int], outputs: Outputs) -> nn.Module:
        """Builds the network for images of `shape` (channels, height, width)."""
        ...


SPACES: dict[str, type[Space]] = {kind.name: kind for kind in (Darts, NasBench201, Mobile)}
"""The spaces that a model file or a genotype can name."""
