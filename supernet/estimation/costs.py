"""Counts what a network costs: parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from supernet.estimation.scores import Measured
from supernet.execution.modes import running
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.cells import reference
from supernet.space.choosers import Decided
from supernet.space.operations import OPERATIONS, Operation


def parameters(network: nn.Module) -> int:
    """Counts the learnt values of a network, without an auxiliary head, which only serves training.

    Args:
        network: the network.

    Returns:
        Their number.

    Example:
        >>> parameters(nn.Linear(3, 2))
        8
    """
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary."))


def stored_bytes(network: nn.Module) -> int:
    """Adds up the bytes of a network's parameters and buffers as they are stored, without an auxiliary head.

    Args:
        network: the network.

    Returns:
        Bytes; a file has some kilobytes more for their names.

    Example:
        >>> stored_bytes(nn.BatchNorm2d(3))  # four times three float32, and a count of 8 bytes
        56
    """
    held = [*network.named_parameters(), *network.named_buffers()]
    return sum(t.numel() * t.element_size() for name, t in held if not name.startswith("auxiliary."))


def macs(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Counts the multiply-adds of a network's convolutions and linear layers for one image.

    Norms, pooling and additions are not counted. Published "mult-adds" of cells follow various conventions and are
    up to 8 % higher.

    Args:
        network: the network.
        shape: the (channels, height, width) of the image.

    Returns:
        Their number.

    Example:
        >>> macs(nn.Conv2d(2, 6, kernel_size=3, padding=1), (2, 4, 4))  # 4 x 4 places, 6 x 2 x 9 weights
        1728
    """
    like = next(network.parameters())
    image = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
    with running(network, reference):  # compiled kernels of a faster one go uncounted
        return multiply_adds(network, image)


def multiply_adds(module: nn.Module, *inputs: Tensor) -> int:
    """Counts the multiply-adds of the convolutions and linear layers of any module, in evaluation mode.

    Args:
        module: the module.
        inputs: what it is given; tensors on torch's device "meta" are enough for a module that lies there.

    Returns:
        Their number.

    Example:
        >>> multiply_adds(nn.Linear(3, 2), torch.zeros(1, 3))
        6
    """
    training = module.training
    counter = FlopCounterMode(display=False)
    try:
        module.eval()
        with torch.no_grad(), counter:
            module(*inputs)
    finally:
        module.train(training)
    return int(counter.get_total_flops()) // 2


@dataclass(frozen=True)
class CostScore:
    """Counts the network of an architecture: the baseline that every estimate of accuracy has to beat.

    Args:
        space: in the size that is counted.
        shape: the (channels, height, width) of an image.
        classes: how many.
        factories: what builds each operation, by name; None: the library's own.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> score = CostScore(NasBench201(channels=8, cells=1, stages=1, nodes=2), (1, 8, 8), 10)
        >>> dict(score(from_string("|none~0|+|none~0|none~1|")).values)
        {'parameters': 194.0, 'macs': 4688.0}
    """

    space: Any
    shape: tuple[int, int, int]
    classes: int
    factories: Mapping[str, Operation] | None = None
    _known: dict[Architecture, Measured] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, architecture: Architecture) -> Measured:
        """Parameters and multiply-adds of the plain network."""
        if architecture not in self._known:
            with torch.device("meta"):
                chooser = Decided(architecture, self.factories or OPERATIONS)
                network = self.space.network(chooser, self.shape, self.classes)
            counts = {"parameters": float(parameters(network)), "macs": float(macs(network, self.shape))}
            self._known[architecture] = Measured(counts)
        return self._known[architecture]

    def fits(self, limits: Mapping[str, float]) -> Callable[[Architecture], bool]:
        """A filter for `Candidates`.

        Args:
            limits: the largest number of "parameters", "macs" or both.

        Returns:
            Whether an architecture keeps them.

        Raises:
            InputError: a limit is of something else.
        """
        if unknown := set(limits) - {"parameters", "macs"}:
            raise InputError(f"limits.{unknown.pop()}: is not counted; known: parameters, macs")
        return lambda architecture: all(self(architecture).values[name] <= limit for name, limit in limits.items())
