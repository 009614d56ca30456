import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data import Files, Resident, Sealed, digits, fashion_mnist, image_folder, npz
from supernet.runtime.errors import InputError


def arrays(count=40, shape=(6, 5), classes=3, **changes):
    rng = np.random.default_rng(0)
    made = {}
    for part, n in (("train", count), ("test", 12)):
        made[f"{part}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        made[f"{part}_labels"] = np.arange(n) % classes
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def save(tmp_path, **changes):
    np.savez(tmp_path / "set.npz", **arrays(**changes))
    return str(tmp_path / "set.npz")


def test_digits_are_the_packaged_ones():
    data = digits()
    assert data.shape == (1, 8, 8)
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert data.classes == tuple("0123456789")
    assert data.valid is None
    assert data.train.raw(torch.arange(100)).max() == 255
    test = data.test.open()
    assert torch.bincount(test.labels).min() >= 34
    seen = {image.numpy().tobytes() for image in data.train.images}
    assert len(seen & {image.numpy().tobytes() for image in test.images}) <= 1  # no image is in both but by twins
    assert torch.equal(digits().test.open().images, test.images)


def test_test_images_can_be_opened_once():
    sealed = Sealed(digits().train)
    assert len(sealed) == 1438
    sealed.open()
    assert len(sealed) == 1438
    with pytest.raises(RuntimeError, match="used already"):
        sealed.open()


def test_npz_reads_everything_from_the_data(tmp_path):
    data = npz(save(tmp_path, train_labels=(np.arange(40) % 3)[:, None]))
    assert (data.name, data.shape, data.classes) == ("set", (1, 6, 5), ("0", "1", "2"))
    assert data.train.labels.tolist() == [i % 3 for i in range(40)]
    pixels = arrays()["train_images"] / 255
    assert data.augmentation.mean == pytest.approx((pixels.mean(),), abs=1e-5)
    assert data.augmentation.std == pytest.approx((pixels.std(),), abs=1e-5)


def test_npz_with_colour_validation_and_names(tmp_path):
    rng = np.random.default_rng(1)
    extra = {"val_images": rng.integers(0, 256, (9, 6, 5, 3), dtype=np.uint8), "val_labels": np.arange(9) % 3}
    data = npz(save(tmp_path, shape=(6, 5, 3), **extra), classes=["a", "b", "c"], mean=[0.5] * 3, std=[0.2] * 3)
    assert data.shape == (3, 6, 5)
    assert len(data.valid) == 9
    assert data.classes == ("a", "b", "c")
    assert data.augmentation.mean == (0.5, 0.5, 0.5)
    assert torch.equal(
        data.train.images[0], torch.from_numpy(arrays(shape=(6, 5, 3))["train_images"][0]).permute(2, 0, 1)
    )


def test_npz_holds_out_a_test_set_where_there_is_none(tmp_path):
    path = save(tmp_path, test_images=None, test_labels=None)
    one, again = npz(path), npz(path)
    assert (len(one.train), len(one.test)) == (32, 8)
    assert torch.equal(one.test.open().images, again.test.open().images)


def test_npz_limits_are_stratified(tmp_path):
    data = npz(save(tmp_path), train_limit=12, test_limit=6)
    assert torch.bincount(data.train.labels).tolist() == [4, 4, 4]
    assert torch.bincount(data.test.open().labels).tolist() == [2, 2, 2]
    for name in ("train_limit", "test_limit"):
        with pytest.raises(InputError, match=f"^{name}=2: a subset of 2 images leaves class"):
            npz(save(tmp_path), **{name: 2})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_images": None, "train_labels": None}, "no train_images"),
        ({"train_labels": None}, "belong together"),
        ({"train_images": np.full((40, 6, 5), -0.5, np.float32)}, "float32 .* use uint8"),
        ({"train_labels": np.zeros((40, 4), int)}, "train_labels of shape 40 x 4; use the same form"),
        ({"train_labels": np.full(40, 0.5)}, "one whole number"),
        ({"train_labels": np.zeros(39, int)}, "each of 40 images"),
        ({"train_labels": np.arange(40) % 3 - 2}, "labels from 0 on"),
        ({"train_labels": np.zeros(40, int), "test_labels": np.zeros(12, int)}, "at least 2"),
        ({"test_images": np.zeros((12, 9, 9), np.uint8)}, "different shapes"),
        ({"train_images": np.array([{}] * 40, dtype=object)}, "not a plain .npz file .it holds no arrays of numbers"),
    ],
)
def test_npz_refuses_in_one_line(tmp_path, changes, says):
    with pytest.raises(InputError, match=says) as error:
        npz(save(tmp_path, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [npz, image_folder, lambda name: fashion_mnist(source=name)])
@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "/dev/null/x"])
def test_names_that_no_file_can_have(read, name):
    with pytest.raises(InputError, match=r"no such|cannot be read"):
        read(name)


