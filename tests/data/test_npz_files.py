import io
import os
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data import npz
from supernet.data.images import read_image
from supernet.data.preparation import Preparation
from supernet.runtime.errors import InputError

LABELS = np.arange(30) % 3


def saved(tmp_path, images, labels=LABELS, **more):
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, **more)
    return str(tmp_path / "a.npz")


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, (30, *shape), dtype=np.uint8)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ((3, 16, 16), (3, 16, 16)),
        ((1, 16, 12), (1, 16, 12)),
        ((4, 9, 16), (4, 9, 16)),
        ((13, 16, 16), (13, 16, 16)),
        ((16, 16, 13), (13, 16, 16)),
        ((16, 16, 3), (3, 16, 16)),
        ((16, 16, 4), (4, 16, 16)),
        ((3, 3, 3), (3, 3, 3)),
        ((3, 32, 3), (3, 3, 32)),
        ((4, 4, 13), (13, 4, 4)),
        ((16, 5, 2), (2, 16, 5)),
    ],
)
def test_channels_come_last_unless_it_is_clear_that_they_come_first(tmp_path, given, read):
    images = pixels(*given)
    data = npz(saved(tmp_path, images))
    assert data.shape == read
    turned = given == read and given != (3, 3, 3)
    assert any("channels first" in note for note in data.notes) == turned
    expected = images if turned else images.transpose(0, 3, 1, 2)
    together = np.concatenate([data.train.images.numpy(), data.test.open().images.numpy()])
    assert sorted(map(bytes, together)) == sorted(map(bytes, np.ascontiguousarray(expected)))


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float32, np.int64])
def test_one_hot_labels_are_indices(tmp_path, dtype):
    one_hot, test = np.eye(3, dtype=dtype)[LABELS], {"test_images": pixels(6, 5), "test_labels": LABELS}
    data = npz(saved(tmp_path, pixels(6, 5), one_hot, **test))
    assert data.train.labels.tolist() == data.test.labels.tolist() == LABELS.tolist()
    assert "train_labels of shape 30 x 3: one-hot, read as class numbers" in data.notes


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.full((30, 3), 1 / 3), r"3 columns of other numbers than 0, 1 and -1 \(unknown\), such as 0.333"),
        (np.full((30, 3), 2), "such as 2;"),
        (np.eye(3)[LABELS][:-1], "30 images"),
        (np.array(["cat", "dog", "eel"])[LABELS], "words: use np.unique"),
        (np.full(30, np.nan), "fractions"),
        (np.full(30, 2**63, np.uint64), "whole numbers from 0 on"),
    ],
)
def test_labels_of_other_kinds_are_refused(tmp_path, labels, says):
    with pytest.raises(InputError, match=says):
        npz(saved(tmp_path, pixels(6, 5), labels))


def test_whole_floats_and_bools_are_labels(tmp_path):
    assert npz(saved(tmp_path, pixels(6, 5), LABELS.astype(float))).classes == ("0", "1", "2")
    assert npz(saved(tmp_path, pixels(6, 5), LABELS > 0)).classes == ("0", "1")


def test_deep_arrays_keep_their_white_for_prediction(tmp_path):
    images = pixels(6, 5).astype(np.uint16) * 16
    data = npz(saved(tmp_path, images), window="none")
    assert data.augmentation.preparation == Preparation(white=4095)
    assert len(data.train.images.unique()) > 200


def test_deep_arrays_are_seen_through_a_window_as_files_are_at_prediction(tmp_path):
    images = np.tile(np.arange(4096, dtype=np.uint16).reshape(1, 64, 64), (30, 1, 1))
    images[:, 0, 0] = 65_000
    data = npz(saved(tmp_path, images))
    assert data.augmentation.preparation.window == pytest.approx((20.5, 4075), abs=1)
    assert len(data.train.images[0].unique()) > 200
    Image.fromarray(images[0]).save(tmp_path / "film.png")
    read = read_image(tmp_path / "film.png", (1, 64, 64), preparation=data.augmentation.preparation)
    assert torch.equal(read, data.train.images[0])


def test_a_window_reads_numbers_that_could_be_anything(tmp_path):
    units = np.linspace(-1024, 3000, 30 * 30).reshape(30, 6, 5)
    for images in (units, units.astype(np.int16)):
        with pytest.raises(InputError, match=r"or a window=\[black,white\]"):
            npz(saved(tmp_path, images))
        data = npz(saved(tmp_path, images), window=[-1000, 400])
        assert data.augmentation.preparation == Preparation(window=(-1000, 400), window_of_file=False)
        assert data.train.images.min() == 0
        assert data.train.images.max() == 255
    with pytest.raises(InputError, match="train_images is uint8, which needs none"):
        npz(saved(tmp_path, pixels(6, 5)), window=[0, 100])


