"""What all mobile spaces of the literature can be told: width, sharing, and for which images they are meant.

- `width` multiplies channels, which are then rounded to eights (MobileNet's width multiplier).
- `image_size` says for which images the network is meant. The published ones halve height and width five times, for 224
  pixels. For smaller images the first halvings are left out, that of the stem before all, until a side of 3 pixels or
  more is left at the end: 32 and 28 pixels are halved three times, 8 pixels once.
- `sharing` says how candidates share weights. With "nested", kernels, expansions and depths are decisions of their own.
  With "separate", each block is one decision among all combinations, and blocks can be left out instead of a depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from supernet.runtime.errors import InputError
from supernet.space.inverted_residual import rounded
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage

Sharing = Literal["nested", "separate"]

_USUAL = 224  # pixels of an image side in the papers
_LEAST = 3  # pixels of a side that are left at the end
_WIDEST = 16.0


@dataclass(frozen=True)
class MobileSize:
    """What every space can be told.

    Args:
        width: multiplies channels.
        sharing: "nested" or "separate".
        image_size: side of the images that the network is meant for; None: the smallest of `resolutions`, or 224.
        resolutions: sides to which images are resized; (): images stay as they are.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> size = MobileSize(width=0.5, sharing="nested", image_size=8, resolutions=())
        >>> space = size.space([Stage((16,)), Stage((24,), stride=2)], stem=32)
        >>> space.stem, space.stem_stride, [(stage.channels, stage.stride) for stage in space.stages]
        (16, 1, [((8,), 1), ((16,), 2)])
    """

    width: float
    sharing: Sharing
    image_size: int | None
    resolutions: Sequence[int]

    def __post_init__(self) -> None:
        if isinstance(self.resolutions, str) or not isinstance(self.resolutions, Sequence):
            raise InputError(f"resolutions={str(self.resolutions)[:40]}: needs sides in pixels, such as (128, 160)")
        number = isinstance(self.width, int | float) and not isinstance(self.width, bool)
        if not (number and math.isfinite(self.width) and 0.0 < self.width <= _WIDEST):
            raise InputError(f"width={self.width}: needs to lie between 0 and {_WIDEST:g}, such as 0.5")
        if self.image_size is not None and not (type(self.image_size) is int and 1 <= self.image_size <= 1 << 12):
            raise InputError(f"image_size={self.image_size}: needs a whole number of pixels from 1 to 4,096")

    def channels(self, count: int) -> int:
        """A number of channels, scaled."""
        return rounded(count * self.width)

    def head(self, count: int) -> int:
        """Channels after the last stage, which are never fewer than published (MobileNetV2)."""
        return rounded(count * max(1.0, self.width))

    def space(self, stages: Sequence[Stage], *, stem: int, **settings: Any) -> Mobile:
        """The space of these stages in this size.

        Args:
            stages: as published.
            stem: channels of the first convolution as published; its stride is 2.
            settings: others of `Mobile`, which are not scaled.

        Returns:
            The space.

        Raises:
            InputError: a setting is out of its range.
        """
        given = self.image_size or min(self.resolutions, default=_USUAL)
        strides = _fitted([2, *(stage.stride for stage in stages)], given)
        shared = [_shared(stage, self.sharing) for stage in stages]
        sized = [
            replace(stage, channels=tuple(sorted({*map(self.channels, stage.channels)})), stride=stride)
            for stage, stride in zip(shared, strides[1:], strict=True)
        ]
        return Mobile(
            tuple(sized),
            stem=self.channels(stem),
            stem_stride=strides[0],
            resolutions=tuple(self.resolutions),
            sharing=self.sharing,
            **settings,
        )


def _fitted(strides: Sequence[int], side: int) -> list[int]:
    """The strides of stem and stages for an image of this side: its first halvings are left out if it is small."""
    halvings = max(n for n in range(len(strides) + 1) if n == 0 or side / 2**n >= _LEAST)
    left_out = sum(stride == 2 for stride in strides) - halvings
    made = []
    for stride in strides:
        drops = stride == 2 and left_out > 0
        left_out -= drops
        made.append(1 if drops else stride)
    return made


def _shared(stage: Stage, sharing: Sharing) -> Stage:
    """A stage as this sharing has it: separate blocks are left out one by one where nested ones have a depth."""
    if sharing == "nested":
        return replace(stage, skip=False, grouped=False)
    left_out = stage.skip or len(stage.depths) > 1
    return replace(stage, depths=stage.depths[-1:], channels=stage.channels[-1:], skip=left_out)


def around(depth: int) -> tuple[int, ...]:
    """The depths that MnasNet searches around a published one (section 4.1).

    Args:
        depth: blocks of a stage.

    Returns:
        One block less where that leaves any, as many, and one more.

    Example:
        >>> around(1), around(3)
        ((1, 2), (2, 3, 4))
    """
    return tuple(n for n in (depth - 1, depth, depth + 1) if n >= 1)
