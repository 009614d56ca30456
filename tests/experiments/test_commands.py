"""supernet-predict and supernet-show."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from supernet.experiments import predict, show

from supernet import Darts, Decided, published
from supernet.data.augmentation import Augmentation
from supernet.training.bundle import save_bundle


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
    [(["run", "absent.png"], "absent.png: not a readable image"), (["absent", "0.png"], "absent: no such model")],
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
