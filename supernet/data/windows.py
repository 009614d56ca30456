"""Windows of grey pictures with more than 8 bits: which of their values become black and which white."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from supernet.runtime.errors import InputError

Window = tuple[float, float]
Item = TypeVar("Item")
AUTO, NONE = "auto", "none"
_PERCENTILES = (0.5, 99.5)
_IMAGES, _PIXELS = 500, 10_000  # as many images, and pixels of each, are measured
_LARGEST = 1e9  # a bound of a window; no image has such values


def asked_window(window: str | Sequence[float] | None) -> str | Window:
    """Checks a window that a person asks for.

    Args:
        window: "auto" measures it on the training images; two numbers are the values that become black and white;
            "none" or None takes the whole range of the bits that the training images use.

    Returns:
        "auto", "none" or the two numbers.

    Raises:
        InputError: it is something else.

    Example:
        >>> asked_window([-1000, 400]), asked_window(None)
        ((-1000.0, 400.0), 'none')
    """
    if window is None or window in (AUTO, NONE):
        return NONE if window is None else str(window)
    numbers = tuple(window) if isinstance(window, list | tuple) else ()
    if len(numbers) != 2 or not all(type(each) in (int, float) for each in numbers):
        raise InputError(f"window={window}: use auto, none, or two numbers [black,white]")
    return checked_window((float(numbers[0]), float(numbers[1])))


def checked_window(window: Window) -> Window:
    """Returns the window. Raises InputError where white is not above black, or a bound is no number.

    Args:
        window: the values that become black and white.
    """
    low, high = window
    if not (-_LARGEST <= low < high <= _LARGEST):
        raise InputError(f"window=[{low:g},{high:g}]: needs two numbers, the second above the first")
    return window


def chosen_for_measuring(images: Sequence[Item]) -> list[Item]:
    """Chooses the images on which a window is measured: all, or 500 evenly spread.

    Args:
        images: the images, or their files.

    Example:
        >>> chosen_for_measuring(["a.png", "b.png"]), len(chosen_for_measuring(range(2000)))
        (['a.png', 'b.png'], 500)
    """
    count = len(images)
    return [images[place] for place in np.linspace(0, count - 1, min(count, _IMAGES)).astype(int).tolist()]


def told_window(window: Window) -> str:
    """The window in words, for notes.

    Example:
        >>> told_window((20.5, 4000))
        '20.5 to 4,000 become 256 levels'
    """
    low, high = (f"{round(bound, 2):,}".removesuffix(".0") for bound in window)
    return f"{low} to {high} become 256 levels"


def measured_window(images: Iterable[np.ndarray]) -> Window | None:
    """Measures a window on images: the 0.5th and the 99.5th percentile of their pixels.

    A few bright markers or dead pixels then take no levels away from everything else.

    Args:
        images: grey values of any shape; of a large one some 10,000 pixels are measured, evenly spread.

    Returns:
        The values that become black and white; None where there is no image or hardly any difference in them.

    Example:
        >>> measured_window([np.arange(1001)])
        (5.0, 995.0)
        >>> measured_window([np.zeros(10)]) is None
        True
    """
    parts = [_spread(image) for image in images if image.size]  # of a picture that is padding alone nothing is left
    if not parts:
        return None
    low, high = (float(value) for value in np.percentile(np.concatenate(parts), _PERCENTILES))
    return (low, high) if low < high else None


def levels(values: np.ndarray, window: Window) -> np.ndarray:
    """Turns grey values into levels: black and what is below becomes 0, white and what is above becomes 255.

    Args:
        values: of any shape.
        window: the values that become black and white.

    Returns:
        The levels as uint8, in the shape of `values`.

    Example:
        >>> levels(np.array([-50, 0, 50, 100, 900]), (0, 100)).tolist()
        [0, 0, 128, 255, 255]
    """
    low, high = window
    shares = (values.astype(np.float64) - low) / (high - low)
    return np.floor(np.clip(shares, 0, 1) * 255 + 0.5).astype(np.uint8)


def _spread(image: np.ndarray) -> np.ndarray:
    flat = image.reshape(-1)
    if len(flat) > _PIXELS:
        flat = flat[np.linspace(0, len(flat) - 1, _PIXELS).astype(np.int64)]
    return flat.astype(np.float64)
