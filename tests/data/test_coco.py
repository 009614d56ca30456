import json

import pytest
import torch
from boxed import document, drawn, parts_of, save, write_coco

import supernet
from supernet.runtime.errors import InputError


def changed(root, change, part="train"):
    path = root / "annotations" / f"instances_{part}2017.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(change(said) or said))
    return root


@pytest.fixture
def root(tmp_path):
    return write_coco(tmp_path / "set", {"train": drawn(8), "test": drawn(3, seed=1)})


def test_ids_with_gaps_are_kept_in_order(root):
    data = supernet.data.coco(root, size=32)
    assert data.classes == ("cell", "dot", "rod")
    assert "category ids 5 to 25 become classes 0 to 2 in their order" in data.notes


def test_crowds_are_ignored_and_areas_are_those_of_the_file(root):
    def change(said):
        said["annotations"][0].update(iscrowd=1, area=7.5)

    labels = supernet.data.coco(changed(root, change), size=[64, 96]).train.labels
    crowds = labels[labels[..., 5] > 0]
    assert crowds[:, 6].tolist() == [7.5]
    rest = labels[(labels[..., 5] == 0) & (labels[..., 0] >= 0)]
    torch.testing.assert_close(rest[:, 6], (rest[:, 3] - rest[:, 1]) * (rest[:, 4] - rest[:, 2]))


def test_one_file_and_folders_of_parts(tmp_path):
    for part, pictures in parts_of(drawn()).items():
        folder = tmp_path / ("valid" if part == "val" else part)
        for image, (pixels, _) in zip(document(part, pictures)["images"], pictures, strict=True):
            save(folder / image["file_name"], pixels)
        (folder / "_annotations.coco.json").write_text(json.dumps(document(part, pictures)))
    data = supernet.data.coco(tmp_path, size=32)
    assert (len(data.train), len(data.valid), len(data.test)) == (8, 2, 2)
    alone = supernet.data.coco(tmp_path / "train" / "_annotations.coco.json", size=32)
    assert alone.held_out
    assert alone.name == "train"
    assert len(alone.train) + len(alone.test) == 8


def test_captions_and_files_of_other_kinds_are_passed_over(root):
    captions = {"images": [], "annotations": [{"caption": "a cell"}], "categories": []}
    for name, said in {"a_train.json": captions, "b.json": [1], "c.json": {"images": []}}.items():
        (root / name).write_text(json.dumps(said))
    for path in (root / "annotations").glob("*"):
        path.rename(path.parent / path.name.replace("instances_", ""))
    data = supernet.data.coco(root, size=32)
    assert len(data.test) == 3
    assert "left out: 3 .json files of other kinds (first: a_train.json)" in data.notes


def test_names_with_folders_that_are_not_here(root):
    def change(said):
        for image in said["images"]:
            image["file_name"] = f"C:\\elsewhere\\..\\{image['file_name']}"

    assert len(supernet.data.coco(changed(root, change), size=32).train) == 8


def test_what_is_missing_is_left_out_and_counted(root):
    def change(said):
        said["annotations"][0]["image_id"] = 12345
        said["annotations"][1]["bbox"] = []
        said["images"][-1]["file_name"] = "gone.png"
        del said["images"][0]["width"]

    notes = supernet.data.coco(changed(root, change), size=32).notes
    assert "warning: 1 annotation of images that instances_train2017.json does not list: left out" in notes
    assert "warning: 1 annotation of instances_train2017.json without a bbox: left out" in notes
    assert "warning: not there, so left out: 1 picture of instances_train2017.json (first: gone.png)" in notes
    assert "left out: 1 image that no .json file names" in notes


@pytest.mark.parametrize(
    ("key", "place", "change", "says"),
    [
        ("annotations", 0, {"bbox": [1, 2, float("nan"), 4]}, "needs a finite number"),
        ("annotations", 0, {"bbox": [1, 2, 10**400, 4]}, "needs a finite number"),
        ("annotations", 0, {"bbox": [1, 2, 3]}, r"bbox=\[1, 2, 3\]: needs \[x, y, width, height\]"),
        ("annotations", 0, {"iscrowd": 2}, "iscrowd=2: needs 1 or 0"),
        ("annotations", 0, {"category_id": 99}, "category_id=99 is none of the categories"),
        ("annotations", 0, 5, r"annotations\[0\] is no mapping"),
        ("images", 1, {"id": 100}, "two images have the id 100"),
        ("images", 1, {"file_name": "train_0.png"}, "two images are"),
        ("images", 1, {"file_name": None}, r"images\[1\] has no id or no file_name"),
        ("categories", 0, {"id": "x"}, r"categories\[0\] has no whole number as id"),
        ("categories", 0, {"name": "cell"}, "25 is 'cell' and in another part 'rod'|25 is 'rod' and in another part"),
        ("categories", 0, {"id": 5}, "two categories have the id 5"),
    ],
)
def test_damage_is_one_line(key, place, change, says, root):
    def damaged(said):
        said[key][place] = said[key][place] | change if isinstance(change, dict) else change

    with pytest.raises(InputError, match=says) as error:
        supernet.data.coco(changed(root, damaged), size=32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "crowd"), [(1, 1), (True, 1), ("1", 1), (1.0, 1), (0, 0), (False, 0), ("0", 0), ("false", 0), (None, 0)]
)
def test_crowds_in_the_words_of_other_tools(said, crowd, root):
    labels = supernet.data.coco(changed(root, lambda all_: all_["annotations"][0].update(iscrowd=said))).train.labels
    assert labels[..., 5].sum().item() == crowd


def test_a_part_that_is_no_coco_is_named(root):
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps([json.loads(path.read_text())]))
    with pytest.raises(InputError, match=r"instances_train2017\.json: no COCO annotations, .* it is no mapping"):
        supernet.data.coco(root)
    path.rename(root / "train.json")
    for part in ("test", "val"):
        write_coco(root / part, {part: drawn(2)})
        (root / part / "annotations" / f"instances_{part}2017.json").rename(root / f"{part}.json")
    (root / "annotations" / "instances_test2017.json").unlink()
    with pytest.raises(InputError, match=r"no train; put train into .* other kinds \(first: train\.json\)"):
        supernet.data.coco(root)


def test_json_that_is_no_coco_is_one_line(tmp_path):
    path = tmp_path / "a.json"
    for text, says in (
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ('{"a": 1}', "no COCO annotations, which have images, annotations and categories; it has a"),
        ("[]", "it is no mapping"),
        ('{"images": [], "annotations": [], "categories": []}', "categories is empty"),
    ):
        path.write_text(text)
        for given in (tmp_path, path):
            with pytest.raises(InputError, match=says):
                supernet.data.coco(given)
    path.write_text(json.dumps(document("train", drawn(8))))
    with pytest.raises(InputError, match="of its 8 pictures none is below"):
        supernet.data.coco(path)


def test_parts_that_cannot_be_told_are_refused(root):
    (root / "annotations" / "instances_test2017.json").rename(root / "annotations" / "instances_more.json")
    with pytest.raises(InputError, match=r"which part is .*instances_more\.json\? Put train, val or test"):
        supernet.data.coco(root)
    (root / "annotations" / "instances_more.json").rename(root / "annotations" / "instances_train.json")
    with pytest.raises(InputError, match="are both train by their names"):
        supernet.data.coco(root)
