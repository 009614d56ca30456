"""In which groups, stacks and order the executor `stacked` evaluates a cell: found once, from the cell's modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from supernet.execution.patterns import (
    Layer,
    Nothing,
    Operation,
    Pooling,
    Reduction,
    Separable,
    Skip,
    Unknown,
    norms_of,
    recognise,
    stride_of,
)
from supernet.execution.stacked.packing import embedding, permutation, repeated, selection
from supernet.space.choices import OperationChoice, PartialChannels
from supernet.space.operations import FactorizedReduce

if TYPE_CHECKING:
    from supernet.space.cells import Cell

FRAME = 5
"""Depthwise kernels that fit into a square of so many pixels share one convolution."""

Bucket = tuple[int, int]
"""Side and dilation of the depthwise kernels of one convolution."""


@dataclass(frozen=True)
class Unit:
    """One candidate operation of one edge; `place` is that of its weight among all weights of the cell."""

    place: int
    source: int
    target: int
    module: nn.Module
    operation: Operation

    def alone(self) -> Unit:
        """The unit as one that is run by itself."""
        return replace(self, operation=Unknown(self.module))


@dataclass(frozen=True)
class Stage:
    """One layer of a tower of `units` convolutions; the last ones end with it and go to `targets`."""

    bucket: Bucket
    stride: int
    units: int
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Tower:
    """Separable convolutions that share their kernels' frames. `runs`: (source, how many in a row read it)."""

    runs: tuple[tuple[int, int], ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Run:
    """What reads one source in one way and goes to `targets`: factorised reductions, a pooling or another module."""

    source: int
    targets: tuple[int, ...]
    alone: nn.Module | None = None
    reductions: tuple[FactorizedReduce, ...] = ()


@dataclass(frozen=True)
class Group:
    """All edges that leave `sources`. `rectified`: the sources whose ReLU is needed."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    rectified: tuple[int, ...]
    towers: tuple[Tower, ...]
    normed: tuple[Run, ...]
    plain: tuple[Run, ...]


@dataclass
class Kind:
    """Depthwise convolutions of one kernel (side, dilation)."""

    kernel: Bucket
    modules: list[nn.Conv2d] = field(default_factory=list)

    def embedding(self, frame: int, like: Tensor) -> Tensor:
        """The matrix that puts such kernels into a frame."""
        return embedding(*self.kernel, frame, like.device, like.dtype)


@dataclass
class Kernels:
    """All depthwise convolutions of one bucket, by kind; `order`: how the stages want them, () where it is the same."""

    kinds: list[Kind]
    order: tuple[int, ...]
    sizes: list[int]  # channels of each stage

    def orders(self, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The order of the kernels of all channels, and its inverse."""
        return permutation(self.order, channels, device)


@dataclass(frozen=True)
class Plan:
    """How a cell is evaluated: its groups, and modules in the order in which groups ask for their tensors."""

    channels: int
    options: tuple[int, ...]  # of each edge
    groups: tuple[Group, ...]
    kernels: dict[Bucket, Kernels]
    pointwise: list[nn.Conv2d]
    pointwise_sizes: list[int]
    norms: list[nn.BatchNorm2d]
    norm_sizes: list[int]
    places: tuple[int, ...]  # of the weight of each unit of each scaled stack; -1: of none
    scale_sizes: list[int]
    modules: list[nn.Module]
    children: list[tuple[dict[str, Any], tuple[nn.Module, ...]]]

    def fits(self, channels: int) -> bool:
        """Whether the cell still consists of the modules that the plan was made for."""
        return channels == self.channels and all(tuple(now.values()) == then for now, then in self.children)

    def edge_of(self, device: torch.device) -> Tensor:
        """Of each weight of the cell the number of its edge."""
        return repeated(self.options, device)

    def scale_order(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """`order` and `inverse` of `stacking.spread`."""
        return selection(self.places, sum(self.options), self.channels, device)


def open_choice(edge: nn.Module) -> OperationChoice | None:
    """The open decision of an edge, with all or part of the channels; None where there is none."""
    choice = edge.choice if type(edge) is PartialChannels else edge
    return choice if type(choice) is OperationChoice else None


def make_plan(cell: Cell, channels: int) -> Plan | None:
    """The plan of a cell with open edges that operate on `channels` channels; None where a node would get nothing."""
    units, options = _units(cell, channels)
    first, nodes = len(cell.preprocess), len(cell.totals)
    if {unit.target for unit in units} != set(range(first, first + nodes)):
        return None
    draft = _Draft(channels, max((layer.frame for layer in _layers(units) if layer.frame <= FRAME), default=FRAME))
    groups = []
    for sources in [tuple(range(first)), *((node,) for node in range(first, first + nodes))]:
        leaving = _at_one_stride([unit for unit in units if unit.source in sources])
        if leaving:
            groups.append(draft.group(sources, leaving))
    modules = [module for edge in cell.edges.values() for module in edge.modules()]
    return Plan(
        channels=channels,
        options=options,
        groups=tuple(groups),
        kernels={bucket: draft.kernels_of(bucket) for bucket in draft.depthwise},
        pointwise=[module for stage in draft.pointwise for module in stage],
        pointwise_sizes=[len(stage) * channels for stage in draft.pointwise],
        norms=[norm for stack in draft.norms for norm in stack],
        norm_sizes=[len(stack) * channels for stack in draft.norms],
        places=tuple(place for stack in draft.places for place in stack),
        scale_sizes=[len(stack) * channels for stack in draft.places],
        modules=modules,
        children=[(m._modules, tuple(m._modules.values())) for m in (cell.edges, *modules) if m._modules],  # type: ignore[misc,arg-type]
    )


def _units(cell: Cell, channels: int) -> tuple[list[Unit], tuple[int, ...]]:
    """All candidates that are not zero, and the number of options of each edge."""
    units: list[Unit] = []
    options: list[int] = []
    for target, incoming in enumerate(cell.incoming, len(cell.preprocess)):
        for source, name in incoming:
            choice = open_choice(cell.edges[name])
            assert choice is not None
            candidates = list(choice.candidates.values())
            first = sum(options)
            units += [Unit(first + i, source, target, m, recognise(m, channels)) for i, m in enumerate(candidates)]
            options.append(len(candidates))
    habits = Counter((norm.eps, norm.momentum) for unit in units for norm in norms_of(unit.operation))
    usual = [habit for habit, _ in habits.most_common(1)]
    units = [
        unit if all((norm.eps, norm.momentum) in usual for norm in norms_of(unit.operation)) else unit.alone()
        for unit in units
    ]
    return [unit for unit in units if not isinstance(unit.operation, Nothing)], tuple(options)


def _layers(units: Sequence[Unit]) -> list[Layer]:
    return [layer for unit in units if isinstance(unit.operation, Separable) for layer in unit.operation.layers]


def _at_one_stride(units: list[Unit]) -> list[Unit]:
    """The units, those alone whose stride is not the one that most have: what is stacked must be of one size."""
    strides = Counter(stride for unit in units if (stride := stride_of(unit.operation)) is not None)
    usual = [stride for stride, _ in strides.most_common(1)]
    return [unit if stride_of(unit.operation) in usual else unit.alone() for unit in units]


class _Draft:
    """Collects, group after group and stack after stack, which tensors they need."""

    def __init__(self, channels: int, frame: int) -> None:
        self._channels, self._frame = channels, frame
        self.depthwise: dict[Bucket, list[list[Layer]]] = {}
        self.pointwise: list[list[nn.Conv2d]] = []
        self.norms: list[list[nn.BatchNorm2d]] = []
        self.places: list[list[int]] = []

    def group(self, sources: tuple[int, ...], units: list[Unit]) -> Group:
        """Plans what leaves `sources`, in the order in which it is evaluated."""
        separable = [unit for unit in units if isinstance(unit.operation, Separable)]
        towers = tuple(self._tower(members) for members in self._towers(separable))
        return Group(
            sources,
            targets=tuple(sorted({unit.target for unit in units})),
            rectified=tuple(
                sorted({unit.source for unit in units if isinstance(unit.operation, Separable | Reduction)})
            ),
            towers=towers,
            normed=self._normed([unit for unit in units if isinstance(unit.operation, Pooling | Reduction)]),
            plain=self._plain([unit for unit in units if isinstance(unit.operation, Skip | Unknown)]),
        )

    def kernels_of(self, bucket: Bucket) -> Kernels:
        """The depthwise convolutions of one bucket."""
        layers = [layer for stage in self.depthwise[bucket] for layer in stage]
        kinds = [
            Kind(kernel, [layer.depthwise for layer in layers if layer.kernel == kernel])
            for kernel in sorted({layer.kernel for layer in layers})
        ]
        by_kind = [module for kind in kinds for module in kind.modules]
        order = tuple(by_kind.index(layer.depthwise) for layer in layers)
        sizes = [len(stage) * self._channels for stage in self.depthwise[bucket]]
        return Kernels(kinds, () if order == tuple(range(len(order))) else order, sizes)

    def _bucket(self, layer: Layer) -> Bucket:
        return (self._frame, 1) if layer.frame <= self._frame else layer.kernel

    def _towers(self, units: list[Unit]) -> list[list[Unit]]:
        """Units whose layers go through the same buckets, as far as they go; longest first."""
        towers: dict[tuple[Bucket, ...], list[Unit]] = {}
        for unit in sorted(units, key=_depth, reverse=True):
            chain = tuple(self._bucket(layer) for layer in _layers([unit]))
            key = next((key for key in towers if key[: len(chain)] == chain), chain)
            towers.setdefault(key, []).append(unit)
        return list(towers.values())

    def _tower(self, units: list[Unit]) -> Tower:
        def rank(unit: Unit) -> tuple[int, int, list[Bucket], int]:
            return -_depth(unit), unit.source, [layer.kernel for layer in _layers([unit])], unit.target

        units = sorted(units, key=rank)
        runs = tuple((source, len(list(run))) for source, run in groupby(units, key=lambda unit: unit.source))
        stages = []
        for number in range(_depth(units[0])):
            there = [unit for unit in units if _depth(unit) > number]
            ending = [unit for unit in there if _depth(unit) == number + 1]
            layers = [_layers([unit])[number] for unit in there]
            bucket = self._bucket(layers[0])
            self.depthwise.setdefault(bucket, []).append(layers)
            self.pointwise.append([layer.pointwise for layer in layers])
            self.norms.append([layer.norm for layer in layers])
            self.places.append([unit.place if _depth(unit) == number + 1 else -1 for unit in there])
            stride = layers[0].depthwise.stride[0]
            stages.append(Stage(bucket, stride, len(there), tuple(unit.target for unit in ending)))
        return Tower(runs, tuple(stages))

    def _normed(self, units: list[Unit]) -> tuple[Run, ...]:
        """Poolings, and factorised reductions after them, of each source at once."""

        def way(unit: Unit) -> tuple[str, int]:
            return str(unit.operation.key) if isinstance(unit.operation, Pooling) else "", unit.source

        units = sorted(units, key=lambda unit: (*way(unit), unit.target))
        runs = []
        for _, same in groupby(units, key=way):
            members = list(same)
            operations = [unit.operation for unit in members]
            runs.append(
                Run(
                    members[0].source,
                    tuple(unit.target for unit in members),
                    alone=operations[0].pool if isinstance(operations[0], Pooling) else None,
                    reductions=tuple(o.module for o in operations if isinstance(o, Reduction)),
                )
            )
        if units:
            self.norms.append([norm for unit in units for norm in norms_of(unit.operation)])
            self.places.append([unit.place for unit in units])
        return tuple(runs)

    def _plain(self, units: list[Unit]) -> tuple[Run, ...]:
        """Skip connections of each source at once, then every other module by itself."""
        skips = sorted((u for u in units if isinstance(u.operation, Skip)), key=lambda u: (u.source, u.target))
        others = [unit for unit in units if isinstance(unit.operation, Unknown)]
        runs = [
            Run(source, tuple(unit.target for unit in same)) for source, same in groupby(skips, key=lambda u: u.source)
        ]
        if units:
            self.places.append([unit.place for unit in (*skips, *others)])
        return (*runs, *(Run(unit.source, (unit.target,), alone=unit.module) for unit in others))


def _depth(unit: Unit) -> int:
    return len(_layers([unit]))
