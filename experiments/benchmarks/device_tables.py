"""NAS-Bench-201 with its latencies measured on 27 devices: what is known of the cells, and the truth of each device.

Every cell is its own here, though some compute the same: most devices take time for what has no effect.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from supernet.estimation.benchmark_tables import Table, read_table
from supernet.estimation.fitting import alike, fitted
from supernet.estimation.forms import Cost, Form
from supernet.estimation.space_costs import SpaceCosts
from supernet.search.black_box.pareto import hypervolume, nondominated
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates
from supernet.space.nasbench201 import NasBench201, canonical, from_string

DEVICES = (
    *(f"{gpu}_{batch}" for gpu in ("1080ti", "2080ti", "titan_rtx", "titanx", "titanxp") for batch in (1, 32, 256)),
    *("gold_6226", "gold_6240", "silver_4114", "silver_4210r", "raspi4"),
    *("samsung_s7", "samsung_a50", "pixel2", "pixel3", "essential_ph_1", "eyeriss", "fpga"),
)
JUDGED = ("gold_6226", "silver_4114", "samsung_s7", "pixel2", "samsung_a50", "2080ti_1")
WITHOUT_PATHS = ("raspi4", "pixel3")  # there cells that join nothing to their output were not measured in earnest
TEST, VALID, MACS = "cifar10_test_200", "cifar10_valid_12", "macs_cifar10"
QUANTILES = (0.10, 0.25, 0.50, 0.75)  # of the cells' latencies: the four limits of a device
WORST = 10.0  # accuracy in percent of the reference point; its latency is that of the slowest cell
MEASURED = 100  # cells from whose latencies all are predicted


def live(cell: Architecture) -> Architecture:
    """The cell without the operations that no path from its input to its output uses.

    Example:
        >>> from supernet.space.nasbench201 import from_string, to_string
        >>> to_string(live(from_string("|nor_conv_3x3~0|+|skip_connect~0|none~1|")))
        '|none~0|+|skip_connect~0|none~1|'
    """
    edges = {tuple(map(int, name.split("/")[1:])): kept[0] for name, kept in cell.items() if name.count("/") == 2}
    nodes = max(node for node, _ in edges)
    fed, used = {0}, {nodes}
    for node in range(1, nodes + 1):
        fed |= {node} if any(edges[node, source] != "none" for source in fed if source < node) else set()
    for source in range(nodes - 1, -1, -1):
        after = (node for node in used if node > source)
        used |= {source} if any(edges[node, source] != "none" for node in after) else set()
    kept = {(n, s): o if s in fed and n in used else "none" for (n, s), o in edges.items()}
    terms = (f"|{'|'.join(f'{kept[n, s]}~{s}' for s in range(n))}|" for n in range(1, nodes + 1))
    return from_string("+".join(terms))


@dataclass(frozen=True)
class Device:
    """What is known of all cells on one device.

    Args:
        name: of the device.
        accuracy: of each cell after 200 epochs, on the test images, in percent.
        valid: of each cell after 12 epochs, on the validation images.
        latency: of each cell, measured, in milliseconds.
        limits: the four limits, in milliseconds.
    """

    name: str
    accuracy: Mapping[Architecture, float]
    valid: Mapping[Architecture, float]
    latency: Mapping[Architecture, float]
    limits: tuple[float, ...]

    @cached_property
    def truth(self) -> float:
        """The hypervolume of all cells."""
        return self._volume(self.latency)

    def share(self, cells: Iterable[Architecture]) -> float:
        """The hypervolume of some cells as a share of the truth."""
        return self._volume(cells) / self.truth

    def best_within(self, limit: float) -> float:
        """The best accuracy of all cells that keep a limit."""
        return max(self.accuracy[cell] for cell, latency in self.latency.items() if latency <= limit)

    def _volume(self, cells: Iterable[Architecture]) -> float:
        points = [(self.accuracy[cell], -self.latency[cell]) for cell in cells]
        return hypervolume(points, (WORST, -max(self.latency.values())))


@dataclass(frozen=True)
class Benchmark:
    """The tables, and what is asked of the space once."""

    table: Table
    latencies: Table
    space: NasBench201

    @classmethod
    def open(cls, table: Path, latencies: Path) -> Benchmark:
        """Reads both files."""
        known = read_table(table, [TEST, VALID, MACS])
        return cls(known, read_table(latencies, [f"lat_{name}" for name in DEVICES], known), NasBench201())

    @cached_property
    def costs(self) -> SpaceCosts:
        """The counted costs of the space, and its decisions."""
        return SpaceCosts(self.space, (3, 32, 32), 10)

    @cached_property
    def candidates(self) -> Candidates:
        """The cells, each its own."""
        return Candidates(self.space.name, self.costs.decisions)

    @cached_property
    def values(self) -> dict[Architecture, Mapping[str, float]]:
        """Each cell's row of the table."""
        return {cell: self.table(cell).values for cell in self.table}

    @cached_property
    def living(self) -> dict[Architecture, Architecture]:
        """Each cell without what has no effect in it."""
        return {cell: live(cell) for cell in self.values}

    @cached_property
    def _alike(self) -> tuple[tuple[str, ...], ...]:
        return alike(self.costs.recorded)

    @cached_property
    def _rows(self) -> dict[Architecture, int]:
        return {cell: row for row, cell in enumerate(self.values)}

    @cached_property
    def _answers(self) -> dict[str, NDArray[np.int64]]:
        """By decision the number of each cell's answer."""
        edges = [decision for decision in self.costs.decisions.values() if decision.role == "operation"]
        return {d.name: np.array([d.answers.index(cell[d.name][0]) for cell in self.values]) for d in edges}

    @cached_property
    def same(self) -> list[tuple[Architecture, Architecture]]:
        """Two cells of each network that is in the table more than once, with the same operations, all of them used."""
        groups: dict[tuple[str, ...], list[Architecture]] = {}
        for cell, alive in self.living.items():
            if cell == alive:
                operations = sorted(kept[0] for name, kept in cell.items() if name.count("/") == 2)
                groups.setdefault((canonical(cell), *operations), []).append(cell)
        return [(cells[0], cells[1]) for cells in groups.values() if len(cells) > 1]

    def device(self, name: str) -> Device:
        """What is known of the cells on a device; on two of them cells without a path are left out."""
        column = f"lat_{name}"
        cells = [cell for cell in self.values if name not in WITHOUT_PATHS or self._joined(cell)]
        latency = {cell: self.latencies(cell).values[column] for cell in cells}
        limits = tuple(np.quantile(list(latency.values()), QUANTILES, method="nearest").tolist())
        accuracy = {cell: self.values[cell][TEST] for cell in cells}
        return Device(name, accuracy, {cell: self.values[cell][VALID] for cell in cells}, latency, limits)

    def front_of_macs(self) -> list[Architecture]:
        """The cells that are best where multiply-adds stand for the latency."""
        cells = list(self.values)
        points = [(self.values[cell][TEST], -self.values[cell][MACS]) for cell in cells]
        return [cells[place] for place in nondominated(points)]

    def measured(self, device: Device, seed: int) -> list[Architecture]:
        """The cells of a seed whose latency is taken as measured."""
        return random.Random(f"{device.name} {seed}").sample(list(device.latency), MEASURED)

    def predictor(
        self,
        device: Device,
        cells: Sequence[Architecture],
        together: bool = True,
        of: Mapping[Architecture, Architecture] | None = None,
    ) -> Form:
        """The latency in milliseconds, fitted to some cells: a number for each operation, or for each of each edge.

        `of`: what counts of each cell; None: all.
        """
        groups = self._alike if together else ()
        counted = cells if of is None else [of[cell] for cell in cells]
        return fitted(self.costs.decisions, counted, [device.latency[cell] for cell in cells], groups)

    def predicted(self, form: Form, cells: Sequence[Architecture]) -> list[float]:
        """`form.of` of many cells at once; each term has one decision here."""
        rows = [self._rows[cell] for cell in cells]
        total = np.full(len(cells), form.base)
        for term in form.terms:
            total += term.values[self._answers[term.decisions[0]][rows]]
        return total.tolist()

    def costs_with(self, **latencies: Form | Cost) -> SpaceCosts:
        """Latencies as costs of the space, by name: predicted by a form, or looked up by a function."""
        small = self.space.resized(channels=4, cells=1, stages=1)  # asks the same questions, and is listed quickly
        return SpaceCosts(small, (3, 8, 8), 10, own=latencies)

    def _joined(self, cell: Architecture) -> bool:
        return any(kept != ("none",) for name, kept in self.living[cell].items() if name.count("/") == 2)
