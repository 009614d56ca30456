"""What a network costs: parameters and multiply-adds."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from supernet.execution.modes import running
from supernet.space.cells import reference


def parameters(network: nn.Module) -> int:
    """The number of learnt values, without an auxiliary head, which serves training only."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary."))


def macs(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-adds for one image of `shape` (channels, height, width): those of convolutions and linear layers.

    Norms, pooling and additions are not counted. Published "mult-adds" of cells follow various conventions and are
    up to 8 % higher.
    """
    training = network.training
    like = next(network.parameters())
    image = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
    counter = FlopCounterMode(display=False)
    network.eval()
    try:
        with torch.no_grad(), running(network, reference), counter:  # compiled kernels of a faster one go uncounted
            network(image)
    finally:
        network.train(training)
    return int(counter.get_total_flops()) // 2
