import json

import numpy as np

from supernet.data import digits, npz
from supernet.data.reading import Reading, hashed, sampled


def test_lines_say_what_was_read():
    reading = Reading(("cat", "dog"), {"train": (40, 56), "test": (10, 14)}, (3, 64, 64), True, ("left out: 3 .heic",))
    assert reading.lines() == [
        "120 images of 3 x 64 x 64 (channels, height, width): train 96, valid -, test 24 (held out)",
        "2 classes (images): cat (50), dog (70)",
        "left out: 3 .heic",
    ]
    plain = reading.to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["images"] == {"train": 96, "test": 24}
    assert plain["classes"]["dog"] == {"train": 56, "test": 14}


def test_many_classes_and_strange_names_are_short_and_printable():
    many = Reading(tuple(f"c{n}" for n in range(1000)), {"train": tuple(range(1, 1001))}, (3, 8, 8))
    assert (
        many.lines()[1]
        == "1,000 classes (images): c0 (1), c1 (2), c2 (3), c3 (4), c4 (5), c5 (6), c6 (7), ... (1 to 1,000)"
    )
    strange = Reading(("a\x1b[31m", "b\n"), {"train": (1, 1)}, (1, 2, 2), notes=("x\ry",))
    assert all(line.isprintable() for line in strange.lines())


def test_of_data(tmp_path):
    data = digits()
    assert data.reading.counts["train"] == tuple((data.train.labels == n).sum() for n in range(10))
    assert data.reading.held_out
    assert data.reading.notes == ()
    images, labels = np.zeros((40, 4, 4), np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, val_images=images, val_labels=labels)
    data = npz(str(tmp_path / "a.npz"))
    assert {part: sum(counts) for part, counts in data.reading.counts.items()} == {"train": 32, "valid": 40, "test": 8}
    assert data.notes[0] == "all pixels of the training images have one value"


def test_fingerprints_differ_by_pixels_labels_and_count(tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8), np.arange(40) % 2
    brighter, swapped = images.copy(), labels.copy()
    brighter[7, 1, 1] ^= 1
    swapped[[0, 1]] = swapped[[1, 0]]
    prints = set()
    for x, y in ((images, labels), (brighter, labels), (images, swapped), (images[:-2], labels[:-2])):
        np.savez(tmp_path / "a.npz", train_images=x, train_labels=y)
        prints |= {npz(str(tmp_path / "a.npz")).fingerprint, npz(str(tmp_path / "a.npz"), crop_padding=2).fingerprint}
    assert len(prints) == 4


def test_small_parts():
    assert sampled(3).tolist() == [0, 1, 2]
    assert len(sampled(10**6).unique()) == 64
    assert sampled(10**6)[-1] == 10**6 - 1
    assert hashed(("a", "bc")) != hashed(("ab", "c"))
