"""Draws what a model found into a picture, with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing
from supernet.runtime.reading import is_folder

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; the darker ones first.
_COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66))
SAVED = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF"}
"""The endings of files in which pictures are saved, and the names of their forms."""
_QUALITY = 95
_LONGEST_SIDE = 4096  # of an enlarged picture, in pixels: a line of pixels does not become a wall
_LONGEST = 40  # characters of a label
_HEAT = np.array([[0, 0, 0], [86, 26, 109], [187, 55, 84], [249, 142, 9], [252, 255, 164]], np.float64)


@dataclass(frozen=True)
class Drawn:
    """A box with a label, to be drawn.

    Args:
        box: x1, y1, x2, y2 in pixels of the picture.
        label: what is written at it; "" writes nothing.
        number: of its class, which chooses the colour.
    """

    box: tuple[float, float, float, float]
    label: str
    number: int


def canvas(picture: np.ndarray | Image.Image) -> np.ndarray:
    """Checks a picture that a person wants to have something drawn into.

    Args:
        picture: (H, W, 3) of uint8, red first, or a picture of Pillow.

    Returns:
        The array.

    Raises:
        InputError: it is no such picture.
    """
    array = np.asarray(picture.convert("RGB") if isinstance(picture, Image.Image) else picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(f"img: needs an array (H, W, 3) of uint8, red first, not {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array)


def draw_boxes(
    picture: np.ndarray, boxes: Sequence[Drawn], line_width: float | None = None, font_size: float | None = None
) -> np.ndarray:
    """Draws boxes into a copy of a picture.

    Args:
        picture: (H, W, 3) of uint8, red first.
        boxes: the last one is drawn on top.
        line_width: of the frames, in pixels; None: one that suits the picture.
        font_size: of the labels, in pixels; None: one that suits the picture.

    Returns:
        The copy, of the same form.

    Example:
        >>> found = draw_boxes(np.zeros((40, 40, 3), np.uint8), [Drawn((10, 10, 30, 30), "", 0)], line_width=1)
        >>> found[10, 20].tolist(), found[20, 20].tolist()
        ([213, 94, 0], [0, 0, 0])
    """
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), _font(image, font_size)
    width = max(1, round(line_width or sum(image.size) / 600))
    for one in boxes:
        colour = _COLOURS[one.number % len(_COLOURS)]
        left, top, right, bottom = one.box
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
    for one in boxes:  # after all frames, so that none goes through a label
        if one.label:
            _write(draw, font, (one.box[0], one.box[1]), one.label, _COLOURS[one.number % len(_COLOURS)], image.size)
    return np.asarray(image)


def draw_lines(picture: np.ndarray, lines: Sequence[str], font_size: float | None = None) -> np.ndarray:
    """Writes lines into the upper left corner of a copy of a picture.

    Args:
        picture: (H, W, 3) of uint8, red first. A small one is enlarged, so that there is room for the lines.
        lines: what is written.
        font_size: in pixels; None: one that suits the picture.

    Returns:
        The copy.

    Example:
        >>> draw_lines(np.zeros((8, 8, 3), np.uint8), ["seven 99 %"]).shape
        (256, 256, 3)
    """
    image = Image.fromarray(picture)
    if (shorter := min(image.size)) < 256:
        times = min(-(-256 // shorter), max(1, _LONGEST_SIDE // max(image.size)))
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    draw, font = ImageDraw.Draw(image), _font(image, font_size)
    top = 2.0
    for line in lines:
        top = _write(draw, font, (2.0, top), line, (32, 32, 32), image.size, above=False)
    return np.asarray(image)


def overlaid(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lays a map of heat over a copy of a picture: dark where it is 0, bright yellow where it is 1.

    Args:
        picture: (H, W, 3) of uint8, red first.
        heat: (H, W) in [0, 1].

    Returns:
        The copy, of the same form.

    Example:
        >>> overlaid(np.full((1, 2, 3), 200, np.uint8), np.array([[0.0, 1.0]])).tolist()
        [[[100, 100, 100], [226, 228, 182]]]
    """
    at = heat.clip(0, 1) * (len(_HEAT) - 1)
    low = np.minimum(at.astype(int), len(_HEAT) - 2)
    share = (at - low)[..., None]
    colours = _HEAT[low] * (1 - share) + _HEAT[low + 1] * share
    return (0.5 * picture + 0.5 * colours).round().astype(np.uint8)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes an array (H, W, 3) of uint8 as the file whose ending says its form. Raises InputError where it cannot."""
    form = SAVED.get(path.suffix.lower())
    if form is None:
        raise InputError(f"{path}: a picture is saved with the ending {', '.join(SAVED)}")
    if is_folder(path) or not is_folder(path.parent):
        raise InputError(f"{path}: is a folder, or its folder is not there; make that first")
    try:
        with replacing(path) as file:
            Image.fromarray(picture).save(file, form, **({"quality": _QUALITY} if form in ("JPEG", "WEBP") else {}))
    except (OSError, ValueError) as error:  # forms have limits: a WebP has at most 16,383 pixels a side
        raise InputError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from None


def _font(image: Image.Image, size: float | None) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size or max(10.0, sum(image.size) / 80))


def _write(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    corner: tuple[float, float],
    label: str,
    colour: tuple[int, int, int],
    size: tuple[int, int],
    above: bool = True,
) -> float:
    """Writes on a coloured ground, within the picture; returns where the ground ends below."""
    text = "".join(c if c.isprintable() else "?" for c in label)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\u2026"
    _, _, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right + 4, bottom + 4
    x = min(max(0.0, corner[0]), max(0.0, size[0] - width))
    y = max(0.0, corner[1] - height) if above else corner[1]
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    draw.text((x + 2, y + 1), text, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)
    return y + height + 2
