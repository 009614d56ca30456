"""Engines: ways to run one and the same network, by name. Parameters and their names are the same in all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from supernet.runtime.errors import InputError
from supernet.space.cells import Executor, checkpointed, reference
from supernet.space.fused import fused

NAMES = ("fused", "reference")


@dataclass(frozen=True)
class Engine:
    """What evaluates cells, the order of values in memory, and whether gradients that nobody needs are computed too."""

    executor: Executor
    memory_format: torch.memory_format = torch.channels_last
    everything: bool = False

    def lay_out(self, network: nn.Module) -> nn.Module:
        """`network`, its weights and so its states in the engine's order."""
        return network.to(memory_format=self.memory_format)  # type: ignore[call-overload, no-any-return]


def engine(name: str, *, checkpoint_cells: bool = False) -> Engine:
    """ "fused" (fast) or "reference" (edge by edge, as the original); InputError for any other name.

    `checkpoint_cells`: less memory for more time (`cells.checkpointed`).
    """
    if name not in NAMES:
        raise InputError(f"runtime.engine={name}: use one of {', '.join(NAMES)}")
    executor: Executor = fused if name == "fused" else reference
    executor = checkpointed(executor) if checkpoint_cells else executor
    if name == "reference":
        return Engine(executor, torch.contiguous_format, everything=True)
    return Engine(executor)
