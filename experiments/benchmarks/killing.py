"""What random kills have in common: small jobs, the processes of one, and what it leaves that time does not change."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

SHARED = (
    *("experiment=quick", "data=npz", "search.batch_size=16", "retrain.batch_size=16", "retrain.epochs=3"),
    *("baseline.random=1", "runtime.device=cpu", "runtime.threads=1", "runtime.save_seconds=0"),
    *("runtime.progress=false", "seed=1"),
)
JOBS: dict[str, tuple[str, ...]] = {
    "search": ("search.epochs=4", "monitor.every=2", "monitor.iterations=2", "retrain.keep=best"),
    "stages": ("method=p_darts", "search.epochs=6", "search.warm_up=1", "monitor.every=0"),
    "training": ("genotype=darts_v2", "space.nodes=4", "retrain.epochs=6", "retrain.keep=best"),
}
LONGEST = 900.0  # seconds of a job's process; one that takes longer hangs
PATIENCE = 10.0  # seconds within which a command's processes are gone after it


@dataclass
class Job:
    """A job, in its own folder.

    Args:
        name: its name in `JOBS`.
        words: that start it.
        run: its directory.
        process: its newest process, the command.
        outlived: whether others have outlived that.
    """

    name: str
    words: Sequence[str]
    run: Path
    process: subprocess.Popen[bytes] | None = None
    outlived: bool = False

    @property
    def output(self) -> Path:
        """What its newest process has printed."""
        return self.run.parent / f"{self.run.name}.txt"

    @property
    def temporary(self) -> Path:
        """Where its processes have their temporary files."""
        return self.run.with_name(f"{self.run.name} temporary")

    @property
    def printed(self) -> str:
        """That, as a text."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def start(self) -> subprocess.Popen[bytes]:
        """Begins it, or goes on with it."""
        there = (self.run / ".hydra" / "overrides.yaml").exists()
        words = [f"resume={self.run}", *_runtime(self.words)] if there else [*self.words, f"hydra.run.dir={self.run}"]
        command = [sys.executable, "-c", "from supernet.experiments.pipeline import main; main()", *words]
        self.temporary.mkdir(exist_ok=True)
        own = {**os.environ, "TMPDIR": str(self.temporary)}
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, env=own)
        return self.process

    def wait(self) -> int:
        """Its exit code, and -1 for one that hangs. Afterwards none of its processes is left."""
        assert self.process is not None
        try:
            code = self.process.wait(LONGEST)
            self.outlived = not _gone(self.process.pid)
        except subprocess.TimeoutExpired:
            code = -1
        self.end()
        return code

    def end(self) -> None:
        """Kills all of its processes that are left."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def phase(self) -> str:
        """Where the job is, by what its folder holds."""
        if (self.run / "summary.json").exists():
            return "ended"
        if (self.run / "test.json").exists():
            return "after the test"
        files = list((self.run / "checkpoints").glob("*.pt")) if (self.run / "checkpoints").is_dir() else []
        return max(files, key=lambda path: path.stat().st_mtime_ns).stem if files else "before a checkpoint"


@dataclass(frozen=True)
class Whole:
    """An undisturbed job: what it has left, and how many seconds it took after its first line."""

    left: Mapping[str, str]
    seconds: float

    def differs(self, run: Path) -> list[str]:
        """The first of the things that another one has left differently."""
        found = left(run)
        names = sorted(name for name in self.left.keys() | found.keys() if self.left.get(name) != found.get(name))
        return [f"{run.name}: {name} differs" for name in names[:5]]


def undisturbed(job: Job, meanwhile: Callable[[], None] = lambda: None) -> Whole:
    """Runs a job that nobody kills. `meanwhile` is called once it has begun."""
    job.start()
    meanwhile()
    first_line(job)
    began = time.monotonic()
    if code := job.wait():
        raise SystemExit(f"the undisturbed job ended with exit code {code}:\n{job.printed}")
    if there := litter(job):
        raise SystemExit(f"the undisturbed job: {there[0]}")
    return Whole(left(job.run), time.monotonic() - began)


def first_line(job: Job) -> None:
    """Waits until a job prints, or has ended."""
    while job.process is not None and job.process.poll() is None and not job.output.stat().st_size:
        time.sleep(0.01)


def fault(job: Job, code: int, expected: Collection[int]) -> str | None:
    """What is wrong with how a process of the job has ended; None: nothing."""
    if job.outlived:
        return f"{job.run.name}: processes outlive the command, which ended with exit code {code}"
    if code in expected and "Traceback" not in job.printed:
        return None
    return f"{job.run.name}: exit code {code}: {job.printed[-2000:]}"


def processes() -> Iterator[tuple[int, int, int]]:
    """Process, parent and group of each living process of this machine; of none where there is no /proc."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, group = path.read_text().rpartition(")")[2].split()[:3]
            if state != "Z":
                yield int(path.parent.name), int(parent), int(group)


def litter(job: Job) -> list[str]:
    """Temporary folders that a job has left; of a command that was killed they stay."""
    names = sorted(path.name for path in job.temporary.glob("*") if path.name.startswith(("supernet-", "torchelastic")))
    return [f"{job.run.name}: {name} is left in the temporary folder" for name in names]


def _gone(group: int) -> bool:
    """Whether the processes of a group end within some seconds."""
    limit = time.monotonic() + PATIENCE
    while any(own == group for _, _, own in processes()):
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def _runtime(words: Sequence[str]) -> list[str]:
    """The words that are no settings of the run, and that a person may give again."""
    return [word for word in words if word.startswith("runtime.")]


def images(path: Path) -> Path:
    """Writes a data set that trains in seconds: three classes of 6x6 images that differ in brightness."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for part, count in (("train", 90), ("test", 30)):
        labels = np.arange(count) % 3
        noise = rng.integers(0, 60, (count, 6, 6))
        arrays |= {f"{part}_images": (noise + 60 * labels[:, None, None]).astype(np.uint8), f"{part}_labels": labels}
    np.savez(path, allow_pickle=False, **arrays)
    return path


def left(run: Path) -> dict[str, str]:
    """What a job leaves that time does not change: name -> a hash of it."""
    found: dict[str, str] = {}
    for path in sorted((run / "checkpoints").glob("*.pt")):
        content = torch.load(path, map_location="cpu", weights_only=True)
        found |= {f"{path.name}: {name}": _hash(value) for name, value in _leaves(content) if _timeless(name, value)}
    with safe_open(run / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118
            found[f"model: {name}"] = _hash(file.get_tensor(name))
    for path in sorted((run / "metrics").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as rows:
            found[path.name] = _hash([row for row in csv.reader(rows) if not row[1].startswith("sys/")])
    found |= {name: _hash(json.loads((run / name).read_text())) for name in ("genotype.json", "test.json")}
    return found


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list | tuple) else None
    if items is None:
        yield name, node
        return
    for key, value in items:
        yield from _leaves(value, f"{name}/{key}")


def _timeless(name: str, value: Any) -> bool:
    return isinstance(value, torch.Tensor | int | str | bytes) and "seconds" not in name


def _hash(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        array = value.detach().contiguous()
        return hashlib.sha256(f"{array.dtype}{tuple(array.shape)}".encode() + array.numpy().tobytes()).hexdigest()
    return hashlib.sha256(repr(value).encode()).hexdigest()
