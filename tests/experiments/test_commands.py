"""supernet-predict and supernet-show."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from supernet.experiments.commands import predict, show

from supernet import Darts, Decided, published
from supernet.data.augmentation import Augmentation
from supernet.deployment.bundle import save_bundle


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        return code, "".join(capsys.readouterr())

    return run


@pytest.fixture
def run_directory(tmp_path):
    torch.manual_seed(0)
    run = tmp_path / "run"
    run.mkdir()
    space, architecture = Darts(4, 3), published("darts_v2")
    architecture.save(run / "genotype.json")
    save_bundle(
        run / "model.safetensors",
        space.network(Decided(architecture), (1, 8, 8), 3),
        space=space,
        architecture=architecture,
        classes=("ant", "bee", "cat"),
        augmentation=Augmentation((0.5,), (0.2,)),
        shape=(1, 8, 8),
        provenance={},
    )
    for i in range(2):
        Image.fromarray(np.full((8, 8), 90 * i, np.uint8)).save(tmp_path / f"{i}.png")
    return run


def test_predict_prints_a_table_or_json(command, run_directory):
    code, printed = command(predict.main, run_directory, "0.png", "1.png", "--top", "2")
    assert code == 0
    assert "0.png" in printed
    assert "1.png" in printed
    code, printed = command(predict.main, run_directory / "model.safetensors", "0.png", "--json")
    (answer,) = json.loads(printed)
    assert set(answer["classes"]) == {"ant", "bee", "cat"}
    assert sum(answer["classes"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["run", "absent.png"], "absent.png: no such file"), (["absent", "0.png"], "absent: no such model")],
)
def test_predict_says_mistakes_in_one_line(command, run_directory, arguments, says):
    code, printed = command(predict.main, *arguments)
    assert (code, printed.count("\n")) == (2, 1)
    assert says in printed


def test_show_a_published_name(command, tmp_path):
    code, printed = command(show.main, "darts_v2", "--output", "drawn")
    assert code == 0
    assert "3,349,342" in printed
    assert round(int(printed.split("MACs")[1].split()[0].replace(",", "")) / 1e6, 1) == 528.4
    assert "0 = sep_conv_3x3(c(k-2)) + sep_conv_3x3(c(k-1))" in printed
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == {"genotype.svg", "genotype.png", "genotype.dot"}
    code, printed = command(show.main, "darts_v2", "--stem", "imagenet", "--output", "drawn")
    assert "4,718,752" in printed


def test_show_a_run_a_file_and_a_text(command, run_directory, tmp_path):
    code, printed = command(show.main, "run")
    assert code == 0
    assert "images of 1 x 8 x 8" in printed
    code, printed = command(show.main, "run/genotype.json", "--channels", "4", "--cells", "3", "--classes", "3")
    assert code == 0
    (tmp_path / "text").write_text(
        "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 0), ('skip_connect', 1)],"
        "reduce=[('sep_conv_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 0), ('skip_connect', 1)])"
    )
    code, printed = command(show.main, "text", "--cells", "3")
    assert code == 0
    assert "1 = sep_conv_3x3(c(k-2)) + skip_connect(c(k-1))" in printed


@pytest.mark.parametrize("name", ["darts_v9", "binary"])
def test_show_says_mistakes_in_one_line(command, tmp_path, name):
    (tmp_path / "binary").write_bytes(b"\x80\x81")
    code, printed = command(show.main, name)
    assert (code, printed.count("\n")) == (2, 1)
    assert f"genotype={name}" in printed


def test_predict_prints_names_as_they_are(command, run_directory, tmp_path):
    (tmp_path / "x[").mkdir()  # a tag that closes, as a path
    for name in ("x[/b].png", "img[a].png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
    (tmp_path / "esc\x1b[31m.png").write_bytes((tmp_path / "img[a].png").read_bytes())
    code, printed = command(predict.main, "run", "x[/b].png", "img[a].png", "esc\x1b[31m.png")
    assert code == 0
    assert "x[/b].png" in printed
    assert "img[a].png" in printed
    assert "esc\\x1b[31m.png" in printed
    assert "\x1b" not in printed


def test_predict_takes_folders(command, run_directory, tmp_path):
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "1.png").rename(tmp_path / "more" / "deep" / "1.png")
    code, printed = command(predict.main, "run", "0.png", "more", "--json")
    assert code == 0
    assert [answer["path"] for answer in json.loads(printed)] == ["0.png", "more/deep/1.png"]


def test_show_writes_nothing_unless_asked_to(command, run_directory, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert command(show.main, "run")[0] == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_show_does_not_draw_over_another_genotype(command, tmp_path):
    for _ in range(2):
        assert command(show.main, "darts_v2", "--cells", "3", "--output", "drawn")[0] == 0
    old = {path: path.read_bytes() for path in (tmp_path / "drawn").iterdir()}
    code, printed = command(show.main, "darts_v1", "--cells", "3", "--output", "drawn")
    assert code == 2
    assert "has the drawing of another genotype" in printed
    assert {path: path.read_bytes() for path in (tmp_path / "drawn").iterdir()} == old


def test_show_takes_a_genotype_pasted_into_the_command(command):
    pairs = [("sep_conv_3x3", 0), ("skip_connect", 1)] * 4
    text = (
        f"Genotype(\n  normal={pairs},\n  normal_concat=range(2, 6),\n  reduce={pairs},\n  reduce_concat=range(2, 6))"
    )
    code, printed = command(show.main, text, "--cells", "3")
    assert code == 0
    assert printed.startswith("Genotype( normal=[('sep_conv_3x3', 0), ")
    code, printed = command(show.main, "x" * 300)
    assert (code, printed.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "choices",
    [
        {"normal/2": ["0"]},
        {},
        {"normal/999999999": ["0"], "normal/999999999/0": ["skip_connect"]},
        {"normal/2": ["x"], "normal/2/x": ["skip_connect"]},
        {"normal/2": ["0"], "normal/2/0": ["\x1b[31m[/b]"]},
    ],
)
def test_show_says_what_a_forged_genotype_lacks_in_one_line(command, tmp_path, choices):
    tree = {"format": "supernet.genotype", "version": 1, "space": "darts", "choices": choices}
    (tmp_path / "genotype.json").write_text(json.dumps(tree))
    code, printed = command(show.main, "genotype.json")
    assert (code, printed.count("\n")) == (2, 1)
    assert "\x1b" not in printed
