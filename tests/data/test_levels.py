import numpy as np
import pytest

from supernet.data.levels import bits_white, scale_of
from supernet.runtime.errors import InputError


def test_white_is_that_of_the_bits():
    assert [bits_white(n) for n in (0, 200, 255, 256, 4000, 4095)] == [255, 255, 255, 511, 4095, 4095]
    assert [bits_white(n) for n in (4096, 40_000, 65535)] == [8191, 65535, 65535]


@pytest.mark.parametrize(
    ("values", "levels", "says"),
    [
        (np.array([0, 7, 255], np.uint8), [0, 7, 255], ""),
        (np.array([0, 7, 255], np.int64), [0, 7, 255], "read as uint8"),
        (np.array([False, True, True]), [0, 255, 255], "false and true"),
        (np.array([0, 2048, 4000], np.uint16), [0, 128, 249], "0 to 4,095"),
        (np.array([0, 0.5, 1], np.float32), [0, 128, 255], "0 to 1 become"),
        (np.array([0, 100.4, 255], np.float64), [0, 100, 255], "from 0 to 255"),
        (np.array([0, 3, 16], np.float16), [0, 3, 16], "from 0 to 16"),
    ],
)
def test_what_people_bring(values, levels, says):
    scale = scale_of(values, "train_images")
    assert scale.apply(values, "train_images").tolist() == levels
    assert scale.apply(values, "train_images").dtype == np.uint8
    assert says in scale.note
    assert bool(scale.note) == bool(says)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.array([-1.5, 2.0]), "from -1.5 to 2; use uint8.*normalised already"),
        (np.array([0, 2.5]), "from 0 to 2.5; use uint8"),
        (np.array([0, np.nan]), "not finite"),
        (np.array([0, 70000]), "from 0 to 70000"),
        (np.array([-1, 5], np.int8), "from -1 to 5"),
        (np.array([1j]), "complex128"),
        (np.array(["a"]), "<U1"),
        (np.zeros(0), "empty"),
    ],
)
def test_what_could_be_anything_is_refused(values, says):
    with pytest.raises(InputError, match=says):
        scale_of(values, "train_images")


def test_other_parts_are_read_as_the_training_images():
    unit, deep = scale_of(np.array([0.0, 0.3]), "train"), scale_of(np.array([0, 4000], np.uint16), "train")
    assert unit.apply(np.array([0.0, 1.0]), "test").tolist() == [0, 255]
    assert deep.apply(np.array([100, 60000], np.uint16), "test").tolist() == [6, 255]
    with pytest.raises(InputError, match="test goes from 0 to 200, train_images from 0 to 1 at most"):
        unit.apply(np.array([0.0, 200.0]), "test")
    with pytest.raises(InputError, match="test is uint8, train_images of another kind"):
        unit.apply(np.array([0, 1], np.uint8), "test")
