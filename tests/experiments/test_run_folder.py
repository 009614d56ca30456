"""A run that ends at its settings leaves its folder as it was, so that the next try can have it."""

from pathlib import Path

import pytest
from common import tiny
from omegaconf import OmegaConf
from supernet.experiments.run_folder import RunFolder, take_back

WRONG = ["experiment=quick", "runtime.threads=1", "search.epochs=0"]
HYDRA = ("config.yaml", "hydra.yaml", "overrides.yaml")


def listed(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize("where", [[], ["hydra.run.dir=new/run"], ["hydra.run.dir=${name}/run"]])
def test_a_run_with_a_wrong_setting_leaves_nothing(supernet, tmp_path, where):
    code, printed = supernet(*WRONG, *where)
    assert (code, "search.epochs=0: needs at least 1" in printed) == (2, True)
    assert listed(tmp_path) == {}


def test_the_next_try_in_the_same_folder_runs(supernet, images, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    words = [*tiny(images), "baseline.random=0", "hydra.run.dir=run"]
    for wrong in ("search.epochs=0", "data.path=absent.npz", "seed=-1", "monitor.on_rise=pray", "limits.macs=1"):
        assert supernet(*words, wrong)[0] == 2
        assert listed(tmp_path) == {"run": None, "run/notes.txt": b"mine"}, wrong
    code, printed = supernet(*words)
    assert code == 0, printed
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    before = listed(tmp_path)
    code, printed = supernet(*words, "search.epochs=0")  # now it holds a run
    assert (code, "holds a run already" in printed) == (2, True)
    assert listed(tmp_path) == before


def test_a_run_that_goes_on_keeps_its_folder(supernet, images, tmp_path):
    words = [*tiny(images), "baseline.random=0", "hydra.run.dir=run"]
    assert supernet(*words)[0] == 0
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "checkpoints" / "search.pt").write_text("damaged")
    before = set(listed(tmp_path))
    assert supernet("resume=run")[0] == 2
    assert set(listed(tmp_path)) == before


@pytest.fixture
def folder(tmp_path):
    """The run's folder, which was there with a log and a link before; now it has what a run writes first."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "supernet.log").write_text("of a run before")
    (run / "environment.json").symlink_to(tmp_path / "elsewhere.json")
    RunFolder().on_run_start(OmegaConf.create({"hydra": {"run": {"dir": str(run)}}}))
    (run / ".hydra").mkdir()
    for name in HYDRA:
        (run / ".hydra" / name).write_text("")
    (run / ".lock").write_text("")
    return run


def test_what_was_there_before_stays(folder):
    take_back(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["environment.json", "supernet.log"]
    assert (folder / "supernet.log").read_text() == "of a run before"


@pytest.mark.parametrize("more", ["checkpoints/search.pt", ".hydra/mine.yaml", "genotype.json", "mine.txt"])
def test_nothing_is_removed_beside_something_else_that_came(folder, more):
    (folder / more).parent.mkdir(exist_ok=True)
    (folder / more).write_text("")
    before = listed(folder)
    take_back(folder)
    assert listed(folder) == before


def test_another_folder_is_not_touched(folder, tmp_path):
    before = listed(tmp_path)
    take_back(tmp_path)
    take_back(Path("/nowhere"))
    assert listed(tmp_path) == before
