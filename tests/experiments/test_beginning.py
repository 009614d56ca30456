"""Cells and weights from elsewhere: what the job makes of them, what its table and its records say of them."""

import dataclasses
import json

import pytest
import torch
from common import composed, fabricate, finalist, tiny
from safetensors.torch import load_file
from supernet.experiments import command_line
from supernet.experiments.beginning import cell_in_words, given_cell, origin_of, seen_before
from supernet.experiments.records.provenance import settings_hash, training_hash
from supernet.experiments.reports.runs import group, read_run
from supernet.experiments.schema import checked

import supernet as library
from supernet.data.augmentation import Augmentation
from supernet.deployment.predictor import Predictor
from supernet.runtime.errors import InputError

SPACE = library.Darts(channels=4, cells=3, nodes=2)
CELL = library.random_cell(SPACE, seed=3)


@pytest.fixture
def donor(tmp_path):
    """The folder of a run that was trained on colour images of other classes."""
    torch.manual_seed(1)
    network = SPACE.network(library.Decided(CELL), (3, 6, 6), 4).eval()
    model = Predictor(
        network,
        space=SPACE,
        architecture=CELL,
        classes=("2", "cat", "0", "dog"),
        shape=(3, 6, 6),
        augmentation=Augmentation((0.2, 0.3, 0.4), (0.5, 0.5, 0.5)),
        provenance={"data": "photos", "seed": 5},
    )
    folder = fabricate(tmp_path / "donor", "drnas", 5, finalist("searched", "g", 0.5, 0.5), data="photos")
    model.save(folder / "model.safetensors")
    CELL.save(folder / "genotype.json")
    return folder


def test_a_cell_and_weights_from_another_data_set(supernet, images, donor, tmp_path):
    words = [f"genotype={donor}", f"init={donor}", "init.freeze=backbone"]
    code, printed = supernet(*tiny(images, *words, "hydra.run.dir=run"))
    assert code == 0, printed
    for text in (
        "Begun with",
        "found on photos",
        "scratch",
        "random 0",
        "colour to grey",
        "2 of 3 classes",
        "init.json",
    ):
        assert text in printed
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert [f["name"] for f in summary["finalists"]] == ["searched", "scratch", "random 0"]
    assert summary["cell"] == {"given": str(donor), "data": "photos", "method": "drnas", "seed": 5}
    assert summary["init"] == str(donor)
    record = json.loads((run / "init.json").read_text())
    assert (record["freeze"], record["donor"]["data"], list(record["networks"])) == (
        "backbone",
        "photos",
        ["searched", "random 0"],
    )
    made, theirs = load_file(run / "model.safetensors"), load_file(donor / "model.safetensors")
    taken = record["networks"]["searched"]["taken"]
    assert all(torch.equal(made[name], theirs[name]) for name in taken)
    assert torch.equal(made["stem.0.weight"], theirs["stem.0.weight"].sum(1, keepdim=True))
    assert library.load(run).augmentation.mean == pytest.approx((0.3,)), "the donor's, in grey"
    kinds = [(g.label.rpartition(", ")[2], g.kind) for g in group(read_run(run / "summary.json"))]
    assert ("from scratch", "scratch") in kinds


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["init=nowhere"], "nowhere"),
        (["init={donor}", "init.freeze=all"], "init.freeze=all"),
    ],
)
def test_mistakes_are_one_line(supernet, images, donor, words, says):
    code, printed = supernet(*tiny(images, *(word.format(donor=donor) for word in words)))
    assert (code, printed.count("\n")) == (2, 1), printed
    assert says in printed


def test_a_donor_that_cannot_fit_is_told_before_the_search(supernet, images):
    code, printed = supernet(*tiny(images, "init=bccd"))
    assert code == 2
    assert "bccd: nothing of it fits this network" in printed
    assert "search:" not in printed


def test_the_words_of_a_beginning():
    assert command_line.prepared(["init=runs/a (1)"]) == ["init=model", "init.path='runs/a (1)'"]
    assert command_line.prepared(["init=none"]) == ["init=none"]
    assert command_line.prepared(["-m", "init=digits,runs/1"]) == ["-m", "init=model", "init.path=digits,runs/1"]
    with pytest.raises(InputError, match="none beside models cannot be one sweep"):
        command_line.prepared(["-m", "init=none,digits"])


def test_cells_of_models_and_where_they_come_from(donor, tmp_path, monkeypatch):
    assert given_cell(str(donor)) == CELL
    assert given_cell(str(donor / "model.safetensors")) == CELL
    assert given_cell("darts_v2") == library.published("darts_v2")
    assert given_cell("digits") == library.load("digits").architecture
    with pytest.raises(InputError, match="genotype=drats_v2: neither a file nor a published name"):
        given_cell("drats_v2")
    assert origin_of(None) is None
    assert cell_in_words(origin_of("darts_v2")) == "darts_v2"
    assert cell_in_words(origin_of(str(donor / "genotype.json"))) == "found on photos"
    (donor / "summary.json").write_text("[" * 100_000)
    assert cell_in_words(origin_of(str(donor))) == str(donor)


def test_validation_images_that_the_donor_may_know_are_told(donor):
    data, init = library.data.digits(), library.Transfer(library.load(donor), "theirs")
    assert seen_before(data, None) == seen_before(data, init) == []
    (line,) = seen_before(dataclasses.replace(data, name="photos"), init)
    assert "theirs has learnt from photos" in line


def test_hashes_are_those_of_older_runs_where_nothing_is_new():
    settings = composed()
    older = {name: value for name, value in settings.items() if name != "init"}
    for recipe in ("search", "retrain"):
        older[recipe] = {n: v for n, v in settings[recipe].items() if n not in ("average", "balanced")}
    assert settings_hash(settings, "g") == settings_hash(older, "g")
    assert training_hash(settings, "darts") == training_hash(older, "darts")
    for changed in (composed("init=model", "init.path=a"), composed("retrain.average=0.9")):
        assert settings_hash(changed, "g") != settings_hash(settings, "g")
        assert training_hash(changed, "darts") != training_hash(settings, "darts")


def test_a_beginning_is_checked_with_the_other_settings():
    assert checked(composed())["init"] is None
    for changes, says in (
        ({"init": 3}, "init=3: needs an object"),
        ({"init": {"path": "a"}, "retrain": None}, "retrain=none: no network is trained that could begin with init"),
        ({"baseline": {"random": 0, "scratch": 2}}, "baseline.scratch=2: needs 1 or 0"),
    ):
        with pytest.raises(InputError, match=says):
            checked({**composed(), **changes})
    with pytest.raises(InputError, match="init=null: needs the name of an option"):
        command_line.check_options(command_line.prepared(["init=null"]))