def test_columns_are_several_labels(tmp_path):
    labels = np.random.default_rng(1).integers(0, 2, (30, 14))
    labels[3, 2:5] = -1
    data = npz(saved(tmp_path, pixels(6, 5), labels.astype(np.int8)), classes=[f"finding {n}" for n in range(14)])
    together = torch.cat([data.train.labels, data.test.open().labels])
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, labels.tolist()))
    assert "train_labels of shape 30 x 14: 14 labels, of which an image may have several or none" in data.notes
    assert "unknown, so not learnt from and not judged by: 3 of 420 labels" in data.notes
    one_hot = npz(saved(tmp_path, pixels(6, 5), np.eye(3)[LABELS]), labels="several")
    assert one_hot.train.labels.shape == (24, 3)
    column = npz(saved(tmp_path, pixels(6, 5), LABELS[:, None] % 2), labels="several")
    assert column.train.labels.shape == (24, 1)
    with pytest.raises(InputError, match="row 0 is not one-hot"):
        npz(saved(tmp_path, pixels(6, 5), np.ones((30, 3), int)), labels="one")
    with pytest.raises(InputError, match="labels=many: use auto, one, several"):
        npz(saved(tmp_path, pixels(6, 5)), labels="many")


def test_groups_in_the_file_are_kept_together(tmp_path):
    patients = np.array([f"p{n // 3}" for n in range(30)])
    images = np.arange(30, dtype=np.uint8).repeat(30).reshape(30, 6, 5)
    path = saved(tmp_path, images, train_groups=patients)
    for data in (npz(path), npz(path, groups="groups")):
        test = data.test.open().images[:, 0, 0, 0] // 3
        assert not set(test.tolist()) & set((data.train.images[:, 0, 0, 0] // 3).tolist())
        assert len(test) == 6
        assert "train_groups: 10 groups of training images, each on one side of a split" in data.notes
    assert npz(path, groups="none").groups is None
    with pytest.raises(InputError, match=r"groups=patients: no train_patients in .*a\.npz"):
        npz(path, groups="patients")
    given = {"test_images": images[:6], "test_labels": LABELS[:6], "test_groups": patients[:6]}
    notes = npz(saved(tmp_path, images, train_groups=patients, **given)).notes
    assert "warning: 2 of them have images in test, too" in notes
    with pytest.raises(InputError, match="train_groups is float64"):
        npz(saved(tmp_path, images, train_groups=np.zeros(30)))
    with pytest.raises(InputError, match="30 images of one group, or copies of one"):
        npz(saved(tmp_path, images, train_groups=np.zeros(30, int)))


def test_other_keys_are_named(tmp_path):
    np.savez(tmp_path / "keras.npz", x_train=pixels(6, 5), y_train=LABELS)
    with pytest.raises(InputError, match="its keys are x_train, y_train; save it again"):
        npz(str(tmp_path / "keras.npz"))
    with pytest.raises(InputError, match=r"30, 784.*reshape\(-1, 28, 28\)"):
        npz(saved(tmp_path, pixels(784)))


@pytest.mark.parametrize("claimed", [(2**40, 8, 8), (30, 6, 6), (-1, 6, 5)])
def test_headers_that_lie_are_found_before_room_is_made(tmp_path, claimed):
    header = str({"descr": "|u1", "fortran_order": False, "shape": claimed}).encode().ljust(117) + b"\n"
    whole = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(900)
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train_images.npy", whole)
        archive.writestr("train_labels.npy", labels.getvalue())
    with pytest.raises(InputError, match=r"not a plain .npz file \(train_images has 900 bytes where its header says"):
        npz(str(tmp_path / "a.npz"))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(InputError, match="not a regular file"):
        npz(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("unknown", [-1, np.nan])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_images_of_an_unknown_class_are_left_out(tmp_path, unknown, shape):
    images = np.arange(24, dtype=np.uint8)[:, None, None] * np.ones((6, 6), np.uint8)
    labels = np.where(np.arange(24) % 6 == 5, unknown, np.arange(24) % 2).reshape(shape)
    more = {"train_groups": np.arange(24) // 2, "test_images": images + 30, "test_labels": labels}
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=labels, **more)
    data = npz(tmp_path / "set.npz")
    assert data.notes[0] == "left out: 8 images of which the class is unknown"
    assert (data.train.labels == data.train.images[:, 0, 0, 0] % 2).all()
    assert (len(data.train), len(data.test), len(data.groups)) == (20, 20, 20)


def test_copies_of_training_images_are_told(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (20, 6, 6), np.uint8)
    labels, told = np.arange(20) % 2, "warning: {} images to validate or test are exact copies of training images"
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, val_images=images[:3], val_labels=labels[:3])
    assert npz(tmp_path / "a.npz").notes == (told.format(3),)
    twice = np.concatenate((images, images))
    np.savez(tmp_path / "b.npz", train_images=twice, train_labels=np.tile(labels, 2))
    data = npz(tmp_path / "b.npz")
    seen = {image.tobytes() for image in data.train.images.numpy()}
    leaked = sum(image.tobytes() in seen for image in data.test.open().images.numpy())
    assert leaked
    assert data.notes == (told.format(leaked),)


def test_labels_that_nobody_has_are_told_and_labels_that_nobody_knows_refused(tmp_path):
    images, labels = (
        np.zeros((12, 6, 6), np.uint8),
        np.stack((np.arange(12) % 2, np.zeros(12, int), np.full(12, -1)), 1),
    )
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=labels)
    assert "warning: no training image has the label b, c" in npz(tmp_path / "set.npz", classes=["a", "b", "c"]).notes
    np.savez(
        tmp_path / "set.npz",
        train_images=images,
        train_labels=labels[:, 2:],
        test_images=images,
        test_labels=labels[:, :1],
    )
    with pytest.raises(InputError, match="all labels of the training images are unknown"):
        npz(tmp_path / "set.npz", labels="several")
