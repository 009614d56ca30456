import os
import unicodedata
from pathlib import Path

import pytest

from supernet.data.listing import LeftOut, find_classes, find_parts, list_images
from supernet.runtime.errors import InputError


def place(root: Path, *names: str) -> Path:
    """Files of these names below root; nothing reads what is in them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def part(root: Path, *names: str) -> Path:
    return place(root, *(f"{name}/{label}/1.png" for name in names for label in ("cat", "dog")))


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("Training", "Testing"), {"train": "Training", "test": "Testing"}),
        (("Train", "VAL", "test"), {"train": "Train", "val": "VAL", "test": "test"}),
        (("train", "validation"), {"train": "train", "val": "validation"}),
        (("train", "dev", "testing"), {"train": "train", "val": "dev", "test": "testing"}),
        (("train", "valid"), {"train": "train", "val": "valid"}),
    ],
)
def test_parts_by_their_usual_names(tmp_path, names, parts):
    part(tmp_path, *names, "__MACOSX", ".cache")
    found, notes = find_parts(tmp_path)
    assert {name: folder.name for name, folder in found.items()} == parts
    assert notes == []


def test_classes_alone_and_folders_without_pictures(tmp_path):
    place(tmp_path / "a", "cat/1.png", "dog/1.png")
    assert find_parts(tmp_path / "a") == ({"train": tmp_path / "a"}, [])
    part(tmp_path / "b", "train")
    place(tmp_path / "b", "annotations/cat.xml")
    found, notes = find_parts(tmp_path / "b")
    assert list(found) == ["train"]
    assert notes == ["not read, without images: annotations"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("train", "Training"), "Training, train are one part by their names"),
        (("train", "val", "valid"), "val, valid are one part"),
        (("train", "eval"), "eval beside train: a part or a class. name it val or test"),
        (("train", "extra"), "extra beside train: a part or a class.*rename 'extra'"),
        (("test", "cow", "dog"), "cow, dog beside test: a part or a class"),
        (("test", "val"), "val, test and no train"),
        (("seg_train", "seg_test", "seg_pred"), "seg_pred, seg_test, seg_train look like parts"),
        (("training_set", "test_set"), "look like parts; name them train, val and test"),
        (("trainset", "evalset"), "look like parts"),
    ],
)
def test_names_that_leave_a_doubt_are_refused(tmp_path, names, says):
    part(tmp_path, *names)
    with pytest.raises(InputError, match=says):
        find_parts(tmp_path)


def test_classes_that_only_resemble_parts(tmp_path):
    place(tmp_path, "train station/1.png", "trainers/1.png", "valley/1.png")
    assert find_parts(tmp_path)[0] == {"train": tmp_path}


def test_too_few_class_folders(tmp_path):
    part(tmp_path, "PetImages")
    with pytest.raises(InputError, match=r"found one \(PetImages\); one level down are cat, dog: path=.*PetImages"):
        find_classes(tmp_path, "x")
    place(tmp_path / "flat", "1.png", "2.jpg")
    with pytest.raises(InputError, match=r"path=x: 2 images and no folder for a class"):
        find_classes(tmp_path / "flat", "x")


def test_a_part_without_class_folders_is_unlabelled(tmp_path):
    place(tmp_path, "test/1.png", "test/2.png")
    with pytest.raises(InputError, match=r"2 images in .*test without class folders, so unlabelled"):
        list_images(tmp_path / "test", ("cat", "dog"), LeftOut())


def test_an_unknown_class_in_another_spelling(tmp_path):
    place(tmp_path, "Cat/1.png", "dog/1.png")
    with pytest.raises(InputError, match=r"class 'Cat' .* differs from 'cat' in upper and lower case"):
        list_images(tmp_path, ("cat", "dog"), LeftOut())


def test_unicode_forms_are_one_name(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    place(tmp_path, f"{composed}/1.png", f"{apart}/2.png", "thé/1.png")
    classes = find_classes(tmp_path, "x")
    assert list(classes) == [composed, "thé"]
    assert list_images(tmp_path, tuple(classes), LeftOut()).labels.tolist() == [0, 0, 1]


def test_what_is_left_out_is_counted(tmp_path):
    place(tmp_path, "cat/1.png", "cat/2.JFIF", "cat/3.heic", "cat/4.heic", "cat/noending", "dog/1.jpe", "loose.png")
    place(tmp_path, "cat/.thumbnails/1.png", "cat/deep/@eaDir/1.png", "dog/__MACOSX/1.png")
    place(tmp_path, "dog/Thumbs.db", "dog/._1.png")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    (tmp_path / "dog" / "gone.png").symlink_to("nowhere")
    left_out = LeftOut()
    listed = list_images(tmp_path, ("cat", "dog"), left_out)
    assert [Path(path).name for path in listed.paths] == ["1.png", "2.JFIF", "1.jpe"]
    assert left_out.notes() == [
        "left out: 2 .heic, 1 without an ending, 3 hidden or system folders, 2 broken links or special files, "
        "1 image outside the class folders"
    ]
    assert LeftOut().notes() == []


def test_links_are_followed_once(tmp_path):
    place(tmp_path / "store", "1.png", "deep/2.png")
    place(tmp_path / "set", "cat/0.png", "dog/0.png")
    (tmp_path / "set" / "cat" / "more").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "deep" / "back").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "up").symlink_to(tmp_path / "set" / "cat")
    (tmp_path / "store" / "itself").symlink_to(tmp_path / "store" / "itself")
    listed = list_images(tmp_path / "set", ("cat", "dog"), LeftOut())
    assert [Path(path).name for path in listed.paths] == ["0.png", "1.png", "2.png", "0.png"]
