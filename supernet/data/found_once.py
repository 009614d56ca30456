"""Finds something out about many pictures once: it is kept while the list of pictures is the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from supernet.data import kept
from supernet.data.members import Picture
from supernet.data.pictures import Members, packed
from supernet.data.reading import hashed, sampled


def found_once(
    what: str,
    pictures: Sequence[Sequence[Picture]],
    make: Callable[[], np.ndarray],
    cache_from: int | None,
    sound: Callable[[np.ndarray], bool],
) -> np.ndarray:
    """Returns a row for each picture, out of the person's cache folder where the pictures are those of before.

    They are where all names are the same, and sizes and times of the shards, or of 64 files.

    Args:
        what: names what is found out.
        pictures: those of each part.
        make: finds it out: (N, ...) int64, or fewer rows, which are not kept.
        cache_from: pictures from which on it is kept; None: it is not.
        sound: whether kept rows can be right.

    Returns:
        What `make` returns, or returned before.
    """
    count = sum(map(len, pictures))
    if cache_from is None or count < max(1, cache_from):
        return make()
    parts = [packed(part) for part in pictures]
    first = next(part[0] for part in parts if len(part))
    key, state = f"{what}\0{os.path.abspath(str(first))}", _state(parts)
    arrays = kept.load(key)
    if arrays is not None and np.array_equal(arrays.get("state", ()), state):
        found = arrays.get("found")
        if found is not None and found.dtype == np.int64 and len(found) == count and sound(found):
            return found
    found = make()
    if len(found) == count:
        kept.keep(key, {"state": state, "found": found})
    return found


def _state(parts: Sequence[Sequence[Picture]]) -> np.ndarray:
    return np.frombuffer(hashed(each for part in parts for each in _said(part)).encode(), np.uint8)


def _said(part: Sequence[Picture]) -> Iterator[str | bytes]:
    pictures = packed(part)
    yield from pictures.described()
    if isinstance(pictures, Members):
        yield str([(shard.path, shard.changed) for shard in pictures.shards])
    else:
        yield str([os.stat(pictures[place]).st_mtime_ns for place in sampled(len(pictures)).tolist()])
