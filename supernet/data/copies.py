"""Finds files that have the same content under several names."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from supernet.data.batches import Source
from supernet.data.members import Picture, content_of, size_of
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

_SEARCHED = 100_000  # images up to which copies are looked for
_BEGINNING = 4096  # bytes; enough to tell most files of one size apart


def copy_groups(paths: Sequence[Picture]) -> Tensor:
    """Groups files that have the same bytes.

    A file whose size no other has is not opened, and files that differ early are not read to their ends.

    Args:
        paths: N files, or members of shards.

    Returns:
        (N,) int64: for each file the place of the first file with the same bytes, which can be its own.

    Raises:
        InputError: a file cannot be read.
    """
    groups = torch.arange(len(paths))
    for same_size in _alike(range(len(paths)), lambda i: size_of(paths[i]), paths):
        for same_start in _alike(same_size, lambda i: _digest(paths[i], _BEGINNING), paths):
            for same in _alike(same_start, lambda i: _digest(paths[i], -1), paths):
                groups[same] = same[0]
    return groups


def copy_notes(leaked: int, inside: int) -> list[str]:
    """Lines about images that are exact copies of others.

    Args:
        leaked: how many of those to validate or test are copies of training images.
        inside: how many training images are copies of others, where the test images are held out from them.

    Returns:
        A line for each kind of which there are some.

    Example:
        >>> copy_notes(leaked=1, inside=0)
        ['warning: 1 image to validate or test is an exact copy of a training image']
    """
    notes = []
    if leaked:
        one, several = (
            "image to validate or test is an exact copy of a training image",
            "images to validate or test are exact copies of training images",
        )
        notes.append(f"warning: {quantity(leaked, one, several)}")
    if inside:
        copies = quantity(inside, "image is an exact copy of another", "images are exact copies of others")
        notes.append(f"{copies}: held out to test together, or not at all")
    return notes


def leak_notes(parts: Mapping[str, Source]) -> list[str]:
    """A line on images in memory to validate or test that have the same pixels as training images.

    Args:
        parts: "train" and the others.

    Returns:
        The line, or none; none for a very large set, either.
    """
    if sum(map(len, parts.values())) > _SEARCHED:
        return []
    train = set(_of_pixels(parts["train"]))
    leaked = sum(each in train for part, source in parts.items() if part != "train" for each in _of_pixels(source))
    return copy_notes(leaked, inside=0)


def _of_pixels(source: Source) -> Iterator[bytes]:
    for place in range(len(source)):
        yield hashlib.blake2b(source.raw(torch.tensor([place])).numpy().tobytes(), digest_size=16).digest()


def _alike(places: Iterable[int], key: Callable[[int], Hashable], paths: Sequence[Picture]) -> list[list[int]]:
    """Groups of two places or more that share a key."""
    found: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place in places:
        try:
            found[key(place)].append(place)
        except OSError as error:
            raise InputError(f"{paths[place]}: cannot be read ({error.strerror})") from None
    return [group for group in found.values() if len(group) > 1]


def _digest(path: Picture, size: int) -> bytes:
    with content_of(path) as file:
        return hashlib.blake2b(file.read(size), digest_size=16).digest()
