"""The NAS-Bench-201 space: one cell with an operation on every edge, in a fixed network (Dong and Yang 2020).

State 0 is the cell's input, each further state is the sum of what comes over the edges from all earlier ones, and
the last state is the output. Every edge has an operation and "none" is one of them: 5 ** 6 = 15,625 cells. The network
is a stem, stages of equal cells between which a residual block halves height and width and doubles the channels, and a
classifier. With fewer nodes, operations and stages it is a space that can be trained through.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.architecture import Architecture, edge_name
from supernet.space.cells import Cell
from supernet.space.choosers import Chooser
from supernet.space.heads import Feature, Outputs
from supernet.space.operations import Site

NASBENCH201_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_KIND = "cell"
_TERM = re.compile(r"([\w.-]+)~([0-9]{1,3})", re.ASCII)
_NODE = r"\|(?:\s*[\w.-]+~[0-9]+\s*\|)+"
_CELL = re.compile(rf"{_NODE}(?:\s*\+\s*{_NODE})*", re.ASCII)
_STRUCTURE = re.compile(r"Structure\([0-9]{1,3} nodes with (.*)\)", re.DOTALL)
_INDICES = re.compile(r"[(\[]?\s*[0-9](\s*,\s*[0-9])+\s*[)\]]?")
_MOST_NODES = 64


@dataclass(frozen=True)
class NasBench201:
    """The settings of a NAS-Bench-201 network, and its builder; the defaults are the benchmark's.

    In the search as in the end a stage's residual block, the stem and the last norm learn scale and shift; the norms of
    the cells do so in the end only.

    Args:
        channels: of the first stage.
        cells: of each stage.
        stages: how many; from one to the next the channels double.
        nodes: states that the cell computes.
        operations: the candidates of every edge.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> len(list(NasBench201(nodes=2).architectures()))
        125
    """

    channels: int = 16
    cells: int = 5
    stages: int = 3
    nodes: int = 3
    operations: tuple[str, ...] = NASBENCH201_OPERATIONS

    name: ClassVar[str] = "nasbench201"

    def __post_init__(self) -> None:
        for setting in ("channels", "cells", "stages", "nodes"):
            if (value := getattr(self, setting)) < 1:
                raise InputError(f"{setting}={value}: needs to be at least 1")
        if len(set(self.operations)) != len(self.operations) or not self.operations:
            raise InputError(f"operations={list(self.operations)}: needs different operations")

    def resized(self, **sizes: Any) -> NasBench201:
        """The same space in another size, such as that of the final network.

        Args:
            sizes: settings of the space by name; those that are not named stay.

        Returns:
            The other space.

        Example:
            >>> NasBench201(channels=8).resized(channels=16, cells=5).cells
            5
        """
        return replace(self, **sizes)

    def network(self, choose: Chooser, shape: tuple[int, int, int], outputs: Outputs) -> StagedNetwork:
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
        return StagedNetwork(self, choose, shape[0], outputs)

    def canonical(self, architecture: Architecture) -> str:
        """The form that an architecture has in common with those that compute the same (`canonical` of this module)."""
        return canonical(architecture)

    def architectures(self) -> Iterator[Architecture]:
        """All architectures of the space; the first node's operations change slowest."""
        edges = list(_edges(self.nodes))
        for operations in itertools.product(self.operations, repeat=len(edges)):
            yield _architecture(dict(zip(edges, operations, strict=True)))


