"""The networks of a job's cells, trained by workers: the same ones, and one line where there can be none."""

from types import SimpleNamespace

import pytest
import torch
from common import tiny
from supernet.experiments import rivals
from supernet.experiments.rivals import check_workers

from supernet.runtime.errors import InputError
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.workers import Failed

RUNTIME = {"workers": 2, "backend": "loky", "scheduler": None, "threads": None}


def job_of(device: str = "cpu", processes: Processes = ALONE, **runtime):
    return SimpleNamespace(
        settings={"runtime": {**RUNTIME, **runtime}}, device=torch.device(device), processes=processes, directory="."
    )


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (
            job_of(processes=Processes(0, 2)),
            r"runtime\.workers=2: several processes train each network together already",
        ),
        (job_of("cuda"), r"runtime\.workers=2: would share one GPU; leave it out, or use runtime\.device=cpu"),
        (job_of(workers=0), r"runtime\.workers=0: needs a whole number, 1 or more"),
        (job_of(workers=None, backend="dask"), r"runtime\.backend=dask: how many at a time"),
    ],
)
def test_workers_that_cannot_be_are_a_line(job, line):
    with pytest.raises(InputError, match=line):
        check_workers(job)


@pytest.mark.parametrize("job", [job_of(), job_of("cuda", workers=1), job_of(processes=Processes(0, 2), workers=None)])
def test_others_are_fine(job):
    check_workers(job)


def test_a_network_that_could_not_be_trained_is_named():
    with pytest.raises(InputError, match=r"random 1: its network could not be trained: RuntimeError: no$"):
        rivals._had(job_of(), "random 1", Failed("RuntimeError: no"))


@pytest.mark.slow
def test_two_workers_train_the_networks_of_one(supernet, images, tmp_path):
    for count in (1, 2):
        words = tiny(images, "baseline.random=2", f"runtime.workers={count}", f"hydra.run.dir={tmp_path / str(count)}")
        code, printed = supernet(*words)
        assert code == 0, printed
    for name in ("search", "retrain", "random_0", "random_1"):
        one, other = (
            torch.load(tmp_path / count / "checkpoints" / f"{name}.pt", weights_only=True)["parts"] for count in "12"
        )
        part = "supernet" if name == "search" else "network"
        assert all(torch.equal(one[part][key], other[part][key]) for key in one[part])
    assert (tmp_path / "1" / "test.json").read_text() == (tmp_path / "2" / "test.json").read_text()
