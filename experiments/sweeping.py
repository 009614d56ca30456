"""Who works in which folder, and how a sweep ends whose jobs may run in processes of their own.

The process in which a person typed the command has the sweep's folder to itself. Each job has its own folder to itself,
in whatever process a launcher of Hydra runs it. A stop of the first process is passed on to the processes that it has
made, and then waits until all of them have saved.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from supernet.runtime.files import locked
from supernet.runtime.interrupt import NOTICES, Interrupted

from .console import complain

_STOPS = (signal.SIGINT, signal.SIGTERM, *NOTICES)


@dataclass
class _Process:
    """What this process knows of the command that it runs, or is a worker of."""

    held: set[tuple[int, Path]] = field(default_factory=set)  # the folders that it has to itself
    command: ExitStack | None = None  # what ends with the command
    sweep: Path | None = None  # the folder of the sweep that began here
    jobs: int | None = None  # how many it has
    stopped: int | None = None  # the signal after which no job begins


_HERE = _Process()


@contextmanager
def reserved(directory: Path) -> Iterator[None]:
    """Reserves a directory for this process; does nothing where the process has it already.

    Args:
        directory: of a run or sweep; it must be there.

    Raises:
        InputError: another process has reserved it, or nothing can be written there.
    """
    mine = (os.getpid(), directory.resolve())
    if mine in _HERE.held:
        yield
        return
    with locked(directory) as reason:
        if reason:
            complain(f"{directory} could not be locked ({reason}): take care that no other process goes on with it")
        _HERE.held.add(mine)
        try:
            yield
        finally:
            _HERE.held.discard(mine)


@contextmanager
def reservations() -> Iterator[None]:
    """The time of a command: at its end all is given back that `reserve` and `begin` have taken."""
    with ExitStack() as stack:
        _HERE.command, _HERE.sweep, _HERE.stopped = stack, None, None
        try:
            yield
        finally:
            _HERE.command = None


def reserve(directory: Path) -> None:
    """Reserves a directory until the command ends, as `reserved` does."""
    assert _HERE.command is not None
    _HERE.command.enter_context(reserved(directory))


def has_reserved(directory: Path) -> bool:
    """Whether this process has a directory to itself."""
    return (os.getpid(), directory.resolve()) in _HERE.held


def begin(directory: Path, jobs: int | None) -> None:
    """A sweep begins in a directory, which is made; from now on signals stop it as a whole.

    Args:
        directory: of the sweep.
        jobs: how many it has; None where nobody knows.

    Raises:
        InputError: another process is at work there, or nothing can be written there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    reserve(directory)
    _HERE.sweep, _HERE.jobs = directory, jobs
    if threading.current_thread() is threading.main_thread():
        assert _HERE.command is not None
        for number in _STOPS:
            before = signal.signal(number, _stop)
            _HERE.command.callback(signal.signal, number, signal.SIG_DFL if before is None else before)


def begun() -> Path | None:
    """The folder of the sweep that began in this process."""
    return _HERE.sweep


def jobs() -> int | None:
    """How many jobs that sweep has; None where nobody knows."""
    return _HERE.jobs


def stopped() -> int | None:
    """The signal that has asked this process to begin no more jobs."""
    return _HERE.stopped


def _stop(number: int, frame: FrameType | None) -> None:
    """In the process of the command, while no job of its own minds signals."""
    workers = multiprocessing.active_children()
    if not workers or _HERE.stopped is not None:
        _HERE.stopped = number
        raise KeyboardInterrupt
    _HERE.stopped = number
    for worker in workers:
        with suppress(ProcessLookupError, TypeError):
            os.kill(worker.pid, signal.SIGTERM)  # type: ignore[arg-type]


def works_for(directory: Path) -> bool:
    """Whether this process is one in which a launcher runs a job of the sweep in `directory`.

    From then on such a process begins no job after it was asked to stop, and is not ended while it waits for one: the
    others would be ended with it. A process that has handlers of its launcher keeps them.
    """
    if has_reserved(directory):
        return False
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, _begin_no_more)
    return True


def _begin_no_more(number: int, frame: FrameType | None) -> None:
    _HERE.stopped = _HERE.stopped or number


def left_alone() -> tuple[int, ...]:
    """The signals that the launcher of this process minds itself: submitit lets a job live on after SIGTERM."""
    return tuple(n for n in (signal.SIGTERM,) if signal.getsignal(n) not in (signal.SIG_DFL, _begin_no_more, _stop))


def pass_on(error: Interrupted) -> None:
    """A job in a process of a launcher was stopped and has saved: a notice goes on to the launcher, which may requeue.

    Where the launcher minds no notice, the process begins no more jobs.
    """
    if error.notice and callable(signal.getsignal(error.signal)):
        signal.raise_signal(error.signal)
    _HERE.stopped = _HERE.stopped or error.signal
