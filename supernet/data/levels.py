"""Turns arrays of many kinds of numbers into levels from 0 to 255."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supernet.runtime.errors import InputError

_ALLOWED = "use uint8, whole numbers from 0 to 65535, or floats in [0, 1] or [0, 255]"
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
    """

    kind: str
    white: float
    note: str = ""

    def apply(self, images: np.ndarray, name: str) -> np.ndarray:
        """Returns images (N, ...) as uint8. Raises InputError, begun by `name`, where they do not fit this scale."""
        if _kind(images) != self.kind:
            raise InputError(f"{name} is {images.dtype}, train_images of another kind; save all parts in one way")
        if images.dtype == np.uint8 and self.white == 255:
            return images
        if images.dtype == np.bool_:
            return images.astype(np.uint8) * np.uint8(255)
        low, high = _range(images, name)
        if low < 0 or (self.white <= 255 and high > self.white):
            raise InputError(f"{name} goes from {low:g} to {high:g}, train_images from 0 to {self.white:g} at most")
        result = np.empty(images.shape, np.uint8)
        for start in range(0, len(images), _CHUNK):
            part = images[start : start + _CHUNK].astype(np.float64)
            result[start : start + _CHUNK] = np.floor(np.minimum(part, self.white) * (255 / self.white) + 0.5)
        return result


def scale_of(images: np.ndarray, name: str) -> Scale:
    """Finds the scale of training images.

    Args:
        images: (N, ...) numbers of any kind.
        name: how messages name them.

    Returns:
        The scale.

    Raises:
        InputError: the numbers are of another kind, or their range leaves a doubt.

    Example:
        >>> scale_of(np.array([[0.0, 0.5, 1.0]]), "train_images").white
        1
    """
    kind = _kind(images)
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