def test_npz_refuses_other_files(tmp_path):
    with pytest.raises(InputError, match=r"^path=.*absent.npz: no such file"):
        npz(str(tmp_path / "absent.npz"))
    (tmp_path / "bad.npz").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="not a plain"):
        npz(str(tmp_path / "bad.npz"))
    with pytest.raises(InputError, match="3 classes by the labels, 2 named"):
        npz(save(tmp_path), classes=["a", "b"])
    with pytest.raises(InputError, match=r"^mean=\[0.1, 0.2\]: the images have 1 channel"):
        npz(save(tmp_path), mean=[0.1, 0.2], std=[1.0, 1.0])


def folder(root, parts=("train",), sizes=((6, 5),), count=10, classes=("cat", "dog"), grey=False):
    rng = np.random.default_rng(0)
    for part in parts:
        for name in classes:
            place = root / part / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                shape = sizes[i % len(sizes)] if grey else (*sizes[i % len(sizes)], 3)
                Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(place / f"{i}.png")
    return str(root)


def test_folder_with_all_parts(tmp_path):
    data = image_folder(folder(tmp_path, ("train", "val", "test")))
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.valid), len(data.test)) == (20, 20, 20)
    assert data.shape == (3, 6, 5)
    assert isinstance(data.train, Resident)


def test_folder_of_classes_alone(tmp_path):
    data = image_folder(folder(tmp_path, ("",), grey=True))
    assert (len(data.train), len(data.test), data.valid) == (16, 4, None)
    assert data.shape == (1, 6, 5)


def test_large_folders_stay_on_disk(tmp_path):
    data = image_folder(folder(tmp_path), resident_gib=1e-7)
    assert isinstance(data.train, Files)
    assert len(data.test) == 4
    assert len(data.augmentation.mean) == 3


def test_folder_sizes(tmp_path):
    path = folder(tmp_path, sizes=((6, 5), (9, 9)))
    data = image_folder(path)
    assert data.shape == (3, 6, 5)
    assert any(note.startswith("images of 2 sizes, 6 x 5 to 9 x 9: resized to 6 x 5") for note in data.notes)
    assert image_folder(path, size=[7, 7]).shape == (3, 7, 7)
    with pytest.raises(InputError, match=r"^size=\[7\]: use"):
        image_folder(path, size=[7])


def test_folder_refuses_in_one_line(tmp_path):
    for path, says in ((tmp_path / "absent", "^path=.*absent: no such folder"), (tmp_path, "no folder for a class")):
        with pytest.raises(InputError, match=says):
            image_folder(str(path))
    for name, says in (("cat", r"needs two class folders in train, found one \(cat\)"), ("dog", "no images in")):
        (tmp_path / "train" / name).mkdir(parents=True)
        with pytest.raises(InputError, match=says):
            image_folder(str(tmp_path))
    folder(tmp_path)
    folder(tmp_path, ("test",), classes=("cow",))
    with pytest.raises(InputError, match="class 'cow'"):
        image_folder(str(tmp_path))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.arange(40) % 3 * 2, "no training images of class 1;"),
        (np.arange(40) % 3 + 1, "class 0; labels count from 0"),
        (np.where(np.arange(40) > 20, 10**12, 0), "class 1;"),
    ],
)
def test_labels_with_gaps_are_refused(tmp_path, labels, says):
    with pytest.raises(InputError, match=says):
        npz(save(tmp_path, train_labels=labels))


def test_damaged_arrays_are_one_line(tmp_path):
    path = tmp_path / "packed.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    for start in range(40, 400, 60):
        path.write_bytes(whole[:start] + bytes(20) + whole[start + 20 :])
        with pytest.raises(InputError, match=r"not a plain .npz"):
            npz(str(path))
    with (tmp_path / "lone.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match=r"not a plain .npz"):
        npz(str(tmp_path / "lone.npz"))


def test_folder_ignores_hidden_entries_and_misses_empty_classes(tmp_path):
    folder(tmp_path, ("train", "val"))
    (tmp_path / "val" / ".cache").mkdir()
    (tmp_path / "train" / "cat" / "._0.png").write_bytes(b"no image")
    assert len(image_folder(str(tmp_path)).valid) == 20
    (tmp_path / "train" / "eel").mkdir()
    with pytest.raises(InputError, match=r"class 2 \(eel\)"):
        image_folder(str(tmp_path))
    with pytest.raises(InputError, match=r"^workers=-1: needs 0 or more"):
        image_folder(str(tmp_path), workers=-1)
