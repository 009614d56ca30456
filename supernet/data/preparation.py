"""How a picture becomes pixels, and where its own pixels lie then. Training and prediction prepare pictures alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.data.windows import Window, checked_window
from supernet.runtime.errors import InputError

PADDING = 114  # the level of grey around a picture with fit "pad"
_PLAIN_TYPES = {"fit": str, "window": tuple, "window_of_file": bool}  # in a model's file; whole numbers otherwise


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes pixels. It belongs to a model as its normalisation does.

    Args:
        white: the value of a 16-bit grey picture that becomes 255, where there is no window; what is brighter becomes
            255, too. None takes the largest value of as many bits as the picture uses, such as 4095.
        ground: the level behind transparent pictures, from 0 (black) to 255 (white).
        fit: "squash" resizes without keeping the aspect; "crop" keeps it and takes the middle; "pad" keeps it and lays
            the whole picture in the middle of a grey ground of level 114.
        border: pixels on every side that are cut away after resizing, with fit "crop". 16 with 224 x 224 is the usual
            evaluation on ImageNet, which resizes the shorter side to 256.
        window: the values of grey of more than 8 bits that become 0 and 255; None takes 0 and `white`.
        window_of_file: whether a window that the file itself names (DICOM's) comes before both.

    Raises:
        InputError: a setting is out of its range.
    """

    white: int | None = None
    ground: int = 255
    fit: str = "squash"
    border: int = 0
    window: Window | None = None
    window_of_file: bool = True

    def __post_init__(self) -> None:
        if self.fit not in ("squash", "crop", "pad"):
            raise InputError(f"fit={self.fit}: use squash, crop or pad")
        if not 0 <= self.ground <= 255:
            raise InputError(f"ground={self.ground}: use a level from 0 (black) to 255 (white)")
        if self.border < 0 or (self.border and self.fit != "crop"):
            raise InputError(f"border={self.border}: needs 0 or more pixels, and fit=crop")
        if self.white is not None and not 1 <= self.white <= 65535:
            raise InputError(f"white={self.white}: use a value from 1 to 65535")
        if self.window is not None:
            checked_window(self.window)

    @classmethod
    def from_plain(cls, values: Mapping[str, object]) -> Preparation:
        """Returns the preparation that a model's file describes. Raises TypeError or InputError where it has none."""
        settings = dict(values)
        window = settings.pop("window", None)
        if isinstance(window, list | tuple) and [type(bound) in (int, float) for bound in window] == [True, True]:
            window = settings["window"] = (float(window[0]), float(window[1]))
        elif window is not None:
            raise TypeError(f"preparation: window={window!r}")
        for name, value in settings.items():
            if type(value) is not _PLAIN_TYPES.get(name, int) and (name, value) != ("white", None):
                raise TypeError(f"preparation: {name}={value!r}")
        return cls(**settings)  # type: ignore[arg-type]


PLAIN = Preparation()


@dataclass(frozen=True)
class Placement:
    """Where the pixels of a picture lie in its prepared image: x * scale_x + left, and the same from top to bottom.

    Args:
        scale_x: pixels of the prepared image for one of the picture, from left to right.
        scale_y: the same from top to bottom.
        left: where the picture's left edge lies in the prepared image, in its pixels; below 0 where it is cut off.
        top: where its upper edge lies.
        width: of the picture, in pixels.
        height: of the picture, in pixels.

    Example:
        >>> placed = placement(40, 20, (3, 80, 80), Preparation(fit="pad"))
        >>> placed.forward(torch.tensor([[0.0, 0.0, 40.0, 20.0]]))
        tensor([[ 0., 20., 80., 60.]])
        >>> placed.back(torch.tensor([[0.0, 0.0, 80.0, 60.0]]))
        tensor([[ 0.,  0., 40., 20.]])
    """

    scale_x: float
    scale_y: float
    left: float
    top: float
    width: int
    height: int

    def forward(self, boxes: Tensor) -> Tensor:
        """Takes boxes from the picture's pixels to those of the prepared image.

        Args:
            boxes: (..., 4), x1 y1 x2 y2 as floats.

        Returns:
            The boxes of the same shape, not clipped.
        """
        return boxes * boxes.new_tensor(self._scales()) + boxes.new_tensor(self._offsets())

    def back(self, boxes: Tensor) -> Tensor:
        """Takes boxes from the prepared image's pixels to those of the picture.

        Args:
            boxes: (..., 4), x1 y1 x2 y2 as floats.

        Returns:
            The boxes of the same shape, clipped to the picture.
        """
        found = (boxes - boxes.new_tensor(self._offsets())) / boxes.new_tensor(self._scales())
        sides = boxes.new_tensor((self.width, self.height, self.width, self.height))
        return torch.minimum(found.clamp_min(0), sides)

    def _scales(self) -> tuple[float, ...]:
        return (self.scale_x, self.scale_y) * 2

    def _offsets(self) -> tuple[float, ...]:
        return (self.left, self.top) * 2


def placement(width: int, height: int, shape: tuple[int, int, int], preparation: Preparation = PLAIN) -> Placement:
    """Says where the pixels of a picture lie after `as_tensor` or `read_image` with the same arguments.

    Args:
        width: of the picture as it is shown (turned as its EXIF orientation says), in pixels.
        height: of the picture as it is shown, in pixels.
        shape: the (channels, height, width) of the prepared image.
        preparation: how the picture becomes pixels.

    Returns:
        The placement, by which boxes go to and fro.

    Example:
        >>> placement(10, 20, (3, 40, 40))
        Placement(scale_x=4.0, scale_y=2.0, left=0.0, top=0.0, width=10, height=20)
    """
    _, new_height, new_width = shape
    if preparation.fit == "pad":
        left, top, inner_width, inner_height = padded_place(width, height, new_height, new_width)
        return Placement(inner_width / width, inner_height / height, float(left), float(top), width, height)
    kept = (0.0, 0.0, float(width), float(height))
    if preparation.fit == "crop":
        kept = kept_part(width, height, new_height, new_width, preparation.border)
    scale_x, scale_y = new_width / (kept[2] - kept[0]), new_height / (kept[3] - kept[1])
    return Placement(scale_x, scale_y, 0.0 - kept[0] * scale_x, 0.0 - kept[1] * scale_y, width, height)


def kept_part(
    width: int, height: int, new_height: int, new_width: int, border: int
) -> tuple[float, float, float, float]:
    """Says which part of a picture fit "crop" keeps.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        new_height: of the prepared image, in pixels.
        new_width: of the prepared image, in pixels.
        border: pixels of the resized picture that are cut away on every side.

    Returns:
        (left, top, right, bottom) in pixels of the picture.
    """
    scale = max((new_height + 2 * border) / height, (new_width + 2 * border) / width)
    kept_width, kept_height = min(width, new_width / scale), min(height, new_height / scale)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return left, top, left + kept_width, top + kept_height


def padded_place(width: int, height: int, new_height: int, new_width: int) -> tuple[int, int, int, int]:
    """Says where fit "pad" lays a picture.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        new_height: of the prepared image, in pixels.
        new_width: of the prepared image, in pixels.

    Returns:
        (left, top, width, height) of the resized picture within the prepared image, in its pixels.
    """
    scale = min(new_height / height, new_width / width)
    inner_width = max(1, min(new_width, round(width * scale)))
    inner_height = max(1, min(new_height, round(height * scale)))
    return (new_width - inner_width) // 2, (new_height - inner_height) // 2, inner_width, inner_height
