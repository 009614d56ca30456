import shutil

import pytest
import torch
from boxed import annotation, drawn, parts_of, save, write_voc

import supernet
from supernet.runtime.errors import InputError


def beside(root, pictures, folder=""):
    """As labelImg writes them: each .xml beside its picture."""
    for number, (pixels, boxes) in enumerate(pictures):
        save(root / folder / f"{number}.png", pixels)
        (root / folder / f"{number}.xml").write_text(annotation(f"{number}.png", (96, 64), boxes))
    return root


def rewritten(root, before, after):
    path = next(root.rglob("*.xml"))
    path.write_text(path.read_text().replace(before, after, 1))
    return root


def test_first_pixel_is_said_and_may_be_one(tmp_path):
    root = beside(tmp_path, drawn(6))
    zero, one = (supernet.data.voc(root, size=[64, 96], one_based=based) for based in (False, True))
    assert "number 0, as labelImg has it" in zero.notes[0]
    assert "number 1, as in the VOC challenges" in one.notes[0]
    real = zero.train.labels[..., 0] >= 0
    moved = (zero.train.labels - one.train.labels)[real]
    inside = (zero.train.labels[..., 1:3] > 0).all(-1)[real]
    assert moved[inside][:, 1:5].unique(dim=0).tolist() == [[1, 1, 0, 0]]


def test_pictures_beside_and_folders_as_parts(tmp_path):
    for part, pictures in parts_of(drawn()).items():
        beside(tmp_path / ("valid" if part == "val" else part), pictures)
    data = supernet.data.voc(tmp_path, size=32)
    assert (len(data.train), len(data.valid), len(data.test)) == (8, 2, 2)
    assert not data.held_out


def test_pictures_with_one_name_in_two_parts_are_told_apart(tmp_path):
    pictures = drawn(4)
    for part in ("train", "test"):
        for number, (pixels, boxes) in enumerate(pictures if part == "train" else pictures[::-1]):
            save(tmp_path / part / "images" / f"{number}.png", pixels)
            (tmp_path / part / "labels").mkdir(exist_ok=True)
            path = tmp_path / part / "labels" / f"{number}.xml"
            path.write_text(annotation(f"{number}.png", (96, 64), boxes))
    data = supernet.data.voc(tmp_path, size=[64, 96])
    assert torch.equal(data.train.raw(torch.tensor([0]))[0], torch.from_numpy(pictures[0][0]).permute(2, 0, 1))


def twins(root, train, test):
    """Pictures of one name in two folders, each with its own colour, and lists of them."""
    for place, (pixels, boxes) in zip(("a", "b", "c"), drawn(3), strict=True):
        save(root / "JPEGImages" / place / "1.png", pixels)
        (root / "Annotations" / place).mkdir(parents=True)
        (root / "Annotations" / place / "1.xml").write_text(annotation("1.png", (96, 64), boxes))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{name}\n" for name in train))
    (lists / "test.txt").write_text("".join(f"{name}\n" for name in test))
    return root


@pytest.mark.parametrize(
    ("train", "test"),
    [(["a/1", "c/1"], ["b/1"]), (["JPEGImages/a/1.png", "a/1", r"c\1"], ["b/1.png"])],
)
def test_pictures_with_one_name_in_two_folders_are_told_apart(tmp_path, train, test):
    data = supernet.data.voc(twins(tmp_path, train, test), size=[64, 96])
    assert (len(data.train), len(data.test)) == (2, 1)
    of_folder = [torch.from_numpy(pixels).permute(2, 0, 1) for pixels, _ in drawn(3)]
    boxes = [torch.tensor(boxes, dtype=torch.float)[:, :5] for _, boxes in drawn(3)]
    for source, places in ((data.train, (0, 2)), (data.test.open(), (1,))):
        for row, place in enumerate(places):
            assert torch.equal(source.raw(torch.tensor([row]))[0], of_folder[place])
            real = source.labels[row][source.labels[row, :, 0] >= 0]
            assert torch.equal(real[:, 1:5], boxes[place][:, 1:])


def test_a_name_of_two_pictures_in_a_list_is_refused(tmp_path):
    with pytest.raises(InputError) as error:
        supernet.data.voc(twins(tmp_path, ["a/1", "1"], ["b/1"]))
    first, second = (tmp_path / "JPEGImages" / place / "1.png" for place in ("a", "b"))
    assert str(error.value) == (
        f"{tmp_path}/ImageSets/Main/train.txt: 1 means {first} or {second}? Write it with its folders there, or "
        "rename one"
    )


