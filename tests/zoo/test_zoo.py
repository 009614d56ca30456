"""The models that come with the library: whole, described, small enough, and as good as their cards say."""

import hashlib
import json
import shutil

import pytest
import torch
from sklearn.datasets import load_digits

import supernet
from supernet import zoo
from supernet.runtime.errors import InputError

WANTED = ("title", "data", "source", "licence", "split", "command", "commit", "seeds", "figures", "use", "limits")


def test_there_are_models():
    assert "digits" in zoo.entries()


@pytest.mark.parametrize("name", sorted(zoo.entries()))
def test_a_model_is_whole_and_described(name):
    entry = zoo.entries()[name]
    raw = (zoo.FOLDER / entry.file).read_bytes()
    assert (len(raw), hashlib.sha256(raw).hexdigest()) == (entry.bytes, entry.sha256)
    assert entry.bytes <= 5_000_000
    model = supernet.load(name)
    assert model.card == entry.card
    assert all(entry.card.get(key) for key in WANTED)
    assert entry.card["not for clinical use"] is True
    assert all(figure["seeds"] for figure in entry.card["figures"].values())
    assert list(model.classes) == entry.card["classes"]
    (result,) = model(torch.zeros(model.shape, dtype=torch.uint8))
    assert result.names == model.names


def test_all_together_are_small_and_nothing_else_lies_there():
    files = {path.name for path in zoo.FOLDER.iterdir() if path.suffix in (".safetensors", ".json")}
    assert files == {zoo.INDEX, *(entry.file for entry in zoo.entries().values())}
    assert sum(entry.bytes for entry in zoo.entries().values()) <= 15_000_000


def test_the_digits_are_read():
    pictures = torch.from_numpy(load_digits().images[:200] * 255 / 16).to(torch.uint8)[:, None]
    answers = [result.probs.top1 for result in supernet.NAS("digits")(pictures)]
    assert sum(a == b for a, b in zip(answers, load_digits().target[:200], strict=True)) > 190


@pytest.mark.parametrize(
    ("name", "says"),
    [("didgits", "no such model; did you mean digits"), ("zzz", "no such model; give a name"), ("a" * 300, "no such")],
)
def test_a_name_that_there_is_not(name, says):
    with pytest.raises(InputError, match=says) as error:
        supernet.load(name)
    assert "digits" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(zoo.FOLDER / "digits.safetensors", "digits")
    model = supernet.load("digits")
    model.card = {"title": "mine"}
    model.save("digits")
    assert supernet.load("digits").card == {"title": "mine"}
    with pytest.raises(InputError, match=r"\./digits2|digits2: no such model"):
        supernet.load("./digits2")


def test_a_damaged_zoo_is_one_line(tmp_path):
    shutil.copytree(zoo.FOLDER, tmp_path / "zoo")
    folder = tmp_path / "zoo"
    assert zoo.file_of_model("digits", folder) == folder / "digits.safetensors"
    with (folder / "digits.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="not the one of the index; install supernet again"):
        zoo.file_of_model("digits", folder)
    (folder / "digits.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        zoo.file_of_model("digits", folder)
    for number, text in enumerate(
        ('{"a": {}}', "[", json.dumps({"a": {"file": "../x", "sha256": "", "bytes": 1, "card": {}}}))
    ):
        other = tmp_path / str(number)
        other.mkdir()
        (other / zoo.INDEX).write_text(text)
        with pytest.raises(InputError, match="damaged"):
            zoo.entries(other)
    assert zoo.entries(tmp_path) == {}
