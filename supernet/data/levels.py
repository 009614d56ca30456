"""Turns arrays of many kinds of numbers into levels from 0 to 255."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from supernet.data.windows import AUTO, Window, asked_window, chosen_for_measuring, levels, measured_window, told_window
from supernet.runtime.errors import InputError

_ALLOWED = "use uint8, whole numbers from 0 to 65535, floats in [0, 1] or [0, 255], or a window=[black,white]"
_CHUNK = 1024  # images converted at a time
_BRIGHT = 128  # fractions that reach this are levels of 255; below they may be anything


def bits_white(value: int) -> int:
    """Returns the largest number of as many bits as a value has, at least 8.

    Args:
        value: the brightest value of some images.

    Returns:
        The value that is white in images with this number of bits.

    Example:
        >>> bits_white(4000)  # 12 bits
        4095
    """
    return int(2 ** max(8, int(value).bit_length()) - 1)


@dataclass(frozen=True)
class Scale:
    """How the numbers of all parts of a data set become levels.

    Args:
        kind: NumPy's kind of the numbers: "b" (bool), "i" (whole) or "f" (float).
        white: the number that becomes 255.
        note: what a person should know of it, or "".
        window: the numbers that become 0 and 255, in place of 0 and `white`; None for what has 8 bits.
    """

    kind: str
    white: float
    note: str = ""
    window: Window | None = None

    def apply(self, images: np.ndarray, name: str) -> np.ndarray:
        """Returns images (N, ...) as uint8. Raises InputError, begun by `name`, where they do not fit this scale."""
        if _kind(images) != self.kind:
            raise InputError(f"{name} is {images.dtype}, train_images of another kind; save all parts in one way")
        if images.dtype == np.uint8 and self.white == 255:
            return images
        if images.dtype == np.bool_:
            return images.astype(np.uint8) * np.uint8(255)
        low, high = _range(images, name)
        if self.window is None and (low < 0 or (self.white <= 255 and high > self.white)):
            raise InputError(f"{name} goes from {low:g} to {high:g}, train_images from 0 to {self.white:g} at most")
        result = np.empty(images.shape, np.uint8)
        for start in range(0, len(images), _CHUNK):
            part = images[start : start + _CHUNK].astype(np.float64)
            if self.window is not None:
                result[start : start + _CHUNK] = levels(part, self.window)
            else:
                result[start : start + _CHUNK] = np.floor(np.minimum(part, self.white) * (255 / self.white) + 0.5)
        return result


def scale_of(
    images: np.ndarray,
    name: str,
    window: str | Sequence[float] | None = None,
    kept: Callable[[], Sequence[int]] | None = None,
) -> Scale:
    """Finds the scale of training images.

    Args:
        images: (N, ...) numbers of any kind.
        name: how messages name them.
        window: of whole numbers of more than 8 bits: "auto" measures it, two numbers give it (for floats, too), and
            "none" or None takes the range of the bits.
        kept: the places of the images on which a window is measured, asked for where it is; None: all.

    Returns:
        The scale.

    Raises:
        InputError: the numbers are of another kind, or their range leaves a doubt.

    Example:
        >>> scale_of(np.array([[0.0, 0.5, 1.0]]), "train_images").white
        1
    """
    kind, asked = _kind(images), asked_window(window)
    if isinstance(asked, tuple):
        if kind not in "if" or images.dtype == np.uint8:
            raise InputError(f"window={list(asked)}: {name} is {images.dtype}, which needs none; leave it out")
        low, high = _range(images, name)
        return Scale(kind, 255, f"{name} is {images.dtype} from {low:g} to {high:g}: {told_window(asked)}", asked)
    if images.dtype == np.uint8:
        return Scale(kind, 255)
    if kind == "b":
        return Scale(kind, 1, f"{name} is bool: false and true read as 0 and 255")
    if kind not in "if":
        raise InputError(f"{name} is {images.dtype} of shape {images.shape}; {_ALLOWED}")
    low, high = _range(images, name)
    told = f"{name} is {images.dtype} from {low:g} to {high:g}"
    if low < 0 or high > 65535:
        raise InputError(f"{told}; {_ALLOWED}: are they normalised already? That is done here")
    if kind == "i":
        white = bits_white(int(high))
        measured = None
        if asked == AUTO and white > 255:
            places = range(len(images)) if kept is None else kept()
            measured = measured_window(chosen_for_measuring([images[place] for place in places]))
        if measured is not None:
            return Scale(kind, white, f"{told}: {told_window(measured)}", measured)
        return Scale(
            kind, white, f"{told}: read as uint8" if white == 255 else f"{told}: 0 to {white:,} become 256 levels"
        )
    if high <= 1:
        return Scale(kind, 1, f"{told}: 0 to 1 become 256 levels")
    if high <= 255 and (high >= _BRIGHT or bool((images == np.floor(images)).all())):
        return Scale(kind, 255, f"{told}: read as levels from 0 to 255")
    raise InputError(f"{told}; {_ALLOWED}")


def _kind(images: np.ndarray) -> str:
    return images.dtype.kind.replace("u", "i")


def _range(images: np.ndarray, name: str) -> tuple[float, float]:
    if images.size == 0:
        raise InputError(f"{name} is empty, of shape {images.shape}")
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        raise InputError(f"{name} holds numbers that are not finite; {_ALLOWED}")
    return low, high
