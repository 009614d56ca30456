"""supernet-export: of a run, of a file, and what it says beside the original."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from common import only_run, tiny, typed_words
from exported import data_for, model, pictures
from PIL import Image
from supernet.experiments.commands import export as command
from supernet.experiments.commands import predict
from supernet.experiments.exporting import Candidate, Row, compared, judgement

from supernet import load, spaces, zoo
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.data.dataset import Data, Sealed
from supernet.deployment.bundle import NAME
from supernet.training.tasks import MultiLabel


class Unread:
    """Stands for what captures the output, which nobody reads here."""

    def readouterr(self):
        return "", ""


def a_run(folder, images):
    with pytest.MonkeyPatch.context() as patch:
        code, _, run = only_run(folder, patch, Unread(), *tiny(images, "baseline.random=0"))
    assert code == 0
    return run


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """A finished run of a second or two, in a folder of its own."""
    return a_run(tmp_path_factory.mktemp("finished"), images)


@pytest.fixture
def typed(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("supernet.experiments.exporting.ROUNDS", 5)

    return lambda main, *words: typed_words(main, "command", monkeypatch, capsys, *words)


def test_the_commands_of_the_page_are_understood():
    page = Path(__file__).parents[3] / "docs" / "exporting.md"
    text = page.read_text(encoding="utf-8")
    lines = [*re.findall(r"^supernet-export .*$", text, re.MULTILINE), *re.findall(r"`(supernet-export [^`]+)`", text)]
    typed = [shlex.split(line)[1:] for line in lines]
    assert len(typed) >= 4
    for words in typed:
        assert command._parser().parse_intermixed_args(words).model in ("RUN", "model.safetensors")


def test_a_run_leaves_with_its_accuracy_and_is_asked_from_its_file(finished, typed, tmp_path, images):
    code, out, err = typed(command.main, finished, "--json", "--output", "model.onnx")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["format"], said["precision"], said["compared"]) == ("onnx", "float32", 80)
    original, written = said["models"]
    assert (original["name"], written["name"]) == (NAME, "model.onnx")
    assert (original["runtime"], written["runtime"]) == ("PyTorch", "ONNX Runtime")
    (finalist,) = json.loads((finished / "summary.json").read_text())["finalists"]
    assert original["score"] == written["score"] == pytest.approx(finalist["test_score"])
    assert original["bytes"] == (finished / NAME).stat().st_size
    assert written["bytes"] == (tmp_path / "model.onnx").stat().st_size
    assert 0 < written["low"] <= written["milliseconds"] <= written["high"]
    Image.fromarray(np.load(images)["test_images"][0]).save("one.png")
    answers = [typed(predict.main, which, "one.png", "--json") for which in (finished, "model.onnx")]
    first, second = (json.loads(answer[1])[0]["classes"] for answer in answers)
    assert list(first) == list(second)
    assert list(first.values()) == pytest.approx(list(second.values()), abs=1e-5)


@pytest.mark.slow
def test_without_an_output_it_lies_in_the_run(finished, typed):
    for words, name in ((("--int8",), "model.int8.onnx"), (("--format", "pt2"), "model.pt2")):
        code, out, _ = typed(command.main, finished, *words)
        assert code == 0
        assert str(finished / name) in out.replace("\n", "")
        assert (finished / name).stat().st_size > 0
        if "--int8" in words:
            assert "int8 pays here" in out or "int8 does not pay here (" in out
            assert "float32, not kept" in out
        (finished / name).unlink()


def test_a_file_alone_leaves_without_accuracy_twice(finished, typed, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes((finished / NAME).read_bytes())
    code, out, _ = typed(command.main, "mine.safetensors")
    assert code == 0
    assert "No accuracy: give its images as data=" in out
    assert (tmp_path / "mine.onnx").exists()
    assert typed(command.main, "mine.safetensors")[0] == 0  # an export is replaced


@pytest.mark.slow
def test_a_file_of_8_bits_has_its_accuracy_on_the_images_it_is_given(finished, typed, tmp_path, images):
    (tmp_path / "mine.safetensors").write_bytes((finished / NAME).read_bytes())
    words = ["data=npz", f"data.path={images}", "--int8", "--activations", "int8", "--json"]
    code, out, _ = typed(command.main, "mine.safetensors", *words)
    assert code == 0
    said = json.loads(out)
    assert (said["path"], said["activations"]) == ("mine.int8.onnx", "int8")
    assert [row["name"] for row in said["models"]] == ["mine.safetensors", "float32, not kept", "mine.int8.onnx"]
    assert all(row["score"] is not None for row in said["models"])


@pytest.mark.slow
def test_a_run_whose_images_are_gone_leaves_and_says_so(images, typed, tmp_path):
    moved = tmp_path / "moved.npz"
    moved.write_bytes(images.read_bytes())
    run = a_run(tmp_path, moved)
    moved.unlink()
    code, out, _ = typed(command.main, run)
    assert code == 0
    assert "No accuracy: data.path=" in out
    assert (run / "model.onnx").exists()
    code, _, err = typed(command.main, run, "--int8")
    assert (code, err.count("\n")) == (2, 1)
    assert "--int8: needs training images: data.path=" in err
    assert not (run / "model.int8.onnx").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["absent"], "absent: no such model"),
        (["empty"], "empty: has no model.safetensors; only a run that trained its network"),
        (
            ["mine.safetensors", "data=digits"],
            "data=digits: 10 classes and images (1, 8, 8); the model is of 3 classes",
        ),
        (["mine.safetensors", "data=digit"], "digit"),
        (["mine.safetensors", "search.epochs=3"], "search.epochs=3: a file takes the settings data"),
        (["mine.safetensors", "--int8"], "--int8: needs training images: give its images as data="),
        (["mine.safetensors", "--output", "mine.safetensors"], ": --output mine.safetensors: needs the ending .onnx"),
        (["mine.safetensors", "--output", "nowhere/a.onnx"], ": --output nowhere/a.onnx: there is no folder nowhere"),
        (["mine.safetensors", "--activations", "int8"], ": --activations int8: is of --int8 alone; leave it out"),
        (["mine.safetensors", "data=cifar10"], "; use data.download=true, or data=digits, which has nothing to fetch"),
        (["mine.safetensors", "data=folder"], "data=folder: no such option; known: cifar10, "),
        (["mine.safetensors", "data.foo=3"], "data.foo=3: no such setting"),
        (["mine.safetensors", "--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["mine.safetensors", "--format", "tflite"], "--format: invalid choice: 'tflite'"),
        ([], "the following arguments are required: model; see --help"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(words, says, finished, typed, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes((finished / NAME).read_bytes())
    (tmp_path / "empty").mkdir()
    code, out, err = typed(command.main, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine.safetensors"]
    assert (tmp_path / "mine.safetensors").read_bytes() == (finished / NAME).read_bytes()
    assert load("mine.safetensors")


@pytest.mark.parametrize("words", [[], ["--int8"], ["--format", "pt2"], ["data=npz", "data.path=absent.npz"]])
def test_a_detector_is_refused_before_its_images_are_asked_for(words, typed, tmp_path):
    shutil.copy(Path(zoo.__file__).with_name("bccd.safetensors"), tmp_path / "cells.safetensors")
    code, out, err = typed(command.main, "cells.safetensors", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "a detector, and an exported file gives probabilities of classes and no boxes; use its" in err
    assert [path.name for path in tmp_path.iterdir()] == ["cells.safetensors"]


def test_the_words_of_int8_are_those_of_the_command(finished, typed, images):
    words = ["--int8", "--format", "pt2"]
    code, out, err = typed(command.main, finished, *words)
    assert (code, out, err) == (
        2,
        "",
        "supernet-export: --int8: is there for --format onnx alone, not for pt2\n",
    )


def test_no_other_file_is_replaced(finished, typed, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(b"of somebody")
    code, _, err = typed(command.main, finished, "--output", "mine.onnx")
    assert (code, err) == (
        2,
        "supernet-export: --output mine.onnx: is there already, and is no export that could be replaced; --output FILE "
        "gives another name\n",
    )
    assert (tmp_path / "mine.onnx").read_bytes() == b"of somebody"


def test_all_are_timed_alike_and_judged_by_the_same_images(monkeypatch):
    original = model(spaces.micro(), (1, 8, 8))
    wrong = lambda pixels: original.probabilities(pixels).flip(1)  # noqa: E731
    ran = []

    def program(name):
        return lambda pixels: lambda: ran.append((name, tuple(pixels.shape), torch.get_num_threads()))

    made = [
        Candidate("right", "PyTorch", 7, original.probabilities, program("right")),
        Candidate("wrong", "PyTorch", 8, wrong, program("wrong")),
    ]
    threads = torch.get_num_threads()
    right, other = compared(made, data_for(original), (1, 8, 8))
    assert torch.get_num_threads() == threads
    assert (right.name, right.bytes, right.score) == ("right", 7, 1.0)
    labels = data_for(original).test.labels
    assert other.score == pytest.approx(float((wrong(images_of(original)).argmax(1) == labels).float().mean()))
    assert {name for name, *_ in ran} == {"right", "wrong"}
    assert {entry[1:] for entry in ran} == {((1, 1, 8, 8), 1)}
    names = "".join(name[0] for name, *_ in ran)
    assert names.count("wr") > 3  # in turns, and not one after the other
    assert names.count("rw") > 3
    assert compared(made[:1], None, (1, 8, 8))[0].score is None


def test_several_labels_are_judged_by_their_own_score():
    """An answer of several labels has no accuracy: it is the area that is shown, and no percentage of it."""
    images = pictures(48, (1, 8, 8), 6)
    labels = (images.flatten(1)[:, [0, 7]] > 127).long()
    labels[0, 0] = -1  # unknown
    data = Data(
        "toy",
        ("ant", "bee"),
        Resident(images, labels),
        None,
        Sealed(Resident(images, labels)),
        Augmentation((0.5,), (0.25,)),
    )
    right = lambda pixels: pixels.flatten(1)[:, [0, 7]] / 255  # noqa: E731
    for task, says in ((None, "1.0000"), (MultiLabel(score="label_accuracy"), "100.00%")):
        once = Data(data.name, data.classes, data.train, None, Sealed(data.train), data.augmentation)
        (row,) = compared([Candidate("a", "b", 7, right, lambda _: lambda: None)], once, (1, 8, 8), task)
        assert (row.score, row.told) == (1.0, says)
        assert row.measure == ("auroc" if task is None else task.score)


def test_eight_bits_lose_of_the_score_of_the_task():
    of_areas = [Row("a", "b", 10, score, 1.0, 1.0, 1.0, "auroc") for score in (0.9, 0.8)]
    assert judgement(*of_areas).endswith(
        "does not pay here (auroc lost): 1.00 times as fast as float32, 1.00 of its size, 0.1000 of auroc lost"
    )


def images_of(original):
    return pictures(48, original.shape, 6).float()


def row(milliseconds, size, accuracy):
    return Row("a", "b", size, accuracy, milliseconds, milliseconds, milliseconds)


@pytest.mark.parametrize(
    ("float32", "int8", "says"),
    [
        (
            row(2.0, 1000, 0.95),
            row(1.0, 300, 0.949),
            "int8 pays here: 2.00 times as fast as float32, 0.30 of its size, 0.10",
        ),
        (row(2.0, 1000, 0.95), row(2.5, 300, 0.96), "int8 does not pay here (slower): 0.80 times as fast"),
        (row(2.0, 1000, 0.95), row(1.0, 1100, 0.90), "(larger, accuracy lost): 2.00 times as fast as float32, 1.10 of"),
        (row(2.0, 1000, None), row(1.0, 300, None), "int8 pays here: 2.00 times as fast as float32, 0.30 of its size"),
    ],
)
def test_the_judgement_has_its_figures(float32, int8, says):
    line = judgement(float32, int8)
    assert says in line
    assert ("points of accuracy" in line) == (int8.score is not None)
    if int8.score == 0.96:
        assert line.endswith("1.00 points of accuracy won")
