import shutil
from itertools import pairwise

import pytest
import torch
from boxed import drawn, parts_of, save, write_yolo

import supernet
from supernet.runtime.errors import InputError


@pytest.fixture
def root(tmp_path):
    return write_yolo(tmp_path / "set", parts_of(drawn()))


def first_label(root):
    return sorted((root / "labels" / "train").glob("*.txt"))[0]


def described(root, text):
    (root / "data.yaml").write_text(text)
    return root


def sizes(data):
    return len(data.train), len(data.valid or ()), len(data.test)


@pytest.mark.parametrize(
    "text",
    [
        "train: images/train\nval: images/val\ntest: images/test\nnames: {0: cell, 1: dot, 2: rod}",
        "train: ../images/train\nvalid: ../images/val\ntest: ../images/test\nnames: [cell, dot, rod]",
        "train: ../set/images/train\nval: ./images/val\ntest: set/images/test\nnames: [cell, dot, rod]",
        "train: ..\\set\\images\\train\nval: images\\val\ntest: .\\images\\test\nnames: [cell, dot, rod]",
        "path: ../set\ntrain: [images/train]\nval: images/val\ntest: test.txt\nnames: [cell, dot, rod]\nnc: 3",
    ],
)
def test_places_are_found_from_the_yaml_file_and_above(text, root):
    (root / "test.txt").write_text("./images/test/test_0.png\nimages/test/test_1.png\n\n")
    for given in (described(root, text), root / "data.yaml"):
        assert sizes(supernet.data.yolo(given, size=32)) == (8, 2, 2)


def test_a_place_that_is_not_found_names_all_that_were_tried(root):
    described(root, "path: /nowhere\ntrain: pictures/train\nnames: [a]")
    with pytest.raises(InputError) as error:
        supernet.data.yolo(root)
    for place in ("/nowhere/pictures/train", f"{root}/pictures/train", f"{root.parent}/pictures/train"):
        assert place in str(error.value)


def test_two_pictures_of_one_label_file_are_refused(root):
    label = first_label(root)
    picture = root / "images" / "train" / f"{label.stem}.png"
    other = picture.with_suffix(".bmp")
    save(other, drawn(1, seed=9)[0][0])
    with pytest.raises(InputError) as error:
        supernet.data.yolo(root)
    assert str(error.value) == f"{label}: means {other} or {picture}? Remove or rename one of them"


def test_parts_as_folders_with_images_and_labels_in_each(root, tmp_path):
    for part in ("train", "val", "test"):
        for kind in ("images", "labels"):
            shutil.move(root / kind / part, tmp_path / "other" / part / kind)
    text = "train: ../train/images\nval: ../val/images\ntest: ../test/images\nnames: [cell, dot, rod]"
    data = supernet.data.yolo(described(tmp_path / "other", text), size=32)
    assert sizes(data) == (8, 2, 2)
    assert data.train.labels[..., 0].max() == 2


def test_polygons_become_their_boxes(root):
    path = first_label(root)
    path.write_text("2 0.25 0.5 0.5 0.25 0.75 0.5\n1 0.5 0.5 0.25 0.25\n")
    rows = supernet.data.yolo(root, size=[64, 96]).train.labels[0, :2]
    assert rows.tolist() == [[2, 24, 16, 72, 32, 0, 768], [1, 36, 24, 60, 40, 0, 384]]


def test_key_points_behind_a_box_are_not_read(root):
    text = (root / "data.yaml").read_text()
    described(root, text + "kpt_shape: [1, 3]\n")
    for path in (root / "labels").rglob("*.txt"):
        path.write_text("".join(f"{line} 0.5 0.5 2\n" for line in path.read_text().splitlines()))
    plain = supernet.data.yolo(root, size=32)
    assert plain.train.labels[..., 0].max() == 2


def test_pictures_without_labels_have_no_objects_and_labels_without_pictures_are_told(root):
    (root / "labels" / "train" / "nothing.txt").write_text("0 .5 .5 .5 .5")
    (root / "labels" / "classes.txt").write_text("cell")
    data = supernet.data.yolo(root, size=32)
    assert "1 image without a .txt file: taken to show no objects" in data.notes
    assert (data.train.labels[3, :, 0] == -1).all()
    assert "warning: 1 .txt file without a picture: left out (first: nothing.txt)" in data.notes
    shutil.rmtree(root / "labels")
    with pytest.raises(InputError, match=r"no \.txt file for any of 12 images \(looked for .*train_0\.txt\)"):
        supernet.data.yolo(root)


