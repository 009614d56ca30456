"""Kills of single ranks: the command itself starts all of them again, and ends where an undisturbed one ends.

A random one of a job's processes is killed at a random moment of a phase of the job: its start, its search, its
retraining, or its end, after the test. Each phase has as many kills as the others. The command has to start all
processes again from the last checkpoint and to end with exit code 0, as often as `runtime.max_restarts` allows. One
process is sent TERM, besides, once for every four kills: all have to save, the command to end with 143, and
`supernet resume=DIR` to go on.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.benchmarks.killing import Job, Whole, fault, litter, processes, undisturbed
from supernet.runtime.text import quantity

WORDS = ("runtime.devices=2", "runtime.save_seconds=0.5", "retrain.epochs=10")
"""Jobs in two processes. What comes after the last checkpoint is done again; the retraining is long enough to hit."""
PHASES = ("start", "search", "retraining", "end")
_MOST = 3  # kills of a command: as many as it starts its processes again
_SHARE = 0.7  # of a phase's time in the undisturbed job, at most: a quick one is over sooner
_BEGUN = "supernet: toy, seed"  # a start is over when the leader says so


@dataclass
class Hit:
    """A signal that is to reach one of a job's processes, and what came of it.

    Args:
        signal: its name.
        phase: of the job, in which it is to come.
        share: of that phase's time, after which it comes.
        draw: which process it reaches, from 0 to 1.
        rank: of the process that it has reached.
        came: the phase in which it has come.
        seconds: after the start of the command.
        outcome: what came of it; "" as long as it has reached none.
    """

    signal: str
    phase: str
    share: float
    draw: float
    rank: int = -1
    came: str = ""
    seconds: float = 0.0
    outcome: str = ""

    @property
    def kills(self) -> bool:
        """Whether the process cannot mind it."""
        return self.signal == "SIGKILL"


def deck(kills: int, rng: random.Random) -> list[Hit]:
    """So many kills and a quarter as many stops, each phase as often as the others, in random order."""
    hits = [Hit("SIGKILL", PHASES[number % 4], rng.random(), rng.random()) for number in range(kills)]
    hits += [Hit("SIGTERM", PHASES[number % 3], rng.random(), rng.random()) for number in range(kills // 4)]
    rng.shuffle(hits)
    return hits


def hand(hits: list[Hit], rng: random.Random) -> list[Hit]:
    """Takes those of the next job from the front, in the order of their phases; starts come anywhere before ends."""
    taken = [hits.pop(0) for _ in range(min(_MOST, len(hits)))]
    order = {phase: float(number) for number, phase in enumerate(PHASES)}
    return sorted(taken, key=lambda hit: rng.random() * 3 if hit.phase == "start" else order[hit.phase])


def workers(launcher: int) -> list[int]:
    """The process ids of the ranks that a command has started, in their order."""
    found = []
    for pid, parent, _ in processes():
        with suppress(OSError):
            if parent == launcher and b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return sorted(found)


@dataclass
class Watched:
    """A command of a job in several processes, as it can be seen from outside: by its output, folder and processes."""

    job: Job
    restarts: int = 0
    before: set[int] = field(default_factory=set)  # the processes of earlier starts
    began: float = field(default_factory=time.monotonic)

    def phase(self) -> str:
        """Where it is; "" where no rank is there."""
        assert self.job.process is not None
        if self.job.process.poll() is not None or not self.ranks():
            return ""
        if self.job.printed.count(_BEGUN) <= self.restarts:
            return "start"
        if (self.job.run / "test.json").exists():
            return "end"
        return "retraining" if (self.job.run / "checkpoints" / "retrain.pt").exists() else "search"

    def ranks(self) -> list[int]:
        """The process ids of the ranks of this start."""
        assert self.job.process is not None
        return [pid for pid in workers(self.job.process.pid) if pid not in self.before]

    def until(self, phase: str) -> bool:
        """Waits until it is in a phase; returns whether that still comes."""
        assert self.job.process is not None
        while self.job.process.poll() is None:
            now = self.phase()
            if now == phase:
                return True
            if now and phase != "start" and PHASES.index(now) > PHASES.index(phase):
                return False
            if phase == "start" and now:  # it comes with the next start
                return False
            time.sleep(0.01)
        return False


def lengths(job: Job) -> tuple[Whole, dict[str, float]]:
    """An undisturbed job, and the seconds of each of its phases."""
    spent = dict.fromkeys(PHASES, 0.0)

    def watch() -> None:
        watched, last = Watched(job), time.monotonic()
        while job.process is not None and job.process.poll() is None:
            phase, now = watched.phase(), time.monotonic()
            if phase:
                spent[phase] += now - last
            last = now
            time.sleep(0.01)

    return undisturbed(job, watch), spent


def strike(watched: Watched, hit: Hit, spent: Mapping[str, float]) -> bool:
    """Sends a signal to one rank at its moment; returns whether there was one to send it to."""
    if not watched.until(hit.phase):
        return False
    time.sleep(_SHARE * hit.share * spent[hit.phase])
    phase, ranks = watched.phase(), watched.ranks()
    if not ranks:
        return False
    hit.rank = int(hit.draw * len(ranks))
    hit.came, hit.seconds = phase, round(time.monotonic() - watched.began, 2)
    with suppress(ProcessLookupError):
        os.kill(ranks[hit.rank], signal.Signals[hit.signal])
    if hit.kills:
        watched.before |= set(ranks)
        watched.restarts += 1
    return True


def disturbed(job: Job, whole: Whole, hits: Sequence[Hit], spent: Mapping[str, float]) -> list[str]:
    """Runs a job to its end while its ranks are hit, and says what is wrong; hits that came too late stay as they were.

    A command is gone on with after a stop, and after its last hit it ends by itself.
    """
    left, code = list(hits), -1
    while code != 0:
        job.start()
        watched, struck, stopped = Watched(job), [], False
        while left and not stopped:
            hit = left.pop(0)
            if strike(watched, hit, spent):
                struck.append(hit)
                stopped = not hit.kills
        code = job.wait()
        wrong = fault(job, code, {0, 128 + signal.SIGTERM} if stopped else {0})
        for hit in struck:
            hit.outcome = f"exit code {code}" if wrong else _outcome(hit, code)
        if wrong:
            return [wrong]
    differs = whole.differs(job.run)
    for hit in hits if differs else ():
        hit.outcome = hit.outcome and f"{hit.outcome}, and different"
    return differs or litter(job)


def _outcome(hit: Hit, code: int) -> str:
    if hit.kills:
        return "restarted and equal"
    return f"saved, exit code {code}, gone on and equal" if code else "ended before it was minded, and equal"


def kill_ranks(names: Sequence[str], make: Callable[[str, str], Job], given: argparse.Namespace) -> Mapping[str, Any]:
    """Kills as many ranks as are asked for, the jobs taking turns. `make` takes a job's name and its folder's."""
    rng = random.Random(given.seed)
    whole = {name: lengths(make(name, name)) for name in names}
    hits, turn = deck(given.kills, rng), 0
    done: list[Hit] = []
    wrong: list[str] = []
    while hits and not wrong and turn < 2 * given.kills + 10:  # each job takes three; some come too late
        name = names[turn % len(names)]
        held = hand(hits, rng)
        wrong = disturbed(make(name, f"{name} {turn}"), whole[name][0], held, whole[name][1])
        done += [hit for hit in held if hit.outcome]
        hits += [hit for hit in held if not hit.outcome]
        turn += 1
        so_far = f"{quantity(len(done), 'hit')}, {len(hits)} to come, {quantity(turn, 'job')} ended"
        print(f"{so_far}, {len(wrong)} wrong", flush=True)
    if hits and not wrong:
        wrong = [f"{quantity(len(hits), 'hit has', 'hits have')} reached no process"]
    seconds = {name: {phase: round(s, 2) for phase, s in spent.items()} for name, (_, spent) in whole.items()}
    compared = {name: len(each.left) for name, (each, _) in whole.items()}
    return {"compared": compared, "seconds_of_phases": seconds, **record(done), "jobs": turn, "wrong": wrong}


def record(hits: Sequence[Hit]) -> dict[str, Any]:
    """Counts of what has happened, and each hit."""
    good = sum(hit.kills and hit.outcome == "restarted and equal" for hit in hits)
    kills = sum(hit.kills for hit in hits)
    by = Counter((hit.signal, hit.came) for hit in hits)
    phases = {phase: by["SIGKILL", phase] for phase in PHASES}
    stops = {phase: by["SIGTERM", phase] for phase in PHASES}
    outcomes = {name: dict(Counter(h.outcome for h in hits if h.signal == name)) for name in ("SIGKILL", "SIGTERM")}
    ranks = {f"rank {rank}": sum(hit.rank == rank for hit in hits) for rank in sorted({hit.rank for hit in hits})}
    return {
        "summary": f"{good} of {kills} restarted and equal",
        "kills_by_phase": phases,
        "stops_by_phase": stops,
        "outcomes": outcomes,
        "by_rank": ranks,
        "hits": [asdict(hit) for hit in hits],
    }
