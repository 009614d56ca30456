"""An anchor-free head: from the maps of a network to the classes and the boxes of all places of a picture.

The maps are joined from the coarsest to the finest (a feature pyramid, Lin et al. 2017). Two towers of convolutions,
which all levels share, then give at each place the logits of the classes, the distances to the four sides of a box, and
the logit of how well the box is placed (FCOS, Tian et al. 2019). It is narrow, so that it costs as much as a searched
network and not thirty times that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.runtime.errors import InputError

CONSTANTS = 3  # the last columns of the output: centre x, centre y, stride
_BOX = 4
_PRIOR = 0.01  # a class's probability at the start: of thousands of places few show an object (Lin et al. 2017b)
_GROUP = 8  # channels that a group norm treats together


class Map(Protocol):
    """What a head has to know of a network's map: its channels, and how many pixels of the picture a place is wide.

    `supernet.space.heads.Feature` is one. The head says only what it needs of it: neither package imports the other.
    """

    @property
    def channels(self) -> int: ...
    @property
    def stride(self) -> int: ...


@dataclass(frozen=True)
class AnchorFree:
    """The settings of the head, and its builder.

    Args:
        classes: how many kinds of objects there are, one or more.
        width: channels of the pyramid and of the towers, a multiple of 8.
        towers: convolutions of each of the two towers.
        strides: of the maps that it reads, from fine to coarse; each a multiple of the one before.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> from types import SimpleNamespace
        >>> maps = [SimpleNamespace(channels=4, stride=8), SimpleNamespace(channels=6, stride=16)]
        >>> head = AnchorFree(classes=3, width=8, towers=1, strides=(8, 16)).build(maps)
        >>> head(torch.zeros(2, 4, 5, 6), torch.zeros(2, 6, 3, 3)).shape  # 5 x 6 + 3 x 3 places
        torch.Size([2, 39, 11])
    """

    classes: int
    width: int = 64
    towers: int = 2
    strides: tuple[int, ...] = (8, 16, 32)

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))
        if not 1 <= self.classes <= 100_000:
            raise InputError(f"classes={self.classes}: a detector needs 1 to 100,000 classes")
        if self.width < _GROUP or self.width % _GROUP or self.width > 4096:
            raise InputError(f"width={self.width}: needs a multiple of {_GROUP} up to 4,096, such as 64")
        if not 0 <= self.towers <= 16:
            raise InputError(f"towers={self.towers}: needs 0 to 16, such as 2")
        steps = zip(self.strides, self.strides[1:], strict=False)
        if not self.strides or self.strides[0] < 1 or any(fine >= coarse or coarse % fine for fine, coarse in steps):
            raise InputError(
                f"strides={list(self.strides)}: needs strides from fine to coarse, each a multiple of the one before, "
                "such as 8, 16, 32"
            )

    def build(self, features: Sequence[Map]) -> AnchorFreeHead:
        """Builds the head for a network.

        Args:
            features: the maps that the network gives, in their order.

        Returns:
            A module that is called with those maps, and gives a tensor (`AnchorFreeHead.forward`).

        Raises:
            InputError: the network lacks a map of one of the strides.
        """
        of_stride = {feature.stride: place for place, feature in enumerate(features)}  # the last one of a stride counts
        if missing := [stride for stride in self.strides if stride not in of_stride]:
            raise InputError(
                f"strides={list(self.strides)}: the network has no map of stride {missing[0]}; it has "
                f"{', '.join(map(str, of_stride)) or 'none'}; use these, or a space whose stem divides the image more"
            )
        used = [of_stride[stride] for stride in self.strides]
        return AnchorFreeHead(self, [features[place].channels for place in used], used)


class AnchorFreeHead(nn.Module):
    """Pyramid, towers, predictors. `AnchorFree.build` makes it.

    Args:
        settings: of the head.
        channels: of each map that it reads.
        used: which of the network's maps these are.
    """

    def __init__(self, settings: AnchorFree, channels: Sequence[int], used: Sequence[int]) -> None:
        super().__init__()
        self.settings, self.used, width = settings, tuple(used), settings.width
        self.lateral = nn.ModuleList(_convolution(count, width, 1) for count in channels)
        self.output = nn.ModuleList(nn.Sequential(_convolution(width, width, 3), nn.ReLU()) for _ in channels)
        self.class_tower, self.box_tower = _tower(width, settings.towers), _tower(width, settings.towers)
        # A convolution to one channel is what engines.Engine leaves to the slow reference: of one class, two are made.
        self.classes = nn.Conv2d(width, max(settings.classes, 2), 3, padding=1)
        self.boxes = nn.Conv2d(width, _BOX + 1, 3, padding=1)  # four distances, and the quality
        self.sizes = nn.Parameter(torch.zeros(len(channels)))  # learnt: how large the boxes of a level are
        for predictor, start in ((self.classes, -math.log((1 - _PRIOR) / _PRIOR)), (self.boxes, 0.0)):
            nn.init.normal_(predictor.weight, std=0.01)
            assert predictor.bias is not None
            nn.init.constant_(predictor.bias, start)

    def forward(self, *maps: Tensor) -> Tensor:
        """Computes what is at each place.

        Args:
            maps: of the network, (batch, channels, height, width) each.

        Returns:
            (batch, places, classes + 8), in single precision or better: the logits of the classes, the logit of the
            quality, the box as x1, y1, x2, y2 in pixels of the picture, and the constants of the place: centre x,
            centre y, stride. Places go level by level, from fine to coarse, each row by row.
        """
        levels = [lateral(maps[place]) for lateral, place in zip(self.lateral, self.used, strict=True)]
        strides = self.settings.strides
        for fine in reversed(range(len(levels) - 1)):
            levels[fine] = levels[fine] + _enlarged(levels[fine + 1], strides[fine + 1] // strides[fine], levels[fine])
        found = [
            self._level(output(level), stride, size)
            for level, output, stride, size in zip(levels, self.output, strides, self.sizes, strict=True)
        ]
        return torch.cat(found, 1)

    def _level(self, level: Tensor, stride: int, size: Tensor) -> Tensor:
        logits = _by_place(self.classes(self.class_tower(level)))[..., : self.settings.classes]
        raw = _by_place(self.boxes(self.box_tower(level)))
        centres = _centres(level, stride, raw.dtype)
        # 2 x stride: what comes out near 1 is then a box of a size that this level is meant for.
        reach = F.softplus(raw[..., :_BOX] + size) * (2 * stride)
        sides = torch.cat((centres - reach[..., :2], centres + reach[..., 2:]), -1)
        strides = torch.full_like(centres[:, :1], stride)
        constants = torch.cat((centres, strides), -1).expand(level.shape[0], -1, -1)
        return torch.cat((logits, raw[..., _BOX:], sides, constants), -1)


def level_sizes(height: int, width: int, strides: Sequence[int]) -> list[int]:
    """Counts the places of each level.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        strides: of the levels.

    Returns:
        The places of each; a stride that does not divide a side begins one more.

    Example:
        >>> level_sizes(24, 33, (8, 16))
        [15, 6]
    """
    return [-(-height // stride) * -(-width // stride) for stride in strides]


def _convolution(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


def _tower(width: int, length: int) -> nn.Sequential:
    # The levels share the weights and differ in their statistics: group norms have none that they could mix.
    layers: list[nn.Module] = []
    for _ in range(length):
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        layers += [conv, nn.GroupNorm(width // _GROUP, width), nn.ReLU()]
    return nn.Sequential(*layers)


def _enlarged(coarse: Tensor, times: int, fine: Tensor) -> Tensor:
    """Repeats the places of a coarse map over those of a finer one, whose last row and column may end earlier."""
    return F.interpolate(coarse, scale_factor=float(times), mode="nearest")[..., : fine.shape[2], : fine.shape[3]]


def _by_place(x: Tensor) -> Tensor:
    """(batch, values, height, width) -> (batch, height x width, values), in single precision or better.

    Half precision cannot tell neighbouring pixels of a large picture apart.
    """
    return x.flatten(2).transpose(1, 2).to(torch.promote_types(x.dtype, torch.float32))


def _centres(level: Tensor, stride: int, dtype: torch.dtype) -> Tensor:
    """(height x width, 2): x and y of the centres of all places, in pixels of the picture."""
    height, width = level.shape[2:]
    down, across = ((torch.arange(n, device=level.device, dtype=torch.float32) + 0.5) * stride for n in (height, width))
    return torch.stack((across.repeat(height), down.repeat_interleave(width)), -1).to(dtype)
