"""Where and how a call from Python runs: what it may be given, where it reports and saves, how it stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from rich.console import Console

from supernet.data.dataset import Data
from supernet.data.reading import hashed
from supernet.deployment.onnx_predictor import OnnxPredictor
from supernet.deployment.predictor import Predictor
from supernet.execution.precision import numerics_settled
from supernet.runtime.checkpoint import IMAGES
from supernet.runtime.errors import InputError
from supernet.runtime.files import locked
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.reading import is_file
from supernet.runtime.report import ConsoleReport, Report, RunReport, Silent
from supernet.runtime.run import Run
from supernet.runtime.seeding import random_states_kept
from supernet.runtime.text import printable
from supernet.runtime.workers import Workers
from supernet.search.method import Method
from supernet.space.architecture import Architecture
from supernet.training.transfer import Transfer

_LONGEST = 255  # bytes of a name that file systems take
_SHOWN = 60  # letters of a setting that a message shows


def check_kinds(**given: Any) -> None:
    """Raises InputError where an argument is of another kind than it has to be, with what it has to be."""
    for name, value in given.items():
        kinds, words = _KINDS[name]
        plain = isinstance(value, kinds)
        if name in ("space", "final"):
            plain = value is None if name == "final" and value is None else _is_space(value)
        if not plain or isinstance(value, bool):
            said = value.__qualname__ if isinstance(value, type | FunctionType) else str(value)[:60]
            raise InputError(f"{name}={said}: needs {words}")


def _is_space(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type) and hasattr(value, "network")


_KINDS: dict[str, tuple[Any, str]] = {
    "space": (object, "a space, such as supernet.Darts()"),
    "final": (object, "a space, such as supernet.Darts(), or None for that of the search"),
    "limits": (Mapping | None, 'numbers by the names of costs, such as {"macs": 50e6}'),
    "costs": (Mapping | None, 'costs by their names, such as {"latency": supernet.read_latencies(FILE)}'),
    "score": (Callable, "a score, one of supernet.scores, or a function of an architecture"),
    "explorer": (Callable, "one of supernet.explorers"),
    "evaluations": (int | None, "a whole number"),
    "population": (int, "a whole number"),
    "images": (int, "a whole number"),
    "data": (Data, "images, such as supernet.data.digits()"),
    "method": (Method | None, "a method, such as supernet.methods.pc_darts()"),
    "architecture": (Architecture, "an architecture, found or supernet.published"),
    "model": (Predictor | OnnxPredictor, "a model that supernet.train or supernet.load gave"),
    "init": (
        Transfer | Predictor | OnnxPredictor | str | Path | None,
        "a model that supernet.train or supernet.load gave, or its path",
    ),
    "epochs": (int | None, "a whole number"),
    "held_out": (int | float, "a share below 1, such as 0.1, or 0"),
    "seed": (int, f"a whole number from 0 to {2**32 - 1}"),
    "device": (str, "auto, cpu, cuda or cuda:N"),
    "directory": (str | Path | None, "the path of a folder"),
    "processes": (Processes, "what supernet.together() gives"),
    "workers": (Workers | None, "workers, such as supernet.Workers(count=8)"),
}


@dataclass(frozen=True)
class Place:
    """Where and how a call runs, and what its checkpoints have to share with it.

    Args:
        folder: for all that is kept; None: nothing is.
        device: where networks are.
        seed: of all random streams.
        progress: whether lines and a bar are shown.
        settings: what a checkpoint has to share with the call, by name.
        data: the images, which a checkpoint has to share, too.
        interruption: tells of a signal.
        processes: those that make the same call together. The leader alone prints and writes.
    """

    folder: str | Path | None
    device: torch.device
    seed: int
    progress: bool
    settings: Mapping[str, Any]
    data: Data
    interruption: Interruption = field(default_factory=Interruption)
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed={self.seed}: needs to lie between 0 and {2**32 - 1}")
        folder_of(self.folder)

    @property
    def directory(self) -> Path | None:
        return folder_of(self.folder)

    def run(self, name: str) -> Run:
        """A run that reports and saves under a name."""
        console = Console(quiet=not self.progress)
        report: Report = ConsoleReport(console) if self.progress and self.processes.leads else Silent()
        if self.directory is None:
            return Run(device=self.device, seed=self.seed, report=report, processes=self.processes)
        return Run(
            device=self.device,
            seed=self.seed,
            report=RunReport(self.directory, name, console) if self.processes.leads else report,
            checkpoint=self.directory / "checkpoints" / f"{name}.pt",
            fingerprint=self._fingerprint(),
            interruption=self.interruption,
            processes=self.processes,
        )

    def quiet_run(self, name: str) -> Run:
        """The same run for one who only reads its checkpoint: it reports nothing."""
        return replace(self.run(name), report=Silent())

    def _fingerprint(self) -> dict[str, str | int | float]:
        data = self.data
        said = {**self.settings, "classes": data.classes, "preparation of images": data.augmentation}
        short = {name: _shortened(described(value)) for name, value in said.items()}
        return {**short, "data": data.name, IMAGES: data.fingerprint[:16], "seed": self.seed}

    def refuse_other_searches(self, names: list[str]) -> None:
        """Raises InputError where the folder holds checkpoints of a search whose stages have other names."""
        if self.directory is None:
            return
        there = sorted(path.stem for path in (self.directory / "checkpoints").glob("search*.pt"))
        if other := [name for name in there if name not in names]:
            raise InputError(f"directory={self.folder}: holds another search ({other[0]}); give another folder")

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Within it PyTorch gives the same numbers every time; afterwards all of the caller's settings are back.

        Raises:
            KeyboardInterrupt: after saving, where Ctrl-C or SIGTERM asked for a stop.
            InputError: where another process has the folder.
        """
        with ExitStack() as stack:
            if self.directory is not None:
                make_folder(self.directory)
                if self.processes.leads:
                    stack.enter_context(locked(self.directory))
                stack.enter_context(self.interruption)
            stack.enter_context(random_states_kept())
            stack.enter_context(numerics_settled(deterministic=True))
            try:
                yield
            except Interrupted as error:
                message = f"{error}; all is saved in {self.directory}, and the same call goes on from there"
                raise KeyboardInterrupt(message) from None


