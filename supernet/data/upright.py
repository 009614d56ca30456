"""Pictures of Pillow as they are meant to be seen: turned as they say, and bright where they are meant to be bright."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "F"})
"""Pillow's modes of grey with more than 8 bits."""

WHITE = "supernet.white"
"""In the notes (`info`) of a picture that was turned round: the value of white, which was stored as 0."""

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2


def upright(image: Image.Image) -> Image.Image:
    """Turns an opened image as its EXIF orientation says, and makes bright what is meant to be bright.

    Pillow reads a TIFF whose 0 is white as if it were black where that has more than 8 bits, and the signed numbers of
    one with 8 bits as if they had no sign.

    Args:
        image: the image.

    Returns:
        A copy.
    """
    turned = ImageOps.exif_transpose(image)
    tags = getattr(image, "tag_v2", None)
    if tags is None or image.mode not in WIDE_MODES | {"L"}:
        return turned
    signed = _first(tags.get(_SAMPLE_FORMAT)) == _SIGNED
    if image.mode == "L":
        return Image.fromarray(np.array(turned) ^ 0x80) if signed else turned  # -128 is black, as in DICOM
    if tags.get(_PHOTOMETRIC) != _WHITE_IS_ZERO or image.mode == "F":
        return turned
    white = -1 if signed else 2 ** int(_first(tags.get(_BITS)) or 16) - 1
    values = white - np.asarray(turned).astype(np.int64)
    made = Image.fromarray(values.astype(np.uint16 if not signed and white <= 65535 else np.int32))
    made.info[WHITE] = white
    return made


def _first(tag: Any) -> Any:
    return tag[0] if isinstance(tag, tuple) and tag else tag
