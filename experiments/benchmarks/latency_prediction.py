"""How far a table of parts is from whole networks that were not used for it: before the calibration, and after.

    PYTHONPATH=. python -m experiments.benchmarks.latency_prediction experiments/results/latency.csv
    PYTHONPATH=. python -m experiments.benchmarks.latency_prediction FILE.csv --rounds 10 --held-out 20 --busy

Parts and networks are timed in the same rounds, in turns. A row for each network goes to FILE.csv, the table to
FILE_table.csv, errors, times and the machine to FILE.json; a run that was stopped goes on where it is given again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from supernet.estimation.latency.building import Builder, Built, Measurement
from supernet.estimation.latency.calibration import Line, accuracy, fit
from supernet.estimation.latency.networks import Checked
from supernet.estimation.latency.runtimes import OnnxRuntime
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.files import write_whole
from supernet.runtime.text import csv_lines
from supernet.space import spaces

from .setting import machine

_COLUMNS = ("network", "fitted", "macs", "megabytes", "sum", "predicted", "median", "low", "high", "least")


def main() -> None:
    """Measures, and prints the errors of each way to predict."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("output", type=Path)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", action="store_true", help="take what is measured although the machine's speed drifts")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    space, shape = spaces.mobilenet_v3(), (3, asked.resolution, asked.resolution)
    began, seconds = time.monotonic(), dict[str, float]()

    def progress(done: int, total: int, what: str) -> None:
        seconds[what] = time.monotonic() - began
        if done == total or done % 25 == 0:
            print(f"{what}: {done} of {total}, {seconds[what]:.0f} s", file=sys.stderr, flush=True)

    measurement = Measurement(
        rounds=asked.rounds,
        networks=asked.networks,
        held_out=asked.held_out,
        seconds=3600.0,
        drift=100.0 if asked.busy else 0.05,
        seed=asked.seed,
    )
    journal = asked.output.with_suffix(".rounds")
    built = Builder(space, shape, 1000, OnnxRuntime(), measurement, journal=journal, progress=progress).build()
    costs = SpaceCosts(space, shape, 1000)
    macs = [costs.of("macs", each.architecture) for each in built.networks]
    _write(asked.output, built, macs, {**machine(torch.device("cpu")), "seconds": seconds, "asked": str(asked)})
    journal.unlink(missing_ok=True)


def _write(output: Path, built: Built, macs: Sequence[float], about: dict[str, Any]) -> None:
    rows = [
        (
            number,
            int(each.fitted),
            int(count),
            *(f"{value:.6g}" for value in (each.megabytes, each.total, each.predicted)),
            *(f"{getattr(each.latency, name):.6g}" for name in _COLUMNS[6:]),
        )
        for number, (each, count) in enumerate(zip(built.networks, macs, strict=True))
    ]
    write_whole(output, csv_lines([_COLUMNS, *rows]))
    built.table.save(output.with_name(f"{output.stem}_table.csv"))
    ways = compared(built.networks, macs)
    spread = [each for each in built.networks if each.fitted]
    ways["as the table has it, of the networks it was fitted to"] = str(
        accuracy([each.predicted for each in spread], [each.latency.median for each in spread])
    )
    for name, said in ways.items():
        print(f"{name}: {said}")
    apart = [(each.latency.high - each.latency.low) / each.latency.median for each in built.networks]
    head = built.table.head
    record = {
        "about": about,
        "measurement": dict(head.measurement),
        "machine": dict(head.machine),
        "runtime": dict(head.runtime),
        "line": vars(head.line),
        "quartiles apart": {
            "networks": statistics.median(apart),
            "parts": statistics.median(
                (row.latency.high - row.latency.low) / max(row.latency.median, 1e-6)
                for row in built.table.rows.values()
            ),
        },
        "ways": ways,
    }
    print(json.dumps(record["measurement"]), json.dumps(about["seconds"]))
    write_whole(output.with_suffix(".json"), json.dumps(record, indent=1) + "\n")


def compared(networks: Sequence[Checked], macs: Sequence[float]) -> dict[str, str]:
    """How far each way to predict is from the held-out networks; each line is fitted to the others.

    Args:
        networks: some of them fitted, some held out.
        macs: of each.

    Returns:
        The errors in words, by the way.
    """
    fitted = np.array([each.fitted for each in networks])
    truth = np.array([each.latency.median for each in networks])
    sums = np.array([each.total for each in networks])
    megabytes = np.array([each.megabytes for each in networks])
    counts = np.array(macs) / 1e6
    same = np.zeros(len(truth))

    def line(values: Any, more: Any) -> Line:
        return fit(values[fitted], more[fitted], truth[fitted])

    ways = {
        "plain sum of the parts": sums,
        "a + b * sum": _along(line(sums, same), sums, same),
        "as the table has it": np.array([each.predicted for each in networks]),
        "a + b * multiply-adds": _along(line(counts, same), counts, same),
        "a + b * multiply-adds + c * megabytes": _along(line(counts, megabytes), counts, megabytes),
    }
    return {name: str(accuracy(values[~fitted], truth[~fitted])) for name, values in ways.items()}


def _along(line: Line, values: Any, megabytes: Any) -> Any:
    return line.constant + line.factor * values + line.megabyte * megabytes


if __name__ == "__main__":
    main()
