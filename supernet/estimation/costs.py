"""Counts what a network costs: parameters and multiply-adds."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from supernet.execution.modes import running
from supernet.space.cells import reference


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
