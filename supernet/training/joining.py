"""The step of several processes: their gradients become those of the joined batch, and so do their norms' statistics.

There is one reduction a step, of one flat tensor with all that is averaged in it.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from supernet.runtime.processes import Processes
from supernet.space.cells import Cell, reference
from supernet.space.joined_norms import JoinedBatchNorm2d
from supernet.training.flat import FlatSGD


def prepare_network(network: nn.Module, processes: Processes) -> None:
    """Lets batch norms take the statistics of the joined batch, where processes want that; otherwise does nothing.

    Cells are run edge by edge then, by the reference: fused kernels compute their norms by themselves.

    Args:
        network: before its first step; its modules stay, and so do their parameters and names.
        processes: those that will train it together.
    """
    if not processes.several or not processes.synchronised:
        return
    for module in network.modules():
        if isinstance(module, Cell):
            module.execute = reference
        if type(module) is nn.BatchNorm2d:
            module.__class__ = JoinedBatchNorm2d
            module.__dict__["processes"] = processes


def join(processes: Processes, optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
    """Averages what a backward pass has left in each of several processes: gradients, and norms' running statistics.

    Args:
        processes: those that share the batch.
        optimizer: whose parameters' gradients are averaged; the same ones have none in all processes.
        network: whose batch norms remember the mean of all processes' statistics.
    """
    if not processes.several:
        return
    processes.average_([*_gradients(optimizer), *([] if processes.synchronised else _statistics(network))])


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The gradients of an optimiser's parameters: flat ones as a whole."""
    found = []
    for number, group in enumerate(optimizer.param_groups):
        flat = optimizer.gather(number) if isinstance(optimizer, FlatSGD) else None
        found += [p.grad for p in group["params"] if p.grad is not None] if flat is None else [flat]
    return found


def _statistics(network: nn.Module) -> list[Tensor]:
    norms = (m for m in network.modules() if isinstance(m, _NormBase) and m.training and m.track_running_stats)
    both = chain.from_iterable((norm.running_mean, norm.running_var) for norm in norms)
    return [statistic for statistic in both if statistic is not None]
