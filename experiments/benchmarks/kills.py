"""Random kills: jobs that are killed again and again and gone on with end, bit for bit, where undisturbed ones end.

Each job is the command as a person types it, in processes of its own. It is killed at random moments, by KILL, TERM
or INT, and gone on with by `supernet resume=DIR`, until it ends. What it leaves is then compared with what the same job
leaves undisturbed: all tensors and whole numbers of all checkpoints, the genotype, the weights of the model, the
figures of the test, and the metrics.

    python -m experiments.benchmarks.kills --kills 200 --seed 0 --output kills.json
    python -m experiments.benchmarks.kills --kills 20 --jobs stages --words runtime.threads=1

It takes a quarter of a minute a kill, and ends with exit code 1 where anything differs or a job does not go on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from experiments.benchmarks import setting

_SHARED = (
    *("experiment=quick", "data=npz", "search.batch_size=16", "retrain.batch_size=16", "retrain.epochs=3"),
    *("baseline.random=1", "runtime.device=cpu", "runtime.threads=1", "runtime.save_seconds=0"),
    *("runtime.progress=false", "seed=1"),
)
JOBS: dict[str, tuple[str, ...]] = {
    "search": ("search.epochs=4", "monitor.every=2", "monitor.iterations=2", "retrain.keep=best"),
    "stages": ("method=p_darts", "search.epochs=6", "search.warm_up=1", "monitor.every=0"),
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_MOST = 5  # kills of one job, so that it ends
_LONGEST = 900.0  # seconds of a job's process; one that takes longer hangs


@dataclass
class Job:
    """A job, in its own folder.

    Args:
        name: its name in `JOBS`.
        words: that start it.
        run: its directory.
    """

    name: str
    words: Sequence[str]
    run: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> Path:
        """What its newest process has printed."""
        return self.run.parent / f"{self.run.name}.txt"

    def start(self) -> subprocess.Popen[bytes]:
        """Begins it, or goes on with it."""
        there = (self.run / ".hydra" / "overrides.yaml").exists()
        words = [f"resume={self.run}", *_runtime(self.words)] if there else [*self.words, f"hydra.run.dir={self.run}"]
        command = [sys.executable, "-c", "from supernet.experiments.pipeline import main; main()", *words]
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        return self.process

    def phase(self) -> str:
        """Where the job is, by what its folder holds."""
        if (self.run / "summary.json").exists():
            return "ended"
        if (self.run / "test.json").exists():
            return "after the test"
        files = list((self.run / "checkpoints").glob("*.pt")) if (self.run / "checkpoints").is_dir() else []
        return max(files, key=lambda path: path.stat().st_mtime_ns).stem if files else "before a checkpoint"


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


@dataclass
class Tally:
    """What has happened so far."""

    kills: int = 0
    jobs: int = 0
    by: Counter[tuple[str, str]] = field(default_factory=Counter)  # signal and phase
    codes: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As plain values."""
        signals = {
            name: sum(n for (s, _), n in self.by.items() if s == name) for name in sorted({s for s, _ in self.by})
        }
        phases = {
            name: sum(n for (_, p), n in self.by.items() if p == name) for name in sorted({p for _, p in self.by})
        }
        both = {f"{name}, {phase}": count for (name, phase), count in sorted(self.by.items())}
        counts = {"by_signal": signals, "by_phase": phases, "by_signal_and_phase": both}
        codes = {str(code): count for code, count in sorted(self.codes.items())}
        return {"kills": self.kills, "jobs": self.jobs, **counts, "exit_codes": codes, "wrong": self.wrong}


def undisturbed(job: Job) -> tuple[dict[str, str], float]:
    """What the job leaves when nobody kills it, and its seconds after its first line."""
    process = job.start()
    _first_line(job)
    began = time.monotonic()
    if code := process.wait(_LONGEST):
        raise SystemExit(f"the undisturbed job ended with exit code {code}:\n{job.output.read_text()}")
    return left(job.run), time.monotonic() - began


def disturbed(job: Job, wanted: Mapping[str, str], seconds: float, tally: Tally, most: int, rng: random.Random) -> None:
    """Kills a job at most so many times, lets it end, and compares what it leaves."""
    kills, code = 0, -1
    while code != 0:
        process = job.start()
        if kills < min(most, _MOST):
            code, counts = _killed(job, process, seconds, tally, rng)
            kills += counts
        else:
            code = process.wait(_LONGEST)
        printed = job.output.read_text(errors="replace")
        if "Traceback" in printed or (code not in _expected(job) and code != 0):
            tally.wrong.append(f"{job.run.name}: exit code {code}: {printed[-2000:]}")
            return
    tally.jobs += 1
    found = left(job.run)
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    tally.wrong += [f"{job.run.name}: {name} differs" for name in names[:5]]


def _killed(
    job: Job, process: subprocess.Popen[bytes], seconds: float, tally: Tally, rng: random.Random
) -> tuple[int, int]:
    """Kills a process of the job at a random moment: its exit code, and whether it was still there to be killed."""
    if rng.random() < 0.9:  # most moments are those of the job; a few are those of its start
        _first_line(job)
        time.sleep(rng.random() * seconds)
    else:
        time.sleep(rng.random() * 5)
    number, phase = rng.choice(SIGNALS), job.phase()
    if process.poll() is not None:
        return process.returncode, 0
    with suppress(ProcessLookupError):
        # A node that fails takes all processes with it; a person or a scheduler asks the first one.
        os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
    code = process.wait(_LONGEST)
    tally.kills += 1
    tally.by[number.name, phase] += 1
    tally.codes[code] += 1
    return code, 1


def _expected(job: Job) -> set[int]:
    """The exit codes of a killed job: by the signal itself before it is minded, or 128 and the signal."""
    return {code for number in SIGNALS for code in (-number, 128 + number)}


def _first_line(job: Job) -> None:
    while job.process is not None and job.process.poll() is None and not job.output.stat().st_size:
        time.sleep(0.01)


def main() -> None:
    """Kills as often as is asked for, and writes and prints the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="which jobs, taking turns")
    parser.add_argument("--words", nargs="*", default=[], help="more words for each job, such as runtime.devices=2")
    parser.add_argument("--output", type=Path, default=Path("kills.json"), help="the record")
    given = parser.parse_args()
    rng, tally, began = random.Random(given.seed), Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = images(folder / "toy.npz")
        words = {job: [*_SHARED, f"data.path={data}", *JOBS[job], *given.words] for job in given.jobs}
        whole = {job: undisturbed(Job(job, words[job], folder / job)) for job in given.jobs}
        turn = 0
        while tally.kills < given.kills and not tally.wrong:
            job = given.jobs[turn % len(given.jobs)]
            run = folder / f"{job} {turn}"
            disturbed(Job(job, words[job], run), *whole[job], tally, given.kills - tally.kills, rng)
            turn += 1
            print(f"{tally.kills} kills, {tally.jobs} jobs ended, {len(tally.wrong)} wrong", flush=True)
    how = {
        "seed": given.seed,
        "jobs_of": given.jobs,
        "words": given.words,
        "compared": {j: len(w) for j, (w, _) in whole.items()},
    }
    seconds = {"seconds": round(time.monotonic() - began, 1)}
    setting.write(given.output, {**how, **tally.record(), **seconds, "machine": setting.machine(torch.device("cpu"))})
    print(json.dumps(tally.record(), indent=1))
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
