"""Long lists of pictures that take little memory: files of folders, and members of shards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
import torch
from torch import Tensor

from supernet.data.block_order import Mixing, block_order, block_size
from supernet.data.members import Member, Picture, Shard, size_of
from supernet.data.names import Names
from supernet.data.reading import sampled
from supernet.data.sampling import uniform_order

_MEASURED = 20_000  # files up to which a digest asks for the size of each


@dataclass(frozen=True, eq=False)
class Paths(Sequence[str]):
    """The paths of N files.

    Args:
        root: how all of them begin.
        names: how each goes on.

    Example:
        >>> paths = Paths("photos/", Names.of(["cat/1.png", "dog/2.png"]))
        >>> paths[1], list(paths.take(torch.tensor([1, 0])))
        ('photos/dog/2.png', ['photos/dog/2.png', 'photos/cat/1.png'])
    """

    root: str
    names: Names

    @classmethod
    def of(cls, paths: Iterable[str]) -> Paths:
        """Packs paths."""
        return cls("", Names.of(paths))

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Paths: ...
    def __getitem__(self, place: int | slice) -> str | Paths:
        if isinstance(place, slice):
            return replace(self, names=self.names[place])
        return self.root + self.names[place]

    def take(self, indices: Tensor) -> Paths:
        """Returns the files at these indices."""
        return replace(self, names=self.names.take(indices.numpy()))

    def order(self, batch_size: int, stream: torch.Generator) -> Tensor:
        """Draws the order of a pass, (N,)."""
        return uniform_order(len(self), stream)

    def described(self) -> Iterator[str]:
        """Names below the common folder, and sizes (64 of a very large set), by which other files are told apart."""
        paths = list(self)
        ends = (min(paths), max(paths)) if paths else ("",)  # what these share, all others do
        top = os.path.commonpath([os.path.dirname(path) for path in ends])
        yield "\0".join(path.removeprefix(top) for path in paths)
        measured = range(len(self)) if len(self) <= _MEASURED else sampled(len(self)).tolist()
        yield str([size_of(paths[place]) for place in measured])


@dataclass(frozen=True, eq=False)
class Members(Sequence[Member]):
    """N members of shards.

    Args:
        shards: the tar files.
        shard: (N,) the place in `shards` of the one that each lies in.
        offsets: (N,) int64, where each begins there, in bytes.
        sizes: (N,) int64, in bytes.
        names: how each is called there.
        mixing: how a pass shuffles them.
        block: bytes that a pass reads one behind the other; 0: what fits their sizes.
    """

    shards: tuple[Shard, ...]
    shard: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    names: Names
    mixing: Mixing = field(default_factory=Mixing)
    block: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", self.block or block_size(self.sizes))

    def __len__(self) -> int:
        return len(self.shard)

    @overload
    def __getitem__(self, place: int) -> Member: ...
    @overload
    def __getitem__(self, place: slice) -> Members: ...
    def __getitem__(self, place: int | slice) -> Member | Members:
        if isinstance(place, slice):
            return self.take(torch.arange(len(self))[place])
        offset, size = int(self.offsets[place]), int(self.sizes[place])
        return Member(self.shards[self.shard[place]], offset, size, self.names[place])

    def take(self, indices: Tensor) -> Members:
        """Returns the members at these indices."""
        places = indices.numpy()
        names = self.names.take(places)
        return replace(
            self, shard=self.shard[places], offsets=self.offsets[places], sizes=self.sizes[places], names=names
        )

    def order(self, batch_size: int, stream: torch.Generator) -> Tensor:
        """Draws the order of a pass, (N,), in which shards are read block by block (`block_order`)."""
        return block_order(self.shard, self.offsets, self.block, self.mixing, batch_size, stream)

    def described(self) -> Iterator[str | bytes]:
        """Names and sizes of the shards and places of the members, by which others are told apart."""
        yield "\0".join(f"{os.path.basename(shard.path)} {shard.size}" for shard in self.shards)
        yield from (array.astype(np.int64).tobytes() for array in (self.shard, self.offsets, self.sizes))


def packed(pictures: Sequence[Picture]) -> Paths | Members:
    """Returns a list of pictures in the form that takes little memory.

    Args:
        pictures: packed ones, or the paths of files.
    """
    return pictures if isinstance(pictures, Paths | Members) else Paths.of(str(path) for path in pictures)
