"""Damaged files, made by seeded changes of sound ones: what reads them answers or says one line, and nothing else."""

import gzip
import io
import pickle
import pickletools
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from boxed import WRITERS, drawn
from mutations import mutated
from PIL import Image

from supernet.data import cifar10, coco, fashion_mnist, image_folder, labelled_folder, npz, svhn, voc, yolo
from supernet.data.images import grey_values, read_header, read_image
from supernet.runtime.errors import InputError

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)


def picture(mode: str, ending: str, **more) -> bytes:
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (12, 10, *channels), dtype=np.uint8)).save(file, ending, **more)
    return file.getvalue()


def packed(**changes) -> bytes:
    file = io.BytesIO()
    images, labels = RNG.integers(0, 256, (20, 6, 5), dtype=np.uint8), np.arange(20) % 2
    np.savez(file, **{"train_images": images, "train_labels": labels, **changes})
    return file.getvalue()


def idx(*sides: int) -> bytes:
    header = struct.pack(f">{1 + len(sides)}i", 2048 + len(sides), *sides)
    return header + bytes(n % 10 for n in range(int(np.prod(sides))))


def answers(read) -> bool:
    """Whether it was read; otherwise it said one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
        return True
    except InputError as error:
        return "\n" in str(error) and pytest.fail(str(error))


PICTURES = {
    "grey.png": picture("L", "PNG"),
    "alpha.png": picture("LA", "PNG"),
    "colour.png": picture("RGBA", "PNG"),
    "colour.jpg": picture("RGB", "JPEG"),
    "colour.gif": picture("RGB", "GIF"),
    "colour.webp": picture("RGBA", "WEBP"),
    "colour.tif": picture("RGBA", "TIFF", compression="tiff_lzw"),
    "colour.bmp": picture("RGB", "BMP"),
    "grey.pgm": picture("L", "PPM"),
    "colour.tga": picture("RGBA", "TGA"),
    "colour.ico": picture("RGBA", "ICO"),
    "colour.jp2": picture("RGB", "JPEG2000"),
    "colour.pcx": picture("RGB", "PCX"),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", PICTURES)
def test_pictures(tmp_path, name):
    for kind, label in enumerate("ab"):
        (tmp_path / label).mkdir()
        for n in range(3):
            Image.fromarray(np.full((12, 10, 3), 40 * n + kind, np.uint8)).save(tmp_path / label / f"{n}.png")
    rng, read = random.Random(name), 0
    for _ in range(200):
        (tmp_path / "a" / f"x{name}").write_bytes(mutated(PICTURES[name], rng, early=True))
        read += answers(lambda: image_folder(str(tmp_path), size=[8, 8]))
    assert read < 200


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_RLE.dcm", "SC_rgb_small_odd_jpeg.dcm", "MR_small_jp2klossless.dcm"]
)
def test_dicom(tmp_path, name):
    pydicom = pytest.importorskip("pydicom")
    sound = Path(pydicom.__file__).parent / "data" / "test_files" / name
    rng, read = random.Random(name), 0
    for _ in range(300):
        (tmp_path / "x.dcm").write_bytes(mutated(sound.read_bytes(), rng, early=True))
        for call in (read_header, grey_values, lambda path: read_image(path, (1, 8, 8))):
            read += answers(lambda call=call: call(tmp_path / "x.dcm"))
    assert 0 < read < 900


@pytest.mark.timeout(120)
def test_tables(tmp_path):
    for n in range(12):
        Image.fromarray(np.full((4, 4), n, np.uint8)).save(tmp_path / f"{n}.png")
    lines = [f"{n}.png,{n % 2},{n % 3 % 2},p{n // 2},{'train' if n < 8 else 'test'}" for n in range(12)]
    content = "\n".join(["file,a,b,patient,split", *lines]).encode()
    rng, read = random.Random(3), 0
    for _ in range(600):
        (tmp_path / "labels.csv").write_bytes(mutated(content, rng))
        read += answers(lambda: labelled_folder(str(tmp_path)))
    assert 0 < read < 600


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "content",
    [
        packed(),
        packed(train_images=RNG.random((20, 3, 6, 5), dtype=np.float32)),
        packed(train_images=RNG.integers(0, 4096, (20, 6, 5, 1), dtype=np.uint16)),
        packed(train_labels=np.eye(2)[np.arange(20) % 2]),
        packed(train_labels=np.array(["cat", "dog"] * 10)),
        packed(train_labels=RNG.integers(-1, 2, (20, 3)), train_groups=np.arange(20) // 2),
    ],
    ids=["uint8", "float", "uint16", "onehot", "words", "columns"],
)
def test_npz(tmp_path, content):
    rng, path = random.Random(1), tmp_path / "a.npz"
    read = 0
    for _ in range(600):
        path.write_bytes(mutated(content, rng, early=True))
        read += answers(lambda: npz(str(path)))
    assert read < 600


@pytest.mark.timeout(120)
def test_idx(tmp_path):
    kinds = {"images-idx3-ubyte.gz": idx(20, 4, 4), "labels-idx1-ubyte.gz": idx(20)}
    sound = {f"{part}-{kind}": content for part in ("train", "t10k") for kind, content in kinds.items()}
    rng, read = random.Random(2), 0
    for number in range(600):
        for name, content in sound.items():
            (tmp_path / name).write_bytes(gzip.compress(content))
        name, inside = rng.choice(list(sound)), number % 2
        content = mutated(sound[name] if inside else gzip.compress(sound[name]), rng, early=True)
        (tmp_path / name).write_bytes(gzip.compress(content) if inside else content)
        read += answers(lambda: fashion_mnist(source=str(tmp_path)))
    assert 0 < read < 600


def cifar(rows: int) -> bytes:
    pixels = RNG.integers(0, 256, (rows, 3072), dtype=np.uint8)
    return pickle.dumps({"data": pixels, "labels": [n % 10 for n in range(rows)], "label_names": list("abcdefghij")})


def other_contents(rng: random.Random, content: bytes) -> bytes:
    """Sound archives with something else inside, or damaged ones."""
    strange = (None, [], {}, {"data": None, "labels": 3}, {"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]})
    return pickle.dumps(rng.choice(strange)) if rng.random() < 0.3 else mutated(content, rng, early=True)


@pytest.mark.timeout(120)
def test_cifar(tmp_path, monkeypatch):
    """As if the published checksums were those of the damaged files."""
    from torchvision import datasets

    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *_: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]
    sound, rng, read = cifar(20), random.Random(3), 0
    for _ in range(200):
        for name in names:
            (folder / name).write_bytes(sound)
        (folder / rng.choice(names)).write_bytes(harmless(other_contents(rng, sound), sound))
        read += answers(lambda: cifar10(root=str(tmp_path)))
    assert 0 < read < 200


def harmless(changed: bytes, sound: bytes) -> bytes:
    """Nothing that names a function which the sound file does not name: a test runs no strange pickle."""
    try:
        calls = {str(arg) for op, arg, _ in pickletools.genops(changed) if "GLOBAL" in op.name}
        texts = {str(arg) for op, arg, _ in pickletools.genops(changed) if "UNICODE" in op.name}
    except ValueError:
        return changed[:20]
    known = {str(arg) for _, arg, _ in pickletools.genops(sound)} | {str(n) for n in range(10)}
    return changed if not calls - known and not texts - known else sound


@pytest.mark.parametrize(
    "content",
    [
        {"X": "words", "y": [[1]]},
        {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": [["a"]]},
        {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": [[1], [2]]},
        {"X": np.zeros((32, 32, 3, 4)), "y": [[1], [2], [1], [2]]},
        {"X": np.zeros((3, 4), np.uint8), "y": [[1], [2], [1], [2]]},
        {"Z": 1},
    ],
)
def test_svhn(tmp_path, monkeypatch, content):
    """Sound files with something else inside; SciPy itself does not survive every damaged one, checksums keep it."""
    from torchvision import datasets

    monkeypatch.setattr(datasets.svhn, "check_integrity", lambda *_: True)
    for part in ("train", "test"):
        scipy.io.savemat(tmp_path / f"{part}_32x32.mat", content)
    assert not answers(lambda: svhn(root=str(tmp_path)))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "name", ["Annotations/train_0.xml", "annotations/instances_train2017.json", "labels/train/train_0.txt", "data.yaml"]
)
def test_boxes(tmp_path, name):
    kind = {"xml": "voc", "json": "coco"}.get(name.rsplit(".", 1)[1], "yolo")
    root = WRITERS[kind](tmp_path / "set", {"train": drawn(6, size=(32, 32)), "test": drawn(2, size=(32, 32))})
    sound, rng, read = (root / name).read_bytes(), random.Random(4), 0
    reader = {"voc": voc, "coco": coco, "yolo": yolo}[kind]
    for _ in range(300):
        (root / name).write_bytes(mutated(sound, rng))
        read += answers(lambda: reader(str(root)))
    assert 0 < read < 300
