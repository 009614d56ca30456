"""The optimiser of a network's weights, in a search and in a training alike."""

from __future__ import annotations

import torch
from torch import nn


def sgd(
    network: nn.Module,
    rate: float,
    momentum: float,
    *,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    fused: bool | None = None,
) -> torch.optim.SGD:
    """SGD with momentum for all parameters of a network, which is on its device already.

    `fused`: one kernel does the whole step; None: on a GPU. PyTorch's fused step fails where some parameters have a
    momentum and others get their first gradient only now, as on single paths, where most operations wait for their
    turn. So all momenta are there from the start, as zeros, which gives the same numbers: the first momentum of a
    parameter is 0.9 * 0 + g = g. A state of another device, or of a time without such zeros, is completed when loaded.
    """
    if fused is None:
        fused = next(network.parameters()).device.type == "cuda"
    optimizer = torch.optim.SGD(
        network.parameters(), rate, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused or None
    )

    def complete(optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["fused"] = fused or None
            for parameter in group["params"] if fused and group["momentum"] else ():
                if optimizer.state[parameter].get("momentum_buffer") is None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    complete(optimizer)
    optimizer.register_load_state_dict_post_hook(complete)
    return optimizer
