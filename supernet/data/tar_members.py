"""Lists what lies in a tar file and where, from its headers alone. Nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from supernet.data.members import Shard
from supernet.runtime.errors import InputError
from supernet.runtime.text import printable

_BLOCK = 512  # bytes of a header; contents fill up whole blocks
_AHEAD = 4096  # bytes read at a time: a header, and often a short content with the header behind it
_NOTES = 2**20  # bytes of a header's additions
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_OF_ONE = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_ADDITIONS = (*_OF_ONE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_WITHOUT_CONTENT = (
    *(tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
)
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}


@dataclass(frozen=True)
class Found:
    """A member of a tar file.

    Args:
        name: what it is called.
        offset: where its content begins, in bytes.
        size: of its content, in bytes.
        regular: whether it is a file with a content of its own, and no link or device.
    """

    name: str
    offset: int
    size: int
    regular: bool


def members_of(shard: Shard) -> Iterator[Found]:
    """Goes through the headers of a tar file, from one to the next.

    The content of members is passed over. Python's own `tarfile` goes the same way, but its older versions can be led
    in a circle by a negative size (CVE-2025-8194), so that it reads the headers here and does not choose the way.

    Args:
        shard: the file.

    Yields:
        Each member but folders, in the order of the file.

    Raises:
        InputError: it is no tar file, packed, damaged, has holes, or ends too early.
    """
    reading, place = _Reading(shard), 0
    long_name, notes = "", dict[str, str]()
    while block := reading.at(place, _BLOCK):
        if not block.strip(b"\0"):
            return _check_end(shard, place)
        header = _header(shard, place, block)
        inside = place + _BLOCK
        size = _size(shard, header, inside, notes)
        if header.type in _ADDITIONS:
            if header.type == tarfile.GNUTYPE_LONGNAME:
                long_name = _text(reading.at(inside, size).rstrip(b"\0"))
            elif header.type in _OF_ONE:
                notes = _records(shard, reading.at(inside, size))
        else:
            if header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in notes):
                raise InputError(f"{shard.path}: {_shown(header.name)} has holes; write the file without --sparse")
            if header.type != tarfile.DIRTYPE:
                yield Found(notes.get("path") or long_name or header.name, inside, size, header.type in _REGULAR)
            long_name, notes = "", {}
        place = inside + -(-size // _BLOCK) * _BLOCK
    reason = "has no mark of its end, so that a part may be missing; copy or write it anew" if place else "is empty"
    raise InputError(f"{shard.path}: {reason}")


@dataclass
class _Reading:
    """Bytes of a file, some more at a time than are asked for."""

    shard: Shard
    start: int = 0
    content: bytes = b""

    def at(self, place: int, size: int) -> bytes:
        inside = place - self.start
        if inside < 0 or inside + size > len(self.content):
            self.start, self.content = place, self.shard.read(place, max(size, _AHEAD))
            inside = 0
        return self.content[inside : inside + size]


def _header(shard: Shard, place: int, block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        if place:
            raise InputError(f"{shard.path}: damaged at byte {place:,} ({error}); copy or write it anew") from None
        kind = next((kind for mark, kind in _PACKED.items() if block.startswith(mark)), "")
        way_out = f"packed with {kind}, in which no member can be found alone; unpack it" if kind else "no tar file"
        raise InputError(f"{shard.path}: {way_out}") from None


def _size(shard: Shard, header: tarfile.TarInfo, inside: int, notes: dict[str, str]) -> int:
    """The bytes behind a header, which begin at `inside`. Raises InputError where there are not so many."""
    if header.type in _WITHOUT_CONTENT:
        return 0
    said = notes.get("size", "") if header.type not in _ADDITIONS else ""
    size = int(said) if said.isascii() and said.isdigit() and len(said) < 20 else header.size
    if size < 0 or inside + size > shard.size:
        raise InputError(
            f"{shard.path}: by its header {_shown(header.name)} has {size:,} bytes, and the whole file has "
            f"{shard.size:,}; copy or write it anew"
        )
    if header.type in _ADDITIONS and size > _NOTES:
        raise InputError(f"{shard.path}: {size:,} bytes of additions to a header; copy or write it anew")
    return size


def _check_end(shard: Shard, place: int) -> None:
    """Refuses a file in which something follows the mark of the end: most often two files, joined by cat."""
    if shard.read(place, _NOTES).strip(b"\0"):
        raise InputError(
            f"{shard.path}: something follows its end, at byte {place:,}; join tar files by tar --concatenate"
        )


def _shown(name: str) -> str:
    return printable(name[-80:])


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _records(shard: Shard, content: bytes) -> dict[str, str]:
    """The additions to a header in POSIX's form: their length, a key, a value."""
    records: dict[str, str] = {}
    place = 0
    while place < len(content) and content[place]:
        digits, _, _ = content[place : place + 20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = content[place + len(digits) + 1 : place + length - 1].partition(b"=")
        if length < len(digits) + 3 or place + length > len(content) or not equals:
            raise InputError(f"{shard.path}: the additions to a header are damaged; copy or write it anew")
        records[_text(key)] = _text(value)
        place += length
    return records
