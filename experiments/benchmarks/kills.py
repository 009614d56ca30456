"""Random kills: jobs that are killed again and again and gone on with end, bit for bit, where undisturbed ones end.

Each job is the command as a person types it, in processes of its own. It is killed at random moments, by KILL, TERM
or INT, and gone on with by `supernet resume=DIR`, until it ends. What it leaves is then compared with what the same job
leaves undisturbed: all tensors and whole numbers of all checkpoints, the genotype, the weights of the model, the
figures of the test, and the metrics.

    kills="python -m experiments.benchmarks.kills" results=experiments/results
    $kills --kills 150 --seed 1 --jobs search stages --output $results/kills_one.json
    $kills --kills 50 --seed 2 --jobs search stages --words runtime.devices=2 --output $results/kills_two.json
    $kills --kills 40 --seed 3 --jobs training --output $results/kills_training.json
    $kills --ranks --kills 20 --seed 0 --jobs search stages --output $results/kills_ranks.json

The last one kills one process of a job in two, and not the whole command: see killed_ranks.py.

It takes some ten seconds a kill, and ends with exit code 1 where anything differs or a job does not go on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks import killed_ranks, setting
from experiments.benchmarks.killing import JOBS, SHARED, Job, Whole, fault, first_line, images, undisturbed

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_MOST = 5  # kills of one job, so that it ends
_SHARE = 0.4  # of the job's time, at most, from its first line to the kill: with `_MOST` of them about all of it


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
        signals, phases = (self._summed(place) for place in (0, 1))
        both = {f"{name}, {phase}": count for (name, phase), count in sorted(self.by.items())}
        counts = {"by_signal": signals, "by_phase": phases, "by_signal_and_phase": both}
        codes = {str(code): count for code, count in sorted(self.codes.items())}
        return {"kills": self.kills, "jobs": self.jobs, **counts, "exit_codes": codes, "wrong": self.wrong}

    def _summed(self, place: int) -> dict[str, int]:
        names = sorted({key[place] for key in self.by})
        return {name: sum(count for key, count in self.by.items() if key[place] == name) for name in names}


def disturbed(job: Job, whole: Whole, tally: Tally, most: int, rng: random.Random) -> None:
    """Kills a job at most so many times, lets it end, and compares what it leaves."""
    kills, code = 0, -1
    while code != 0:
        job.start()
        if kills < min(most, _MOST):
            code, counts = _killed(job, whole.seconds, tally, rng)
            kills += counts
        else:
            code = job.wait()
        if (wrong := fault(job, code, {0, *_EXPECTED})) is not None:
            tally.wrong.append(wrong)
            return
    tally.jobs += 1
    tally.wrong += whole.differs(job.run)


def _killed(job: Job, seconds: float, tally: Tally, rng: random.Random) -> tuple[int, int]:
    """Kills a process of the job at a random moment: its exit code, and whether it was still there to be killed."""
    process = job.process
    assert process is not None
    if rng.random() < 0.9:  # most moments are those of the job; a few are those of its start
        first_line(job)
        time.sleep(rng.random() * seconds * _SHARE)
    else:
        time.sleep(rng.random() * 5)
    number, phase = rng.choice(SIGNALS), job.phase()
    if process.poll() is not None:
        return job.wait(), 0
    with suppress(ProcessLookupError):
        # A node that fails takes all processes with it; a person or a scheduler asks the first one.
        os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
    code = job.wait()
    tally.kills += 1
    tally.by[number.name, phase] += 1
    tally.codes[code] += 1
    return code, 1


_EXPECTED = {code for number in SIGNALS for code in (-number, 128 + number)}
"""Exit codes of a killed job: by the signal itself before it is minded, or 128 and the signal."""


def kill_commands(
    names: Sequence[str], make: Callable[[str, str], Job], given: argparse.Namespace
) -> Mapping[str, Any]:
    """Kills whole commands, the jobs taking turns. `make` takes a job's name and its folder's."""
    rng, tally = random.Random(given.seed), Tally()
    whole = {name: undisturbed(make(name, name)) for name in names}
    turn = 0
    while tally.kills < given.kills and not tally.wrong:
        name = names[turn % len(names)]
        disturbed(make(name, f"{name} {turn}"), whole[name], tally, given.kills - tally.kills, rng)
        turn += 1
        print(f"{tally.kills} kills, {tally.jobs} jobs ended, {len(tally.wrong)} wrong", flush=True)
    return {"compared": {name: len(each.left) for name, each in whole.items()}, **tally.record()}


def main() -> None:
    """Kills as often as is asked for, and writes and prints the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    parser.add_argument("--ranks", action="store_true", help="kill one of a job's processes, and not all of it")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="which jobs, taking turns")
    parser.add_argument("--words", nargs="*", default=[], help="more words for each job, such as runtime.devices=2")
    parser.add_argument("--output", type=Path, default=Path("kills.json"), help="the record")
    given = parser.parse_args()
    began, machine = time.monotonic(), setting.machine(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shared = [*SHARED, f"data.path={images(folder / 'toy.npz')}", *(killed_ranks.WORDS if given.ranks else [])]

        def make(job: str, run: str) -> Job:
            return Job(job, [*shared, *JOBS[job], *given.words], folder / run)

        record = (killed_ranks.kill_ranks if given.ranks else kill_commands)(given.jobs, make, given)
    how = {"seed": given.seed, "ranks": given.ranks, "jobs_of": given.jobs, "words": given.words}
    setting.write(given.output, {**how, **record, "seconds": round(time.monotonic() - began, 1), "machine": machine})
    print(json.dumps(record, indent=1))
    sys.exit(1 if record["wrong"] else 0)


if __name__ == "__main__":
    main()
