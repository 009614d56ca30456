"""Texts in one block of memory, for sets of a million files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np


@dataclass(frozen=True, eq=False)
class Names(Sequence[str]):
    """Names of files in one block of bytes.

    A tuple of a million names takes some 150 MB. Each process that looks at them copies that, since Python writes to
    every object that it looks at, and so parts the memory that processes share. Arrays are only read.

    Args:
        block: the names as bytes, in the form of the file system.
        starts: (N,) int64, where each name begins in the block.
        ends: (N,) int64, where it ends.

    Example:
        >>> names = Names.of(["cat/1.png", "dog/2.png", "dog/3.png"])
        >>> len(names), names[1], list(names.take(np.array([2, 0])))
        (3, 'dog/2.png', ['dog/3.png', 'cat/1.png'])
    """

    block: bytes
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Packs names."""
        encoded = [os.fsencode(name) for name in names]
        ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
        return cls.packed(b"".join(encoded), ends)

    @classmethod
    def packed(cls, block: bytes, ends: np.ndarray) -> Names:
        """Takes names that lie one behind the other."""
        return cls(block, np.concatenate([ends[:0], [0], ends[:-1]])[: len(ends)].astype(np.int64), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Names: ...
    def __getitem__(self, place: int | slice) -> str | Names:
        if isinstance(place, slice):
            return Names(self.block, self.starts[place], self.ends[place])
        return os.fsdecode(self.block[self.starts[place] : self.ends[place]])

    def take(self, places: np.ndarray) -> Names:
        """Returns the names at these places, which share the block."""
        return Names(self.block, self.starts[places], self.ends[places])
