"""Sweeps whose jobs run in processes of their own, and jobs that a scheduler starts again and again."""

import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import pytest
import yaml
from common import tiny
from forked import locked_elsewhere
from supernet.experiments import command_line, pipeline, resume, sweeping
from supernet.experiments.reports.sweep import conclude

from supernet.runtime.errors import InputError
from supernet.runtime.files import locked
from supernet.runtime.interrupt import Interrupted, Interruption

SMALL = ["space.operations=[none,skip_connect]", "baseline.random=0"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="no such locks and signals")


def swept(folder: Path, *hydra: str) -> Path:
    """The record of a sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    overrides = {"task": ["seed=0,1"], "hydra": ["hydra.mode=MULTIRUN", *hydra]}
    (folder / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))
    return folder


# Who works where


def can_lock(directory: Path) -> bool:
    try:
        with locked(directory):
            return True
    except InputError:
        return False


@posix
def test_a_directory_that_is_reserved_twice_stays_reserved(tmp_path):
    """A lock of POSIX ends where any of its files is closed: the inner one must not have one."""

    def elsewhere() -> bool:
        with futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
            return pool.submit(can_lock, tmp_path).result()

    with sweeping.reserved(tmp_path):
        with sweeping.reserved(tmp_path):
            assert sweeping.has_reserved(tmp_path)
        assert sweeping.has_reserved(tmp_path)
        assert not elsewhere()
    assert not sweeping.has_reserved(tmp_path)
    assert elsewhere()


@posix
def test_a_sweep_at_which_another_process_works_is_left_alone(supernet, images, tmp_path):
    (tmp_path / "s").mkdir()
    with locked_elsewhere(tmp_path / "s"):
        code, printed = supernet("-m", *tiny(images, *SMALL), "seed=0,1", "hydra.sweep.dir=s")
    assert (code, printed.count("\n")) == (2, 1)
    assert "another process is at work in it" in printed
    assert [path.name for path in (tmp_path / "s").iterdir()] == [".lock"]


@posix
@pytest.mark.slow
def test_a_job_at_which_another_process_works_is_left_alone(supernet, images, tmp_path):
    (tmp_path / "s" / "1").mkdir(parents=True)
    with locked_elsewhere(tmp_path / "s" / "1"):
        code, printed = supernet("-m", *tiny(images, *SMALL), "seed=0,1", "hydra.sweep.dir=s")
    assert code == 1
    assert f"{tmp_path / 's' / '1'}: another process is at work in it" in printed
    assert "no result from job 1 in s; to try again: supernet resume=s" in printed
    assert "| 0 |" in (tmp_path / "s" / "sweep.md").read_text()


def test_the_job_can_be_sent_to_another_process(monkeypatch):
    """All that it holds is plain: no lock, no open file, nothing of Hydra."""
    sent = []
    monkeypatch.setattr("hydra.main", lambda **_: lambda job: lambda: sent.append(cloudpickle.dumps(job)))
    with sweeping.reservations():
        pipeline._hydra_main(resume.Start(["-m", "seed=0,1"], ("-m", "seed=0,1")))
    assert len(sent) == 1
    assert callable(cloudpickle.loads(sent[0]))


@pytest.fixture
def handlers(monkeypatch):
    """Handlers of signals, and what this process knows, are put back."""
    monkeypatch.setattr(sweeping, "_HERE", sweeping._Process())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}
    for number in before:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@posix
def test_a_process_that_waits_for_a_job_is_not_ended_by_a_stop(handlers, tmp_path):
    assert sweeping.works_for(tmp_path)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert sweeping.stopped() == signal.SIGINT
    assert sweeping.left_alone() == ()


@posix
def test_handlers_of_a_launcher_stay_and_get_the_notice(handlers):
    got = []
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _: got.append(number))
    assert sweeping.left_alone() == (signal.SIGTERM,)
    with Interruption(sweeping.left_alone()) as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert not interruption.requested()
        signal.raise_signal(signal.SIGUSR2)
        assert interruption.signal == signal.SIGUSR2
    assert got == [signal.SIGTERM]
    sweeping.pass_on(Interrupted(signal.SIGUSR2))
    assert got == [signal.SIGTERM, signal.SIGUSR2]


# The end


def test_the_end_names_what_failed_what_waits_and_why(tmp_path, monkeypatch, capsys):
    (tmp_path / "s" / "0" / ".hydra").mkdir(parents=True)
    monkeypatch.setattr(sweeping, "_HERE", sweeping._Process(jobs=3))
    monkeypatch.setattr(sys, "argv", ["supernet", "-m", "seed=0,1,2", "hydra/launcher=processes"])
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as ended:
        conclude(tmp_path / "s", "a worker died")
    assert ended.value.code == 1
    said = "a worker died; no result from job 0 and 2 jobs have not begun in"
    assert f"{said} {tmp_path / 's'}; to try again: supernet resume={tmp_path / 's'} hydra/launcher=processes" in (
        capsys.readouterr().err
    )
    sweeping._HERE.stopped = signal.SIGTERM
    with pytest.raises(SystemExit) as ended:
        conclude(tmp_path / "s")
    assert ended.value.code == 143


def test_a_launcher_that_fails_ends_with_the_table(supernet, images, monkeypatch, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("A worker process was terminated.\nand more")

    monkeypatch.setattr(
        "hydra.core.plugins.Plugins.instantiate_sweeper", lambda *_, **__: SimpleNamespace(sweep=broken)
    )
    code, printed = supernet("-m", *tiny(images, *SMALL), "seed=0,1", "hydra.sweep.dir=s")
    assert (code, printed.count("\n")) == (1, 1)
    assert "RuntimeError: A worker process was terminated; 2 jobs have not begun in s; to try again: " in printed


# Launchers


@pytest.mark.parametrize(("typed", "meant"), [("joblib", "processes"), ("submitit_slurm", "slurm"), ("basic", "basic")])
def test_a_launcher_has_two_names(typed, meant):
    assert command_line.prepared(["-m", f"hydra/launcher={typed}", "seed=0,1"])[1] == f"hydra/launcher={meant}"


def test_a_plugin_that_is_missing_is_one_line(monkeypatch):
    monkeypatch.setattr(command_line, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r'its plugin is not installed; pip install "supernet\[cluster\]"'):
        command_line.prepared(["-m", "hydra/launcher=slurm", "seed=0,1"])


def test_a_sweep_goes_on_by_the_launcher_that_is_typed_and_no_other(tmp_path):
    """A record of a stranger must not say what commands a job of Slurm runs, or that there is one."""
    sweep = swept(tmp_path / "s", "hydra/launcher=slurm", "hydra.launcher.setup=[touch pwned]")
    assert resume.launched_by(sweep) == ["hydra/launcher=slurm", "hydra.launcher.setup=[touch pwned]"]
    words = resume.arguments([f"resume={sweep}"])
    assert not any("launcher" in word for word in words)
    typed = ["hydra/launcher=processes", "hydra.launcher.n_jobs=3"]
    assert set(typed) <= set(resume.arguments([f"resume={sweep}", *typed]))
    again = shlex.split(resume.command(sweep, ["-m", "seed=0,1", *typed]))
    assert again == ["supernet", f"resume={sweep}", *typed]


def test_a_sweep_record_that_a_kill_cut_short_has_another_beside_it(tmp_path):
    sweep = swept(tmp_path / "s")
    resume.keep_record(sweep)
    whole = (sweep / "multirun.yaml").read_bytes()
    for length in (0, 3, len(whole) // 2):
        (sweep / "multirun.yaml").write_bytes(whole[:length])
        assert "seed=0,1" in resume.arguments([f"resume={sweep}"])
        resume.keep_record(sweep)  # what is cut short is not kept
        assert (sweep / "multirun.yaml.previous").read_bytes() == whole


# One command line for every start


def test_auto_begins_where_there_is_nothing_and_goes_on_where_there_is_something(tmp_path):
    run = tmp_path / "run"
    words = ["resume=auto", "experiment=quick", f"hydra.run.dir={run}"]
    assert resume.automatic(words) == (words[1:], run)
    (run / ".hydra").mkdir(parents=True)  # a kill before anything was recorded, or while it was
    (run / ".hydra" / "overrides.yaml").write_text("")
    assert resume.automatic(words) == (words[1:], run)
    assert resume.start(words[1:], run).into == run
    with pytest.raises(InputError, match="holds a run already"):
        resume.start(words[1:])
    (run / ".hydra" / "hydra.yaml").write_text("hydra: {overrides: {task: [experiment=quick]}}")
    assert resume.automatic(words) == (["experiment=quick", f"resume={run}"], None)
    assert resume.arguments([f"resume={run}"])[0] == "experiment=quick"
    (run / ".hydra" / "overrides.yaml").write_text("- experiment=quick\n")
    assert resume.automatic(words) == (["experiment=quick", f"resume={run}"], None)
    sweep = ["-m", "resume=auto", "seed=0,1", f"hydra.sweep.dir={tmp_path / 's'}"]
    assert resume.automatic(sweep) == ([w for w in sweep if w != "resume=auto"], tmp_path / "s")
    swept(tmp_path / "s")
    assert resume.automatic(sweep) == (["seed=0,1", f"resume={tmp_path / 's'}"], None)


def test_auto_needs_a_directory(supernet):
    code, printed = supernet("resume=auto", "experiment=quick")
    assert (code, printed.count("\n")) == (2, 1)
    assert "resume=auto: needs the directory to begin in or to go on with; add hydra.run.dir=DIRECTORY" in printed


@pytest.mark.slow
def test_the_same_line_starts_goes_on_and_finds_the_end(supernet, images, tmp_path):
    words = ["resume=auto", *tiny(images, *SMALL), "hydra.run.dir=run"]
    code, printed = supernet(*words)
    assert code == 0, printed
    kept = (tmp_path / "run" / "summary.json").read_bytes()
    code, printed = supernet(*words)
    assert (code, "run is finished already" in printed) == (0, True)
    assert (tmp_path / "run" / "summary.json").read_bytes() == kept
    code, printed = supernet(*words, "search.epochs=2")
    assert code == 0  # what is finished is finished
    (tmp_path / "run" / "summary.json").unlink()
    code, printed = supernet(*words, "search.epochs=2")
    assert (code, "leave out search.epochs=2" in printed) == (2, True)


@posix
@pytest.mark.parametrize("gone", ["all", "checkpoints"])
def test_a_folder_that_is_removed_while_a_job_is_at_work_is_one_line(supernet, images, monkeypatch, tmp_path, gone):
    def remove(job, _):
        shutil.rmtree(job.directory if gone == "all" else job.directory / "metrics", ignore_errors=True)
        (job.directory / "checkpoints" / "search.pt").open("xb")

    monkeypatch.setattr(pipeline, "search_cell", remove)
    code, printed = supernet(*tiny(images, *SMALL), "hydra.run.dir=run")
    assert code == 2
    assert "Traceback" not in printed
    said = (
        "nothing is left to go on with" if gone == "all" else f"what is left goes on with: supernet resume={tmp_path}"
    )
    assert said in printed.splitlines()[-1]


# With real processes


def command(*words: str) -> list[str]:
    return [str(Path(sys.executable).parent / "supernet"), *words]


def ran(folder: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(command(*words), cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def waited(files: str, folder: Path, process: subprocess.Popen, count: int = 1, text: str = "") -> None:
    limit = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < limit:
        if sum(text in path.read_text(errors="replace") for path in folder.glob(files)) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{files} with {text!r} never came")


@pytest.fixture(scope="module")
def one_after_another(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("basic")
    words = [word.replace("search.epochs=1", "search.epochs=20") for word in tiny(images, *SMALL)]
    code, printed = ran(folder, "-m", *words, "seed=0,1", "hydra.sweep.dir=s")
    assert code == 0, printed
    return words, (folder / "s" / "sweep.csv").read_text()


@posix
@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["processes", "slurm_local"])
def test_a_stopped_sweep_of_processes_goes_on_with_any_launcher(launcher, one_after_another, tmp_path):
    words, table = one_after_another
    how = ["hydra/launcher=processes", "seed=0,1", "hydra.sweep.dir=s"]
    process = subprocess.Popen(command("-m", *words, *how), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    waited("s/*/metrics/search.csv", tmp_path, process, count=2, text="search/loss")
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 143, said
    assert "Traceback" not in said
    assert "stopped by SIGTERM; no result from job 0, 1 in s; to try again: supernet resume=s" in said
    assert len(list(tmp_path.glob("s/*/checkpoints/search.pt"))) == 2
    code, printed = ran(tmp_path, "resume=s", f"hydra/launcher={launcher}")
    assert code == 0, printed
    assert (tmp_path / "s" / "sweep.csv").read_text() == table


@posix
@pytest.mark.slow
def test_a_notice_to_a_job_of_submitit_saves_and_queues_it_again(one_after_another, tmp_path):
    words, table = one_after_another
    how = ["hydra/launcher=submitit_local", "seed=0,1", "hydra.sweep.dir=s"]
    process = subprocess.Popen(command("-m", *words, *how), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    waited("s/0/metrics/search.csv", tmp_path, process, text="search/loss")
    log = next(path for path in tmp_path.rglob("*_log.out") if re.search(r"/s/0\n", path.read_text()))
    controller = log.name.split("_")[0]
    workers = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(workers[0]), signal.SIGUSR2)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert "Requeued job" in log.read_text()
    assert (tmp_path / "s" / "sweep.csv").read_text() == table


@posix
@pytest.mark.slow
def test_a_killed_process_of_a_sweep_is_told_of_and_the_sweep_goes_on(one_after_another, tmp_path):
    words, table = one_after_another
    how = ["hydra/launcher=joblib", "seed=0,1", "hydra.sweep.dir=s"]
    process = subprocess.Popen(command("-m", *words, *how), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    waited("s/*/metrics/search.csv", tmp_path, process, count=2, text="search/loss")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    loky = [p for p in children if "loky.backend.popen" in Path(f"/proc/{p}/cmdline").read_text()]
    os.kill(int(loky[0]), signal.SIGKILL)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert "TerminatedWorkerError" in said
    assert "no result from job 0, 1 in s; to try again: supernet resume=s hydra/launcher=processes" in said
    code, printed = ran(tmp_path, "resume=s")
    assert code == 0, printed
    assert "this sweep was begun with hydra/launcher=processes; add it" in printed
    assert (tmp_path / "s" / "sweep.csv").read_text() == table


@posix
@pytest.mark.slow
def test_a_script_of_a_scheduler_starts_a_job_again_by_the_same_line(one_after_another, tmp_path):
    """The loop is what Slurm and the script of docs/cluster.md do: exit code 138 asks to be started again."""
    words, table = one_after_another
    line = command("resume=auto", *words, "seed=1", "hydra.run.dir=run")
    codes = []
    while not codes or codes[-1] == 138:
        process = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        if len(codes) < 2:
            lines = (tmp_path / "run/metrics/search.csv").read_text().count("\n") if codes else 0
            while process.poll() is None and (
                not (tmp_path / "run/metrics/search.csv").exists()
                or (tmp_path / "run/metrics/search.csv").read_text().count("\n") <= lines
            ):
                time.sleep(0.01)
            process.send_signal(signal.SIGUSR1)
        said = process.communicate(timeout=120)[1]
        assert "Traceback" not in said
        codes.append(process.returncode)
    assert codes == [138, 138, 0]
    from supernet.experiments.reports.runs import read_run

    found = read_run(tmp_path / "run" / "summary.json")[0]
    row = table.splitlines()[2].split(",")
    assert (str(found.valid), str(found.test)) == tuple(row[-2:])
