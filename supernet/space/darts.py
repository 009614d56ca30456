"""The DARTS space: normal cells and two reduction cells, stacked (Liu, Simonyan and Yang 2019, sections 2.1 and 3.1).

A cell takes the outputs of the two cells before it (states 0 and 1) and computes `nodes` further states; each is
the sum of what comes over its edges from earlier states. Its output is the concatenation of all nodes. Reduction
cells, at one and two thirds of the depth, halve height and width and double the channels. All normal cells share
their decisions, and so do both reduction cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.space.cells import Cell
from supernet.space.choosers import Chooser
from supernet.space.heads import Feature, Outputs
from supernet.space.operations import FactorizedReduce, Site, relu_conv_norm

DARTS_OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


@dataclass(frozen=True)
class Darts:
    """The settings of a DARTS network, and its builder.

    Args:
        channels: of the first cells (36 in the paper's CIFAR-10 evaluation, 16 in its search), two or more.
        cells: how many are stacked.
        nodes: states that a cell computes, two or more.
        operations: the candidates of every edge.
        table: single edges, such as "normal/2/0", and the candidates that they have instead.
        stem: "cifar" keeps the image size, "imagenet" divides it by eight.
        stem_multiplier: the CIFAR stem has `stem_multiplier` times `channels` channels.
        auxiliary: a second classifier at two thirds of the depth, for training only.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> from supernet.space.choosers import Undecided
        >>> network = Darts(channels=4, cells=3, nodes=2).network(Undecided(), (1, 8, 8), outputs=10)
        >>> len(network.cells)
        3
    """

    channels: int = 16
    cells: int = 8
    nodes: int = 4
    operations: tuple[str, ...] = DARTS_OPERATIONS
    table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stem: Literal["cifar", "imagenet"] = "cifar"
    stem_multiplier: int = 3
    auxiliary: bool = False

    name: ClassVar[str] = "darts"
    kinds: ClassVar[tuple[str, ...]] = ("normal", "reduce")

    def __post_init__(self) -> None:
        least = {"channels": 2, "cells": 1, "nodes": 2, "stem_multiplier": 1}
        for setting, minimum in least.items():
            if (value := getattr(self, setting)) < minimum:
                raise InputError(f"{setting}={value}: needs to be at least {minimum}")
        if self.stem not in ("cifar", "imagenet"):
            raise InputError(f"stem={self.stem}: use cifar (small images) or imagenet (large ones)")
        of_edges = {f"table.{edge}": options for edge, options in self.table.items()}
        for place, options in {"operations": self.operations, **of_edges}.items():
            if len(set(options)) != len(options) or not set(options) - {"none"}:
                raise InputError(f"{place}={list(options)}: needs different operations, and one besides 'none'")

    def operations_of(self, edge: str) -> tuple[str, ...]:
        """The candidate operations of one edge.

        Args:
            edge: such as "normal/2/0".

        Returns:
            Their names.
        """
        return tuple(self.table.get(edge, self.operations))

    def resized(self, **sizes: Any) -> Darts:
        """The same space in another size, such as that of the final network.

        Args:
            sizes: settings of the space by name; those that are not named stay.

        Returns:
            The other space.

        Example:
            >>> Darts(channels=8).resized(channels=16, cells=5).cells
            5
        """
        return replace(self, **sizes)

    def network(self, choose: Chooser, shape: tuple[int, int, int], outputs: Outputs) -> CellNetwork:
        """Builds the network.

        Args:
            choose: answers at each open place.
            shape: of an image: channels, height, width.
            outputs: how many classes, or the head that makes something else of the maps.

        Returns:
            The network, a supernet's inside or a plain one, as `choose` answers.

        Raises:
            InputError: `choose` has no answer.
        """
        return CellNetwork(self, choose, shape, outputs)


class QuarterMeans(nn.Module):
    """(batch, channels, height, width) -> (batch, channels, 2, 2): the means of the quarters of a picture.

    An odd middle row or column belongs to both sides: what `nn.AdaptiveAvgPool2d(2)` computes, whose gradient on a GPU
    is not the same every time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The windows of plain pooling lie so, too; of a side of one pixel both halves are that pixel."""
        height, width = x.shape[2:]
        size, stride = (-(-height // 2), -(-width // 2)), (max(1, height // 2), max(1, width // 2))
        return nn.functional.avg_pool2d(x, size, stride).expand(-1, -1, 2, 2)


class AuxiliaryHead(nn.Module):
    """The second classifier at two thirds of the depth (Szegedy et al. 2015, as DARTS has it).

    Features of 8x8 (32x32 images, CIFAR stem) or 7x7 (224x224, ImageNet stem) are pooled to 2x2 by a 5x5 window as
    published, other sizes by adaptive pooling. The ImageNet head has no second norm, as in the original's code.

    Args:
        channels: of the features that come in.
        classes: how many classes there are.
        size: the (height, width) of the features, in pixels.
        stem: "cifar" or "imagenet", the stem of the network.

    Example:
        >>> import torch
        >>> head = AuxiliaryHead(channels=4, classes=10, size=(8, 8), stem="cifar")
        >>> head(torch.zeros(2, 4, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, channels: int, classes: int, size: tuple[int, int], stem: str) -> None:
        super().__init__()
        stride, native = (3, (8, 8)) if stem == "cifar" else (2, (7, 7))
        published = nn.AvgPool2d(5, stride, count_include_pad=False)
        pool: nn.Module = published if size == native else QuarterMeans()
        norm: list[nn.Module] = [nn.BatchNorm2d(768)] if stem == "cifar" else []
        self.features = nn.Sequential(
            nn.ReLU(),
            pool,
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *norm,
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps features (batch, channels, height, width) to logits (batch, classes)."""
        return self.classifier(self.features(x).flatten(1))


def _cifar_stem(images: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(images, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))


def _imagenet_stem(images: int, channels: int) -> tuple[nn.Sequential, nn.Sequential]:
    half = channels // 2
    first = nn.Sequential(
        nn.Conv2d(images, half, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        nn.Conv2d(half, channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )
    second = nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )
    return first, second


def _cell(space: Darts, choose: Chooser, site: Site, inputs: Sequence[nn.Module]) -> Cell:
    """A normal cell at `site`, or a reduction cell where its stride is 2: the edges from its inputs have it."""

    def place(edge: str, source: int) -> tuple[Sequence[str], Site]:
        return space.operations_of(edge), site if source < len(inputs) else replace(site, stride=1)

    reduction = site.stride == 2
    kind = "reduce" if reduction else "normal"
    return Cell(kind, choose, inputs, space.nodes, place, keep=2, reduction=reduction)


class CellNetwork(nn.Module):
    """Stem, cells, global pooling, linear classifier: the search network and the final one alike.

    `Darts.network` builds it. A head takes the place of pooling and classifier. It gets the states before each
    reduction cell and the last one: with the ImageNet stem, of strides 8, 16 and 32.

    Args:
        space: the settings of the network.
        choose: answers at each open place; where it searches, batch norms of the cells do not learn scale and shift.
        shape: the (channels, height, width) of an image.
        outputs: how many classes, or the head that makes something else of the maps.

    Raises:
        InputError: `choose` has no answer, or a head is to have an auxiliary classifier beside it.

    Example:
        >>> import torch
        >>> from supernet import published
        >>> from supernet.space.choosers import Decided
        >>> space = Darts(channels=4, cells=3, auxiliary=True)
        >>> network = CellNetwork(space, Decided(published("darts_v2")), (3, 16, 16), outputs=10)
        >>> [logits.shape for logits in network(torch.zeros(2, 3, 16, 16))]
        [torch.Size([2, 10]), torch.Size([2, 10])]
        >>> network.eval()(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """

    def __init__(self, space: Darts, choose: Chooser, shape: tuple[int, int, int], outputs: Outputs) -> None:
        super().__init__()
        if space.auxiliary and not isinstance(outputs, int):
            raise InputError("auxiliary=True: is a second classifier, and this network ends in a head; use False")
        channels, height, width = shape
        if space.stem == "cifar":
            self.stem: nn.Module = _cifar_stem(channels, space.stem_multiplier * space.channels)
            self.stem1: nn.Module = nn.Identity()
            before_last = last = space.stem_multiplier * space.channels
        else:
            self.stem, self.stem1 = _imagenet_stem(channels, space.channels)
            before_last = last = space.channels
        shrunk = 1 if space.stem == "cifar" else 8  # how much smaller than the image the states are
        halved_before = space.stem == "imagenet"
        current, affine = space.channels, not choose.searching
        self.cells = nn.ModuleList()
        self.auxiliary: AuxiliaryHead | None = None
        self.auxiliary_after = 2 * space.cells // 3
        features = []
        for index in range(space.cells):
            reduction = index in (space.cells // 3, 2 * space.cells // 3)
            features += [Feature(last, shrunk)] if reduction else []
            current, shrunk = (current * 2, shrunk * 2) if reduction else (current, shrunk)
            resize = FactorizedReduce if halved_before else relu_conv_norm
            inputs = (resize(before_last, current, affine), relu_conv_norm(last, current, affine))
            site = Site(current, current, 2 if reduction else 1, affine, pool_norm=choose.searching)
            cell = _cell(space, choose, site, inputs)
            self.cells.append(cell)
            before_last, last, halved_before = last, len(cell.output) * current, reduction
            if space.auxiliary and index == self.auxiliary_after and isinstance(outputs, int):
                size = (-(-height // shrunk), -(-width // shrunk))
                self.auxiliary = AuxiliaryHead(last, outputs, size, space.stem)
        self.classifier = nn.Linear(last, outputs) if isinstance(outputs, int) else None
        self.prediction = None if isinstance(outputs, int) else outputs.build([*features, Feature(last, shrunk)])

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Computes the logits of a batch of images.

        Args:
            images: (batch, channels, height, width).

        Returns:
            Logits (batch, classes); with an auxiliary head in training mode, (logits, auxiliary logits). Where the
            network ends in a head, what that gives.
        """
        before_last = self.stem(images)
        last = self.stem1(before_last)
        auxiliary = None
        maps = []
        for index, cell in enumerate(self.cells):
            if self.prediction is not None and cell.reduction:
                maps.append(last)
            before_last, last = last, cell(before_last, last)
            if self.auxiliary is not None and self.training and index == self.auxiliary_after:
                auxiliary = self.auxiliary(last)
        if self.prediction is not None:
            found: Tensor = self.prediction(*maps, last)
            return found
        assert self.classifier is not None
        logits = self.classifier(last.mean(dim=(2, 3)))
        return logits if auxiliary is None else (logits, auxiliary)
