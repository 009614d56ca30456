"""Workers: answers in order, failures in their place, the dead replaced, a signal heard; here, by loky and by dask."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.workers import BACKENDS, Failed, Workers


class Halves:
    """A function that fails in several ways, and can kill its worker, once or always."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "died"

    def __call__(self, item: object) -> object:
        if item == "dies once" and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "sleeps":
            time.sleep(60)
        if item == "fault":
            raise InputError("table: is missing")
        if item == "disk":
            raise OSError(28, "No space left on device")
        if item == "memory":
            raise MemoryError
        return (item / 2, torch.get_num_threads()) if isinstance(item, int) else item


def of(error: BaseException) -> str:
    return str(error)


def test_here_answers_come_in_order_and_failures_in_their_place(tmp_path):
    threads = torch.get_num_threads()
    answers = Workers(threads=3).each(Halves(tmp_path), [2, "memory", [], "three", 4])
    assert next(answers) == (1.0, 3)
    assert torch.get_num_threads() == threads
    assert list(answers) == [Failed("the memory is full"), [], "three", (2.0, 3)]
    assert list(Workers().each(abs, ["a"])) == [Failed("TypeError: bad operand type for abs(): 'str'")]


@pytest.mark.parametrize(("item", "error"), [("fault", InputError), ("disk", OSError)])
def test_what_concerns_all_items_ends_the_work_in_its_place(item, error, tmp_path):
    answers = Workers().each(Halves(tmp_path), [2, item, 4])
    next(answers)
    with pytest.raises(error):
        next(answers)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"count": 0}, "count=0: needs a whole number, 1 or more"),
        ({"threads": 0}, "threads=0: needs a whole number, 1 or more"),
        ({"backend": "slurm"}, f"backend=slurm: known: {', '.join(BACKENDS)}"),
        ({"scheduler": "tcp://a:1"}, "scheduler=tcp://a:1: is for backend dask or ray"),
    ],
)
def test_settings_that_cannot_be_are_one_line(settings, words):
    with pytest.raises(InputError) as error:
        Workers(**settings)
    assert of(error.value).startswith(words)


def test_what_cannot_be_sent_is_one_line():
    lock = threading.Lock()
    with pytest.raises(InputError, match="workers: the function cannot be sent to them"):
        next(Workers(2).each(lambda item: lock, [1]))


def test_a_missing_backend_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'ray is not installed; pip install "supernet\[ray\]" brings it'):
        next(Workers(2, "ray").each(abs, [1]))


@pytest.mark.slow
def test_two_workers_answer_as_one(tmp_path):
    items = [2, "memory", 4, "dies once", 6, "three"]
    alone = list(Workers().each(Halves(tmp_path), [item for item in items if item != "dies once"]))
    side_by_side = list(Workers(2).each(Halves(tmp_path), items))
    assert [answer for answer in side_by_side if answer != "dies once"] == alone
    assert (tmp_path / "died").exists()
    answers = Workers(2).each(Halves(tmp_path), [2, "fault", 4])
    assert next(answers) == (1.0, 1)
    with pytest.raises(InputError, match="table: is missing"):
        next(answers)


@pytest.mark.slow
def test_workers_that_die_again_and_again_are_one_line(tmp_path):
    answers = Workers(2).each(Halves(tmp_path), [2, "dies", 4])
    assert next(answers) == (1.0, 1)
    with pytest.raises(InputError, match="workers: died 3 times over the same items, after 1 answer"):
        next(answers)


@pytest.mark.slow
def test_a_signal_ends_the_waiting(tmp_path):
    with Interruption() as interruption:
        answers = Workers(2).each(Halves(tmp_path), [2, "sleeps"], interruption=interruption)
        assert next(answers) == (1.0, 1)
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            next(answers)
        assert interruption.requested()
    assert list(Workers(2).each(Halves(tmp_path), [2, 4])) == [(1.0, 1), (2.0, 1)]


@contextmanager
def cluster(folder: Path):
    """A scheduler and two worker processes on this machine."""
    file = folder / "scheduler.json"

    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    kept = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    worker = [sys.executable, "-m", "dask", "worker", "--scheduler-file", file, "--nthreads", "1", "--no-dashboard"]
    started = [subprocess.Popen([*command, "--scheduler-file", file], **kept)]
    try:
        while not file.exists():
            time.sleep(0.1)
        started += [subprocess.Popen(worker, **kept) for _ in range(2)]
        yield file
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("address", ["foo", "tls://127.0.0.1:1"])
def test_an_address_that_is_none_is_one_line_after_which_python_ends(address):
    pytest.importorskip("distributed")
    code = (
        f"from supernet.runtime.workers import Workers; list(Workers(2, 'dask', scheduler={address!r}).each(abs, [1]))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1
    assert f"InputError: scheduler={address}: cannot be reached" in ended.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_cluster_of_two_processes_answers_as_this_one(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with pytest.raises(InputError, match="scheduler=None: where is the cluster"):
        next(Workers(2, "dask").each(abs, [1]))
    with cluster(tmp_path) as file:
        workers = Workers(2, "dask", scheduler=json.loads(file.read_text())["address"])
        items = [2, "memory", 4, "dies once", *range(6, 40, 2)]
        alone = list(Workers().each(Halves(tmp_path), [item for item in items if item != "dies once"]))
        side_by_side = list(workers.each(Halves(tmp_path), items))
        assert [answer for answer in side_by_side if answer != "dies once"] == alone
        with pytest.raises(InputError, match="table: is missing"):
            list(workers.each(Halves(tmp_path), [2, "fault", 4]))
        processes = set(workers.each(lambda item: (time.sleep(0.2), os.getpid())[1], range(8)))
        assert os.getpid() not in processes
        assert len(processes) == 2
