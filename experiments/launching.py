"""A job in several processes: PyTorch's elastic launcher starts them, and starts them again where one is lost.

`supernet runtime.devices=2` composes its settings once and launches; where `torchrun` has launched already, each
process is one of the job's. One leads: it runs the whole job, and the others take part in its loops (`take_part`).

A process that ends with a mistake tells the others by a file in the run's directory, and nothing is started again. One
that was killed tells nobody: the others lose their connection to it, and all of them start from the last checkpoint.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Self

import torch

from supernet.runtime.errors import InputError
from supernet.runtime.files import locked
from supernet.runtime.interrupt import NOTICES, Interrupted, Interruption
from supernet.runtime.processes import Processes, is_loss, launched, together
from supernet.runtime.text import quantity, shortened

from .resume import AUTO
from .sizes import check_shares

FAULT = ".fault"
LOCK = ".lock.processes"
"""What the leader locks: it may outlive the command that has launched it, which has the directory's own lock."""
STOP = ".stop"  # the file that says which signal has asked for a stop
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *NOTICES)
_END = getattr(signal, "SIGQUIT", signal.SIGTERM)  # which the launcher minds: it ends all processes at once
_BLOCKS = hasattr(signal, "pthread_sigmask")  # which Windows does not have
_FOLDER = "hydra.run.dir="
_PATIENCE = 2.0  # seconds in which another process may tell of its mistake
_RUN_ID = re.compile(r"[\w.-]{1,200}", re.ASCII)


class Ended(Exception):
    """A process of the job has ended with a mistake, of which it has told.

    Args:
        code: the exit code of the command.
    """

    def __init__(self, code: int = 1) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Mistaken(Ended):
    """A setting was wrong."""


class Lost(Exception):
    """A process was killed, and may not start again."""


@dataclass(frozen=True)
class Part:
    """What a process is told of the job.

    Args:
        settings: of the job, plain.
        directory: of the run.
        lead: runs the job: takes settings, directory, interruption and processes.
        follow: takes part in its loops; the arguments are the same.
        tell: prints what an error means, and gives the exit code.
        marks: the folder by which processes and their launcher tell each other of mistakes and of signals; None: that
            of the run.
    """

    settings: Mapping[str, Any]
    directory: Path
    lead: Callable[..., float | None]
    follow: Callable[..., None]
    tell: Callable[[Exception], int]
    marks: Path | None = None

    @property
    def fault(self) -> Path:
        """The file by which a process tells the others that it has ended with a mistake."""
        return (self.marks or self.directory) / FAULT


@dataclass(frozen=True)
class Outcome:
    """How a process has ended: the code for the command's exit, and the job's value."""

    code: int = 0
    value: float | None = None


def wanted(runtime: Mapping[str, Any]) -> int:
    """How many processes this command is to start: 1 where it runs by itself, or is one of several already.

    Raises:
        InputError: there are not so many devices, or the settings do not go together.
    """
    count, device = runtime["devices"], runtime["device"]
    if type(count) is not int or count < 1:
        raise InputError(f"runtime.devices={count}: needs a whole number, 1 or more")
    if type(runtime["max_restarts"]) is not int or runtime["max_restarts"] < 0:
        raise InputError(f"runtime.max_restarts={runtime['max_restarts']}: needs a whole number, 0 or more")
    if count == 1:
        return 1
    if "RANK" in os.environ:
        raise InputError(f"runtime.devices={count}: torchrun has started the processes already; leave it out")
    if device.startswith("cuda:"):
        raise InputError(f"runtime.device={device}: is one GPU; use cuda with runtime.devices={count}")
    on_gpus = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_gpus and torch.cuda.device_count() < count:
        raise InputError(
            f"runtime.devices={count}: {torch.cuda.device_count()} GPUs are visible; use as many at most, or "
            "runtime.device=cpu for processes on the CPU"
        )
    return count


