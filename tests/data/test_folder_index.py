"""Lists of large folders, kept in the person's cache folder and taken again while the folders are unchanged."""

import io
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
from mutations import mutated
from PIL import Image

from supernet.data import folder_index, folders, image_folder, kept
from supernet.data.folder_index import index_of
from supernet.data.names import Names


def array(save, *given, **named) -> bytes:
    file = io.BytesIO()
    save(file, *given, **named)
    return file.getvalue()


def locked(archive: bytes) -> bytes:
    """The same archive, said to need a password."""
    flags = archive.index(b"PK\x01\x02") + 8
    return archive[:flags] + b"\x01" + archive[flags + 1 :]


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Nine pictures in four folders that were changed long ago, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(folders, "CACHED_FROM", 5)
    place = tmp_path / "set"
    for n in range(9):
        path = place / ("val" if n > 6 else "train") / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4 + n), 20 * n, np.uint8)).save(path)
    (place / "val" / "b" / "notes.txt").write_text("")
    old(place)
    return place


def old(place: Path) -> None:
    for folder, _, _ in os.walk(place):
        os.utime(folder, (1e9, 1e9))


def kept_files(root: Path) -> list[Path]:
    return sorted((root.parent / "cache" / "supernet").iterdir())


def told(found):
    return {p: (list(each.paths), each.labels.tolist()) for p, each in found.parts.items()}, found.classes, found.notes


def refuse(*_):
    raise AssertionError("listed again")


def test_a_list_is_taken_again_and_is_the_same(root, monkeypatch):
    first = told(index_of(root, 5))
    assert first == told(index_of(root, None))
    assert first[2] == ("left out: 1 .txt",)
    monkeypatch.setattr(folder_index, "_listed", refuse)
    assert told(index_of(root, 5)) == first
    with pytest.raises(AssertionError, match="listed again"):
        index_of(root, None)


@pytest.mark.parametrize("place", [".", "val/a", "train/b", "train"])
def test_a_changed_folder_is_listed_anew(root, monkeypatch, place):
    index_of(root, 5)
    (root / place / "new.txt").write_text("")
    monkeypatch.setattr(folder_index, "_listed", refuse)
    with pytest.raises(AssertionError, match="listed again"):
        index_of(root, 5)


def test_what_is_small_fresh_or_from_here_is_told_apart(root, monkeypatch):
    index_of(root, 10)
    assert not (root.parent / "cache").exists()
    os.utime(root / "train", (time.time(), time.time()))  # a file system may not tell the next change from this one
    index_of(root, 5)
    assert not (root.parent / "cache").exists()
    old(root)
    monkeypatch.chdir(root)
    here = told(index_of(Path("."), 5))
    assert here[0]["val"][0] == ["val/a/8.png", "val/b/7.png"]
    assert told(index_of(Path("."), 5)) == here


def test_damaged_and_foreign_lists_are_made_anew(root, tmp_path):
    first = told(index_of(root, 5))
    (path,) = kept_files(root)
    sound, rng = path.read_bytes(), random.Random(0)
    for _ in range(40):
        path.write_bytes(mutated(sound, rng))
        assert told(index_of(root, 5)) == first
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(sound)
    assert told(index_of(root, 5)) == first
    path.unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.npz").write_bytes(sound)
    assert kept.load("folder of somebody else") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"train_labels": np.full(7, 2)},
        {"train_labels": np.zeros(6, np.int64)},
        kept.packed_names("train", Names.of(["../../etc/x"] * 7)),
        kept.packed_names("train", Names.of(["/etc/passwd"] * 7)),
        kept.packed_names("train", Names.of([""] * 7)),
        kept.packed_names("parts", Names.of(["val"])),
        {"train_ends": np.arange(7)[::-1].copy()},
        {"train_block": np.zeros((2, 2), np.uint8)},
        {"times": np.zeros(1, np.int64)},
    ],
)
def test_a_list_that_cannot_be_right_is_not_taken(root, monkeypatch, changed):
    first, load = told(index_of(root, 5)), kept.load
    monkeypatch.setattr(kept, "load", lambda key: load(key) | changed)
    assert told(index_of(root, 5)) == first


def test_headers_and_copies_are_looked_for_once(root, monkeypatch):
    read = []
    for place in ("supernet.data.headers.read_header", "supernet.data.listed_images.copy_groups"):
        module, _, name = place.rpartition(".")
        inner = getattr(__import__(module, fromlist=[name]), name)
        monkeypatch.setattr(place, lambda given, inner=inner: read.append(given) or inner(given))
    first = image_folder(root, size=None)
    assert len(read) == 9 + 1
    again = image_folder(root)
    assert len(read) == 10
    assert (again.notes, again.fingerprint) == (first.notes, first.fingerprint)
    (root / "train" / "a" / "0.png").rename(root / "train" / "a" / "00.png")
    old(root)
    os.utime(root / "train" / "a", (1.1e9, 1.1e9))
    assert image_folder(root).notes == first.notes
    assert len(read) == 20
    image_folder(root, cache=False)
    assert len(read) == 30


def test_a_cache_folder_that_cannot_be_written_is_no_mistake(root, monkeypatch):
    first = told(index_of(root, None))
    for where in ("/dev/null/x", str(root / "val" / "b" / "notes.txt")):
        monkeypatch.setenv("XDG_CACHE_HOME", where)
        assert told(index_of(root, 5)) == first


@pytest.mark.parametrize(
    "content",
    [
        array(np.save, np.zeros(3)),  # an array, and no archive of them
        array(np.savez, key=np.frombuffer(b"a", np.uint8))[:-5],
        locked(array(np.savez, key=np.frombuffer(b"a", np.uint8))),
        array(np.savez, key=np.array([print], object)),
    ],
)
def test_an_archive_that_is_none_says_nothing(tmp_path, monkeypatch, content):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept.keep("a", {"n": np.arange(3)})
    assert kept.load("a")["n"].tolist() == [0, 1, 2]
    next((tmp_path / "supernet").iterdir()).write_bytes(content)
    assert kept.load("a") is None


def test_a_path_that_is_no_text_is_a_key_too(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept.keep(os.fsdecode(b"/\xff"), {"n": np.arange(3)})
    assert kept.load(os.fsdecode(b"/\xff"))["n"].tolist() == [0, 1, 2]
