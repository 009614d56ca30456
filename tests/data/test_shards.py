"""Shards as webdataset writes them. The library itself reads the same samples, as an independent judge."""

import io
import json
import os
import pickle
import random
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from mutations import mutated
from PIL import Image

from supernet.data import image_folder, kept, shards, webdataset
from supernet.data.augmentation import Augmentation
from supernet.data.batches import training_batches
from supernet.data.files import Files
from supernet.runtime.errors import InputError

library = pytest.importorskip("webdataset")
PLAIN = Augmentation((0.0,), (1.0,))


def picture(level: int, side: int = 6, ending: str = "png") -> bytes:
    """A grey picture filled with one level."""
    file = io.BytesIO()
    Image.fromarray(np.full((side, side), level, np.uint8)).save(file, {"jpg": "jpeg"}.get(ending, ending))
    return file.getvalue()


def write(path, members, form=tarfile.PAX_FORMAT):
    """A tar file of these names and contents; a TarInfo in place of a content is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as file:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = 0 if isinstance(content, tarfile.TarInfo) else len(content)
            file.addfile(info, None if isinstance(content, tarfile.TarInfo) else io.BytesIO(content))
    return str(path)


def samples(numbers):
    """Sample n is a picture of level n, of class n % 3."""
    return [each for n in numbers for each in ((f"{n:04}.png", picture(n)), (f"{n:04}.cls", str(n % 3).encode()))]


def shard_set(folder, count=60, of=10, part="train"):
    for first in range(0, count, of):
        write(folder / f"{part}-{first // of:06}.tar", samples(range(first, first + of)))
    return f"{folder}/{part}-{{000000..{count // of - 1:06}}}.tar"


def levels(batch) -> list[int]:
    return (batch.images[:, 0, 0, 0] * 255).round().int().tolist()


def test_the_samples_are_those_of_the_library_and_of_a_folder(tmp_path):
    pattern = shard_set(tmp_path / "set")
    (tmp_path / "set" / "classes.txt").write_text("ant\nbee\ncow\n")
    data = webdataset(pattern)
    assert (data.name, data.classes, data.shape) == ("set", ("ant", "bee", "cow"), (1, 6, 6))
    assert (len(data.train), data.held_out) == (48, True)
    whole = webdataset(pattern, test=write(tmp_path / "test.tar", samples(range(100, 112))), resident_gib=0).train
    theirs = [
        (int(sample["cls"]), read_image_of(sample["png"]))
        for sample in library.WebDataset(pattern, shardshuffle=False, empty_check=False)
    ]
    assert [label for label, _ in theirs] == whole.labels.tolist()
    assert torch.equal(torch.stack([image for _, image in theirs]), whole.raw(torch.arange(60)))


def read_image_of(content: bytes) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(content))))[None]


def test_a_folder_and_shards_are_decoded_alike(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colour).save(file, "jpeg", exif=turned())
    for n in range(10):
        path = tmp_path / "folder" / "ab"[n % 2] / f"{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue() + bytes([n]))
    lines = [(f"{'ab'[n % 2]}/{n}.jpg", file.getvalue() + bytes([n])) for n in range(10)]
    lines = [each for name, content in lines for each in ((name, content), (f"{name[:-3]}cls", name[:1].encode()))]
    packed = webdataset(write(tmp_path / "set" / "a.tar", lines), resident_gib=0)
    loose = image_folder(str(tmp_path / "folder"), resident_gib=0)
    assert packed.classes == loose.classes == ("a", "b")
    assert packed.shape == loose.shape == (3, 9, 12)
    assert torch.equal(packed.train.raw(torch.arange(4)), loose.train.raw(torch.arange(4)))


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_processes_together_see_the_joined_batches_and_go_on_at_the_exact_image(tmp_path, workers):
    data = webdataset(
        shard_set(tmp_path / "set", 50), test=write(tmp_path / "t.tar", samples(range(9))), resident_gib=0,
        streams=4, shuffle=8, workers=workers,
    )  # fmt: skip
    whole = [levels(batch) for batch in islice(training_batches(data.train, 8, PLAIN, seed=1), 20)]
    passes = [[n for batch in whole[first : first + 7] for n in batch] for first in (0, 7)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(50))
    assert passes[0] != passes[1]
    for start in (3, 9):
        again = islice(training_batches(data.train, 8, PLAIN, seed=1, start=start), 20 - start)
        assert [levels(batch) for batch in again] == whole[start:]


def test_a_process_that_divides_the_streams_reads_shards_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("supernet.data.block_order._LEAST", 2**13)
    data = webdataset(
        shard_set(tmp_path, 240), test=write(tmp_path / "t" / "t.tar", samples(range(9))), resident_gib=0,
        streams=2, shuffle=16,
    )  # fmt: skip
    members = data.train.paths
    order = data.train.order(8, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(240))
    read = [
        {(members.shard[place], members.offsets[place] // members.block) for place in side.flatten().tolist()}
        for side in order.view(-1, 2, 4).unbind(1)
    ]
    assert len(read[0] & read[1]) <= 1, "the block in the middle"
    assert min(map(len, read)) > 10
    near = [len({members.shard[place] for place in part.tolist()}) for part in order.view(-1, 2, 4)[:4, 0].unbind()]
    assert max(near) > 1, "a batch is mixed of several blocks"


def test_a_subset_has_an_order_of_its_own(tmp_path):
    data = webdataset(shard_set(tmp_path), resident_gib=0)
    half = data.train.subset(torch.arange(1, 48, 2))
    assert sorted(half.order(5, torch.Generator()).tolist()) == list(range(24))
    assert torch.equal(half.raw(torch.tensor([3, 0])), data.train.raw(torch.tensor([7, 1])))
    assert half.digest() != data.train.digest()
    assert isinstance(pickle.loads(pickle.dumps(half)), Files)


def test_labels_by_name_in_json_and_the_picture_that_is_asked_for(tmp_path):
    lines = []
    for n in range(10):
        said = json.dumps({"kind": ["cat", "dog"][n % 2], "size": 3}).encode()
        lines += [(f"a.b/{n}.jpg", picture(n, ending="jpg")), (f"a.b/{n}.seg.png", picture(9)), (f"a.b/{n}.json", said)]
        lines += [(f"a.b/{n}.PNG", picture(100 + n)), (f"a.b/{n}.pyd", b"cos\nsystem\n(S'exit 1'\ntR.")]
    path = write(tmp_path / "a.tar", lines)
    data = webdataset(path, label="json.kind", image="png")
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [int(n) % 2 for n in data.train.images[:, 0, 0, 0] - 100]
    other = webdataset(path, label="json.kind", image="png", classes=["dog", "cat"])
    assert torch.equal(other.train.labels, 1 - data.train.labels)
    with pytest.raises(InputError, match="jpg and png; image=jpg takes one"):
        webdataset(path, label="json.kind")
    with pytest.raises(InputError, match=r"label cat: no class among cow, dog"):
        webdataset(path, label="json.kind", image="png", classes=["cow", "dog"])
    with pytest.raises(InputError, match=r"train: no picture with a label in 1 shard \(left out: 10 samples without a"):
        webdataset(path, image="png")


def test_endings_are_taken_as_people_write_them(tmp_path):
    """With a point, in capitals, with a mark of the byte order before the text, of several parts; a path, no text."""
    several = [(n.replace(".png", ".rgb.png").replace(".cls", ".CLS"), c) for n, c in samples(range(30))]
    marked = [(n, c if n.endswith("png") else b"\xef\xbb\xbf" + c) for n, c in several]
    path = Path(write(tmp_path / "set" / "a.tar", marked))
    (tmp_path / "set" / "._a.tar").write_bytes(b"left by a Mac")
    for settings in ({}, {"label": ".cls", "image": ".rgb.png"}, {"label": "CLS"}):
        data = webdataset(path.parent, **settings)
        assert (data.classes, len(data.train)) == (("0", "1", "2"), 24)
    told = [
        (n.replace("cls", "json"), b'\xef\xbb\xbf{"Kind": %s}' % c if "cls" in n else c) for n, c in samples(range(30))
    ]
    assert webdataset(Path(write(tmp_path / "b.tar", told)), label="JSON.Kind").classes == ("0", "1", "2")
    half = [(n, b'{"Kind": "\\ud800"}' if n.endswith("json") else c) for n, c in told]
    with pytest.raises(InputError, match=r"0000\.json: no JSON in UTF-8"):
        webdataset(write(tmp_path / "c.tar", half), label="json.Kind")


@pytest.mark.parametrize("labels", [("-1", "0", "1"), ("0.5", "1", "2e1")])
def test_numbers_that_count_no_class_are_refused_unless_they_are_named(tmp_path, labels):
    lines = [(n, c if n.endswith("png") else labels[int(c)].encode()) for n, c in samples(range(30))]
    path = write(tmp_path / "a.tar", lines)
    with pytest.raises(InputError, match=f"label {labels[0]}: needs a whole number from 0 on, or a name"):
        webdataset(path)
    assert webdataset(path, classes=labels).classes == labels


def test_members_of_one_sample_that_lie_apart_are_said(tmp_path):
    """As tar without --sort=name writes them: in no order. Those that are neighbours by chance would be read alone."""
    lines = samples(range(30))
    apart = [*lines[:9], *lines[10:], lines[9]]
    with pytest.raises(InputError, match=r"a\.tar: the members of 0004 lie apart, .*tar --sort=name"):
        webdataset(write(tmp_path / "a.tar", apart))
    whole = webdataset(write(tmp_path / "b.tar", [*apart[:-1], *lines[:4]]))
    assert "left out: 1 sample without a label" in whole.notes


def test_a_shard_that_is_there_twice_by_a_link_is_said(tmp_path):
    (tmp_path / "b.tar").symlink_to(write(tmp_path / "a.tar", samples(range(30))))
    with pytest.raises(InputError, match=r"a\.tar: twice in train; each shard belongs to one part, once"):
        webdataset(tmp_path)


def test_what_is_left_out_is_counted(tmp_path):
    link = tarfile.TarInfo("0099.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    absolute = [("/9/8/x.png", picture(5)), ("/9/8/x.cls", b"1"), ("../../y.png", picture(5)), ("../../y.cls", b"2")]
    extra = [("__meta__", b"{}"), ("dir", folder()), ("lost.png", picture(1)), ("alone.cls", b"1"), ("l", link)]
    data = webdataset(write(tmp_path / "a.tar", [*samples(range(12)), *extra, *absolute]))
    assert len(data.train) + len(data.test) == 14
    assert "left out: 1 sample without a label, 1 link or special member, 1 sample without a picture" in data.notes
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]


def folder() -> tarfile.TarInfo:
    info = tarfile.TarInfo("dir")
    info.type = tarfile.DIRTYPE
    return info


def test_groups_and_copies_stay_on_one_side(tmp_path):
    lines = [(f"p{n // 4}_{n}.{ending}", content) for n in range(40) for ending, content in pair(n, n // 4 % 2)]
    data = webdataset(write(tmp_path / "a.tar", lines), groups=r"/(p\d+)_")
    train, test = (set((each[:, 0, 0, 0] // 4).tolist()) for each in (data.train.images, data.test.open().images))
    assert not train & test
    twice = [(f"{n}.{ending}", content) for n in range(40) for ending, content in pair(n // 2, n // 2 % 2)]
    data = webdataset(write(tmp_path / "b.tar", twice))
    assert not set(data.train.images.flatten().tolist()) & set(data.test.open().images.flatten().tolist())


def pair(level, label):
    return ("png", picture(level)), ("cls", str(label).encode())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train": "pipe:touch pwned"}, "train=pipe:touch pwned: needs files of this machine"),
        ({"train": "https://example.org/{000..012}.tar"}, "needs files of this machine; copy the shards"),
        ({"train": "s3://bucket/a.tar"}, "needs files of this machine"),
        ({"train": "SET/a-{000..012.tar"}, "its braces do not close"),
        ({"train": "SET/a-{0..99999999999}.tar"}, "more than 100,000 files"),
        ({"train": "SET/a-{0.." + "9" * 5000 + "}.tar"}, "more than 100,000 files"),
        ({"train": "SET/a-" + "{0..9}" * 9}, "more than 100,000 files"),
        ({"train": "SET/train-{000000..000007}.tar"}, "2 of 8 files are not there, such as .*train-000006.tar"),
        ({"train": "SET/gone.tar"}, "gone.tar: no such file or folder"),
        ({"train": "SET/empty"}, "no .tar file in this folder"),
        ({"train": "SET/{train-000000,train-000000}.tar"}, "names a file twice"),
        ({"valid": "SET/train-000003.tar"}, "train-000003.tar: in train and in valid; each"),
        ({"label": "json."}, r"label=json\.: use an ending such as cls"),
        ({"streams": 0}, "streams=0: needs 1 or more"),
        ({"shuffle": -1}, "shuffle=-1: needs 1 or more"),
        ({"classes": ["a", "b"]}, "label 2: there are 2 classes, counted from 0"),
        ({"train": ["a.tar", "b.tar"]}, "needs one path; several files are written with braces"),
        ({"train": "SET/packed"}, r"packed: a\.tar\.gz is packed"),
        ({"label": "."}, r"label=\.: use an ending such as cls"),
        ({"label": "json"}, r"label=json: which field of it\? json\.FIELD"),
        ({"image": "."}, r"image=\.: use an ending such as jpg"),
    ],
)
def test_nonsense_is_refused(tmp_path, settings, says):
    pattern = shard_set(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "a.tar.gz").write_bytes(b"")
    given = {"train": pattern} | {key: at(value, tmp_path) for key, value in settings.items()}
    with pytest.raises(InputError, match=says):
        webdataset(**given)
    assert not os.path.exists("pwned")


def at(value, folder):
    return value.replace("SET", str(folder)) if isinstance(value, str) else value


def test_without_the_library_the_way_out_is_told(tmp_path, monkeypatch):
    pattern = shard_set(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "webdataset.tariterators", None)
    with pytest.raises(
        InputError, match=r'webdataset is not installed; pip install "supernet\[webdataset\]" brings it'
    ):
        webdataset(pattern)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.cls", b"1e99", "label 1e99|no class among"),
        ("x.cls", b"\xff\xfe", r"x\.cls: no text in UTF-8"),
        ("x.cls", b"9" * 9, "label 999999999: there are 1,000,000 classes"),
        ("x.cls", b"z" * 300, "is no label"),
        ("x.cls", bytes(2**20 + 1), "1,048,577 bytes are no label"),
        ("0011.png", b"", r"0011\.png is there twice"),
        ("n" * 2000 + ".png", b"", "a name of 2,004 characters"),
    ],
)
def test_a_strange_member_is_named(tmp_path, name, content, says):
    lines = [*samples(range(12)), *([("x.png", picture(3))] if name.startswith("x") else []), (name, content)]
    with pytest.raises(InputError, match=says):
        webdataset(write(tmp_path / "a.tar", lines), classes=["0", "1", "2"] if content == b"1e99" else None)


def test_a_damaged_picture_and_a_changed_shard_are_named(tmp_path):
    path = write(tmp_path / "a.tar", [*samples(range(12)), ("x.png", picture(3)[:40]), ("x.cls", b"1")])
    with pytest.raises(InputError, match=r"a\.tar: x\.png: not a readable image"):
        webdataset(path)
    data = webdataset(write(tmp_path / "b.tar", samples(range(30))), resident_gib=0)
    write(tmp_path / "b.tar", samples(range(31)))
    with pytest.raises(InputError, match=r"b\.tar: has changed since its members were listed; start again"):
        shards_closed(data.train).raw(torch.tensor([0]))


def shards_closed(source):
    """As in a process of its own, which has opened no shard yet."""
    from supernet.data import members

    members._opened.cache_clear()
    return source


def test_the_list_is_kept_while_the_shards_are_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "CACHED_FROM", 10)
    read = []
    monkeypatch.setattr("supernet.data.shard_index._lines_of", counting(read))
    pattern = shard_set(tmp_path / "set")
    first = webdataset(pattern).fingerprint
    assert len(read) == 6
    assert webdataset(pattern).fingerprint == first
    assert len(read) == 6, "no header is read again"
    assert webdataset(pattern, cache=False).fingerprint == first
    assert len(read) == 12
    for path in (tmp_path / "cache" / "supernet").iterdir():
        path.write_bytes(mutated(path.read_bytes(), random.Random(0)))
    assert webdataset(pattern).fingerprint == first
    assert len(read) == 18, "what is damaged is found out anew"
    write(tmp_path / "set" / "train-000001.tar", samples(range(200, 212)))
    assert webdataset(pattern).fingerprint != first
    assert len(read) == 24


def counting(read):
    from supernet.data import shard_index

    inner = shard_index._lines_of
    return lambda *given: read.append(1) or inner(*given)


def test_a_kept_list_that_points_out_of_its_shard_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "CACHED_FROM", 10)
    pattern = shard_set(tmp_path / "set")
    first, load = webdataset(pattern).fingerprint, kept.load
    for changed in ({"offsets": np.full(60, 10**9)}, {"labels": np.full(60, 7, np.int32)}, {"shard": np.zeros(3)}):
        monkeypatch.setattr(kept, "load", lambda key, changed=changed: load(key) | changed)
        assert webdataset(pattern).fingerprint == first


def refused(path: str) -> str:
    """What is said of shards that are not read; "" where they are."""
    try:
        webdataset(path)
        return ""
    except InputError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_damaged_shards_are_read_or_said_in_one_line(tmp_path):
    sound = (tmp_path / "a.tar", tmp_path / "b.tar")
    write(sound[0], samples(range(12)))
    write(sound[1], [(f"{'long/' * 30}{name}", content) for name, content in samples(range(12))])
    contents, rng, read = [path.read_bytes() for path in sound], random.Random(5), 0
    for number in range(600):
        (tmp_path / "c.tar").write_bytes(mutated(contents[number % 2], rng, early=number % 3 == 0))
        said = refused(str(tmp_path / "c.tar"))
        assert "\n" not in said
        read += not said
    assert 0 < read < 600
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "b.tar", "c.tar"]
