"""Mistakes that show only when a part is made, a machine without git, and a sweep of which some jobs fail."""

import pytest
import torch
from common import tiny
from supernet.experiments import pipeline
from supernet.experiments.records import environment

BASE = ["experiment=quick", "runtime.threads=1", "search.epochs=1", "retrain.epochs=1"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("optimizer.lr=-1", "optimizer: Invalid learning rate: -1.0"),
        ("strategy.optimizer=3", "strategy.optimizer=3: needs an object"),
        ("search.schedule=3", "search.schedule=3: needs an object"),
        ("retrain_valid=2", "retrain_valid=2.0: needs a share below 1"),
        ("baseline.random=-1", "baseline.random=-1: needs 0 or more"),
    ],
)
def test_before_any_training(supernet, override, says):
    code, printed = supernet(*BASE, override)
    assert code == 2, printed
    assert printed.splitlines()[-1].startswith(f"supernet: {says}")
    assert "Traceback" not in printed
    assert "search   1/1" not in printed


def test_one_failed_job_does_not_cost_the_others_their_table(supernet, images, monkeypatch, tmp_path):
    searched = pipeline.search_cell

    def sometimes(job, yaml):
        if job.seed == 1:
            raise RuntimeError("a bug")
        return searched(job, yaml)

    monkeypatch.setattr(pipeline, "search_cell", sometimes)
    jobs = ["seed=0,1", "genotype=null,absent", "baseline.random=0", "hydra.sweep.dir=sw"]
    code, printed = supernet("-m", *tiny(images), *jobs)
    assert code == 1
    assert "Traceback" not in printed
    assert printed.count("RuntimeError: a bug; see ") == 1
    assert "RuntimeError: a bug" in (tmp_path / "sw" / "2" / "supernet.log").read_text()
    assert "no result from job 1, 2, 3 in sw" in printed
    assert len((tmp_path / "sw" / "sweep.csv").read_text().splitlines()) == 2


def test_a_single_run_keeps_its_traceback(supernet, monkeypatch):
    monkeypatch.setattr(pipeline, "search_cell", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # which Python shows, with exit code 1
        supernet(*BASE)


def test_a_machine_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.environment(torch.device("cpu"))["commit"] is None
