"""`supernet-predict` with a detector and with models that come by name."""

import json

import numpy as np
import pytest
import torch
from common import typed_words
from exported import model
from PIL import Image
from supernet.experiments.commands import predict

import supernet
from supernet.data.augmentation import Augmentation
from supernet.deployment.answers import Objects, OneLabel, SeveralLabels
from supernet.deployment.predictor import Predictor
from supernet.detection.head import AnchorFree


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    torch.manual_seed(0)
    space, cell, answer = (
        supernet.Darts(8, 6, stem="imagenet"),
        supernet.published("darts_v2"),
        Objects(AnchorFree(1, width=16, towers=1)),
    )
    network = space.network(supernet.Decided(cell), (3, 64, 96), answer.outputs(("[b]RBC", "WBC"))).eval()
    with torch.no_grad():
        network.prediction.classes.bias.fill_(1.0)
    about = {"space": space, "architecture": cell, "shape": (3, 64, 96), "provenance": {}, "answer": answer}
    path = tmp_path_factory.mktemp("model") / "cells.safetensors"
    Predictor(network, classes=("[b]RBC", "WBC"), augmentation=Augmentation((0.5,) * 3, (0.3,) * 3), **about).save(path)
    return path


def classifier(path, answer, logits, names):
    """A model that says the same of every picture."""
    space, cell = supernet.Darts(4, 3), supernet.published("darts_v2")
    network = space.network(supernet.Decided(cell), (1, 8, 8), len(names)).eval()
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor(logits))
    about = {"space": space, "architecture": cell, "shape": (1, 8, 8), "provenance": {}, "answer": answer}
    Predictor(network, classes=tuple(names), augmentation=Augmentation((0.5,), (0.3,)), **about).save(path)
    return path


@pytest.fixture
def films(tmp_path):
    """Probabilities 0.88, 0.73, 0.5 and 0.27."""
    answer = SeveralLabels(thresholds=(0.9, 0.7, 0.5, 0.2))
    return classifier(tmp_path / "films.safetensors", answer, [2.0, 1.0, 0.0, -1.0], ["a", "[b]mass", "c", "d"])


def rows(out):
    """The cells of a table's rows."""
    lines = [line for line in out.splitlines() if line.startswith("\u2502")]
    return [tuple(cell.strip() for cell in line.strip("\u2502").split("\u2502")) for line in lines]


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "sub/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (50, 80, 3), dtype=np.uint8)).save(tmp_path / name)
    return lambda *words: typed_words(predict.main, "supernet-predict", monkeypatch, capsys, *words)


def test_objects_are_listed_drawn_and_written(typed, detector, tmp_path):
    code, out, _ = typed(detector, "a.png", "sub", "--conf", "0.5", "--max-det", "30", "--save", "out")
    assert code == 0
    assert out.count("[b]RBC") + out.count("WBC") == 40  # 20 of each picture are listed
    assert out.count("and 10 more") == 2
    assert "drawn: 2 in out" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "a_2.png"]
    code, out, _ = typed(detector, "[ab].png", "--classes", "WBC", "--max-det", "3", "--conf", "0", "--json")
    answers = json.loads(out)
    assert [answer["path"] for answer in answers] == ["a.png", "b.png"]
    assert [len(answer["objects"]) for answer in answers] == [3, 3]
    assert {found["name"] for answer in answers for found in answer["objects"]} == {"WBC"}
    assert "nothing found" in typed(detector, "a.png", "--conf", "1")[1]


def test_no_picture_is_written_over(typed, detector, tmp_path):
    before = (tmp_path / "a.png").read_bytes()
    for _ in range(2):
        assert typed(detector, "a.png", "--save", ".")[0] == 0
    assert (tmp_path / "a.png").read_bytes() == before
    assert (tmp_path / "a_3.png").exists()


def test_one_unreadable_picture_does_not_take_the_others_with_it(typed, detector, tmp_path):
    (tmp_path / "sub" / "b.png").write_bytes(b"no picture")
    code, out, err = typed(detector, "sub", "a.png", "--json")
    assert (code, len(json.loads(out)), err.count("\n")) == (0, 2, 1)
    assert "1 of 3 pictures left out: " in err
    assert "b.png" in err
    code, _, err = typed(detector, "sub/b.png")
    assert (code, err.count("\n")) == (2, 1)


