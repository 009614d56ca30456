"""Engines: ways to run a network, by name. Parameters and their names are the same in all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from supernet.execution.fused.executor import fused
from supernet.execution.recomputation import checkpointed
from supernet.execution.stacked.executor import stacked
from supernet.runtime.errors import InputError
from supernet.space.cells import Cell, Executor, reference

NAMES = ("fused", "reference")


@dataclass(frozen=True)
class Engine:
    """An executor for cells, and the order of values in memory that fits it.

    Args:
        executor: evaluates a cell.
        memory_format: of the network's weights; `torch.channels_last` puts the channels of a pixel side by side.

    Example:
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.darts import Darts
        >>> network = Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 8, 8), 10)
        >>> Engine(fused, torch.channels_last).apply(network).cells[0].execute is fused
        True
    """

    executor: Executor
    memory_format: torch.memory_format = torch.contiguous_format

    def apply(self, network: nn.Module) -> nn.Module:
        """Makes the cells of a built network run on this engine.

        A network with very narrow convolutions is left to the reference: channels-last, they make the CPU's library
        write beyond its memory (oneDNN under PyTorch 2.14: depthwise ones of two channels, any of one).

        Args:
            network: any module; its cells get the engine's executor, its weights the engine's order in memory.

        Returns:
            The same network.
        """
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        narrow = any(m.out_channels < 2 or 1 < m.groups < 4 for m in convolutions)
        if narrow and self.memory_format == torch.channels_last:
            return network
        for cell in (module for module in network.modules() if isinstance(module, Cell)):
            cell.execute = self.executor
        return network.to(memory_format=self.memory_format)  # type: ignore[call-overload, no-any-return]


def engine(name: str, device: torch.device | str = "cpu", *, checkpoint_cells: bool = False) -> Engine:
    """Finds the way to run a network by its name.

    Args:
        name: "fused" is fast: the form of `fused/` on a CPU and that of `stacked/` elsewhere. "reference" is the
            definition: edge by edge, as the original's code does it.
        device: the one that the network will be on.
        checkpoint_cells: less memory for more time (`checkpointed`).

    Returns:
        The engine, to be applied to networks.

    Raises:
        InputError: for any other name.

    Example:
        >>> engine("fused").memory_format
        torch.channels_last
        >>> engine("reference").executor is reference
        True
    """
    if name not in NAMES:
        raise InputError(f"{name!r} is no engine; use one of {', '.join(NAMES)}")
    on_cpu = torch.device(device).type == "cpu"
    executor: Executor = reference if name == "reference" else fused if on_cpu else stacked
    executor = checkpointed(executor) if checkpoint_cells else executor
    layout = torch.channels_last if name == "fused" and on_cpu else torch.contiguous_format
    return Engine(executor, layout)
