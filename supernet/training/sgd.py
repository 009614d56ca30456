"""The optimiser of a network's weights, in a search and in a training, and the step that it would take next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supernet.training.flat import FlatSGD


def sgd(
    network: nn.Module,
    rate: float,
    momentum: float,
    *,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    fused: bool | None = None,
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> FlatSGD:
    """Makes SGD with momentum for all parameters of a network, which is on its device already.

    PyTorch's fused step fails where some parameters have a momentum and others get their first gradient only now, as on
    single paths, where most operations wait for their turn. So all momenta are there from the start, as zeros, which
    gives the same numbers: the first momentum of a parameter is 0.9 * 0 + g = g. A state of another device, or of a
    time without such zeros, is completed when it is loaded.

    Args:
        network: its parameters are moved.
        rate: the learning rate.
        momentum: the share of the old velocity that is kept, in [0, 1).
        weight_decay: how much of the weights is added to their gradient.
        nesterov: whether the momentum looks ahead (Sutskever et al. 2013).
        fused: whether one kernel does the whole step; None: on a GPU.
        groups: of its parameters, where not all are moved, or not alike; None: one group of all.

    Returns:
        The optimiser.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> optimizer = sgd(network, rate=0.1, momentum=0.9, fused=True)
        >>> [optimizer.state[parameter]["momentum_buffer"].tolist() for parameter in network.parameters()]
        [[[0.0, 0.0]], [0.0]]
    """
    if fused is None:
        fused = next(network.parameters()).device.type == "cuda"
    moved = network.parameters() if groups is None else map(dict, groups)
    return FlatSGD(moved, rate, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused)


@dataclass(frozen=True)
class SgdStep:
    """The step of plain SGD that weights would take next, for those who unroll it.

    Args:
        learning_rate: of the weights.
        momentum: share of the old velocity that is kept.
        weight_decay: times the weights, added to the gradient.
        nesterov: whether the momentum looks ahead (Sutskever et al. 2013).
        velocity: the momentum buffers, one for each tensor of weights; None before the first step.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    velocity: Sequence[Tensor] | None = None

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> SgdStep | None:
        """Finds the step that an optimiser would take next.

        Args:
            optimizer: of the parameters.
            parameters: the weights that are unrolled, in the order in which the velocity is wanted.

        Returns:
            The step; None if the optimiser is no SGD or not a plain one (several groups, dampening, ascent).
        """
        if not isinstance(optimizer, torch.optim.SGD) or len(optimizer.param_groups) != 1:
            return None
        (group,) = optimizer.param_groups
        if group["dampening"] or group["maximize"]:
            return None
        buffers = [optimizer.state.get(p, {}).get("momentum_buffer") for p in parameters]
        velocity = [torch.zeros_like(p) if b is None else b for p, b in zip(parameters, buffers, strict=True)]
        return cls(
            learning_rate=group["lr"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            velocity=velocity if any(b is not None for b in buffers) else None,
        )