def folder_of(directory: str | Path | None) -> Path | None:
    """The folder for what a call keeps; None: nothing is kept.

    Raises:
        InputError: the path is empty, or a file.
    """
    if directory is None:
        return None
    if not str(directory):
        raise InputError("directory=: an empty path; give a folder, or None to keep nothing")
    folder, shown = Path(directory).expanduser(), printable(str(directory))[:80]
    if is_file(folder):
        raise InputError(f"directory={shown}: is a file; give a folder")
    if any(len(part.encode(errors="replace")) > _LONGEST for part in folder.parts):
        raise InputError(f"directory={shown}...: a name of more than {_LONGEST} bytes; give a shorter one")
    return folder


def make_folder(folder: Path) -> None:
    """Makes a folder, with those above it. Raises InputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"directory={printable(str(folder))[:80]}: cannot be made ({reason})") from None


def described(value: Any) -> str:
    """A setting in words that are the same in another process: functions by their names, dataclasses field by field.

    Args:
        value: a setting, or a dataclass of settings.

    Returns:
        One line. Functions without a name of their own are told apart by their code.

    Example:
        >>> from supernet.training.schedules import Cosine
        >>> described(partial(Cosine, 0.1)), described(Cosine(0.1))
        ('Cosine(0.1)', 'Cosine(start=0.1, end=0.0, warm_up=0, span=None)')
    """
    if isinstance(value, partial):
        given = [*map(described, value.args), *(f"{k}={described(v)}" for k, v in sorted(value.keywords.items()))]
        return f"{described(value.func)}({', '.join(given)})"
    if is_dataclass(value) and not isinstance(value, type):
        given = [f"{f.name}={described(getattr(value, f.name))}" for f in fields(value)]
        return f"{type(value).__name__}({', '.join(given)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {described(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, FunctionType) and "<" in value.__qualname__:
        code = value.__code__
        return f"{value.__qualname__} {hashed((code.co_code, str(code.co_consts)))[:8]}"
    return str(getattr(value, "__qualname__", None) or repr(value))


def _shortened(text: str) -> str:
    """The beginning of a long text, and a hash of all of it."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({hashed((text,))[:8]})"
