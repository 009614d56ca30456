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
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch

from supernet.runtime.errors import InputError
from supernet.runtime.files import locked
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.processes import Processes, together
from supernet.runtime.text import quantity

FAULT = ".fault"
"""The file by which a process tells the others that it has ended with a mistake."""
LOCK = ".lock.processes"
"""What the leader locks: it may outlive the command that has launched it, which has the directory's own lock."""
_LOST = re.compile(r"gloo|NCCL|[Cc]onnection (was )?(closed|reset|refused)|Broken pipe|[Ss]ocket|store")
STOP = ".stop"
"""The file that says which signal has asked for a stop."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 2.0  # seconds in which another process may tell of its mistake
_RUN_ID = re.compile(r"[\w.-]{1,200}", re.ASCII)


class Ended(Exception):
    """The processes of a job have ended with a mistake, of which the one that made it has told.

    Args:
        code: the exit code of the command.
        mistake: whether a setting was wrong, before anything was computed.
    """

    def __init__(self, code: int, mistake: bool) -> None:
        super().__init__(f"exit code {code}")
        self.code, self.mistake = code, mistake


class ToldByAnother(Exception):
    """Another process of the job has ended with a mistake and has told of it."""


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
    """

    settings: Mapping[str, Any]
    directory: Path
    lead: Callable[..., float | None]
    follow: Callable[..., None]
    tell: Callable[[Exception], int]


@dataclass(frozen=True)
class Outcome:
    """How a process has ended: the code for the command's exit, whether a setting was wrong, and the job's value."""

    code: int = 0
    mistake: bool = False
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
        Interrupted: after saving, where a signal asked for a stop.
        Ended: one of them made a mistake and has told of it.
        Lost: processes were lost more often than they may start again.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Otherwise a restart is told the address of a process that is gone (pytorch#135712).
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    _silence("torch.distributed.elastic", "torch.multiprocessing")  # what is to be known is told here
    restarts = part.settings["runtime"]["max_restarts"]
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
        signals_to_handle="SIGQUIT",
        start_method="spawn",
    )
    (part.directory / FAULT).unlink(missing_ok=True)
    try:
        with _forwarded(part.directory):
            outcomes: dict[int, Outcome] = elastic_launch(config, work)(part)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        number = -failure.exitcode if failure.exitcode < 0 else None
        how = f"by {signal.Signals(number).name}" if number else f"with exit code {failure.exitcode}"
        raise Lost(f"process {rank} of {count} was ended {how}, after {quantity(restarts, 'restart')}") from None
    finally:
        (part.directory / FAULT).unlink(missing_ok=True)
    worst = max(outcomes.values(), key=lambda outcome: outcome.code)
    if worst.code > 128:
        raise Interrupted(worst.code - 128)
    if worst.code:
        raise Ended(worst.code, worst.mistake)
    return outcomes[0].value


def work(part: Part) -> Outcome:
    """One of the processes that `launch` has started, from its beginning to its end."""
    leads, launcher = os.environ["RANK"] == "0", os.getppid()
    _log(part.directory, leads)
    if not leads:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    try:
        with ExitStack() as stack:
            interruption = stack.enter_context(_Patient(_asked(part.directory)))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # see `_forwarded`
            if leads:
                stack.enter_context(locked(part.directory, LOCK))
            return Outcome(value=take_part(part, interruption))
    except Interrupted as error:
        if os.getppid() != launcher:  # it was killed, and nobody waits for an answer
            os._exit(error.exit_code)
        return Outcome(error.exit_code)
    except ToldByAnother:
        return Outcome()
    except Exception as error:
        if is_loss(error):
            raise
        return Outcome(part.tell(error), isinstance(error, InputError))


def take_part(part: Part, interruption: Interruption) -> float | None:
    """Runs this process's part of the job: all of it, where it leads; the loops, where it does not.

    Raises:
        ToldByAnother: another process has ended with a mistake, and with it the job.
    """
    runtime = part.settings["runtime"]
    with together(runtime["compare_every"], runtime["synchronise_norms"]) as processes:
        run = part.lead if processes.leads else part.follow
        _tell_restart(processes)
        try:
            return run(dict(part.settings), part.directory, interruption, processes=processes)
        except Interrupted:
            raise
        except Exception as error:
            if processes.several and _another_tells(error, part.directory / FAULT):
                raise ToldByAnother from None
            raise


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


def run_directory(name: str) -> str:
    """The folder of a run that torchrun has started, the same in all processes and after a restart.

    Args:
        name: of the job, as its setting says it; Hydra may fill it in.

    Returns:
        The folder.

    Raises:
        InputError: the run has no name that all processes know.
    """
    known = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if known == "none" or not _RUN_ID.fullmatch(known):
        raise InputError(
            "torchrun: the processes need one folder to write to; give torchrun --rdzv-id=NAME (letters and digits) or "
            "--standalone, or supernet hydra.run.dir=FOLDER"
        )
    return f"runs/{name}/{known}"


@contextmanager
def _forwarded(directory: Path) -> Iterator[None]:
    """Within it signals that ask for a stop reach the processes of a job, which save, and not its launcher.

    Processes start with these signals blocked, and let them in once they can mind them. A thread that has them open
    keeps this command reachable. What comes while there are no processes, they find in a file.
    """
    stop = directory / STOP
    stop.unlink(missing_ok=True)

    def forward(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            stop.write_text(str(number))
        for child in multiprocessing.active_children():
            with suppress(ProcessLookupError):
                os.kill(child.pid or 0, number)

    resource_tracker.ensure_running()  # it would open them again
    before = {number: signal.signal(number, forward) for number in _SIGNALS}
    mask, over = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS), threading.Event()

    def listen() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        over.wait()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        stop.unlink(missing_ok=True)


def _asked(directory: Path) -> int | None:
    """The signal that came before this process did."""
    try:
        return int((directory / STOP).read_text())
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


def is_loss(error: Exception) -> bool:
    """Whether the connection to another process was lost."""
    own = isinstance(error, torch.distributed.DistError)
    return own or (type(error) is RuntimeError and _LOST.search(str(error)) is not None)


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