def launch(count: int, part: Part) -> float | None:
    """Starts the processes of a job on this machine and waits for them.

    Args:
        count: how many.
        part: what they are told.

    Returns:
        What the leader's job returned.

    Raises:
        InputError: they are too many for a batch.
        Interrupted: after saving, where a signal asked for a stop.
        Ended: one of them made a mistake and has told of it.
        Lost: processes were lost more often than they may start again.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    check_shares(part.settings, count)  # before a number that was mistyped fills the machine
    # Otherwise a restart is told the address of a process that is gone (pytorch#135712).
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    _silence("torch.distributed.elastic", "torch.multiprocessing")  # what is to be known is told here
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        multiprocessing.set_start_method("spawn", force=True)  # in a worker of joblib, whose own way spawns nothing
    restarts = part.settings["runtime"]["max_restarts"]
    known = LaunchConfig.__dataclass_fields__
    minded: dict[str, Any] = {"signals_to_handle": _END.name} if "signals_to_handle" in known else {}
    marks = TemporaryDirectory(prefix="supernet-")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=restarts,
        monitor_interval=0.1,
        **minded,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(log_dir=marks.name),  # otherwise each job leaves a temporary folder
    )
    part = replace(part, marks=Path(marks.name))
    try:
        with _forwarded(part):
            outcomes: dict[int, Outcome] = elastic_launch(config, work)(part)
        _raise_fault(part)
    except SignalException as error:
        _raise_fault(part)
        raise Interrupted(int(error.sigval)) from None
    except ChildFailedError as error:
        _raise_fault(part)
        rank, failure = error.get_first_failure()
        number = -failure.exitcode if failure.exitcode < 0 else None
        how = f"by {signal.Signals(number).name}" if number else f"with exit code {failure.exitcode}"
        raise Lost(f"process {rank} of {count} was ended {how}, after {quantity(restarts, 'restart')}") from None
    finally:
        marks.cleanup()
    if (code := max(outcome.code for outcome in outcomes.values())) > 128:
        raise Interrupted(code - 128)
    if code:  # of a process that could not leave its mark, as on a full disk
        raise Ended(code)
    return outcomes[0].value


def work(part: Part) -> Outcome:
    """One of the processes that `launch` has started, from its beginning to its end."""
    launcher = os.getppid()
    try:
        outcome = _outcome(part)
    finally:
        orphaned = os.getppid() != launcher  # the launcher was killed, and nobody waits for an answer
        if orphaned and part.marks is not None:
            shutil.rmtree(part.marks, ignore_errors=True)
    if orphaned:
        sys.stdout.flush()
        os._exit(outcome.code)
    return outcome


def _outcome(part: Part) -> Outcome:
    _log(part.directory, leads())
    if _fault(part) is not None:  # see `_end_all`
        return Outcome()
    if not leads():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    try:
        with ExitStack() as stack:
            interruption = stack.enter_context(_Patient(_asked(part)))
            if _BLOCKS:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # see `_forwarded`
            if leads():
                stack.enter_context(locked(part.directory, LOCK))
            return Outcome(value=take_part(part, interruption))
    except Interrupted as error:
        return Outcome(error.exit_code)
    except Ended:
        return Outcome()
    except Exception as error:
        if is_loss(error):
            raise
        code = part.tell(error)
        sys.stdout.flush()
        # The launcher reads it and ends all: the others wait for this process, and would for ever.
        with suppress(OSError):  # on a full disk; then the others lose this one, and its code is the answer
            part.fault.write_text(f"{code} {int(isinstance(error, InputError))}")
        return Outcome(code)


def take_part(part: Part, interruption: Interruption) -> float | None:
    """Runs this process's part of the job: all of it, where it leads; the loops, where it does not.

    Raises:
        Ended: another process has ended with a mistake, and with it the job.
    """
    runtime = part.settings["runtime"]
    if leads():
        part.fault.unlink(missing_ok=True)  # of an earlier start
    with ExitStack() as stack:
        joining = together(runtime["compare_every"], runtime["synchronise_norms"])
        with _reachable() if launched() and part.marks is None else nullcontext():
            processes = stack.enter_context(joining)
        run = part.lead if processes.leads else part.follow
        _tell_restart(processes)
        try:
            return run(dict(part.settings), part.directory, interruption, processes=processes)
        except Interrupted:
            raise
        except Exception as error:
            if processes.several and _another_tells(error, part.fault):
                raise Ended from None
            raise


@contextmanager
def _reachable() -> Iterator[None]:
    """Within it a signal ends this process at once: it waits for others that may never come, and has begun nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _another_tells(error: Exception, mark: Path) -> bool:
    """Whether an error is only what another process's mistake does to this one; if not, this one leaves the mark."""
    if is_loss(error):
        limit = time.monotonic() + _PATIENCE
        while not mark.exists() and time.monotonic() < limit:
            time.sleep(0.05)
        return mark.exists()
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return True
    except OSError:  # a disk that is full or gone: all may tell
        return False
    return False


def leads() -> bool:
    """Whether this process writes, and has the directory's lock: of those that torchrun starts the first."""
    return not launched() or os.environ["RANK"] == "0"


