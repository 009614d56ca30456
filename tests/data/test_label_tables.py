import pytest

from supernet.data.label_tables import read_table
from supernet.runtime.errors import InputError


@pytest.fixture
def table(tmp_path):
    def read(text, *settings, **more):
        (tmp_path / "labels.csv").write_bytes(text.encode())
        return read_table(tmp_path / "labels.csv", *settings, **more)

    return read


def test_columns_are_labels_but_for_those_with_a_meaning(table):
    read = table(
        "\ufeffFile;Split;effusion;nodule;Patient\r\na.png;train;1;0;7\r\n\r\nb.png;validation;-1;;7\r\nc.png;TEST;1.0;0.0;x\r\n"
    )
    assert read.files == ("a.png", "b.png", "c.png")
    assert read.classes == ("effusion", "nodule")
    assert read.labels.tolist() == [[1, 0], [-1, -1], [1, 0]]
    assert read.parts == ("train", "val", "test")
    assert (read.groups, read.group_name) == (("7", "7", "x"), "Patient")
    assert "unknown, so not learnt from and not judged by: 2 of 6 labels" in read.notes
    assert read.lines == (2, 4, 5)


def test_names_in_one_column(table):
    one = table('file,label,age\na.png,dog,3\nb.png,"cat, old",9\nc.png,dog,1\n')
    assert (one.classes, one.labels.tolist()) == (("cat, old", "dog"), [1, 0, 1])
    several = table("file,label\na.png,nodule|mass\nb.png,\nc.png,mass\n")
    assert (several.classes, several.labels.tolist()) == (("mass", "nodule"), [[1, 1], [0, 0], [1, 0]])
    asked = table("file,label\na.png,b\nb.png,a\n", "several", ("b", "a", "c"))
    assert (asked.classes, asked.labels.tolist()) == (("b", "a", "c"), [[1, 0, 0], [0, 1, 0]])
    assert table("file,label\na.png,10\nb.png,9\n").classes == ("9", "10")


def test_one_column_of_zeros_and_ones_is_two_classes(table):
    read = table("file\tpneumonia\na.png\t1\nb.png\t0\nc.png\t\n")
    assert (read.classes, read.labels.tolist()) == (("no pneumonia", "pneumonia"), [1, 0])
    assert read.files == ("a.png", "b.png")
    assert read.notes == ("left out: 1 image of which pneumonia is unknown",)
    assert table("file,x\na.png,1\nb.png,0\n", "several").labels.tolist() == [[1], [0]]


def test_numbers_that_are_classes_are_in_order_and_some_are_unknown(table):
    read = table("file,label\na.png,10.0\nb.png,2.0\nc.png,-1\nd.png,0.0\ne.png,NaN\n")
    assert (read.classes, read.labels.tolist()) == (("0.0", "2.0", "10.0"), [2, 1, 0])
    assert (read.files, read.unlabelled) == (("a.png", "b.png", "d.png"), ("c.png", "e.png"))
    assert read.notes == ("left out: 2 images of which label is unknown",)
    assert table("file,label\na.png,-1\nb.png,0\nc.png,1\n", classes=("-1", "0", "1")).labels.tolist() == [0, 1, 2]
    assert table("file,label\na.png,-1\nb.png,1\n").classes == ("-1", "1")
    assert table("file,label\na.png,na\nb.png,cat\nc.png,1\n").classes == ("1", "cat", "na")


def test_what_pandas_writes(table):
    """Its index has no name and is no label, and its booleans are words."""
    for index in ("", "Unnamed: 0"):
        read = table(f"{index},file,a,b\n0,a.png,True,1.0\n1,b.png,False,1.0\n2,a.png,True,1.0\n")
        assert (read.classes, read.labels.tolist()) == (("a", "b"), [[1, 1], [0, 1]])
    assert table("file,a,b,,\na.png,1,1,,\nb.png,0,1,,\n").classes == ("a", "b")


def test_a_separator_within_quotes_is_none(table):
    assert table('file;"a, b, c";d\na.png;1;1\nb.png;0;1\n').classes == ("a, b, c", "d")


def test_one_hot_columns_are_classes_and_chosen_columns_are_labels(table):
    text = "file,cat,dog,age\na.png,1,0,1\nb.png,0,1,0\n"
    read = table(text, classes=("dog", "cat"))
    assert (read.classes, read.labels.tolist()) == (("dog", "cat"), [1, 0])
    assert read.notes == ("labels.csv of shape 2 x 2: one-hot, read as class numbers",)
    assert table(text, "several", ("dog", "cat")).labels.tolist() == [[0, 1], [1, 0]]


def test_lines_that_stand_there_twice_are_counted(table):
    read = table("file,x,y\na.png,1,1\na.png,1,1\nb.png,0,1\n")
    assert read.files == ("a.png", "b.png")
    assert read.notes[0] == "labels.csv: 1 line stands there twice: read once"


@pytest.mark.parametrize(
    ("text", "settings", "says"),
    [
        ("name,x\na.png,1\n", {}, "no column file among name, x"),
        ("file,x\n", {}, "a line for each image"),
        ("", {}, "a line for each image"),
        ("file,x\na.png\n", {}, "line 2 has 1 cell, the first line 2"),
        ("file,x\na.png,2\n", {}, "line 2: column x: use 1, 0, or -1 or nothing for unknown"),
        ("file,x,age\na.png,1,old\n", {}, "line 2: column age: use 1, 0"),
        ("file,x,X\na.png,1,1\n", {}, "two columns have one name"),
        ("file,x,y\na.png,1,1\nb.png,0,1\na.png,0,0\n", {}, "lines 2 and 4 say different things of a.png"),
        ("file,x,y\n,1,1\n", {}, "line 2 names no file"),
        ("file,split,x,y\na.png,holdout,1,1\n", {}, "line 2: split=holdout: use train, val or test"),
        ("file\na.png\n", {}, "no column with labels among file"),
        ("file,label\na.png,\n", {}, "line 2 has no class; give one"),
        ("file,label\na.png,cat\n", {"classes": ("dog",)}, "cat is not among the classes dog"),
        ("file,label\na.png,a|b\n", {"form": "one"}, "line 2 has 2 classes"),
        ("file,x,y\na.png,1,1\n", {"classes": ("x", "z")}, "no column z among file, x, y"),
        ("file,x,y\na.png,1,1\n", {"group": "case"}, "no column case among"),
        ('file,x\n"a.png,1\n', {}, "no table"),
        ("file,x\na.png,1\n", {"form": "all"}, "labels=all: use auto, one, several"),
    ],
)
def test_mistakes_name_the_line_or_the_column(table, text, settings, says):
    with pytest.raises(InputError, match=says) as error:
        table(text, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["Patient ID", "PatientID", "patient_id", "Group"])
def test_a_patient_is_found_however_the_column_is_written(table, name):
    read = table(f"file,effusion,{name}\na.png,1,7\nb.png,0,7\n", classes=("effusion",))
    assert read.groups == ("7", "7")


def test_a_refusal_does_not_quote_what_may_be_a_patients_name(table):
    with pytest.raises(InputError) as refused:
        table("file,effusion,name\na.png,1,Nobody Jane\n")
    assert "column name" in str(refused.value)
    assert "Jane" not in str(refused.value)
