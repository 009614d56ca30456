"""A network that never changes: what it takes says how fast the machine is at the moment."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.estimation.latency.onnx_programs import Timed

_BLOCKS = ((16, 64, 24, 3, 2), (24, 96, 24, 3, 1), (24, 96, 40, 5, 2), (40, 240, 80, 3, 2), (80, 480, 112, 5, 1))
"""Of each block: channels in, inside and out, kernel, stride."""


def sentinel() -> Timed:
    """Makes the network: pointwise and depthwise convolutions, squeeze-and-excite, as mobile networks have them.

    Returns:
        The network, always with the same weights, and the shape of its input.

    Example:
        >>> network, (shape,) = sentinel()
        >>> network(torch.zeros(shape)).shape
        torch.Size([1, 10])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = [_Block(*sizes) for sizes in _BLOCKS]
        last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_BLOCKS[-1][2], 10))
        return nn.Sequential(*blocks, last).eval(), ((1, _BLOCKS[0][0], 56, 56),)


class _Block(nn.Module):
    """An inverted residual block with squeeze-and-excite. It is written here, not taken from the spaces: whatever
    changes there, tables that were measured before and after can be compared."""

    def __init__(self, channels_in: int, inside: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        conv = nn.Conv2d(inside, inside, kernel, stride, kernel // 2, groups=inside, bias=False)
        self.expand = nn.Sequential(nn.Conv2d(channels_in, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.ReLU())
        self.depthwise = nn.Sequential(conv, nn.BatchNorm2d(inside), nn.Hardswish())
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inside, 16, 1), nn.ReLU(), nn.Conv2d(16, inside, 1), nn.Hardsigmoid()
        )
        self.project = nn.Sequential(nn.Conv2d(inside, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        inside = self.depthwise(self.expand(x))
        made: Tensor = self.project(inside * self.squeeze(inside))
        return made + x if self.residual else made