def words_of_all(typed: list[str]) -> list[str]:
    """The words of a command, with the folder that all processes of torchrun share. After a restart the run goes on.

    Args:
        typed: the person's own words.

    Returns:
        The same ones where torchrun has started nothing.

    Raises:
        InputError: a sweep was asked for, or no folder can be known to all processes.
    """
    if not launched():
        return typed
    if any(word in ("-m", "--multirun") for word in typed):
        raise InputError("torchrun: a sweep starts processes of its own; use supernet -m runtime.devices=...")
    if any(word.startswith("resume=") and word != AUTO for word in typed):
        return typed
    named = [word for word in typed if word.startswith(_FOLDER)]
    names = [word.partition("=")[2] for word in typed if word.startswith("name=")]
    words = typed if named else [*typed, f"{_FOLDER}{_run_directory((names or ['supernet'])[-1])}"]
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    return [*words, AUTO] if restarted and AUTO not in words else words


def folder_of_another(words: list[str]) -> Path | None:
    """The folder in which the leader begins, for a process that does not lead and may find it begun."""
    named = [word.removeprefix(_FOLDER) for word in words if word.startswith(_FOLDER)]
    return None if leads() or not named else Path(named[-1])


def silent_words() -> list[str]:
    """What keeps Hydra from writing files in a process that does not lead."""
    return [] if leads() else ["hydra.output_subdir=null", "hydra/job_logging=disabled"]


def _run_directory(name: str) -> str:
    """The folder of a run that torchrun has started, the same in all processes and after a restart."""
    known = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if known == "none" or not _RUN_ID.fullmatch(known):
        raise InputError(
            "torchrun: the processes need one folder to write to; give torchrun --rdzv-id=NAME (letters and digits) or "
            "--standalone, or supernet hydra.run.dir=FOLDER"
        )
    return f"runs/{name}/{known}"


@contextmanager
def _forwarded(part: Part) -> Iterator[None]:
    """Within it signals that ask for a stop reach the processes of a job, which save, and not its launcher.

    Processes start with these signals blocked, and let them in once they can mind them. A thread that has them open
    keeps this command reachable. What comes while there are no processes, they find in a file.
    """
    stop, over = part.fault.with_name(STOP), threading.Event()
    minds = _BLOCKS and threading.current_thread() is threading.main_thread()  # which alone gets signals
    mask: set[Any] = set()
    before: dict[int, Any] = {}

    def forward(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            stop.write_text(str(number))
        for child in multiprocessing.active_children():
            with suppress(ProcessLookupError):
                os.kill(child.pid or 0, number)

    def listen() -> None:
        if minds:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        while not over.wait(0.2):
            if _fault(part) is not None:
                _end_all(minds)
                return

    if minds:
        resource_tracker.ensure_running()  # it would open them again
        before = {number: signal.signal(number, forward) for number in _SIGNALS}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()
        for number, handler in before.items():
            signal.signal(number, handler)
        if minds:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_all(minds: bool) -> None:
    """Ends all processes of a job after a mistake; where the launcher minds no signals, it starts them once more."""
    if minds:
        os.kill(os.getpid(), _END)
        return
    for child in multiprocessing.active_children():
        child.kill()


def _fault(part: Part) -> tuple[int, bool] | None:
    """The exit code of the process that told of a mistake, and whether a setting was wrong."""
    try:
        code, mistake = part.fault.read_text().split()
        return int(code), mistake == "1"
    except (OSError, ValueError):
        return None


def _raise_fault(part: Part) -> None:
    if (fault := _fault(part)) is not None:
        raise (Mistaken if fault[1] else Ended)(fault[0]) from None


def _asked(part: Part) -> int | None:
    """The signal that came before this process did."""
    try:
        return int(part.fault.with_name(STOP).read_text())
    except (OSError, ValueError):
        return None


class _Patient(Interruption):
    """Minds each signal, and never stops at once: launcher and terminal send the same one, one after the other.

    Args:
        asked: the signal that has come already.
    """

    def __init__(self, asked: int | None) -> None:
        super().__init__()
        self._asked = asked

    def __enter__(self) -> Self:
        super().__enter__()
        self.signal = self._asked
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number


def loss_in_words(error: Exception) -> str:
    """What is to be said where another process was lost."""
    return str(error) if isinstance(error, Lost) else f"another process was lost ({shortened(str(error))})"


def _silence(*packages: str) -> None:
    """Keeps libraries from telling of processes that are lost, each at length."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(packages):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _tell_restart(processes: Processes) -> None:
    number = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if number:
        most = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "?")
        print(f"supernet: a process was lost; all {processes.count} start again ({number} of {most})", flush=True)


def _log(directory: Path, leads: bool) -> None:
    """Lets the leader log as the command does."""
    root = logging.getLogger()
    root.setLevel(logging.INFO if leads else logging.WARNING)
    with suppress(OSError):
        handler = logging.FileHandler(directory / "supernet.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(handler)
