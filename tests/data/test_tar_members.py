"""What lies in tar files and where; Python's own `tarfile` is the judge."""

import io
import tarfile

import pytest

from supernet.data.members import Shard
from supernet.data.tar_members import members_of
from supernet.runtime.errors import InputError

NAMES = ("a.png", "deep/" * 40 + "b.cls", "é" * 80 + ".png", "long" * 100 + ".json", "empty.txt")


def packed(form: int, **more) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form, **more) as tar:
        for number, name in enumerate(NAMES):
            info = tarfile.TarInfo(name)
            info.size = number * 700 if name != "empty.txt" else 0
            tar.addfile(info, io.BytesIO(bytes([number]) * info.size))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"kind{kind.decode()}")
            info.type, info.linkname = kind, "x" * 200
            tar.addfile(info)
    return file.getvalue()


def members(path, content: bytes):
    path.write_bytes(content)
    return list(members_of(Shard.at(str(path))))


@pytest.mark.parametrize(
    ("form", "more"),
    [(tarfile.PAX_FORMAT, {}), (tarfile.GNU_FORMAT, {}), (tarfile.PAX_FORMAT, {"pax_headers": {"comment": "all"}})],
)
def test_members_are_those_of_tarfile(tmp_path, form, more):
    content = packed(form, **more)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        theirs = [(m.name, m.offset_data, m.size, m.isreg()) for m in tar if not m.isdir()]
    found = members(tmp_path / "a.tar", content)
    assert [(m.name, m.offset, m.size if m.regular else 0, m.regular) for m in found] == theirs
    assert len(theirs) == 8


def numbered(size: int) -> bytes:
    """A header that says so of its size, even where that is below 0, and nothing behind it."""
    info = tarfile.TarInfo("a.png")
    header = bytearray(info.tobuf())
    header[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else f"{size:011o}\0".encode()
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


def sparse() -> bytes:
    info = tarfile.TarInfo("a.png")
    info.type = tarfile.GNUTYPE_SPARSE
    return info.tobuf()


def records(content: bytes, behind: bytes = b"") -> bytes:
    info = tarfile.TarInfo("more")
    info.type, info.size = tarfile.XHDTYPE, len(content)
    return info.tobuf() + content.ljust(512, b"\0") + behind + bytes(1024)


SOUND = packed(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"PK" * 400, "no tar file"),
        (b"\x1f\x8b" + bytes(600), "packed with gzip, in which no member can be found alone; unpack it"),
        (SOUND[:200], "no tar file"),
        (SOUND[:-10000][:4096], "by its header|has no mark of its end|damaged at byte"),
        (SOUND[: SOUND.index(b"empty.txt") + 512], "has no mark of its end, so that a part may be missing"),
        (SOUND + SOUND, "something follows its end, at byte .*; join tar files by tar --concatenate"),
        (numbered(-512) * 3, "has -512 bytes"),
        (numbered(10**9) + bytes(1024), r"a\.png has 1,000,000,000 bytes, and the whole file has 1,536"),
        (sparse() + bytes(1024), "has holes; write the file without --sparse"),
        (records(b"22 GNU.sparse.major=1\n", numbered(0)), "has holes; write the file without --sparse"),
        (records(b"0 path=x\n"), "the additions to a header are damaged"),
        (records(b"999 path=x\n"), "the additions to a header are damaged"),
        (records(b"11 pathxyz\n"), "the additions to a header are damaged"),
    ],
)
def test_what_is_no_sound_tar_file_is_said(tmp_path, content, says):
    with pytest.raises(InputError, match=says) as error:
        members(tmp_path / "a.tar", content)
    assert "\n" not in str(error.value)
