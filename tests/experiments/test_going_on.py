"""Runs and sweeps that go on: with the same data only, from any folder, each by one process, finished jobs once."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from common import tiny
from forked import locked_elsewhere
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SMALL = ["space.operations=[none,skip_connect]", "baseline.random=0", "hydra.run.dir=run"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, images):
    """A tiny run that has ended, with a data set of its own named by a path that is not whole."""
    from supernet.experiments import pipeline

    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(images, folder / "toy.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["supernet", *tiny("toy.npz", *SMALL)])
        pipeline.main()
    return folder


@pytest.fixture
def late(finished, tmp_path):
    """A copy of it as a kill in the last moment leaves it."""
    shutil.copytree(finished, tmp_path / "late")
    (tmp_path / "late" / "run" / "summary.json").unlink()
    return tmp_path / "late"


def refused(supernet, run, says):
    code, printed = supernet(f"resume={run}")
    assert code == 2, printed
    assert says in printed
    assert "Traceback" not in printed


def test_from_another_folder_twice(supernet, late, finished):
    assert json.loads((late / "run" / "env.json").read_text())["folder"] == str(finished)
    code, printed = supernet(f"resume={late / 'run'}", "runtime.threads=1")
    assert code == 0, printed
    (late / "run" / "summary.json").unlink()
    code, printed = supernet(f"resume={late / 'run'}")
    assert code == 0, printed
    summaries = [json.loads((folder / "run" / "summary.json").read_text()) for folder in (finished, late)]
    assert summaries[0]["settings"] == summaries[1]["settings"]
    assert summaries[0]["finalists"][0]["test_score"] == summaries[1]["finalists"][0]["test_score"]
    events = EventAccumulator(str(late / "run" / "tb" / "retrain")).Reload()
    assert len(events.Scalars("hparam/test_score")) == 1
    searched = EventAccumulator(str(late / "run" / "tb" / "search")).Reload()
    assert len(searched.Tensors("config/text_summary")) == 1


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("retrain_valid=0.2", "retrain_valid is 0.1 there and 0.2 in this run; use retrain_valid=0.1"),
        ("data.crop_padding=1", "data.crop_padding is 0 there and 1 in this run"),
        ("architect=unrolled", "architect._target_ is "),
        ("optimizer.lr=0.5", "optimizer.lr is 0.0003 there and 0.5"),
        ("retrain.network.darts.channels=8", "retrain.network.darts.channels is "),
    ],
)
def test_a_changed_record_is_refused(supernet, late, word, says):
    record = late / "run" / ".hydra" / "overrides.yaml"
    record.write_text(f"{record.read_text()}- {word}\n")
    refused(supernet, late / "run", says)


def test_another_cell_is_refused(supernet, late):
    found = json.loads((late / "run" / "genotype.json").read_text())
    name = next(name for name, kept in found["choices"].items() if kept == ["skip_connect"])
    found["choices"][name] = ["none"]
    (late / "other.json").write_text(json.dumps(found))
    record = late / "run" / ".hydra" / "overrides.yaml"
    record.write_text(f"{record.read_text()}- genotype={late / 'other.json'}\n")
    refused(supernet, late / "run", "put back the genotype that the run was started with")


@pytest.mark.parametrize("name", ["supernet.log", ".hydra/config.yaml", "metrics/search.csv", "checkpoints/retrain.pt"])
def test_a_folder_in_the_place_of_a_file_is_one_line(supernet, late, name):
    (late / "run" / name).unlink()
    (late / "run" / name).mkdir()
    refused(supernet, late / "run", "remove it")


@pytest.mark.parametrize("change", ["pixels", "labels", "fewer"])
def test_other_data_are_refused(supernet, late, monkeypatch, change):
    arrays = dict(np.load(late / "toy.npz"))
    if change == "pixels":
        arrays["train_images"] = 255 - arrays["train_images"]
    elif change == "labels":
        arrays["train_labels"] = arrays["train_labels"][::-1].copy()
    else:
        arrays |= {name: arrays[name][:60] for name in ("train_images", "train_labels")}
    np.savez(late / "toy.npz", **arrays)
    (late / "run" / "env.json").unlink()
    (late / "run" / ".hydra" / "hydra.yaml").unlink()
    monkeypatch.chdir(late)
    refused(supernet, late / "run", "put back the data that the run was started with")


@pytest.mark.parametrize(
    ("step", "epoch"),
    [
        (99, 99),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in [(-1, 0), (0, -1), (10**12, 1), (0, 1), (True, 0)]),
        (float("nan"), 0),
        ("1", 0),
    ],
)
@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_a_checkpoint_whose_progress_cannot_be_is_refused(supernet, late, stage, step, epoch):
    path = late / "run" / "checkpoints" / f"{stage}.pt"
    content = torch.load(path, weights_only=True)
    content["parts"]["epochs"] |= {"step": step, "epoch": epoch}
    torch.save(content, path)
    refused(supernet, late / "run", f"it says step {step}, epoch {epoch}; this run has 1 epoch of")


@pytest.mark.parametrize(
    "damage",
    [b"", *(pytest.param(each, marks=pytest.mark.slow) for each in (b"{", b"[1]")), bytes(range(256))],
    ids=["empty", "half", "other", "binary"],
)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("test.json", "is not what this run wrote; remove it"),
        ("seconds.json", "is not what this run wrote; remove it"),
        ("metrics/search.csv", "is not what a run wrote; remove it"),
        (".hydra/overrides.yaml", "is not a list of overrides"),
        ("env.json", "could not be read and is written anew"),
    ],
)
def test_damaged_files_are_one_line(supernet, late, name, says, damage):
    table = name.endswith(".csv")  # its first line is a head, and a last one without an end is that of a kill
    (late / "run" / name).write_bytes(b"\n" + damage + b"\n" if table else damage)
    code, printed = supernet(f"resume={late / 'run'}")
    second = name.startswith(".hydra") and not damage  # a kill while Hydra wrote it: another file says the same
    assert code == (0 if second or name == "env.json" else 2), printed
    assert says in printed or second
    assert "Traceback" not in printed


def test_a_link_in_the_run_writes_nowhere(supernet, late):
    victim = late / "victim"
    victim.write_text("mine")
    (late / "run" / "metrics" / "search.csv.partial").symlink_to(victim)
    refused(supernet, late / "run", f"is a link to {victim}, out of this directory")
    assert victim.read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_a_run_is_gone_on_with_by_one_process(supernet, late):
    with locked_elsewhere(late / "run"):
        code, printed = supernet(f"resume={late / 'run'}")
    assert (code, printed.count("\n")) == (2, 1)
    assert "another process is at work in it" in printed


def test_another_number_of_threads_is_said(supernet, late, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    known = json.loads((late / "run" / "env.json").read_text())
    (late / "run" / "env.json").write_text(json.dumps({**known, "threads": 7}))
    code, printed = supernet(f"resume={late / 'run'}")
    assert code == 0, printed
    assert "begun with runtime.threads=7" in printed


def test_a_sweep_goes_on(supernet, images, tmp_path):
    """One job is finished, one was interrupted, one has not begun; their folders are nested."""
    words = tiny(images, "space.operations=[none,skip_connect]", "baseline.random=0", "seed=0,1,2")
    code, printed = supernet("-m", *words, "hydra.sweep.dir=s", "hydra.sweep.subdir=seed_${seed}/run")
    assert code == 0, printed
    table = (tmp_path / "s" / "sweep.md").read_text()
    assert "| seed_2/run |" in table
    kept = (tmp_path / "s" / "seed_0" / "run" / "summary.json").read_bytes()
    (tmp_path / "s" / "sweep.md").unlink()
    (tmp_path / "s" / "seed_1" / "run" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "s" / "seed_2")
    code, printed = supernet("resume=s")
    assert code == 0, printed
    assert (tmp_path / "s" / "sweep.md").read_text() == table
    assert (tmp_path / "s" / "seed_0" / "run" / "summary.json").read_bytes() == kept
    code, printed = supernet("-m", *words, "hydra.sweep.dir=s")
    assert (code, printed.count("\n")) == (2, 1)
    assert "use resume=s" in printed


def test_sigint_before_a_job_minds_it(supernet, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("supernet.experiments.command_line.prepared", stop)
    assert supernet("seed=1") == (130, "supernet: stopped by SIGINT\n")


def test_a_full_disk_is_one_line(supernet, images, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "search.pt")

    monkeypatch.setattr("supernet.experiments.pipeline.search_cell", full)
    code, printed = supernet(*tiny(images, *SMALL))
    assert code == 2
    assert (
        f"No space left on device: search.pt; the last checkpoint is whole. Make room, then: supernet resume={tmp_path}"
        in printed
    )
    assert "Traceback" not in printed
