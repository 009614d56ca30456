"""A job in several processes: what is refused, which folder they share, and, slowly, real ones that end or are lost."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from supernet.experiments import launching
from supernet.experiments.launching import Part, wanted, words_of_all

from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.processes import ALONE, is_loss

RUNTIME = {"devices": 1, "device": "cpu", "max_restarts": 3, "compare_every": 100, "synchronise_norms": False}


@pytest.fixture
def as_rank(monkeypatch):
    """As if torchrun had started this process as one of two."""

    def be(rank: int, run_id: str = "mine", restarts: int = 0) -> None:
        said = {"RANK": rank, "WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": run_id, "TORCHELASTIC_RESTART_COUNT": restarts}
        for name, value in said.items():
            monkeypatch.setenv(name, str(value))

    return be


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"devices": 0}, "runtime.devices=0: needs a whole number, 1 or more"),
        ({"devices": 2.5}, "runtime.devices=2.5: needs a whole number, 1 or more"),
        ({"devices": 2, "max_restarts": -1}, "runtime.max_restarts=-1: needs a whole number, 0 or more"),
        ({"devices": 2, "device": "cuda:0"}, "runtime.device=cuda:0: is one GPU; use cuda with runtime.devices=2"),
        ({"devices": 2, "device": "cuda"}, "runtime.devices=2: 0 GPUs are visible; use as many at most, or"),
    ],
)
def test_what_cannot_be_launched_is_a_line(changes, line, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match=line):
        wanted({**RUNTIME, **changes})


def test_how_many_processes_are_wanted(as_rank):
    assert wanted(RUNTIME) == 1
    assert wanted({**RUNTIME, "devices": 3}) == 3
    as_rank(0)
    assert wanted(RUNTIME) == 1
    with pytest.raises(InputError, match=r"runtime\.devices=2: torchrun has started the processes already"):
        wanted({**RUNTIME, "devices": 2})


def test_all_processes_of_torchrun_share_a_folder(as_rank, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert words_of_all(["a=1"]) == ["a=1"]
    assert launching.leads()
    as_rank(1)
    assert words_of_all(["name=x"]) == ["name=x", "hydra.run.dir=runs/x/mine"]
    assert words_of_all(["hydra.run.dir=there"]) == ["hydra.run.dir=there"]
    assert words_of_all(["resume=there"]) == ["resume=there"]
    assert not launching.leads()
    assert launching.folder_of_another(["hydra.run.dir=there"]) == Path("there")
    assert launching.silent_words() == ["hydra.output_subdir=null", "hydra/job_logging=disabled"]
    as_rank(0, restarts=1)
    assert words_of_all([]) == ["hydra.run.dir=runs/supernet/mine", "resume=auto"]
    assert launching.folder_of_another(["hydra.run.dir=there"]) is None
    assert launching.silent_words() == []


@pytest.mark.parametrize("run_id", ["none", "../up", "a b"])
def test_a_run_without_a_name_that_all_know_is_refused(as_rank, run_id):
    as_rank(0, run_id)
    with pytest.raises(InputError, match="torchrun: the processes need one folder to write to; give"):
        words_of_all([])


def test_a_sweep_is_not_for_torchrun(as_rank):
    as_rank(0)
    with pytest.raises(InputError, match="torchrun: a sweep starts processes of its own"):
        words_of_all(["-m", "seed=0,1"])


def part_of(folder: Path, lead) -> Part:
    return Part({"runtime": RUNTIME}, folder, lead, lambda *_, **__: None, lambda _: 1)


def test_a_process_alone_leads(tmp_path):
    def lead(settings, directory, interruption, processes):
        return settings["runtime"]["device"], directory, interruption.signal, processes

    part = part_of(tmp_path, lead)
    assert launching.take_part(part, Interruption()) == ("cpu", tmp_path, None, ALONE)
    part.fault.touch()  # of an earlier start
    launching.take_part(part, Interruption())
    assert not part.fault.exists()


def test_the_first_mistake_is_told_and_what_it_does_to_others_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "_PATIENCE", 0.2)
    mark, own = tmp_path / "fault", InputError("a setting")
    assert not launching._another_tells(own, mark)
    assert launching._another_tells(InputError("another one"), mark)
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4")
    assert is_loss(lost)
    assert launching._another_tells(lost, mark)
    mark.unlink()
    assert not launching._another_tells(lost, mark)  # it was killed
    assert not mark.exists()
    assert not is_loss(RuntimeError("shape mismatch"))
    assert not is_loss(InputError("gloo"))


def test_signals_that_come_twice_do_not_cut_a_saving_short():
    with launching._Patient(None) as patient:
        assert not patient.requested()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert patient.signal == signal.SIGTERM
    with launching._Patient(signal.SIGINT) as asked:
        assert asked.requested()


def test_a_fault_that_a_process_has_left_is_the_commands(tmp_path):
    part = part_of(tmp_path, None)
    launching._raise_fault(part)
    part.fault.touch()
    launching._raise_fault(part)  # marked, not told yet
    part.fault.write_text("1 0")
    with pytest.raises(launching.Ended) as ended:
        launching._raise_fault(part)
    assert (ended.value.code, type(ended.value)) == (1, launching.Ended)
    part.fault.write_text("2 1")
    with pytest.raises(launching.Mistaken):
        launching._raise_fault(part)


def test_a_mistake_that_a_full_disk_kept_untold_is_the_commands(tmp_path, monkeypatch):
    outcomes = {0: launching.Outcome(), 1: launching.Outcome(2)}
    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", lambda *_: lambda _: outcomes)
    with pytest.raises(launching.Ended) as ended:
        launching.launch(2, part_of(tmp_path, None))
    assert ended.value.code == 2

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(launching, "_log", lambda *_: None)
    assert launching.work(part_of(tmp_path, full)) == launching.Outcome(1)


def test_who_waits_for_others_is_ended_by_a_signal(tmp_path, as_rank, monkeypatch):
    as_rank(0)
    handlers = []

    @contextmanager
    def together(*_):
        handlers.append(signal.getsignal(signal.SIGTERM))
        yield ALONE

    monkeypatch.setattr(launching, "together", together)
    part = part_of(tmp_path, lambda *_, **__: handlers.append(signal.getsignal(signal.SIGTERM)))
    with Interruption() as interruption:
        launching.take_part(part, interruption)
        launching.take_part(replace(part, marks=tmp_path), interruption)  # its launcher minds them
        minded = signal.getsignal(signal.SIGTERM)
    assert handlers == [signal.SIG_DFL, minded, minded, minded]


def test_processes_remove_what_a_killed_launcher_has_left(tmp_path, monkeypatch):
    marks, parents, codes = tmp_path / "marks", iter([7, 1]), []
    marks.mkdir()
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(launching, "_log", lambda *_: None)
    launching.work(replace(part_of(tmp_path, lambda *_, **__: 0.5), marks=marks))
    assert codes == [0]
    assert not marks.exists()


WORDS = ["experiment=quick", "runtime.devices=2", "runtime.device=cpu", "runtime.save_seconds=0.5", "baseline.random=0"]


def started(folder: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "supernet", *WORDS, f"hydra.run.dir={folder}", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ranks(launcher: int) -> list[int]:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for name, part in (("search", "supernet"), ("retrain", "network")):
        state = torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["parts"]
        found |= {f"{name}/{key}": value for key, value in state[part].items()}
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    process = started(folder)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return folder


def wait_for_a_checkpoint(folder):
    limit = time.monotonic() + 100
    while not (folder / "checkpoints" / "search.pt").exists() and time.monotonic() < limit:
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found by Linux's /proc")
def test_a_lost_process_starts_all_again_and_the_end_is_the_same(undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = started(folder)
    wait_for_a_checkpoint(folder)
    os.kill(ranks(process.pid)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "a process was lost; all 2 start again (1 of 3)" in output
    assert "Traceback" not in output
    kept, whole = weights(folder), weights(undisturbed)
    assert all(torch.equal(kept[name], whole[name]) for name in whole)
    assert json.loads((folder / "env.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["search.batch_size=3"], "search.batch_size=3: 2 processes share a batch, and each needs 2 images; 4 or more"),
        (["data=npz", "data.path=/nowhere.npz"], "data.path=/nowhere.npz: no such file"),
        (["runtime.workers=2"], "runtime.workers=2: several processes train each network together already"),
    ],
)
def test_a_mistake_ends_all_processes_with_a_line(tmp_path, words, line):
    process = started(tmp_path / "run", *words)
    output, _ = process.communicate(timeout=100)
    assert (process.returncode, len(output.splitlines())) == (2, 1), output
    assert line in output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_signal_to_the_launcher_saves_and_the_run_goes_on(undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = started(folder)
    wait_for_a_checkpoint(folder)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == Interrupted(signal.SIGTERM).exit_code, output
    again = subprocess.run(
        [sys.executable, "-m", "supernet", f"resume={folder}"], capture_output=True, text=True, timeout=200, check=False
    )
    assert again.returncode == 0, again.stderr
    kept, whole = weights(folder), weights(undisturbed)
    assert all(torch.equal(kept[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_torchrun_starts_the_same_job(undisturbed, tmp_path):
    words = [word for word in WORDS if not word.startswith("runtime.devices")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "supernet"]
    command = [*launcher, *words, f"hydra.run.dir={tmp_path / 'run'}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ran.returncode == 0, ran.stderr
    kept, whole = weights(tmp_path / "run"), weights(undisturbed)
    assert all(torch.equal(kept[name], whole[name]) for name in whole)
