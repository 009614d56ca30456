import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data import labelled_folder
from supernet.runtime.errors import InputError


def folder(tmp_path, lines, count=20, place="images"):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for n in range(count):
        Image.fromarray(np.full((4, 5), n, np.uint8)).save(tmp_path / place / f"{n:03}.png")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(tmp_path)


def levels(source):
    return source.raw(torch.arange(len(source)))[:, 0, 0, 0]


def test_files_are_found_by_path_name_or_stem(tmp_path):
    names = [
        ("images/{:03}.png", "{:03}.png", "{:03}", "./images/{:03}.png", "images\\{:03}.png")[n % 5].format(n)
        for n in range(20)
    ]
    data = labelled_folder(folder(tmp_path, ["file,a,b", *(f"{name},{n % 2},1" for n, name in enumerate(names))]))
    assert data.classes == ("a", "b")
    assert torch.equal(data.train.labels[:, 0], levels(data.train).long() % 2)
    assert len(data.train) == 16


def test_folders_of_a_table_may_begin_elsewhere_and_endings_be_in_capitals(tmp_path):
    (tmp_path / "train").mkdir()
    for n in range(12):
        folder(tmp_path, [], place=f"train/p{n}", count=1)
        (tmp_path / f"train/p{n}/000.png").rename(tmp_path / f"train/p{n}/View.PNG")
        Image.fromarray(np.full((4, 5), n, np.uint8)).save(tmp_path / f"train/p{n}/View.PNG")
    lines = [f"Set-v1/train/p{n}/view.png,{n % 2},{n // 6 % 2}" for n in range(14)]
    data = labelled_folder(folder(tmp_path, ["file,a,b", *lines], count=0))
    assert torch.equal(data.train.labels[:, 0], levels(data.train).long() % 2)
    lost = "warning: not there, so left out: 2 of 14 files of the table, such as Set-v1/train/p12/view.png"
    assert lost in data.notes  # and not another patient's picture of the same name


def test_a_name_in_another_folder_is_taken_where_it_is_the_only_one(tmp_path):
    lines = [f"old/{n:03}.png,{n % 2},1" for n in range(20)]
    data = labelled_folder(folder(tmp_path, ["file,a,b", *lines], place="new"))
    assert torch.equal(data.train.labels[:, 0], levels(data.train).long() % 2)
    path = folder(tmp_path, ["file,a,b", *lines, "older/000.png,1,1"], place="new")
    assert (
        "warning: not there, so left out: 2 of 21 files of the table, such as old/000.png"
        in labelled_folder(path).notes
    )


def test_images_of_an_unknown_class_are_counted_once(tmp_path):
    lines = [f"{n:03}.png,{-1 if n == 3 else n % 2}" for n in range(20)]
    notes = labelled_folder(folder(tmp_path, ["file,pneumonia", *lines])).notes
    assert notes == ("left out: 1 image of which pneumonia is unknown",)


def test_images_of_an_unknown_patient_are_no_group(tmp_path):
    lines = [f"{n:03}.png,{n % 2},1,{'nan' if n < 8 else f'p{n}'}" for n in range(20)]
    notes = labelled_folder(folder(tmp_path, ["file,a,b,patient", *lines])).notes
    assert "patient: 20 groups of training images, each on one side of a split" in notes


def test_what_only_one_side_has_is_counted(tmp_path):
    path = folder(tmp_path, ["file,a,b", *(f"{n:03}.png,{n % 2},1" for n in range(18)), "gone.png,1,1"])
    notes = labelled_folder(path).notes
    assert "warning: not there, so left out: 1 of 19 files of the table, such as gone.png" in notes
    assert "left out: 2 images that the table does not name" in notes
    assert not any("1 .csv" in note for note in notes)


def test_classes_may_be_asked_for_by_names_that_are_numbers(tmp_path):
    path = folder(tmp_path, ["file,label", *(f"{n:03}.png,{n % 2}" for n in range(20))])
    assert labelled_folder(path, classes=[1, 0]).classes == ("1", "0")
    with pytest.raises(InputError, match="1 is not among the classes 0, 2"):
        labelled_folder(path, classes=[0, 2])


def test_parts_and_patients_of_the_table(tmp_path):
    parts = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    lines = [f"{n:03}.png,{part},{'cat' if n % 2 else 'dog'},p{n // 3}" for n, part in enumerate(parts)]
    path = folder(tmp_path, ["file,split,label,patient", *lines])
    data = labelled_folder(path)
    assert data.classes == ("cat", "dog")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [12, 4, 4]
    assert data.groups.tolist() == [n // 3 for n in range(12)]
    assert "patient: 4 groups of training images, each on one side of a split" in data.notes
    assert not data.held_out
    assert labelled_folder(path, groups="none").groups is None
    by_name = labelled_folder(path, groups="(..)[0-9].png")
    assert by_name.groups.unique().tolist() == [0, 1]
    with pytest.raises(InputError, match="no column case among file, split, label, patient"):
        labelled_folder(path, groups="case")


def test_a_held_out_test_keeps_patients_together(tmp_path):
    lines = [f"{n:03}.png,{n % 2},{n % 3 % 2},p{n // 4}" for n in range(40)]
    data = labelled_folder(folder(tmp_path, ["file,a,b,patient", *lines], count=40))
    test = levels(data.test.open()) // 4
    assert not set(test.tolist()) & set((levels(data.train) // 4).tolist())
    assert len(test) == 8


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["file,a", "x.png,1", "y.png,0"], "no image of the table is in the folder, such as x.png"),
        (["file,a", "001.png,1", "001,0"], r"lines 2 and 3 of the table are about one image, .*001\.png; keep one"),
        (["file,split,a", "001.png,test,1", "002.png,test,0"], "no image of the table's split is train"),
        (["file,a", "../../etc/passwd,1"], "no image of the table is in the folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path, lines, says):
    with pytest.raises(InputError, match=says) as error:
        labelled_folder(folder(tmp_path, lines))
    assert "\n" not in str(error.value)


def test_a_name_that_could_be_two_files(tmp_path):
    folder(tmp_path, [], place="left", count=2)
    path = folder(tmp_path, ["file,a", "000.png,1", "left/001.png,0"], place="right", count=2)
    with pytest.raises(InputError, match=r"line 2: 000\.png could be .*left/000\.png or .*right/000\.png"):
        labelled_folder(path)
    with pytest.raises(InputError, match="no such folder"):
        labelled_folder(str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"gone\.csv: no such file"):
        labelled_folder(path, table="gone.csv")
