"""Image files as uint8 tensors: the one way a file becomes what a network is given."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from supernet.runtime.errors import InputError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L"})
_WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L"})
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def image_shape(path: str | Path) -> tuple[int, int, int]:
    """Return (channels, height, width) of an image file: 1 channel for grey ones, 3 for everything else."""
    with _opened(path) as image:
        return 1 if image.mode in _GREY_MODES else 3, image.height, image.width


def read_image(path: str | Path, shape: tuple[int, int, int], *, resize: bool = True) -> Tensor:
    """Return an image file as uint8 of `shape` (channels 1 or 3, height, width).

    Another size is resized (bilinear, antialiased, without keeping the aspect) or, with `resize=False`, refused.
    16-bit grey is scaled to 8 bits by its full range. Raises InputError naming the file if it cannot be read.
    """
    _, height, width = shape
    with _opened(path) as image:
        if not resize and (image.height, image.width) != (height, width):
            raise InputError(
                f"{path}: {image.height} x {image.width} pixels where others have {height} x {width}; "
                f"set data.size=[H,W] to resize them all"
            )
        return as_tensor(image, shape, path)


def as_tensor(image: Image.Image, shape: tuple[int, int, int], origin: str | Path) -> Tensor:
    """Return an opened image as `read_image` would; `origin` names it in error messages."""
    channels, height, width = shape
    image = ImageOps.exif_transpose(image)
    converted = _eight_bits(image, origin).convert("L" if channels == 1 else "RGB")
    if converted.size != (width, height):
        converted = converted.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.array(converted, dtype=np.uint8).reshape(height, width, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """The image, turned as its EXIF orientation says; whatever a damaged file raises becomes one line."""
    try:
        with Image.open(path) as image:
            yield ImageOps.exif_transpose(image)
    except InputError:
        raise
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable image ({reason}); repair or remove the file") from error


def _eight_bits(image: Image.Image, path: str | Path) -> Image.Image:
    if image.mode == "F":
        raise InputError(f"{path}: floating-point pixels; save it with 8 or 16 bits per channel")
    if image.mode not in _WIDE_MODES:
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"{path}: grey values {values.min()}..{values.max()}; save it with 8 or 16 bits per channel")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
