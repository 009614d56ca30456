import io
import os
import struct
import zipfile

import numpy as np
import pytest

from supernet.data import npz
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
        (np.ones((30, 3), int), "a row with 3 ones: several or no labels an image"),
        (np.full((30, 3), 1 / 3), "3 columns of other numbers than 0 and 1"),
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
    data = npz(saved(tmp_path, images))
    assert data.augmentation.preparation.white == 4095
    assert len(data.train.images.unique()) > 200


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
