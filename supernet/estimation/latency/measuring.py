"""Measures one finished network: the winner of a search, or any other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from supernet.estimation.latency.joints import with_numbers
from supernet.estimation.latency.machine import fingerprint, pinned, processors
from supernet.estimation.latency.reading import differences
from supernet.estimation.latency.runtimes import EagerTorch, OnnxRuntime, Program, Runtime
from supernet.estimation.latency.sentinel import sentinel
from supernet.estimation.latency.table import LatencyTable
from supernet.estimation.latency.timing import Latency, Stopwatch, Timings, rounds
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity


def measure(
    network: nn.Module,
    shape: tuple[int, int, int],
    runtime: Runtime | None = None,
    *,
    repeats: int = 40,
    speed: float | None = None,
    stopwatch: Stopwatch | None = None,
) -> Latency:
    """Measures what a network takes for one image, in turns with a sentinel.

    Args:
        network: it stays as it is; a copy is measured.
        shape: (channels, height, width) of an image.
        runtime: what runs it; None: ONNX Runtime with one thread.
        repeats: rounds, 1 or more.
        speed: milliseconds that the sentinel took when a table was measured (`LatencyTable.sentinel`), so that the
            result can be held against the table although the machine is faster or slower now; None: as it is now.
        stopwatch: times one program; None: a usual one.

    Returns:
        Milliseconds: median, quartiles, least.

    Raises:
        InputError: `repeats` is below 1, or the runtime cannot run the network.

    Example:
        >>> found = measure(nn.Conv2d(3, 4, 3), (3, 8, 8), repeats=3)
        >>> 0 < found.least <= found.low <= found.median <= found.high, found.rounds
        (True, 3)
    """
    if repeats < 1:
        raise InputError(f"repeats={repeats}: needs 1 or more")
    ran = runtime or OnnxRuntime()
    copied = with_numbers(copy.deepcopy(network)).cpu()
    programs = dict(ran.programs([("network", (copied, ((1, *shape),))), ("sentinel", sentinel())]))
    return measure_program(programs["network"], programs["sentinel"], ran.threads, repeats, speed, stopwatch)


def measure_program(
    program: Program,
    beside: Program,
    threads: int = 1,
    repeats: int = 40,
    speed: float | None = None,
    stopwatch: Stopwatch | None = None,
) -> Latency:
    """Measures a program, such as a file that was exported, in turns with a sentinel.

    Args:
        program: what is measured.
        beside: the sentinel.
        threads: that it uses; the process is kept on as many processors.
        repeats: rounds, 1 or more.
        speed: as in `measure`.
        stopwatch: as in `measure`.

    Returns:
        Milliseconds.
    """
    with pinned(threads):
        made = rounds({"it": program}, beside, numbers=range(repeats), stopwatch=stopwatch or Stopwatch())
        timings = Timings([visit for each in made for visit in each])
    found = timings.latencies()["it"]
    factor = 1.0 if speed is None else speed / timings.sentinel
    return replace(
        found,
        median=found.median * factor,
        low=found.low * factor,
        high=found.high * factor,
        least=found.least * factor,
    )


def measured_as(table: object) -> Callable[[nn.Module, tuple[int, int, int]], float]:
    """Makes what measures whole networks as the parts of a table were measured.

    Args:
        table: what `read_latencies` gave.

    Returns:
        (network, shape of an image) -> milliseconds, at the speed that the machine had when the table was measured.

    Raises:
        InputError: why it cannot be done: the table is from elsewhere, or does not say how it was measured.

    Example:
        >>> from supernet.estimation.latency.table import Head
        >>> table = LatencyTable("mine", {}, Head(runtime={"runtime": "torch", "device": "cpu", "threads": "1"}))
        >>> 0 < measured_as(table)(nn.Conv2d(3, 4, 3), (3, 8, 8))
        True
    """
    if not isinstance(table, LatencyTable) or not table.head.runtime:
        raise InputError(f"{getattr(table, 'origin', 'the table')} does not say in which runtime it was measured")
    if differing := differences(table.head, fingerprint()):
        raise InputError(f"{table.origin} was measured elsewhere ({differing[0]})")
    runtime, speed = _runtime(table), table.sentinel
    return lambda network, shape: measure(network, shape, runtime, speed=speed).median


def _runtime(table: LatencyTable) -> Runtime:
    said = table.head.runtime
    name, word = said.get("runtime", ""), said.get("threads", "1")
    threads = int(word) if word.isascii() and word.isdigit() and len(word) < 4 else 0
    if threads < 1:
        raise InputError(f"{table.origin} says threads {word[:40]!r}; needs a number from 1 to 999")
    if threads > (most := processors()):
        raise InputError(f"{table.origin} was measured with {quantity(threads, 'thread')}, and {most} can be used here")
    if name == OnnxRuntime.name:
        return OnnxRuntime(threads)
    if name == EagerTorch.name:
        return EagerTorch("cpu" if said.get("device") == "cpu" else "cuda", threads)
    raise InputError(f"{table.origin} was measured in {name[:40] or 'an unknown runtime'}, which is not known here")
