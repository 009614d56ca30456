"""Reads image files as uint8 tensors. Training and prediction both use these functions, so they see equal pixels."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

from supernet.data import dicom
from supernet.data.levels import bits_white
from supernet.data.members import Member, Picture, content_of
from supernet.data.preparation import PADDING, PLAIN, Preparation, kept_part, padded_place
from supernet.data.upright import WHITE, WIDE_MODES, upright
from supernet.data.windows import levels
from supernet.runtime.errors import InputError
from supernet.runtime.reading import why_no_file

# Formats that Pillow names without holding their pixels, and EPS, for which it would start another program.
_USUAL = ("JPEG", "PNG")
_UNREADABLE = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
_ENDINGS = Image.registered_extensions()  # loads Pillow's readers; Image.ID is complete from here on
# Pillow tries one after the other; what most files are comes first.
FORMATS = tuple(sorted((name for name in Image.ID if name not in _UNREADABLE), key=lambda name: name not in _USUAL))
SUFFIXES = frozenset(ending for ending, name in _ENDINGS.items() if name in FORMATS) | dicom.SUFFIXES

_GREY_MODES = frozenset({"1", "L", "LA", "La"}) | WIDE_MODES
_SIXTEEN = re.compile(";16[BLN]")  # of a channel, in Pillow's words for how a file stores pixels
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
_SEARCHED_SIDE = 512  # pixels; the orientation of a larger PNG is left for the reading, see `read_header`
# What Pillow's readers raise where a file is damaged; InputError is a ValueError and goes through as it is.
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(RuntimeError, AssertionError, NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError),
)


def is_image_file(path: str | Path) -> bool:
    """Says whether a file of a folder is taken for an image: by its ending, or, without one, where it has DICOM's mark.

    No file with an ending is opened. A DICOMDIR, the list that lies beside the pictures of a disc, is none of them.

    Args:
        path: any name.

    Example:
        >>> is_image_file("cat.JPG"), is_image_file("labels.csv")
        (True, False)
    """
    place = Path(path)
    return place.suffix.lower() in SUFFIXES or (place.name.casefold() != "dicomdir" and dicom.is_dicom(place))


@dataclass(frozen=True)
class Header:
    """What a file says of its picture.

    Args:
        channels: 1 (grey) or 3 (colour).
        height: in pixels, as the picture is shown.
        width: in pixels, as the picture is shown.
        wide: whether it is grey of more than 8 bits, or of floating-point numbers.
        cut: whether it is of 16 bits with colour or transparency, of which the upper 8 are read.
        transparent: whether it has an alpha channel or a transparent colour.
        windowed: whether it names a window of its grey values itself, as DICOM can.
        orientation: from 1 to 8, as EXIF has it: how what is stored is turned before it is shown. Height and width
            are those after that.
        pages: whether the file holds several pictures, of which the first is read.
    """

    channels: int
    height: int
    width: int
    wide: bool
    cut: bool
    transparent: bool
    windowed: bool = False
    orientation: int = 1
    pages: bool = False


def read_header(path: Picture) -> Header:
    """Reads what an image file says of itself, without decoding its pixels where that can be avoided.

    Args:
        path: the file, or a member of a shard.

    Returns:
        Its header.

    Raises:
        InputError: it is no image; the message names it.
    """
    if _is_dicom(path):
        said = dicom.describe(path)
        wide = said.channels == 1 and said.bits > 8
        return Header(
            said.channels, said.height, said.width, wide, said.channels == 3 and said.bits > 8, False, said.windowed
        )
    with _opened(path) as image:
        width, height = image.size
        orientation = _orientation(image)
        if orientation in _SIDEWAYS:
            width, height = height, width
        cut = image.mode not in WIDE_MODES and any(_SIXTEEN.search(_stored_as(tile)) for tile in image.tile[:1])
        pages = image.format != "MPO" and bool(getattr(image, "is_animated", False))  # cameras add a small copy in MPO
        channels = 1 if image.mode in _GREY_MODES else 3
        wide = image.mode in WIDE_MODES
        transparent = image.has_transparency_data
        return Header(channels, height, width, wide, cut, transparent, orientation=orientation, pages=pages)


def grey_values(path: Picture) -> np.ndarray:
    """Reads the values of a grey image file of more than 8 bits, on which its window is measured.

    Args:
        path: the file.

    Returns:
        The values, of any shape; those of a DICOM file after its own scale, such as Hounsfield units.

    Raises:
        InputError: the file cannot be read, or a value is infinite or none (NaN); the message names it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[7, 4000]], dtype=np.uint16)).save(f"{folder}/grey.png")
        ...     grey_values(f"{folder}/grey.png").tolist()
        [[7, 4000]]
    """
    if _is_dicom(path):
        return dicom.grey_values(path)
    with _opened(path) as image:
        return _grey_values(upright(image), path)


def read_image(
    path: Picture, shape: tuple[int, int, int], *, resize: bool = True, preparation: Preparation = PLAIN
) -> Tensor:
    """Reads an image file, resized by bilinear interpolation with antialiasing.

    Args:
        path: the file, or a member of a shard.
        shape: the (channels, height, width) of the result; channels are 1 or 3.
        resize: whether an image of another size is resized; otherwise it is refused.
        preparation: what stands behind transparent pictures, which grey values are black and white, how to resize.

    Returns:
        The image as uint8 of `shape`.

    Raises:
        InputError: the file cannot be read or has another size; the message names it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (6, 4), "white").save(f"{folder}/white.png")
        ...     pixels = read_image(f"{folder}/white.png", (1, 2, 3))
        >>> pixels.tolist()
        [[[255, 255, 255], [255, 255, 255]]]
    """
    _, height, width = shape
    with _picture(path, preparation) as image:
        turned = upright(image)
        if not resize and (turned.height, turned.width) != (height, width):
            raise InputError(
                f"{path}: {turned.height} x {turned.width} pixels where others have {height} x {width}; "
                "give a size to resize them all"
            )
        return as_tensor(turned, shape, path, preparation)


def read_sized(
    path: str | Path, shape: tuple[int, int, int], *, preparation: Preparation = PLAIN
) -> tuple[Tensor, tuple[int, int]]:
    """Reads an image file as `read_image` does, and says how large the picture is.

    Args:
        path: the file.
        shape: the (channels, height, width) of the result; channels are 1 or 3.
        preparation: as in `read_image`.

    Returns:
        The image as uint8 of `shape`, and the (height, width) of the picture as it is shown.

    Raises:
        InputError: the file cannot be read; the message names it.
    """
    with _picture(path, preparation) as image:
        turned = upright(image)
        return as_tensor(turned, shape, path, preparation), (turned.height, turned.width)


def kept(image: Image.Image) -> Image.Image:
    """Copies a picture that somebody else has opened, so that it stays as it is when they close or change theirs.

    Args:
        image: the picture, of which perhaps no pixel has been read yet.

    Returns:
        The copy, turned as its orientation says.

    Raises:
        InputError: its file is damaged or closed, or it has no pixels.
    """
    if not image.width or not image.height:
        raise InputError(f"image: {image.width} x {image.height}, which holds no pixels")
    try:
        return upright(image)
    except _BROKEN as error:
        named = getattr(image, "filename", "") or "image"
        raise InputError(f"{named}: not a readable image ({_reason(error)}); open it again, or leave it out") from error


def as_tensor(
    image: Image.Image, shape: tuple[int, int, int], origin: Picture, preparation: Preparation = PLAIN
) -> Tensor:
    """Turns an opened image into pixels as `read_image` does.

    Args:
        image: the image.
        shape: the (channels, height, width) of the result; channels are 1 or 3.
        origin: how messages name the image.
        preparation: as in `read_image`.

    Returns:
        The image as uint8 of `shape`.

    Raises:
        InputError: its pixels are of a kind that is not read.
    """
    channels, height, width = shape
    image = upright(image)
    converted = _opaque_eight_bits(image, origin, preparation).convert("L" if channels == 1 else "RGB")
    resized = _resized(converted, height, width, preparation)
    pixels = np.array(resized, dtype=np.uint8).reshape(height, width, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _is_dicom(path: Picture) -> TypeGuard[str | Path]:
    """Whether a picture is a DICOM file. Members of shards are none: pydicom reads files."""
    return not isinstance(path, Member) and dicom.is_dicom(path)


def _reason(error: BaseException) -> str:
    """What Pillow says of a damaged file, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _stored_as(tile: Sequence[Any]) -> str:
    """Pillow's word for how the pixels of a part of a file are stored, such as "RGB;16B"."""
    said = tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]
    return said if isinstance(said, str) else ""


