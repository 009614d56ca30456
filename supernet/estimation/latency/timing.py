"""Times many programs so that they can be compared although the machine's speed drifts.

Rounds visit all programs, each in a new random order, so that a slow spell meets all alike. A sentinel, a program that
never changes, is timed at the beginning, at the end and every few visits. Each time is divided by what the sentinel
took around it, and what is reported is this ratio times the sentinel's median: the same speed of the machine for all.
A run that the operating system interrupted is not counted.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from supernet.estimation.latency.runtimes import Program
from supernet.runtime.errors import InputError


def interruptions() -> int:
    """How often the operating system took the processor from this process against its will; 0 where it does not say."""
    try:
        import resource
    except ImportError:  # not there on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@dataclass(frozen=True)
class Stopwatch:
    """Times a program: some runs that do not count, then some of which the shortest does.

    What else the machine does can only make a run longer, and disturbs a network, whose weights do not fit into the
    caches, more than a part of it.

    Args:
        runs: how many count, at most.
        seconds: after which no further run begins, when three have been counted.
        warm_up: runs before, which do not count: another program has filled the caches.
        clock: seconds that only grow.
        interruptions: how often this process was interrupted so far.

    Example:
        >>> ticks = iter(range(0, 1000, 2))
        >>> Stopwatch(runs=4, clock=lambda: next(ticks) / 1000, interruptions=lambda: 0)(lambda: None)
        2.0
    """

    runs: int = 10
    seconds: float = 0.02
    warm_up: int = 2
    clock: Callable[[], float] = time.perf_counter
    interruptions: Callable[[], int] = interruptions

    def __call__(self, program: Program) -> float:
        """Milliseconds of the shortest run that nothing interrupted, or of the shortest where all were."""
        for _ in range(self.warm_up):
            program()
        whole, broken = list[float](), list[float]()
        spent = 0.0
        while len(whole) < self.runs and len(broken) < self.runs and (spent < self.seconds or len(whole) < 3):
            before = self.interruptions()
            began = self.clock()
            program()
            taken = self.clock() - began
            spent += taken
            (whole if self.interruptions() == before else broken).append(taken)
        return 1000 * min(whole or broken)


@dataclass(frozen=True)
class Visit:
    """One timing of one program.

    Args:
        round: its number, from 0.
        key: the name of the program.
        milliseconds: what it took.
        sentinel: milliseconds that the sentinel took around that moment.
    """

    round: int
    key: str
    milliseconds: float
    sentinel: float


@dataclass(frozen=True)
class Latency:
    """What a program takes.

    Args:
        median: milliseconds, over the rounds.
        low: the first quartile.
        high: the third quartile.
        least: the shortest.
        rounds: how many.
    """

    median: float
    low: float
    high: float
    least: float
    rounds: int


@dataclass(frozen=True)
class Timings:
    """All visits of all rounds.

    Args:
        visits: in the order of time.

    Raises:
        InputError: there are none.
    """

    visits: Sequence[Visit]
    sentinel: float = field(init=False)
    """Milliseconds of the sentinel: the median over the rounds."""

    drift: float = field(init=False)
    """How far the sentinel's rounds lie apart: nine tenths of them within this share of the median, from end to end."""

    def __post_init__(self) -> None:
        if not self.visits:
            raise InputError("visits: none; give the measurement more time")
        rounds: dict[int, list[float]] = {}
        for visit in self.visits:
            rounds.setdefault(visit.round, []).append(visit.sentinel)
        medians = [statistics.median(each) for each in rounds.values()]
        middle = statistics.median(medians)
        low, high = np.quantile(medians, [0.05, 0.95])
        object.__setattr__(self, "sentinel", middle)
        object.__setattr__(self, "drift", float(high - low) / middle)

    def latencies(self) -> dict[str, Latency]:
        """What each program takes where the sentinel takes its median."""
        ratios: dict[str, list[float]] = {}
        for visit in self.visits:
            ratios.setdefault(visit.key, []).append(visit.milliseconds / visit.sentinel * self.sentinel)
        return {key: _latency(values) for key, values in ratios.items()}


def _latency(values: Sequence[float]) -> Latency:
    low, median, high = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return Latency(median, low, high, min(values), len(values))


def rounds(
    programs: Mapping[str, Program],
    sentinel: Program,
    *,
    numbers: Iterable[int],
    stopwatch: Stopwatch,
    every: int = 16,
    seed: int = 0,
) -> Iterator[list[Visit]]:
    """Times all programs in rounds.

    Args:
        programs: by their keys.
        sentinel: a program that is timed between them.
        numbers: of the rounds; each has its own order.
        stopwatch: times one program.
        every: how many visits there are between two timings of the sentinel.
        seed: of the orders.

    Yields:
        The visits of each round, in the order of time.

    Example:
        >>> ticks = iter(range(10**6))
        >>> watch = Stopwatch(clock=lambda: float(next(ticks)), interruptions=lambda: 0)
        >>> [visits] = rounds({"a": lambda: None}, lambda: None, numbers=[0], stopwatch=watch)
        >>> [(visit.round, visit.key, round(visit.milliseconds), round(visit.sentinel)) for visit in visits]
        [(0, 'a', 1000, 1000)]
    """
    for number in numbers:
        order = list(programs)
        random.Random(f"{seed}/{number}").shuffle(order)
        visits = list[Visit]()
        before = stopwatch(sentinel)
        for start in range(0, len(order), every):
            keys = order[start : start + every]
            taken = [stopwatch(programs[key]) for key in keys]
            after = stopwatch(sentinel)
            for place, (key, each) in enumerate(zip(keys, taken, strict=True)):
                share = (place + 0.5) / len(keys)
                around = math.exp((1 - share) * math.log(before) + share * math.log(after))
                visits.append(Visit(number, key, each, around))
            before = after
        yield visits
