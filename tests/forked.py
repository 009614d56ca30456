"""Commands in processes of their own, forked from one that has imported everything: a start costs next to nothing."""

import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from supernet.runtime.files import locked

MODULES = {"supernet": "pipeline", "supernet-report": "report", "supernet-show": "show", "supernet-predict": "predict"}

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        *(f"supernet.experiments.{module}" for module in MODULES.values()),
        "supernet.search.differentiable.projection",
        "supernet.search.black_box.random_search",
        "supernet.search.differentiable.operation_early_stopping",
        "supernet.search.differentiable.weight_transforms",
        "matplotlib.backends.backend_agg",
        "sklearn.datasets",
        "tensorboard",
        "scipy.stats",
    ]
)


def _command(name: str, words: list[str], output: Path) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(output.parent)
    os.environ["COLUMNS"] = "300"
    import torch

    torch.set_num_threads(1)
    sys.argv = [name, *words]
    importlib.import_module(f"supernet.experiments.{MODULES[name]}").main()


def started(name: str, words: list[str], output: Path) -> BaseProcess:
    """A console command that runs in the folder of `output`, a file that gets all it prints."""
    output.write_text("")
    process = FORKS.Process(target=_command, args=(name, words, output))
    process.start()
    return process


def ended(process: BaseProcess, seconds: float = 120.0) -> int | None:
    """The exit code, negative where a signal ended it; None where it still ran after so long and was killed."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def ran(name: str, words: list[str], output: Path, seconds: float = 120.0) -> tuple[int | None, str]:
    """A console command run to its end: exit code and what it printed."""
    code = ended(started(name, words, output), seconds)
    return code, output.read_text(errors="replace")


@contextmanager
def locked_elsewhere(directory: Path) -> Iterator[None]:
    """Another process has the lock of a run's directory."""
    forks = multiprocessing.get_context("fork")
    has_it, may_end = forks.Event(), forks.Event()

    def hold() -> None:
        with locked(directory):
            has_it.set()
            may_end.wait(60)

    process = forks.Process(target=hold)
    process.start()
    try:
        assert has_it.wait(60)
        yield
    finally:
        may_end.set()
        process.join()


def printed(process: BaseProcess, output: Path, lines: int, seconds: float = 120.0) -> None:
    """Waits until a command has printed so many lines, or has ended."""
    limit = time.monotonic() + seconds
    while process.exitcode is None and time.monotonic() < limit:
        if output.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.002)
