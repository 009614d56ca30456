"""Measured times in a job: a table as a cost, and what measures a network as that table was measured."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import nn

from supernet.estimation.forms import Cost, Form
from supernet.estimation.latency.machine import fingerprint
from supernet.estimation.latency.measuring import measured_as
from supernet.estimation.latency.reading import oddities, read_latencies
from supernet.estimation.latency.table import KnownLatencies, LatencyTable, cost_of
from supernet.estimation.parts import Recorded
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file

from .console import complain, warnings_are_printed

LATENCY = "latency"


@dataclass(frozen=True)
class Latencies:
    """A table of measured times.

    Args:
        path: its file.
        table: of parts, or of whole architectures.
    """

    path: Path
    table: LatencyTable | KnownLatencies

    def cost(self, recorded: Recorded) -> Form | Cost:
        """The latency of the networks of a space, in milliseconds."""
        return cost_of(self.table, recorded)

    def why_not_measured(self) -> str:
        """Why a network cannot be measured here as the table was; "" where it can."""
        try:
            measured_as(self.table)
        except InputError as error:
            return str(error)
        return ""

    def milliseconds(self, network: nn.Module, shape: tuple[int, int, int]) -> float:
        """Measures a network as the table's parts were measured, without looking at its weights."""
        return measured_as(self.table)(network, shape)


def latencies_of(path: Path) -> Latencies:
    """Reads a table; a command that asks for one file several times reads it once, and warns once of what is odd.

    Raises:
        InputError: there is no such file, or it is no such table, in one line.
    """
    stamp = path.stat().st_mtime_ns if is_file(path) else 0
    return Latencies(path, _read(path, stamp))


@lru_cache(maxsize=8)
def _read(path: Path, stamp: int) -> LatencyTable | KnownLatencies:
    """The table of a file as it was at that time. Where warnings go to a file alone, they are printed, too."""
    table = read_latencies(path)
    unseen = bool(logging.root.handlers) and not warnings_are_printed()
    if isinstance(table, LatencyTable) and unseen and (odd := oddities(table, fingerprint())):
        complain(odd)
    return table
