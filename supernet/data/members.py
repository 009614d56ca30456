"""Pictures that lie in tar files (shards), read from their place in the file without what is before them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from supernet.runtime.errors import InputError
from supernet.runtime.reading import why_no_file

_OPEN = 128  # shards that a process keeps open
_BUFFER = 2**16  # bytes that are read at once


@dataclass(frozen=True)
class Shard:
    """A tar file as it was when its members were listed.

    Args:
        path: the file.
        size: in bytes.
        changed: when it was last written to, in nanoseconds.
    """

    path: str
    size: int
    changed: int

    @classmethod
    def at(cls, path: str) -> Shard:
        """Describes a file. Raises InputError where there is none."""
        if reason := why_no_file(path):
            raise InputError(f"{path}: {reason}")
        status = os.stat(path)
        return cls(path, status.st_size, status.st_mtime_ns)

    def read(self, offset: int, size: int) -> bytes:
        """Reads bytes from a place on; fewer at the end of the file. Raises InputError where the file has changed."""
        try:
            opened = _opened(self)  # held until it has been read: another thread may let it go and so close it
            return os.pread(opened.number, size, offset)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class Member:
    """A file within a shard.

    Args:
        shard: the tar file.
        offset: where its content begins, in bytes.
        size: of its content, in bytes.
        name: how it is called there.
    """

    shard: Shard
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.shard.path}: {self.name}"


Picture = str | Path | Member
"""Where a picture lies: the path of a file, or a member of a shard."""


@contextmanager
def content_of(picture: Picture) -> Iterator[BinaryIO]:
    """Opens the content of a picture for reading."""
    with io.BufferedReader(_Part(picture), _BUFFER) if isinstance(picture, Member) else open(picture, "rb") as file:
        yield file


def size_of(picture: Picture) -> int:
    """The size of a picture's file in bytes."""
    return picture.size if isinstance(picture, Member) else os.stat(picture).st_size


class _Part(io.RawIOBase):
    """A part of a file as a file. It has a place of its own, so that others can read the same shard."""

    def __init__(self, member: Member) -> None:
        self._member, self._place = member, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._member.size}[whence]
        if start + offset < 0:
            raise ValueError(f"place {start + offset} of a file")
        self._place = start + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._member.size - self._place))
        read = self._member.shard.read(self._member.offset + self._place, wanted)
        buffer[: len(read)] = read
        self._place += len(read)
        return len(read)


class _Descriptor:
    """An open file, which is closed when nobody needs it any more."""

    def __init__(self, shard: Shard) -> None:
        self.number = os.open(shard.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        status = os.fstat(self.number)
        if (status.st_size, status.st_mtime_ns) != (shard.size, shard.changed):
            raise InputError(f"{shard.path}: has changed since its members were listed; start again")

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@lru_cache(maxsize=_OPEN)
def _opened(shard: Shard) -> _Descriptor:
    return _Descriptor(shard)