def test_names_in_classes_txt(tmp_path):
    for number, (pixels, boxes) in enumerate(drawn(6)):
        save(tmp_path / f"{number}.png", pixels)
        (tmp_path / f"{number}.txt").write_text("1 .5 .5 .5 .5" if boxes else "")
    (tmp_path / "classes.txt").write_text("cell\ndot\n")
    data = supernet.data.yolo(tmp_path, size=32)
    assert data.classes == ("cell", "dot")
    assert "warning: no training boxes of 1 of 2 classes: cell" in data.notes
    assert not [note for note in data.notes if "without a picture" in note]
    (tmp_path / "classes.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"classes\.txt: names no classes; write the name of each on a line"):
        supernet.data.yolo(tmp_path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("3 .5 .5 .5 .5", r"line 1: class 3, and 3 are named: 0 to 2"),
        ("0.5 .5 .5 .5 .5", "class 0.5, and 3 are named"),
        ("-1 .5 .5 .5 .5", "class -1"),
        ("0 nan .5 .5 .5", "needs a finite number"),
        ("0 .5 .5 .5", "4 numbers; needs a class and 4 of a box"),
        ("0 .5 .5 .5 .5 .9", "6 numbers"),
        ("0 48 32 10 10", "needs shares of the picture's sides from 0 to 1, not pixels"),
        ("cell .5 .5 .5 .5", "a number=cell: needs a finite number"),
    ],
)
def test_damaged_labels_are_one_line(line, says, root):
    first_label(root).write_text(line)
    with pytest.raises(InputError, match=says) as error:
        supernet.data.yolo(root)
    assert first_label(root).name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["names: [no, 007, 1.50]\nnc: 3", "names: {2: 1.50, 0: no, 1: 007}", "names:\n- no\n- 007\n- '1.50'"]
)
def test_names_are_those_that_are_written(text, root):
    """YAML 1.1 takes them for false, for seven and for 1.5."""
    data = supernet.data.yolo(described(root, f"{text}\ntrain: images/train\nval:\ntest: ~"), size=32)
    assert data.classes == ("no", "007", "1.50")
    assert supernet.data.yolo(root, size=32, classes=["1.50", "no"]).classes == ("1.50", "no")


def test_a_class_may_be_asked_for_by_a_name_that_is_a_number(root):
    described(root, "names: [1, 2, on]\ntrain: images/train")
    assert supernet.data.yolo(root, size=32, classes=[2]).classes == ("2",)
    with pytest.raises(InputError, match="classes: True is no name; YAML takes words such as no and on"):
        supernet.data.yolo(root, size=32, classes=[True])


BOMB = "a: &a [x, x]\n" + "".join(f"k{n}: &{n} [*{p}, *{p}]\n" for p, n in pairwise("abcdefghijklmnopqrstuvwxyz"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: [", "not readable as YAML"),
        ("train: x", "names no classes; expected a data.yaml"),
        ("names: [a]", "has no train"),
        ("names: {1: a}\ntrain: images", "needs 0, 1, 2"),
        ("names: [[a]]\ntrain: images", "names=a list: needs a list of names"),
        (f"{BOMB}names: [*z]\ntrain: images", "names=a list"),
        (f"{BOMB}names: [b]\ntrain: *z", "train=a list: needs a folder"),
        ("names: [a]\nnc: 2\ntrain: images", "nc=2 and 1 name"),
        (f"names: [a]\nnc: 0x{'f' * 6000}\ntrain: images", "nc=0xf{58} and 1 name"),
        (f"names: [!!int 0x{'f' * 6000}]\ntrain: images", "names=a list: needs a list of names"),
        ("names: [a, null]\ntrain: images", "class 1 has no name; write one, in quotes if it is null"),
        ("names: {1: b, 0: }\ntrain: images", "class 0 has no name"),
        ("names: {yes: a, no: b}\ntrain: images", "names has the numbers no, yes; needs 0, 1, 2"),
        ("names: [a]\ntrain: 3", "train=3: not found"),
        ("names: [a]\ntrain: {3: 4}", "train=a dict: needs a folder"),
        ("names: [a]\ntrain: images\npath: [x]", "path=a list"),
        ("names: [a]\ntrain: labels", "no pictures there"),
        ("names: !!python/object/apply:os.system [x]\ntrain: images", "not readable as YAML"),
    ],
)
def test_damaged_descriptions_are_one_line(text, says, root):
    with pytest.raises(InputError, match=says) as error:
        supernet.data.yolo(described(root, text))
    assert "\n" not in str(error.value)


def test_two_descriptions_are_asked_about(root):
    shutil.copy(root / "data.yaml", root / "other.yaml")
    with pytest.raises(InputError, match=r"several \.yaml files with names in it \(data\.yaml, other\.yaml\)"):
        supernet.data.yolo(root)
    assert torch.is_tensor(supernet.data.yolo(root / "other.yaml", size=32).train.labels)
