"""Measured times in a job: a table as a cost, and what measures a network as that table was measured."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import nn

from supernet.estimation.forms import Cost, Form
from supernet.estimation.latency.machine import fingerprint
from supernet.estimation.latency.measuring import measure
from supernet.estimation.latency.reading import differences, oddities, read_latencies
from supernet.estimation.latency.runtimes import EagerTorch, OnnxRuntime, Runtime
from supernet.estimation.latency.table import KnownLatencies, LatencyTable, cost_of
from supernet.estimation.parts import Recorded
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file

from .console import complain

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
        if not isinstance(self.table, LatencyTable) or not self.table.head.runtime:
            return f"{self.path} does not say in which runtime it was measured"
        if differing := differences(self.table.head, fingerprint()):
            return f"{self.path} was measured elsewhere ({differing[0]})"
        try:
            self._runtime()
        except InputError as error:
            return str(error)
        return ""

    def milliseconds(self, network: nn.Module, shape: tuple[int, int, int]) -> float:
        """Measures a network in the table's runtime, without looking at its weights.

        Times are those at the machine's speed when the table was measured, which a sentinel tells.
        """
        assert isinstance(self.table, LatencyTable)
        return measure(network, shape, self._runtime(), speed=self.table.sentinel).median

    def _runtime(self) -> Runtime:
        assert isinstance(self.table, LatencyTable)
        said = self.table.head.runtime
        name, word = said.get("runtime", ""), said.get("threads", "1")
        threads = int(word) if word.isascii() and word.isdigit() and len(word) < 4 else 0
        if threads < 1:
            raise InputError(f"{self.path} says threads {word[:40]!r}; needs a number from 1 to 999")
        if name == OnnxRuntime.name:
            return OnnxRuntime(threads)
        if name == EagerTorch.name:
            return EagerTorch("cpu" if said.get("device") == "cpu" else "cuda", threads)
        raise InputError(f"{self.path} was measured in {name[:40] or 'an unknown runtime'}, which is not known here")


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
    if isinstance(table, LatencyTable) and logging.root.handlers and (odd := oddities(table, fingerprint())):
        complain(odd)
    return table
