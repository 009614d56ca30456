import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data import image_folder
from supernet.data.batches import evaluation_batches, training_batches
from supernet.data.files import Files
from supernet.data.images import read_image
from supernet.data.splits import search_halves
from supernet.runtime.errors import InputError

RNG = np.random.default_rng(0)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def noise(root, part="", count=10, size=(12, 10), classes=("cat", "dog"), first=0):
    for name in classes:
        for n in range(first, first + count):
            save(root / part / name / f"{n}.png", RNG.integers(0, 256, (*size, 3), dtype=np.uint8))
    return str(root)


@pytest.mark.parametrize(
    ("sizes", "shape", "says"),
    [
        ([(30, 20)], (30, 20), None),
        ([(96, 96)], (96, 96), None),
        ([(97, 96)], (64, 64), "images of 97 x 96: resized to 64 x 64; size="),
        ([(30, 20), (34, 22), (40, 30)], (34, 22), "images of 3 sizes, 30 x 20 to 40 x 30: resized to 34 x 22"),
        ([(30, 20), (300, 200), (400, 300)], (64, 64), "images of 3 sizes, 30 x 20 to 400 x 300: resized to 64 x 64"),
    ],
)
def test_a_size_for_any_photos(tmp_path, sizes, shape, says):
    for n in range(12):
        noise(tmp_path, count=1, size=sizes[n % len(sizes)], first=n)
    data = image_folder(str(tmp_path))
    assert data.shape == (3, *shape)
    assert any(says in note for note in data.notes) if says else not data.notes


@pytest.mark.parametrize("size", [[1_000_000, 1_000_000], [0, 5], [5], ["a", "b"], [8.0, 8.0], True, 0])
def test_nonsense_sizes_are_refused(tmp_path, size):
    with pytest.raises(InputError, match=r"^size=\["):
        image_folder(noise(tmp_path, count=5), size=size)


def test_one_number_is_a_square_and_crop_keeps_the_aspect(tmp_path):
    for name, level in (("cat", 50), ("dog", 200)):
        for n in range(5):
            wide = np.full((20, 60), 255, np.uint8)
            wide[:, 20:40] = level + n
            save(tmp_path / name / f"{n}.png", wide)
    data = image_folder(str(tmp_path), size=10, fit="crop")
    assert data.shape == (1, 10, 10)
    assert data.train.images.max() < 255
    assert image_folder(str(tmp_path), size=10).train.images.max() == 255
    with pytest.raises(InputError, match="fit=stretch: use squash, crop or pad"):
        image_folder(str(tmp_path), fit="stretch")


