"""Run: where and how a loop runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from supernet.runtime.interrupt import Interruption
from supernet.runtime.report import Report, Silent


@dataclass(frozen=True)
class Run:
    """Where and how a loop runs; the defaults are a silent run on the CPU that saves nothing.

    checkpoint is the file to continue from and to save to (at least save_seconds apart), and fingerprint names the
    settings that must be equal for that to make sense. precision is that of the activations, and graphs replays
    passes as CUDA graphs where it can.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    report: Report = field(default_factory=Silent)
    checkpoint: Path | None = None
    fingerprint: Mapping[str, str | int | float] = field(default_factory=dict)
    save_seconds: float = 60.0
    interruption: Interruption = field(default_factory=Interruption)
    precision: Literal["float32", "bfloat16"] = "float32"
    graphs: bool = False
