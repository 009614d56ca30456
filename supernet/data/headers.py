"""Looks at the headers of all pictures of a set, or at as many as are needed to know what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, fields

import numpy as np

from supernet.data.found_once import found_once
from supernet.data.images import Header, read_header
from supernet.data.listing import Listed
from supernet.data.members import Picture

_ENOUGH = 10_000  # headers after which nothing new is looked for where size and colour are known


def headers_of(listed: Mapping[str, Listed], sized: bool, cache_from: int | None = None) -> dict[Picture, Header]:
    """Reads the header of every picture; of a very large set only until size and colour are known.

    Args:
        listed: the pictures of each part.
        sized: whether the size that they become is known.
        cache_from: pictures from which on the headers of all are kept, as in `found_once`.

    Returns:
        The headers by their pictures.

    Raises:
        InputError: a file is no picture.
    """
    parts = [found.paths for found in listed.values()]
    rows = found_once("headers", parts, lambda: _rows(listed, sized), cache_from, _sound)
    different, number = np.unique(rows, axis=0, return_inverse=True)  # most of a large set are as others are
    headers = [_header(row) for row in map(tuple, different.tolist())]
    pictures = (picture for part in parts for picture in part)  # of a very large set some were not looked at
    return {picture: headers[place] for picture, place in zip(pictures, number.flatten().tolist(), strict=False)}


def _rows(listed: Mapping[str, Listed], sized: bool) -> np.ndarray:
    rows: list[tuple[int, ...]] = []
    colour = False
    for picture in (picture for found in listed.values() for picture in found.paths):
        header = read_header(picture)
        rows.append(astuple(header))
        colour = colour or header.channels == 3
        if sized and colour and len(rows) >= _ENOUGH:
            break
    return np.array(rows, np.int64).reshape(len(rows), len(fields(Header)))


def _header(row: tuple[int, ...]) -> Header:
    channels, height, width, wide, cut, transparent, windowed, orientation, pages = row
    flags = bool(wide), bool(cut), bool(transparent), bool(windowed)
    return Header(channels, height, width, *flags, orientation, bool(pages))


def _sound(rows: np.ndarray) -> bool:
    if rows.ndim != 2 or rows.shape[1] != len(fields(Header)):
        return False
    channels, sides, flags, orientation = rows[:, 0], rows[:, 1:3], rows[:, [3, 4, 5, 6, 8]], rows[:, 7]
    return bool(
        ((channels == 1) | (channels == 3)).all()
        and (sides >= 1).all()
        and ((flags == 0) | (flags == 1)).all()
        and ((orientation >= 1) & (orientation <= 8)).all()
    )
