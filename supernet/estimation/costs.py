"""Counts what a network costs: parameters and multiply-adds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
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