def test_lists_of_trainval_and_pictures_without_annotations(tmp_path):
    root = write_voc(tmp_path / "VOCdevkit" / "VOC2007", parts_of(drawn()))
    lists = root / "ImageSets" / "Main"
    names = "".join((lists / f"{part}.txt").read_text() for part in ("train", "val"))
    (lists / "trainval.txt").write_text(names)
    (lists / "train.txt").unlink()
    (lists / "cell_train.txt").write_text("train_0  1\n")
    (root / "Annotations" / "test_0.xml").unlink()
    (root / "SegmentationClass").mkdir()
    shutil.copy(root / "JPEGImages" / "train_0.png", root / "SegmentationClass" / "train_0.png")
    data = supernet.data.voc(tmp_path / "VOCdevkit", size=32)
    assert (len(data.train), data.valid, len(data.test)) == (10, None, 1)
    assert any("no labelled picture for 1 of 2 names in test.txt" in note for note in data.notes)
    assert any("1 image without an .xml file: left out (first: test_0.png)" in note for note in data.notes)
    write_voc(tmp_path / "VOCdevkit" / "VOC2012", {"train": drawn(2)})
    with pytest.raises(InputError, match=r"several data sets in it \(VOC2007, VOC2012\)"):
        supernet.data.voc(tmp_path / "VOCdevkit")


def test_floats_difficult_objects_and_names_by_another_file(tmp_path):
    pictures = [(pixels, [(0, 10, 10, 20, 30)]) for pixels, _ in drawn(5)]
    beside(tmp_path, pictures)
    first = tmp_path / "0.xml"
    text = first.read_text().replace("<xmin>10", "<xmin> 10.5").replace("</name>", "</name><difficult>1</difficult>")
    first.rename(tmp_path / "renamed.xml").write_text(text)
    data = supernet.data.voc(tmp_path, size=[64, 96])
    rows = torch.cat((data.train.labels, data.test.open().labels)).flatten(0, 1)
    assert rows[rows[:, 5] > 0].tolist() == [[0, 10.5, 10, 20, 30, 1, 190]]


@pytest.mark.parametrize(
    ("said", "difficult"),
    [
        ("1", True),
        (" True ", True),
        ("yes", True),
        ("0", False),
        ("false", False),
        ("No", False),
        ("Unspecified", False),
    ],
)
def test_difficult_in_the_words_of_other_tools(said, difficult, tmp_path):
    beside(tmp_path, [(pixels, [(0, 10, 10, 20, 30)]) for pixels, _ in drawn(2)])
    rewritten(tmp_path, "</name>", f"</name><difficult>{said}</difficult>")
    data = supernet.data.voc(tmp_path, size=[64, 96])
    assert sum(part.labels[..., 5].sum().item() for part in (data.train, data.test.open())) == difficult


def test_names_in_lists_may_have_spaces_endings_and_columns(tmp_path):
    root = write_voc(tmp_path, {"train": drawn(4)})
    for number, name in enumerate(("a b", "c 1", "d.2", "e")):
        (root / "JPEGImages" / f"train_{number}.png").rename(root / "JPEGImages" / f"{name}.png")
        (root / "Annotations" / f"train_{number}.xml").rename(root / "Annotations" / f"{name}.xml")
    (root / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xef\xbb\xbfa b\r\nc 1.png  -1\r\n\r\nd.2 1\r\ne.png\r\n")
    data = supernet.data.voc(root, size=32)
    assert len(data.train) + len(data.test) == 4
    assert not [note for note in data.notes if "train.txt" in note]


def test_strays_are_left_out_and_counted(tmp_path):
    beside(tmp_path, drawn(6))
    (tmp_path / "settings.xml").write_text("<dataset/>")
    (tmp_path / "lost.xml").write_text(annotation("lost.png", (96, 64), [(0, 1, 1, 9, 9)]))
    save(tmp_path / "plain.png", drawn(1, seed=9)[0][0])
    notes = supernet.data.voc(tmp_path, size=32).notes
    assert "warning: 1 .xml file without a picture: left out (first: lost.xml)" in notes
    assert "warning: 1 image without an .xml file: left out (first: plain.png)" in notes
    assert "left out: 1 .xml file that is no annotation" in notes


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("<xmin>", "<xmin>nan", "needs a finite number; correct or remove the box"),
        ("<xmax>", "<xmax>1e999", "needs a finite number"),
        ("</name>", "</name><difficult>perhaps</difficult>", "difficult=perhaps: needs 1 or 0"),
        ("<xmin>", "<left>", "not readable as XML"),
        ("<name>", "<name></name><alias>", "not readable as XML"),
        ("</name>", " </name><polygon/>", None),
        ("<annotation>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>", "declares a document type"),
        ("<annotation>", "<annotation><object/>", "an object without a name"),
        ("<annotation>", "<annotation><object><name>a</name></object>", r"an object \(a\) without <bndbox>"),
    ],
)
def test_damage_is_one_line(before, after, says, tmp_path):
    root = rewritten(beside(tmp_path, drawn(3)), before, after)
    if says is None:
        assert supernet.data.voc(root, size=32).train
        return
    with pytest.raises(InputError, match=says) as error:
        supernet.data.voc(root, size=32)
    assert ".xml" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_picture_at_all_and_two_labels_of_one(tmp_path):
    beside(tmp_path / "a", drawn(3))
    for path in (tmp_path / "a").glob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"no picture for any of 3 \.xml files"):
        supernet.data.voc(tmp_path / "a")
    beside(tmp_path / "b", drawn(3))
    shutil.copy(tmp_path / "b" / "0.xml", tmp_path / "b" / "copy.xml")
    with pytest.raises(InputError, match=r"copy\.xml: labels .*0\.png, as .*0\.xml does; remove one"):
        supernet.data.voc(tmp_path / "b")
