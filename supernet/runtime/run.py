"""Where and how a loop runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from supernet.runtime.interrupt import Interruption
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.report import Report, Silent

Precision = Literal["float32", "tf32", "bfloat16"]
"""How a network computes: see `Run`."""


@dataclass(frozen=True)
class Run:
    """Where and how a loop runs. The defaults are a silent run on the CPU that saves nothing.

    Args:
        device: where the networks are.
        seed: the seed of all random streams.
        report: where the loop reports.
        checkpoint: the file to continue from and to save to; None saves nothing.
        fingerprint: the settings, by name, that a run must share with a checkpoint to continue from it.
        save_seconds: the least time in seconds from one saving to the next.
        interruption: tells of a signal that asks the loop to stop.
        precision: "bfloat16": that of the activations; "tf32": a GPU rounds what it multiplies in convolutions and
            matrix products to 10 bits. Differences of second order are float32 in any case.
        graphs: whether steps and passes are replayed as CUDA graphs where that is possible; a CPU has none.
        processes: those that take the loop together. Each calls it; the report of all but the leader is silent.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    report: Report = field(default_factory=Silent)
    checkpoint: Path | None = None
    fingerprint: Mapping[str, str | int | float] = field(default_factory=dict)
    save_seconds: float = 60.0
    interruption: Interruption = field(default_factory=Interruption)
    precision: Precision = "float32"
    graphs: bool = True
    processes: Processes = ALONE

    def asked(self, *more: bool) -> tuple[int | None, ...]:
        """What this process, or one that shares its loop, is asked for; of several processes a meeting.

        Args:
            more: further questions, each to be answered by yes where one process says so.

        Returns:
            The number of the signal that asked for a stop, None where none did; then a 1 or 0 for each of `more`.
        """
        own = 1 + (self.interruption.signal or 0) if self.interruption.requested() else 0
        stop, *others = self.processes.largest([own, *map(int, more)])
        return (stop - 1 if stop else None, *others)

    @property
    def records(self) -> bool:
        """Whether CUDA graphs are wanted and the device has them; norms that meet others within a pass forbid them."""
        meets = self.processes.several and self.processes.synchronised
        return self.graphs and self.device.type == "cuda" and not meets
