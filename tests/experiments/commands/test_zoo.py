"""`supernet-zoo` lists models, shows their cards, and makes them of finished runs."""

import json

import pytest
import torch
from common import fabricate, finalist, typed_words
from supernet.experiments.commands import zoo as command
from supernet.experiments.zoo.about import MODELS

import supernet
from supernet import zoo


@pytest.fixture
def typed(monkeypatch, capsys):
    return lambda *words: typed_words(command.main, "supernet-zoo", monkeypatch, capsys, *words)


@pytest.fixture
def runs(tmp_path):
    """Three finished runs that never ran."""
    made = []
    for seed, test in enumerate((0.9, 0.95, 0.85)):
        words = [
            f"seed={seed}",
            "hydra.run.dir=/home/me/run",
            "data.path=/home/me/x",
            "data.source=/home/me/y",
            "search.epochs=3",
        ]
        found = [finalist("searched", "g", 0.9, test), finalist("random 0", "h", 0.8, test - 0.2)]
        reading = {"images": {"train": 10, "test": 200}}
        run = fabricate(tmp_path / str(seed), "drnas", seed, *found, overrides=words, settings="s", reading=reading)
        model = supernet.load("digits")
        model.card, model.provenance = {}, {"seed": seed, "data": "digits"}
        model.save(run / "model.safetensors")
        (run / "env.json").write_text(json.dumps({"commit": "abc", "command": ["/home/me/supernet"]}))
        made.append(run)
    return made


def test_the_list_and_a_card(typed):
    code, out, _ = typed()
    assert code == 0
    for name, entry in zoo.entries().items():
        assert name in out
        code, card, _ = typed(name)
        assert code == 0
        assert "not for clinical use" in card
        assert str(entry.card["commit"]) in card
    assert json.loads(typed("--json")[1])["digits"] == zoo.entries()["digits"].card
    assert json.loads(typed("digits", "--json")[1]) == zoo.entries()["digits"].card


def test_a_model_is_made_of_runs(typed, runs, tmp_path):
    folder = tmp_path / "zoo"
    folder.mkdir()
    code, out, err = typed("digits", "--make", *runs, "--output", folder)
    assert code == 0, err
    entry = zoo.entries(folder)["digits"]
    figure = entry.card["figures"]["accuracy"]
    assert figure["seeds"] == [0.9, 0.95, 0.85]
    assert (figure["mean"], figure["deviation"]) == (0.9, 0.05)
    assert figure["random cells"] == {"count": 3, "mean": 0.7, "deviation": 0.05}
    low, high = figure["95 % interval of this file"]
    assert (low, high) == pytest.approx((0.8506, 0.9344), abs=1e-3)  # Wilson's for 180 of 200
    assert "0.9000 (0.0500), mean of 3 seeds (95 % interval 0.7758 to 1.0242), this file 0.9000" in out
    assert entry.card["command"] == "supernet search.epochs=3 seed=0"
    assert (entry.card["commit"], entry.card["seeds"]) == ("abc", [0, 1, 2])
    assert entry.card["licence"] == MODELS["digits"].licence
    assert "/home" not in (folder / zoo.INDEX).read_text() + out
    model = supernet.load(zoo.file_of_model("digits", folder))
    image = torch.zeros(1, 8, 8)
    expected = supernet.load(runs[0])(image)[0].probs.data
    torch.testing.assert_close(model(image)[0].probs.data, expected, atol=0.01, rtol=0)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert typed("digits", "--make", *runs, "--output", folder)[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_cannot_be_made_is_one_line(typed, runs, tmp_path, monkeypatch):
    folder = tmp_path / "zoo"
    folder.mkdir()
    other = json.loads((runs[1] / "summary.json").read_text())
    (runs[1] / "summary.json").write_text(json.dumps(other | {"settings": "t"}))
    wrong = [
        (("cats", "--make", runs[0]), "cats: not described"),
        (("digits", "--make", *runs), "of other settings than"),
        (("digits", "--make", runs[0], runs[0]), "one is there twice"),
        (("digits", "--make", tmp_path / "none"), "no such run"),
        (("digits", "--make", folder), "has no summary.json"),
        (("--make", runs[0]), "give the name of the model first"),
        (("didgits",), "no such model; did you mean digits"),
    ]
    for words, says in wrong:
        code, _, err = typed(*words, "--output", folder)
        assert (code, err.count("\n")) == (2, 1), words
        assert says in err
    monkeypatch.setattr("supernet.experiments.zoo.making.LARGEST", 1000)
    assert "1,000 at most" in typed("digits", "--make", runs[0], "--output", folder)[2]
    assert list(folder.iterdir()) == []
