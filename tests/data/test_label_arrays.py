import numpy as np
import pytest

from supernet.data.label_arrays import read_labels
from supernet.runtime.errors import InputError

COLUMNS = np.array([[1, 0], [0, 1], [1, 1]])


def test_all_parts_together_say_whether_columns_are_one_hot():
    one_hot = np.eye(2, dtype=np.int64)
    assert read_labels({"train": one_hot, "test": one_hot[::-1]}, "auto")[0]["test"].tolist() == [1, 0]
    assert read_labels({"train": one_hot, "test": COLUMNS}, "auto")[0]["train"].tolist() == one_hot.tolist()
    mixed, notes = read_labels({"a: train": one_hot, "a: test": np.array([[1], [0]])}, "auto")
    assert [mixed[name].tolist() for name in mixed] == [[0, 1], [1, 0]]
    assert notes == ["train of shape 2 x 2: one-hot, read as class numbers"]


def test_unknown_is_minus_one_or_no_number():
    given = np.array([[1, np.nan], [0, -1]])
    read, notes = read_labels({"train": given}, "auto")
    assert read["train"].tolist() == [[1, -1], [0, -1]]
    assert notes[1] == "unknown, so not learnt from and not judged by: 2 of 4 labels"
    assert read_labels({"train": COLUMNS > 0}, "auto")[0]["train"].dtype == np.int64


@pytest.mark.parametrize(
    ("arrays", "form", "says"),
    [
        ({"train": COLUMNS, "test": COLUMNS[:, :1]}, "auto", "test is int64 .* use the same form for all parts"),
        ({"train": COLUMNS, "test": np.ones((2, 3), int)}, "auto", "test has 3 columns, train of shape 3 x 2"),
        ({"train": COLUMNS * 3}, "several", "such as 3; use labels.argmax"),
        ({"train": np.ones((2, 2, 2), int)}, "several", "use one whole number an image, or a column for each label"),
        ({"train": COLUMNS}, "one", r"train: row 2 is not one-hot, \[1, 1\]"),
        ({"train": np.array([[1j, 0]])}, "auto", "complex128"),
    ],
)
def test_what_is_not_understood(arrays, form, says):
    with pytest.raises(InputError, match=says) as error:
        read_labels(arrays, form)
    assert "\n" not in str(error.value)