def _norm_conv(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    return [
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
    ]


class ResidualBlock(nn.Module):
    """Halves height and width (rounded up): two 3x3 convolutions, and beside them a mean and a 1x1 convolution.

    Args:
        channels_in: of what comes in.
        channels_out: of what goes out.

    Example:
        >>> import torch
        >>> ResidualBlock(4, 8)(torch.zeros(2, 4, 7, 7)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        first, second = _norm_conv(channels_in, channels_out, 2), _norm_conv(channels_out, channels_out, 1)
        self.convolutions = nn.Sequential(*first, *second)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(channels_in, channels_out, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels_in, height, width) to (batch, channels_out, height / 2, width / 2)."""
        return self.shortcut(x) + self.convolutions(x)


class StagedNetwork(nn.Module):
    """Stem, stages of cells with residual blocks between them, global pooling, linear classifier.

    `NasBench201.network` builds it. A head takes the place of pooling and classifier; it gets the states before each
    residual block and the last one, of strides 1, 2, 4.

    Args:
        space: the settings of the network.
        choose: answers at each open place; where it searches, the norms of the cells do not learn scale and shift.
        images: the channels of an image.
        outputs: how many classes, or the head that makes something else of the maps.

    Raises:
        InputError: `choose` has no answer.

    Example:
        >>> import torch
        >>> from supernet.space.choosers import Decided
        >>> cell = from_string("|nor_conv_3x3~0|+|none~0|skip_connect~1|")
        >>> network = StagedNetwork(NasBench201(channels=4, cells=1, nodes=2), Decided(cell), images=3, outputs=10)
        >>> network(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, space: NasBench201, choose: Chooser, images: int, outputs: Outputs) -> None:
        super().__init__()
        current = space.channels
        self.stem = nn.Sequential(nn.Conv2d(images, current, 3, padding=1, bias=False), nn.BatchNorm2d(current))
        self.blocks = nn.ModuleList()
        features = []
        for stage in range(space.stages):
            if stage:
                features.append(Feature(current, 2 ** (stage - 1)))
                self.blocks.append(ResidualBlock(current, 2 * current))
                current = 2 * current
            self.blocks.extend(_cell(space, choose, current) for _ in range(space.cells))
        self.last = nn.Sequential(nn.BatchNorm2d(current), nn.ReLU())
        features.append(Feature(current, 2 ** (space.stages - 1)))
        self.classifier = nn.Linear(current, outputs) if isinstance(outputs, int) else None
        self.prediction = None if isinstance(outputs, int) else outputs.build(features)

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (batch, channels, height, width) to logits (batch, classes), or to what the head gives."""
        x = self.stem(images)
        maps = []
        for block in self.blocks:
            if self.prediction is not None and isinstance(block, ResidualBlock):
                maps.append(x)
            x = block(x)
        if self.prediction is not None:
            found: Tensor = self.prediction(*maps, self.last(x))
            return found
        assert self.classifier is not None
        return self.classifier(self.last(x).mean(dim=(2, 3)))


def _cell(space: NasBench201, choose: Chooser, channels: int) -> Cell:
    # Pooling has no norm here, in the search either, and an edge may be left out by choosing "none" for it.
    site = Site(channels, channels, affine=not choose.searching)

    def place(edge: str, source: int) -> tuple[Sequence[str], Site]:
        return space.operations, site

    return Cell(_KIND, choose, [nn.Identity()], space.nodes, place, keep=None, output=[space.nodes], optional=True)


def _edges(nodes: int) -> Iterator[tuple[int, int]]:
    """(node, source) in the order of the benchmark's strings."""
    return ((node, source) for node in range(1, nodes + 1) for source in range(node))


def _architecture(operations: Mapping[tuple[int, int], str]) -> Architecture:
    choices: dict[str, tuple[str, ...]] = {}
    for (node, source), operation in operations.items():
        inputs = f"{_KIND}/{node}"
        choices[inputs] = (*choices.get(inputs, ()), str(source))
        choices[edge_name(inputs, str(source))] = (operation,)
    return Architecture(NasBench201.name, choices)


def is_cell(text: str) -> bool:
    """Whether a text looks like a cell that `from_string` knows or has a word for.

    Args:
        text: any.

    Returns:
        True for a cell and for what is meant as one.

    Example:
        >>> is_cell("|none~0|"), is_cell("darts_v2")
        (True, False)
    """
    text = text.strip()
    return text.startswith(("|", "Structure(")) or _INDICES.fullmatch(text[:400]) is not None


def find_cells(text: str) -> list[re.Match[str]]:
    """Finds the cells that a longer text, such as a log, has in it.

    Args:
        text: any.

    Returns:
        A match for each, in their order.

    Example:
        >>> [cell[0] for cell in find_cells("epoch 1: |none~0|, epoch 2: |skip_connect~0|")]
        ['|none~0|', '|skip_connect~0|']
    """
    return list(_CELL.finditer(text))


def from_string(text: str) -> Architecture:
    """Reads a cell as the benchmark writes it: |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, a node between two plus signs.

    Blanks play no part, and `Structure(4 nodes with |op~0|+...)`, as AutoDL-Projects prints it, is read, too. Which
    operations there are is for the space to say.

    Args:
        text: the cell.

    Returns:
        The architecture.

    Raises:
        InputError: the text is anything else.

    Example:
        >>> from_string("|nor_conv_3x3~0|")["cell/1/0"]
        ('nor_conv_3x3',)
    """
    given = text.strip()
    if _INDICES.fullmatch(given[:400]):
        raise InputError(
            f"genotype {given[:80]!r}: numbers alone do not say the operations, codes number them and the edges "
            "differently; write the cell as |nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|..."
        )
    inner = _STRUCTURE.fullmatch(given)
    parts = "".join((inner[1] if inner else given).split()).split("+")
    if len(parts) > _MOST_NODES:
        raise InputError(f"genotype {given[:80]!r}: {quantity(len(parts), 'node')}; at most {_MOST_NODES} are read")
    operations: dict[tuple[int, int], str] = {}
    for node, part in enumerate(parts, start=1):
        whole = len(part) > 2 and part[0] == part[-1] == "|"
        terms = [_TERM.fullmatch(term) for term in part[1:-1].split("|")] if whole else []
        sources = [int(term[2]) for term in terms if term]
        if sources != list(range(node)) or len(sources) != len(terms):
            raise InputError(
                f"genotype {given[:80]!r}: node {node} needs an operation from each state before it, "
                f"as in |{'|'.join(f'skip_connect~{source}' for source in range(node))}|"
            )
        operations |= {(node, int(term[2])): term[1] for term in terms if term}
    return _architecture(operations)


def canonical(architecture: Architecture) -> str:
    """A form that cells have in common which compute the same: the benchmark's 15,625 cells have 6,466 such forms.

    "skip_connect" passes on what comes in, "none" is zero, an operation on zero is zero, and the order of a sum does
    not matter (Dong and Yang 2020, section 2). As in the benchmark a sum keeps its zeros, so that some cells that are
    equal have two forms.

    Args:
        architecture: of this space.

    Returns:
        The form, a text.

    Raises:
        InputError: the architecture is of another space.

    Example:
        >>> first = from_string("|nor_conv_3x3~0|+|none~0|skip_connect~1|")
        >>> second = from_string("|skip_connect~0|+|nor_conv_3x3~0|none~1|")
        >>> canonical(first) == canonical(second), canonical(first)
        (True, '#+(0)@nor_conv_3x3')
    """
    states = ["0"]  # signs as in the benchmark's own texts: its forms depend on the order of signs
    for node in to_string(architecture).split("+"):
        terms = []
        for term in node[1:-1].split("|"):
            operation, _, source = term.rpartition("~")
            state = states[int(source)]
            if operation == "none" or state == "#":
                terms.append("#")
            else:
                terms.append(state if operation == "skip_connect" else f"({state})@{operation}")
        states.append("+".join(sorted(terms)))
    return states[-1]


def to_string(architecture: Architecture) -> str:
    """Writes a cell as the benchmark does.

    Args:
        architecture: of this space.

    Returns:
        The text, which `from_string` reads.

    Raises:
        InputError: the architecture is of another space.

    Example:
        >>> to_string(from_string("|none~0| + |none~0|skip_connect~1|"))
        '|none~0|+|none~0|skip_connect~1|'
    """
    nodes = 0
    while f"{_KIND}/{nodes + 1}" in architecture:
        nodes += 1
    if architecture.space != NasBench201.name or not nodes:
        raise InputError(
            f"the genotype is of space {architecture.space!r}; only cells of {NasBench201.name!r} can be written so"
        )

    def term(node: int, source: int) -> str:
        kept = architecture.get(edge_name(f"{_KIND}/{node}", str(source)), ("none",))  # a threshold leaves edges out
        return f"{kept[0]}~{source}"

    return "+".join(f"|{'|'.join(term(node, s) for s in range(node))}|" for node in range(1, nodes + 1))