def test_colour_in_one_of_many_files(tmp_path):
    for n in range(120):
        save(tmp_path / "ab"[n % 2] / f"{n}.png", RNG.integers(0, 256, (8, 8), dtype=np.uint8))
    save(tmp_path / "a" / "77777.png", RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    data = image_folder(str(tmp_path))
    assert data.shape == (3, 8, 8)
    assert "grey, and read as colour: 120 of 121 images" in data.notes


def test_twelve_bits_are_one_range_for_all(tmp_path):
    for n in range(10):
        for name, top in (("a", 4000), ("b", 1000)):
            ramp = np.arange(64).reshape(8, 8) * top // 63 + n
            save(tmp_path / "train" / name / f"{n}.png", ramp.astype(np.uint16))
            save(tmp_path / "test" / name / f"{n}.png", np.full((8, 8), 10_000 + n, np.uint16))
    data = image_folder(str(tmp_path), window="none")
    assert data.augmentation.preparation.white == 4095
    assert data.train.images[:10].max() > 240
    assert data.train.images[10:].max() < 70
    assert data.test.open().images.unique().tolist() == [255]
    assert "40 images of grey of more than 8 bits: 0 to 4,095 become 256 levels" in data.notes


def test_twelve_bits_keep_their_levels_through_the_window_of_the_training_images(tmp_path):
    for n in range(10):
        for name in "ab":
            ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
            ramp[0, 0] = 65535 - n  # a dead pixel
            save(tmp_path / "train" / name / f"{n}.png", ramp)
            save(tmp_path / "test" / name / f"{n}.png", np.full((64, 64), 60_000 + n, np.uint16))
    data = image_folder(str(tmp_path), size=64)
    low, high = data.augmentation.preparation.window
    assert (low, high) == pytest.approx((20.5, 4075), abs=1)  # the test images play no part
    assert all(len(image.unique()) > 200 for image in data.train.images)
    assert data.test.open().images.unique().tolist() == [255]
    assert "40 images of grey of more than 8 bits: 21 to 4,076 become 256 levels" in data.notes
    asked = image_folder(str(tmp_path), size=64, window=[0, 1000])
    assert asked.augmentation.preparation.window == (0, 1000)
    assert (asked.train.images[0] == 255).sum() == 4096 - 998
    path = asked.train.paths[0] if isinstance(asked.train, Files) else str(tmp_path / "train" / "a" / "0.png")
    again = read_image(path, (1, 64, 64), preparation=asked.augmentation.preparation)
    assert torch.equal(again, asked.train.images[0])


def test_a_window_for_pictures_of_eight_bits_is_a_mistake(tmp_path):
    with pytest.raises(InputError, match="no image has grey of more than 8 bits; leave it out"):
        image_folder(noise(tmp_path), window=[0, 100])
    assert image_folder(str(tmp_path), window="auto").augmentation.preparation.window is None


def test_the_images_of_a_patient_stay_on_one_side(tmp_path):
    for n in range(40):
        patient = n // 4
        save(tmp_path / "ab"[patient % 2] / f"patient{patient}_{n}.png", np.full((4, 4), n, np.uint8))
    data = image_folder(str(tmp_path), groups=r"(patient\d+)_")
    train, test = data.train.images[:, 0, 0, 0] // 4, data.test.open().images[:, 0, 0, 0] // 4
    assert not set(train.tolist()) & set(test.tolist())
    assert len(test) == 8
    same = data.groups[:, None] == data.groups[None]
    assert torch.equal(same, train[:, None] == train[None])
    assert "groups: 10 groups of training images, each on one side of a split" in data.notes
    weights, architectures = search_halves(data.train.labels, 0.5, seed=0, groups=data.groups)
    assert not set(data.groups[weights].tolist()) & set(data.groups[architectures].tolist())
    with pytest.raises(InputError, match=r"does not fit 40 of 40 files, such as a/patient0_0.png"):
        image_folder(str(tmp_path), groups=r"(case\d+)_")


def test_copies_stay_on_one_side_of_a_drawn_split(tmp_path):
    noise(tmp_path)
    for name in ("cat", "dog"):
        for n in range(8):
            shutil.copy(tmp_path / name / f"{n}.png", tmp_path / name / f"{n} (copy).png")
    data = image_folder(str(tmp_path))
    train = {bytes(image.numpy()) for image in data.train.images}
    test = {bytes(image.numpy()) for image in data.test.open().images}
    assert not train & test
    assert len(train) + len(test) == 20
    assert len(data.train) + len(data.test) == 36
    assert any(note.startswith("16 images are exact copies of others") for note in data.notes)


def test_copies_between_classes_and_parts_are_said(tmp_path):
    noise(tmp_path, "train")
    noise(tmp_path, "test", count=4, first=50)
    shutil.copy(tmp_path / "train" / "cat" / "0.png", tmp_path / "train" / "dog" / "x.png")
    shutil.copy(tmp_path / "train" / "cat" / "1.png", tmp_path / "test" / "cat" / "y.png")
    notes = image_folder(str(tmp_path)).notes
    assert "warning: 1 image is an exact copy of one of another class (cat and dog)" in notes
    assert "warning: 1 image to validate or test is an exact copy of a training image" in notes


def test_nothing_but_copies_cannot_be_split(tmp_path):
    noise(tmp_path, count=6)
    for n in range(1, 6):
        shutil.copy(tmp_path / "cat" / "0.png", tmp_path / "cat" / f"{n}.png")
    with pytest.raises(InputError, match=r"class 0 \(cat\) has 1 image but for exact copies"):
        image_folder(str(tmp_path))


def test_too_few_images_name_the_class(tmp_path):
    noise(tmp_path, count=9, classes=("dog",))
    noise(tmp_path, count=1, classes=("cat",))
    with pytest.raises(InputError, match=r"a fifth is held out to test: class 0 \(cat\) has 1 image, too few"):
        image_folder(str(tmp_path))


def test_a_fingerprint_tells_other_images_apart(tmp_path):
    path = noise(tmp_path / "a")
    first = image_folder(path).fingerprint
    assert image_folder(path, flip=True).fingerprint == first
    data = image_folder(path)
    data.test.open()
    assert data.fingerprint == first
    shutil.copytree(path, tmp_path / "b")
    assert image_folder(str(tmp_path / "b")).fingerprint == first
    on_disk = image_folder(path, resident_gib=0)
    assert isinstance(on_disk.train, Files)
    assert image_folder(str(tmp_path / "b"), resident_gib=0).fingerprint == on_disk.fingerprint
    save(tmp_path / "b" / "cat" / "3.png", np.zeros((12, 10, 3), np.uint8))
    save(tmp_path / "a" / "cat" / "new.png", RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    prints = [image_folder(str(tmp_path / name), resident_gib=g).fingerprint for name in "ab" for g in (0, 1)]
    assert len({*prints, first, on_disk.fingerprint}) == 6


def test_threads_keep_the_order(tmp_path):
    for n in range(40):
        save(tmp_path / "ab"[n % 2] / f"{n:02}.png", np.full((4, 4), n, np.uint8))
    data = image_folder(str(tmp_path))
    levels = data.train.images.flatten(1).amin(1)
    assert torch.equal(levels % 2, data.train.labels)
    assert torch.equal(data.train.images, image_folder(str(tmp_path), resident_gib=0).train.raw(torch.arange(32)))


def test_the_data_of_imagenet(tmp_path):
    noise(tmp_path, size=(40, 60))
    data = image_folder(str(tmp_path), size=[24, 20], fit="crop", border=2, scale=[0.08, 1.0], resident_gib=0)
    assert data.shape == data.reading.shape == (3, 24, 20)
    assert data.train.shape == (3, 28, 24)
    batch = next(training_batches(data.train, 4, data.augmentation, seed=0))
    judged = next(evaluation_batches(data.train, 4, data.augmentation))
    assert batch.images.shape == judged.images.shape == (4, 3, 24, 20)
    used = read_image(data.train.paths[0], data.shape, preparation=data.augmentation.preparation)
    seen = data.augmentation.normalise(data.train.raw(torch.tensor([0])))
    plain = replace(data.augmentation, scale=None).normalise(used.unsqueeze(0))
    torch.testing.assert_close(seen, plain, rtol=0, atol=0.05)  # places are rounded otherwise
    without = image_folder(str(tmp_path), size=[24, 20], fit="crop", border=2)
    assert torch.equal(without.train.images[0], used)