def test_labels_are_listed_from_their_thresholds_on(typed, films):
    code, out, _ = typed(films, "a.png", "b.png")
    assert code == 0
    labels = [("[b]mass", "73.1%", "70.0%"), ("c", "50.0%", "50.0%"), ("d", "26.9%", "20.0%")]
    first, *others = labels
    assert rows(out) == [row for name in ("a.png", "b.png") for row in ((name, *first), *(("", *o) for o in others))]
    assert rows(typed(films, "a.png", "--conf", "0.6")[1]) == [
        ("a.png", "a", "88.1%", "60.0%"),
        ("", "[b]mass", "73.1%", "60.0%"),
    ]
    assert rows(typed(films, "a.png", "--conf", "0", "--top", "1")[1]) == [
        ("a.png", "a", "88.1%", "0.0%"),
        ("", "and 3 more", "", ""),
    ]


def test_where_no_label_reaches_its_threshold_the_table_says_so(typed, films):
    (row,) = rows(typed(films, "a.png", "--conf", "0.95")[1])
    assert row == ("a.png", "none (likeliest: a)", "88.1%", "95.0%")
    assert json.loads(typed(films, "a.png", "--conf", "0.95", "--json")[1])[0]["labels"] == []


def test_json_has_the_labels_beside_the_likeliest_classes(typed, films):
    (answer,) = json.loads(typed(films, "a.png", "--json")[1])
    assert [(row["name"], row["class"], row["threshold"]) for row in answer["labels"]] == [
        ("[b]mass", 1, 0.7),
        ("c", 2, 0.5),
        ("d", 3, 0.2),
    ]
    assert answer["labels"][0]["confidence"] == answer["classes"]["[b]mass"] == pytest.approx(0.731, abs=1e-3)
    assert list(answer["classes"]) == ["a", "[b]mass", "c"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["cell", "dot", "cell"], ["cell (class 0)", "dot", "cell (class 2)"]),
        (["cell", "cell (class 2)", "cell"], ["cell (class 0)", "cell (class 2) (class 1)", "cell (class 2)"]),
    ],
)
def test_classes_that_share_a_name_are_all_there(typed, tmp_path, names, told):
    path = classifier(tmp_path / "twins.safetensors", OneLabel(), [2.0, 1.0, 0.0], names)
    (answer,) = json.loads(typed(path, "a.png", "--json")[1])
    assert list(answer["classes"]) == told
    assert sum(answer["classes"].values()) == pytest.approx(1)
    (row,) = rows(typed(path, "a.png")[1])
    assert " ".join(row).count("(class") == " ".join(told).count("(class")


def test_a_class_that_is_called_by_a_number_is_meant_by_it():
    assert predict._classes("7,1,cell", {0: "7", 1: "cell"}) == ["7", 1, "cell"]


def test_a_model_by_name(typed):
    code, out, _ = typed("digits", "a.png", "--save", "out", "--top", "1")
    assert code == 0
    assert "a.png" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dgits", "a.png"], "dgits: no such model; did you mean digits"),
        (["digits", "a.png", "--conf", "0.3"], "conf=0.3: this model says one class"),
        (["digits", "a.png", "--classes", "7"], "classes=['7']: is for objects"),
        (["digits", "*.jpg"], "no image matches this pattern"),
        (["digits", "a.png", "--save", "a.png/x"], "--save a.png/x: cannot be written to"),
    ],
)
def test_mistakes_are_one_line(typed, words, says):
    code, _, err = typed(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert says in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--classes", "cell"], "'cell': not among [b]RBC, WBC"),
        (["--classes", "2"], "there is no class 2"),
        (["--conf", "2"], "conf=2.0"),
        (["--iou", "-1"], "iou=-1.0"),
        (["--max-det", "0"], "max_det=0"),
    ],
)
def test_mistakes_about_objects_are_one_line(typed, detector, words, says):
    code, _, err = typed(detector, "a.png", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert says in err


@pytest.mark.parametrize("word", [("--iou", "0.5"), ("--max-det", "3"), ("--classes", "ant")])
@pytest.mark.parametrize("of", ["one label", "several labels", "an exported model"])
def test_only_a_detector_is_asked_for_objects(typed, films, tmp_path, of, word):
    path = films
    if of == "one label":
        path = classifier(tmp_path / "one.safetensors", OneLabel(), [1.0, 0.0], ["ant", "bee"])
    if of == "an exported model":
        path = tmp_path / "toy.onnx"
        supernet.export(model(supernet.NasBench201(4, 1, 1, 2), (3, 8, 8)), path)
    code, out, said = typed(path, "a.png", *word)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert said.startswith(f"supernet-predict: {word[0][2:].replace('-', '_')}=")
    assert "is for objects, and this model says how probable each class is" in said


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_detector_is_not_asked_for_classes_by_their_rank(typed, detector, tmp_path, more):
    code, out, said = typed(detector, "a.png", "--top", "2", "--save", "out", *more)
    assert (code, out, (tmp_path / "out").exists()) == (2, "", False)
    assert said == "supernet-predict: --top 2: is for classes, and this model finds objects; use --max-det 2\n"