@contextmanager
def _picture(path: Picture, preparation: Preparation) -> Iterator[Image.Image]:
    if _is_dicom(path):
        yield Image.fromarray(dicom.read_levels(path, preparation.window, preparation.window_of_file))
        return
    with _opened(path) as image:
        yield image


@contextmanager
def _opened(path: Picture) -> Iterator[ImageFile.ImageFile]:
    """The image as it is in the file. Any error that a damaged file causes becomes one line."""
    try:
        if isinstance(path, Member):
            with content_of(path) as content, Image.open(content, formats=FORMATS) as image:
                yield image
            return
        if reason := why_no_file(path):
            raise InputError(f"{path}: {reason}{', not an image file' * (reason == 'a folder')}")
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{path}: not a readable image ({_reason(error)}); repair or remove the file") from error


def _orientation(image: Image.Image) -> int:
    """How the image is turned before it is shown, from 1 to 8.

    Pillow has done that in the size of a TIFF. A PNG may name its orientation after its pixels, so asking for it where
    it does not come first decodes them all; a large picture is resized in any case, so that may wait.
    """
    named = {"exif", "Raw profile type exif"} & image.info.keys()
    if image.format == "TIFF" or (image.format == "PNG" and max(image.size) > _SEARCHED_SIDE and not named):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:  # damaged notes about a sound picture; reading it decides
        return 1
    return found if found in range(1, 9) else 1


