"""One tensor says what is known of each image, whatever it is."""

import numpy as np
import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, training_batches
from supernet.data.dataset import CommonSettings, Parts, assemble
from supernet.data.targets import BOX, check_labels, class_names, counted, kind_of, most_named, padded, presence
from supernet.runtime.errors import InputError

BOXES = padded(
    [
        torch.tensor([[0, 1, 1, 5, 5, 0, 16], [2, 0, 0, 3, 3, 1, 9]], dtype=torch.float32),
        torch.zeros(0, len(BOX)),
        torch.tensor([[2, 2, 2, 4, 4, 0, 4]], dtype=torch.float32),
    ]
)
LABELS = torch.tensor([[1, 0, -1], [0, 0, 1], [1, 1, 0]])
CLASSES = torch.tensor([2, 0, 2])


def test_kinds_are_told_apart_and_each_says_which_classes_an_image_shows():
    assert [kind_of(each) for each in (CLASSES, LABELS, BOXES)] == ["classes", "labels", "boxes"]
    assert presence(CLASSES, 3).tolist() == [[False, False, True], [True, False, False], [False, False, True]]
    assert presence(LABELS, 3).int().tolist() == [[1, 0, 0], [0, 0, 1], [1, 1, 0]]
    assert presence(BOXES, 3).int().tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert [counted(each, 3) for each in (CLASSES, LABELS, BOXES)] == [(1, 0, 2), (2, 1, 1), (1, 0, 2)]
    assert [most_named(each) for each in (CLASSES, LABELS, BOXES)] == [3, 3, 3]


def test_rows_that_fill_up_are_no_boxes():
    assert BOXES.shape == (3, 2, 7)
    assert BOXES[1].tolist() == [[-1, 0, 0, 0, 0, 0, 0]] * 2
    assert padded([torch.zeros(0, 7)] * 2).shape == (2, 0, 7)
    assert presence(padded([torch.zeros(0, 7)] * 2), 4).sum() == 0


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (torch.zeros(2, dtype=torch.int32), "^labels: must be int64 of shape"),
        (torch.zeros(2, 3, 5), r"^labels: must be int64 .* not float32 \(2, 3, 5\)"),
        (torch.tensor([[0, 2]]), "^labels: several of an image are 1, 0 or -1"),
        (BOXES.clone().fill_(float("nan")), "^labels: a box has infinite corners"),
    ],
)
def test_what_is_no_label_is_refused(labels, says):
    with pytest.raises(InputError, match=says):
        check_labels(labels)


@pytest.mark.parametrize("labels", [CLASSES.repeat(8), LABELS.repeat(8, 1), BOXES.repeat(8, 1, 1)])
def test_sets_of_all_kinds_are_split_and_batched_with_their_labels(labels):
    images = torch.arange(24, dtype=torch.uint8).view(24, 1, 1, 1).expand(24, 1, 6, 6).contiguous()
    labels = torch.where(labels == 2, 1, labels) if labels.dim() == 1 else labels  # no gap among the classes
    data = assemble("toy", Parts(Resident(images, labels)), CommonSettings(mean=[0], std=[1 / 255]))
    assert len(data.train) + len(data.test) == 24
    assert len(data.test) in (4, 5, 6)
    batch = next(training_batches(data.train, 8, Augmentation((0.0,), (1 / 255,)), seed=0))
    places = batch.images[:, 0, 0, 0].round().long()  # each image's level is its place
    assert torch.equal(batch.labels, labels[places])


def test_what_belongs_together_is_on_one_side():
    groups = torch.arange(24) // 4
    images = torch.arange(24, dtype=torch.uint8).view(24, 1, 1, 1).expand(24, 1, 6, 6).contiguous()
    parts = Parts(Resident(images, torch.arange(24) % 2), groups=groups)
    data = assemble("toy", parts, CommonSettings())
    tested = groups[data.test.open().raw(torch.arange(len(data.test)))[:, 0, 0, 0].long()]
    assert data.groups is not None
    assert not set(data.groups.tolist()) & set(tested.tolist())
    assert len(data.groups) == len(data.train)


def test_names_of_classes_are_words_and_whole_numbers():
    assert class_names(None) == class_names([]) == ()
    assert class_names(["no", 0, np.int64(7), np.str_("on")]) == ("no", "0", "7", "on")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([True, False], "classes: True is no name; YAML takes words such as no and on for others: use quotes"),
        (["a", 1.5], "classes: 1.5 is no name"),
        (["a", None], "classes: None is no name"),
        ("cell", r"classes=cell: needs a list of names, such as \[cell\]"),
    ],
)
def test_what_was_no_name_any_more_when_it_came_is_refused(given, says):
    with pytest.raises(InputError, match=says):
        class_names(given)
