"""Rounds beside a sentinel, with a clock of their own."""

import numpy as np
import pytest
from clockwork import Clock, watch

from supernet.estimation.latency.timing import Stopwatch, Timings, Visit, rounds
from supernet.runtime.errors import InputError


def of(clock, milliseconds):
    return lambda: clock.run(milliseconds)


def test_the_shortest_run_counts_and_the_warm_up_does_not():
    clock = Clock()
    durations = iter([0.1, 0.2, 5.0, 3.0, 4.0])  # two to warm up: the first runs are the shortest here
    assert watch(clock, runs=3)(lambda: clock.run(next(durations))) == pytest.approx(3.0)


def test_interrupted_runs_do_not_count():
    clock = Clock()
    durations, counts = iter([9.0, 9.0, 1.0, 3.0, 2.5, 2.0]), iter([0, 1, 1, 1, 1, 1, 1, 2])
    stopwatch = Stopwatch(runs=2, clock=clock, interruptions=lambda: next(counts))
    assert stopwatch(lambda: clock.run(next(durations))) == pytest.approx(2.5)


def test_where_all_runs_are_interrupted_the_shortest_counts_and_it_ends():
    clock, counts = Clock(), iter(range(1000))
    durations = iter([9.0, 9.0, 4.0, 3.0, 5.0])
    stopwatch = Stopwatch(runs=3, clock=clock, interruptions=lambda: next(counts))
    assert stopwatch(lambda: clock.run(next(durations))) == pytest.approx(3.0)


def test_a_slow_program_has_three_runs():
    clock, runs = Clock(), []
    watch(clock, runs=10, seconds=0.02)(lambda: (runs.append(1), clock.run(50.0)))
    assert len(runs) == 2 + 3


def test_each_round_visits_all_in_an_order_of_its_own():
    clock = Clock()
    programs = {str(n): of(clock, 1.0) for n in range(40)}
    first, second = rounds(programs, of(clock, 1.0), numbers=[0, 1], stopwatch=watch(clock))
    orders = [[visit.key for visit in each] for each in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(programs)
    assert orders[0] != orders[1]
    [again] = rounds(programs, of(clock, 1.0), numbers=[1], stopwatch=watch(clock))
    assert [visit.key for visit in again] == orders[1]  # so that a measurement can go on


def test_a_slow_spell_of_the_machine_cancels():
    """The machine gets slower by a factor of 1.6 within each round; programs of 1, 2, 3 ms are still found as such."""
    clock = Clock()

    def tire(clock):
        clock.speed = 1.0 / (1.0 + 0.6 * min(1.0, clock.now))

    clock.on_run = tire
    programs = {f"{n}": of(clock, 1.0 + n % 3) for n in range(30)}
    made = rounds(programs, of(clock, 2.0), numbers=range(20), stopwatch=watch(clock), every=4)
    timings = Timings([visit for each in made for visit in each])
    found = timings.latencies()
    ratios = [found[str(n)].median / timings.sentinel * 2.0 / (1.0 + n % 3) for n in range(30)]
    assert ratios == pytest.approx([1.0] * 30, rel=0.01)
    assert clock.speed == pytest.approx(1 / 1.6)


def test_statistics_are_those_of_numpy_over_ratios():
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    visits = [Visit(n, "a", value * 2, 2.0) for n, value in enumerate(values)]
    timings = Timings(visits)
    found = timings.latencies()["a"]
    assert timings.sentinel == 2.0
    assert (found.low, found.median, found.high) == tuple(2 * np.quantile(values, [0.25, 0.5, 0.75]))
    assert (found.least, found.rounds) == (2.0, 5)


def test_drift_is_how_far_the_rounds_of_the_sentinel_lie_apart():
    steady = Timings([Visit(n, "a", 1.0, 2.0) for n in range(20)])
    assert steady.drift == 0.0
    moving = Timings([Visit(n, "a", 1.0, 2.0 + 0.1 * n) for n in range(21)])
    assert moving.drift == pytest.approx(0.9 * 2.0 / 3.0)


def test_nothing_measured_is_a_mistake():
    with pytest.raises(InputError, match="visits: none"):
        Timings([])