def _opaque_eight_bits(image: Image.Image, path: Picture, preparation: Preparation) -> Image.Image:
    """The image without transparency and with 8 bits a channel, grey where it was grey."""
    if image.mode in WIDE_MODES:
        return _narrowed(image, path, preparation)
    if not image.has_transparency_data:
        return image
    grey = image.mode in _GREY_MODES
    layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    ground = Image.new("RGBA", layer.size, (preparation.ground,) * 3 + (255,))
    return Image.alpha_composite(ground, layer).convert("L" if grey else "RGB")


def _narrowed(image: Image.Image, path: Picture, preparation: Preparation) -> Image.Image:
    values = _grey_values(image, path)
    if preparation.window is None and (image.mode == "F" or values.min() < 0 or values.max() > 65535):
        kind = "floating-point pixels" if image.mode == "F" else "grey values"
        raise InputError(
            f"{path}: {kind} from {values.min():g} to {values.max():g} without a window that says which are black and "
            "white; save it with 8 or 16 bits per channel"
        )
    if preparation.window is None and preparation.white is None and WHITE in image.info:
        darkest = image.info[WHITE] - values.min()  # as it was stored; it has as many bits as the picture uses
        values = np.maximum(values - image.info[WHITE] + bits_white(int(darkest)), 0)
    white = preparation.white or bits_white(int(values.max()))
    if preparation.window is None:
        narrow = ((np.minimum(values, white) * 255 + white // 2) // white).astype(np.uint8)
    else:
        narrow = levels(values, preparation.window)
    invisible = image.info.get("transparency")
    if isinstance(invisible, int):
        narrow[values == invisible] = preparation.ground
    return Image.fromarray(narrow)


def _grey_values(image: Image.Image, path: Picture) -> np.ndarray:
    values = np.asarray(image)
    if image.mode != "F":
        return values.astype(np.int64)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: some of its values are infinite or none (NaN); correct or remove the file")
    return values.astype(np.float64)


def _resized(image: Image.Image, height: int, width: int, preparation: Preparation) -> Image.Image:
    if image.size == (width, height) and not preparation.border:
        return image
    if preparation.fit == "squash":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    if preparation.fit == "pad":
        left, top, inner_width, inner_height = padded_place(*image.size, height, width)
        whole = Image.new(image.mode, (width, height), PADDING if image.mode == "L" else (PADDING,) * 3)
        whole.paste(image.resize((inner_width, inner_height), Image.Resampling.BILINEAR), (left, top))
        return whole
    kept = kept_part(*image.size, height, width, preparation.border)
    return image.resize((width, height), Image.Resampling.BILINEAR, kept)
