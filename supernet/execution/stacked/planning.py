"""Finds the plan of a cell from its modules: which branches it has, and which of them are evaluated together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from torch import nn

from supernet.execution.patterns import Nothing, Pooling, Reduction, Skip, Structure, Unknown, recognise
from supernet.execution.stacked.depthwise import SIDES
from supernet.execution.stacked.plan import Branch, Bucket, EdgeGroup, Kernels, Kind, Layer, Plan, SharedRead, Tower
from supernet.execution.stacked.stackable import Separable, SeparableLayer, norms_of, stackable, stride_of
from supernet.execution.triton import MOST
from supernet.space.cells import Cell
from supernet.space.choices import OperationChoice, PartialChannels

FRAME = 5
"""The side in pixels of a square; depthwise kernels that fit into it share one convolution."""


def open_choice(edge: nn.Module) -> OperationChoice | None:
    """Finds the open decision of an edge, with all or part of the channels.

    Args:
        edge: a module of `Cell.edges`.

    Returns:
        The mixed operation; None where the edge is decided, or is built in another way.

    Example:
        >>> open_choice(nn.Identity()) is None
        True
    """
    choice = edge.choice if type(edge) is PartialChannels else edge
    return choice if type(choice) is OperationChoice else None


def make_plan(cell: Cell, channels: int, own_taps: bool = False) -> Plan | None:
    """Makes the plan of a cell whose edges are all open.

    Args:
        cell: a search cell.
        channels: those that its edges operate on.
        own_taps: whether depthwise kernels of all dilations are to be one convolution that reads their own taps, where
            all are 3x3 or 5x5. Then branches of different depth are towers of their own: no stack is to be split.

    Returns:
        The plan; None where a node would get nothing.

    Example:
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.darts import Darts
        >>> network = Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 8, 8), 10)
        >>> plan = make_plan(network.cells[0], channels=4)
        >>> [(group.sources, group.targets) for group in plan.groups]
        [((0, 1), (2, 3)), ((2,), (3,))]
    """
    branches, options = _branches(cell, channels)
    first, nodes = len(cell.preprocess), len(cell.totals)
    if {branch.target for branch in branches} != set(range(first, first + nodes)):
        return None
    # A frame as large as the largest kernel that shares it: where all are 3x3, nothing is filled up with zeros.
    layers = _separable_layers(branches)
    own_taps = own_taps and nodes <= MOST and all(_is_written(layer.depthwise) for layer in layers)
    sides = [layer.kernel[0] if own_taps else layer.frame for layer in layers]
    draft = _Draft(channels, max((side for side in sides if side <= FRAME), default=FRAME), own_taps)
    groups = []
    for sources in [tuple(range(first)), *((node,) for node in range(first, first + nodes))]:
        leaving = _at_one_stride([branch for branch in branches if branch.source in sources])
        if leaving:  # in this order the draft collects parameters, and a pass gives them out
            groups.append(draft.group(sources, leaving))
    return Plan(
        channels=channels,
        options=options,
        groups=tuple(groups),
        kernels={bucket: draft.kernels_of(bucket) for bucket in draft.depthwise},
        pointwise=[module for layer in draft.pointwise for module in layer],
        pointwise_sizes=[len(layer) * channels for layer in draft.pointwise],
        norms=[norm for stack in draft.norms for norm in stack],
        norm_sizes=[len(stack) * channels for stack in draft.norms],
        places=tuple(place for stack in draft.places for place in stack),
        scale_sizes=[len(stack) * channels for stack in draft.places],
        structure=Structure(cell.edges),
        own_taps=own_taps,
    )


def _branches(cell: Cell, channels: int) -> tuple[list[Branch], tuple[int, ...]]:
    """All candidates that are not zero, and the number of options of each edge."""
    branches: list[Branch] = []
    options: list[int] = []
    for target, incoming in enumerate(cell.incoming, len(cell.preprocess)):
        for source, name in incoming:
            choice = open_choice(cell.edges[name])
            assert choice is not None
            candidates = list(choice.candidates.values())
            first = sum(options)
            made_of = [stackable(recognise(module), module, channels) for module in candidates]
            branches += [
                Branch(first + i, source, target, *pair) for i, pair in enumerate(zip(candidates, made_of, strict=True))
            ]
            options.append(len(candidates))
    # One call normalises a whole stack, with one eps and one momentum: those of most norms.
    habits = Counter((norm.eps, norm.momentum) for branch in branches for norm in norms_of(branch.operation))
    usual = [habit for habit, _ in habits.most_common(1)]
    branches = [
        branch if all((norm.eps, norm.momentum) in usual for norm in norms_of(branch.operation)) else branch.alone()
        for branch in branches
    ]
    return [branch for branch in branches if not isinstance(branch.operation, Nothing)], tuple(options)


def _separable_layers(branches: Sequence[Branch]) -> list[SeparableLayer]:
    return [
        layer for branch in branches if isinstance(branch.operation, Separable) for layer in branch.operation.layers
    ]


def _is_written(depthwise: nn.Conv2d) -> bool:
    """Whether there is a kernel in Triton for a convolution."""
    return depthwise.kernel_size[0] in SIDES and depthwise.stride[0] <= 2


def _at_one_stride(branches: list[Branch]) -> list[Branch]:
    """Marks branches to run alone whose stride is not the most frequent one: a stack needs tensors of one size."""
    strides = Counter(stride for branch in branches if (stride := stride_of(branch.operation)) is not None)
    usual = [stride for stride, _ in strides.most_common(1)]
    return [branch if stride_of(branch.operation) in usual else branch.alone() for branch in branches]


class _Draft:
    """Collects the tensors that groups and stacks need, in their order."""

    def __init__(self, channels: int, frame: int, own_taps: bool) -> None:
        self._channels, self._frame, self._own_taps = channels, frame, own_taps
        self.depthwise: dict[Bucket, list[list[SeparableLayer]]] = {}
        self.pointwise: list[list[nn.Conv2d]] = []
        self.norms: list[list[nn.BatchNorm2d]] = []
        self.places: list[list[int]] = []

    def group(self, sources: tuple[int, ...], branches: list[Branch]) -> EdgeGroup:
        """Plans the edges that leave `sources`, in the order in which they are evaluated."""
        separable = [branch for branch in branches if isinstance(branch.operation, Separable)]
        towers = tuple(self._tower(members) for members in self._towers(separable))
        return EdgeGroup(
            sources,
            targets=tuple(sorted({branch.target for branch in branches})),
            towers=towers,
            normed=self._normed([branch for branch in branches if isinstance(branch.operation, Pooling | Reduction)]),
            plain=self._plain([branch for branch in branches if isinstance(branch.operation, Skip | Unknown)]),
        )

    def kernels_of(self, bucket: Bucket) -> Kernels:
        """The depthwise convolutions of one bucket."""
        members = [one for layer in self.depthwise[bucket] for one in layer]
        kinds = [
            Kind(kernel, [one.depthwise for one in members if one.kernel == kernel])
            for kernel in sorted({one.kernel for one in members})
        ]
        by_kind = [module for kind in kinds for module in kind.modules]
        order = tuple(by_kind.index(one.depthwise) for one in members)
        sizes = [len(layer) * self._channels for layer in self.depthwise[bucket]]
        return Kernels(kinds, () if order == tuple(range(len(order))) else order, sizes)

    def _bucket(self, layer: SeparableLayer) -> Bucket:
        if self._own_taps:
            return (self._frame, 0) if layer.kernel[0] <= self._frame else layer.kernel
        return (self._frame, 1) if layer.frame <= self._frame else layer.kernel

    def _towers(self, branches: list[Branch]) -> list[list[Branch]]:
        """Branches whose layers go through the same buckets, as far as they go; longest first."""
        towers: dict[tuple[Bucket, ...], list[Branch]] = {}
        for branch in sorted(branches, key=_depth, reverse=True):
            # A shorter branch joins a tower that begins as it does and leaves it earlier.
            chain = tuple(self._bucket(layer) for layer in _separable_layers([branch]))
            longer = () if self._own_taps else towers
            key = next((key for key in longer if key[: len(chain)] == chain), chain)
            towers.setdefault(key, []).append(branch)
        return list(towers.values())

    def _tower(self, branches: list[Branch]) -> Tower:
        # By depth, so that those that end with a layer are the last ones, and by source, so that each is read in a row.
        def rank(branch: Branch) -> tuple[int, int, list[Bucket], int]:
            return (
                -_depth(branch),
                branch.source,
                [layer.kernel for layer in _separable_layers([branch])],
                branch.target,
            )

        branches = sorted(branches, key=rank)
        reads = tuple((source, len(list(same))) for source, same in groupby(branches, key=lambda branch: branch.source))
        layers = []
        for number in range(_depth(branches[0])):
            there = [branch for branch in branches if _depth(branch) > number]
            ending = [branch for branch in there if _depth(branch) == number + 1]
            side_by_side = [_separable_layers([branch])[number] for branch in there]
            bucket = self._bucket(side_by_side[0])
            self.depthwise.setdefault(bucket, []).append(side_by_side)
            self.pointwise.append([one.pointwise for one in side_by_side])
            self.norms.append([one.norm for one in side_by_side])
            # The architecture weight rides on the last norm of a branch; the others have the scale 1.
            self.places.append([branch.place if _depth(branch) == number + 1 else -1 for branch in there])
            stride = side_by_side[0].depthwise.stride[0]
            kinds = tuple(one.kernel for one in side_by_side)
            layers.append(Layer(bucket, stride, len(there), tuple(branch.target for branch in ending), kinds))
        return Tower(reads, tuple(layers))

    def _normed(self, branches: list[Branch]) -> tuple[SharedRead, ...]:
        """Poolings, and factorised reductions after them, of each source at once."""

        def way(branch: Branch) -> tuple[str, int]:
            return str(branch.operation.key) if isinstance(branch.operation, Pooling) else "", branch.source

        branches = sorted(branches, key=lambda branch: (*way(branch), branch.target))
        reads = []
        for _, same in groupby(branches, key=way):
            members = list(same)
            operations = [branch.operation for branch in members]
            reads.append(
                SharedRead(
                    members[0].source,
                    tuple(branch.target for branch in members),
                    alone=operations[0].pool if isinstance(operations[0], Pooling) else None,
                    reductions=tuple(o.module for o in operations if isinstance(o, Reduction)),
                )
            )
        if branches:
            self.norms.append([norm for branch in branches for norm in norms_of(branch.operation)])
            self.places.append([branch.place for branch in branches])
        return tuple(reads)

    def _plain(self, branches: list[Branch]) -> tuple[SharedRead, ...]:
        """Skip connections of each source at once, then every other module by itself."""
        skips = sorted((u for u in branches if isinstance(u.operation, Skip)), key=lambda u: (u.source, u.target))
        others = [branch for branch in branches if isinstance(branch.operation, Unknown)]
        reads = [
            SharedRead(source, tuple(branch.target for branch in same))
            for source, same in groupby(skips, key=lambda u: u.source)
        ]
        if branches:
            self.places.append([branch.place for branch in (*skips, *others)])
        return (*reads, *(SharedRead(branch.source, (branch.target,), alone=branch.module) for branch in others))


def _depth(branch: Branch) -> int:
    return len(_separable_layers([branch]))
