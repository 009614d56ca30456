"""What is the same in the three formats of boxes; the readers have test files of their own for what is not."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from boxed import NAMES, WRITERS, annotation, drawn, line, parts_of, save, shared, write_coco, write_voc, write_yolo
from PIL import Image, ImageOps

import supernet
from supernet.data.batches import evaluation_batches, training_batches
from supernet.data.box_folders import BoxSettings
from supernet.data.files import Files
from supernet.data.targets import CORNERS
from supernet.runtime.errors import InputError

READERS = {"voc": supernet.data.voc, "coco": supernet.data.coco, "yolo": supernet.data.yolo}
each_format = pytest.mark.parametrize("format_name", READERS)


def written(root, format_name, parts=None):
    return WRITERS[format_name](root / "set", parts or parts_of(drawn()))


def sorted_boxes(labels):
    return [sorted(row.tolist() for row in rows if row[0] >= 0) for rows in labels]


def parts_in(data):
    return {"train": data.train, "valid": data.valid, "test": data.test.open()}


@each_format
def test_boxes_are_those_that_were_drawn(format_name, tmp_path):
    data = READERS[format_name](written(tmp_path, format_name), size=[64, 96])
    assert data.classes == NAMES
    assert data.kind == "boxes"
    for source, pictures in zip(parts_in(data).values(), parts_of(drawn()).values(), strict=True):
        rows = [
            [(c, *corners, 0, (corners[2] - corners[0]) * (corners[3] - corners[1])) for c, *corners in boxes]
            for _, boxes in pictures
        ]
        for found, expected in zip(sorted_boxes(source.labels), rows, strict=True):
            torch.testing.assert_close(
                torch.tensor(found).view(-1, 7), torch.tensor(sorted(expected)).float().view(-1, 7), atol=1e-3, rtol=0
            )
        pixels = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture, _ in pictures])
        assert torch.equal(source.raw(torch.arange(len(source))), pixels)
    assert any("1 image without objects" in note for note in data.notes)


def test_real_data_in_three_formats_are_the_same_boxes(tmp_path):
    bccd = shared("bccd")
    if bccd is None:
        pytest.skip("the blood cells are not here")
    names, parts = ("Platelets", "RBC", "WBC"), {"train": [], "val": []}
    for place, path in enumerate(sorted((bccd / "BCCD" / "Annotations").glob("*.xml"))[::30]):
        top = ElementTree.parse(path).getroot()
        corners = [
            [int(node.find(f"bndbox/{side}").text) for side in ("xmin", "ymin", "xmax", "ymax")]
            for node in top.iter("object")
        ]
        classes = [names.index(node.findtext("name")) for node in top.iter("object")]
        boxes = [(c, *box) for c, box in zip(classes, corners, strict=True)]
        parts["val" if place % 4 == 3 else "train"].append((np.full((480, 640, 3), place, np.uint8), boxes))
    read = [READERS[name](WRITERS[name](tmp_path / name, parts, names), size=[48, 64]) for name in READERS]
    for part in ("train", "valid"):
        first, *others = (sorted_boxes(getattr(data, part).labels) for data in read)
        assert sum(map(len, first)) > 20
        for found in others:
            for one, two in zip(first, found, strict=True):
                torch.testing.assert_close(torch.tensor(one), torch.tensor(two), atol=1e-3, rtol=1e-6)


@each_format
def test_without_parts_a_fifth_is_held_out(format_name, tmp_path):
    data = READERS[format_name](written(tmp_path, format_name, {"train": drawn(20)}), size=32)
    assert data.held_out
    assert data.valid is None
    assert len(data.train) + len(data.test) == 20
    assert len(data.test) in (3, 4, 5)
    again = READERS[format_name](tmp_path / "set", size=32)
    assert again.fingerprint == data.fingerprint


@each_format
def test_pictures_in_files_are_read_by_workers(format_name, tmp_path):
    root = written(tmp_path, format_name)
    held = READERS[format_name](root, size=[64, 96])
    files = READERS[format_name](root, size=[64, 96], resident_gib=0, workers=1)
    assert isinstance(files.train, Files)
    batches = [training_batches(data.train, 4, data.augmentation, seed=3) for data in (held, files)]
    for _ in range(3):
        one, two = map(next, batches)
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)
    third = next(training_batches(held.train, 4, held.augmentation, seed=3, start=2))
    assert torch.equal(third.labels, one.labels)
    plain = next(evaluation_batches(held.valid, 2, held.augmentation))
    assert torch.equal(plain.labels, held.valid.labels)


@each_format
def test_padding_moves_boxes_with_the_pixels(format_name, tmp_path):
    data = READERS[format_name](written(tmp_path, format_name), size=[96, 96], fit="pad")
    squashed = READERS[format_name](tmp_path / "set", size=[64, 96])
    expected = squashed.train.labels.clone()
    expected[..., [2, 4]] += 16 * (expected[..., [0]] >= 0)
    torch.testing.assert_close(data.train.labels, expected)
    assert data.train.raw(torch.tensor([0]))[0, :, :16].unique().tolist() == [114]
    assert data.augmentation.preparation.fit == "pad"


@each_format
def test_classes_are_chosen_and_ordered(format_name, tmp_path):
    root = written(tmp_path, format_name)
    every, some = READERS[format_name](root, size=32), READERS[format_name](root, size=32, classes=["rod", "cell"])
    assert some.classes == ("rod", "cell")
    numbers = every.train.labels[..., 0]
    assert int((some.train.labels[..., 0] == 0).sum()) == int((numbers == 2).sum())
    assert int((some.train.labels[..., 0] == 1).sum()) == int((numbers == 0).sum())
    assert any("boxes of other classes" in note for note in some.notes)
    with pytest.raises(InputError, match="classes: egg is not among cell, dot, rod"):
        READERS[format_name](root, classes=["egg"])
    with pytest.raises(InputError, match=r"classes=\[\]: names none; choose among cell, dot, rod, or null for all"):
        READERS[format_name](root, classes=[])


@each_format
def test_boxes_are_clipped_and_what_is_no_object_is_dropped_and_counted(format_name, tmp_path):
    pictures = drawn(4)
    boxes = [(0, -20, 10, 30, 40), (1, 5, 5, 5, 9), (2, 100, 5, 120, 9), (1, 90, 60, 99, 70)]
    boxes.append((2, 40, 44, 60, 64.5))  # half a pixel beyond is a matter of rounding: clipped, and not counted
    pictures[0] = (pictures[0][0], boxes)
    data = READERS[format_name](
        written(tmp_path, format_name, {"train": pictures, "test": drawn(2, seed=1)}), size=[64, 96]
    )
    first = sorted_boxes(data.train.labels)[0]
    torch.testing.assert_close(
        torch.tensor(first),
        torch.tensor([[0.0, 0, 10, 30, 40, 0, 900], [1, 90, 60, 96, 64, 0, 24], [2, 40, 44, 60, 64, 0, 400]]),
        atol=1e-3,
        rtol=0,
    )
    assert any(note.startswith("2 boxes reach out of the image: clipped (first: ") for note in data.notes)
    assert any(note.startswith("left out: 2 boxes of less than a pixel") for note in data.notes)


@each_format
def test_a_copy_between_parts_is_told(format_name, tmp_path):
    pictures = drawn(8)
    root = written(tmp_path, format_name, {"train": pictures[:6], "test": [*pictures[6:], pictures[0]]})
    assert any(
        "1 image to validate or test is an exact copy of a training image" in n
        for n in READERS[format_name](root, size=32).notes
    )


@each_format
def test_an_image_with_a_thousand_boxes_and_a_set_with_one_class(format_name, tmp_path):
    many = [(0, x, y, x + 2, y + 2) for x in range(0, 90, 3) for y in range(0, 60, 2)][:900]
    pictures = [(pixels, [(0, 1, 1, 9, 9)]) for pixels, _ in drawn(6)]
    pictures[0] = (pictures[0][0], many + many[:100])
    root = WRITERS[format_name](tmp_path / "set", {"train": pictures}, ("cell",))
    data = READERS[format_name](root, size=[64, 96])
    assert data.classes == ("cell",)
    assert max(data.train.labels.shape[1], data.test.labels.shape[1]) == 1000


@each_format
def test_empty_folders_and_no_boxes_are_one_line(format_name, tmp_path):
    with pytest.raises(InputError, match="no such folder; expected"):
        READERS[format_name](tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected"):
        READERS[format_name](tmp_path / "empty")
    tiny = [(pixels, [(0, 1, 1, 1, 1)]) for pixels, _ in drawn(3)]
    with pytest.raises(InputError, match="not one box of a pixel or more among 3 images"):
        READERS[format_name](written(tmp_path, format_name, {"train": tiny}))


@each_format
@pytest.mark.parametrize("other", READERS)
def test_another_format_is_told(format_name, other, tmp_path):
    if other == format_name:
        return
    root = written(tmp_path, other)
    with pytest.raises(InputError, match=rf"looks like {other.upper()}: supernet\.data\.{other} reads it"):
        READERS[format_name](root)


def test_a_folder_of_two_formats_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for number, (pixels, boxes) in enumerate(drawn(6)):
        save(tmp_path / "images" / f"{number}.png", pixels)
        if number % 2:
            (tmp_path / "images" / f"{number}.xml").write_text(annotation(f"{number}.png", (96, 64), boxes))
        else:
            text = "\n".join(line(box, (96, 64)) for box in boxes)
            (tmp_path / "labels" / f"{number}.txt").write_text(text)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cell, dot, rod]")
    with pytest.raises(InputError, match="3 images have YOLO labels and no VOC ones"):
        supernet.data.voc(tmp_path)
    with pytest.raises(InputError, match="3 images have VOC labels and no YOLO ones"):
        supernet.data.yolo(tmp_path)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("as_stored", [True, False])
def test_boxes_of_photos_that_are_shown_turned(orientation, as_stored, tmp_path):
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[8:20, 30:70] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(stored)
    image.save(tmp_path / "a.png", exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    rows, columns = (shown[..., 0] > 0).any(1).nonzero()[0], (shown[..., 0] > 0).any(0).nonzero()[0]
    seen = (0, int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    turned = as_stored and orientation > 4
    box, size = ((0, 30, 8, 70, 20), (96, 64)) if turned else (seen, shown.shape[1::-1])
    (tmp_path / "a.xml").write_text(annotation("a.png", size, [box]))
    for name in "bcde":
        save(tmp_path / f"{name}.png", stored)
        (tmp_path / f"{name}.xml").write_text(annotation(f"{name}.png", (96, 64), [(1, 1, 1, 9, 9)]))
    data = supernet.data.voc(tmp_path, size=[shown.shape[0], shown.shape[1]])
    found = [
        row for source in parts_in(data).values() if source for rows in source.labels for row in rows if row[0] == 0
    ]
    assert [row[CORNERS].tolist() for row in found] == [list(map(float, seen[1:]))]
    assert any("labelled as stored: the boxes are turned, too" in note for note in data.notes) == turned


def test_another_size_than_stated_is_a_warning(tmp_path):
    root = write_voc(tmp_path / "set", {"train": drawn(6)})
    path = next((root / "Annotations").glob("*_0.xml"))
    path.write_text(path.read_text().replace("<width>96", "<width>640"))
    notes = supernet.data.voc(root).notes
    assert [n for n in notes if "another size" in n] == [
        "warning: 1 image of another size than the labels state; boxes are taken as they are (first: train_0.xml)"
    ]


def test_sizes_that_nobody_asked_for(tmp_path):
    large = [(np.full((480, 640, 3), level, np.uint8), [(0, 10, 10, 90, 90)]) for level in range(5)]
    data = supernet.data.coco(write_coco(tmp_path / "large", {"train": large}))
    assert data.shape == (3, 288, 384)
    assert "images of 480 x 640: resized to 288 x 384; size=[H,W] for another size" in data.notes
    small = supernet.data.yolo(write_yolo(tmp_path / "small", {"train": drawn(6, size=(50, 40))}))
    assert small.shape == (3, 32, 64)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fit": "crop"}, "fit=crop: use squash or pad"),
        ({"size": [8, 8]}, r"size=\[8, 8\]: a detector needs at least 32 pixels a side"),
        ({"size": [64, 64, 3]}, "size="),
        ({"size": [100_000, 100_000]}, "pixels an image; use at most"),
        ({"workers": -1}, "workers=-1"),
    ],
)
def test_nonsense_settings_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        BoxSettings(**settings)
