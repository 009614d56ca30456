"""NAS-Bench-201 on 27 devices: latencies predicted from 100 measured cells, and searches under limits on the latency.

    python -m experiments.benchmarks.devices --table nasbench201.csv.gz --latencies nasbench201_latency.csv.gz

The table has the accuracies of all cells (`supernet.estimation.benchmark_tables`); the latencies are a CSV file with a
column `index` and one for each device, such as `lat_pixel2`, in milliseconds (HELP, Lee et al. 2021; HW-NAS-Bench, Li
et al. 2021). Predictions are judged on all cells that were not measured; searches by what the tables say of the cells.

Each run is a line of `--runs`, and the same command goes on where it was stopped; `--minutes` stops it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.device_searches import WAYS, Task
from experiments.benchmarks.device_tables import DEVICES, JUDGED, MACS, WITHOUT_PATHS, Benchmark, Device
from experiments.records.markdown import markdown_table
from experiments.records.markdown import number as decimal
from experiments.records.spreadsheet import csv_text
from supernet.estimation.fitting import calibrated
from supernet.estimation.forms import Form
from supernet.estimation.rank_statistics import rho
from supernet.runtime.errors import InputError
from supernet.runtime.files import write_whole
from supernet.space.architecture import Architecture

Row = dict[str, Any]
EDGES, PARTS, LIVE, COUNTED, SAME = "25 numbers", "5 numbers", "5 numbers, live edges", "macs", "measured again"
FITS = (EDGES, PARTS, LIVE, COUNTED, SAME)
FRONT = "front by macs"


def predicted(benchmark: Benchmark, device: Device, way: str, seed: int) -> Row:
    """How far one way of predicting is from the latencies of all cells that were not measured."""
    if way == SAME:  # how far two measurements of one network are from each other
        pairs = [pair for pair in benchmark.same if all(cell in device.latency for cell in pair)]
        told, truth = ([device.latency[pair[place]] for pair in pairs] for place in (0, 1))
    else:
        cells = benchmark.measured(device, seed)
        others = [cell for cell in device.latency if cell not in set(cells)]
        told, truth = _told(benchmark, device, cells, way, others), [device.latency[cell] for cell in others]
    errors = [abs(a - b) / b for a, b in zip(told, truth, strict=True)]
    row: Row = {"part": "prediction", "device": device.name, "way": way, "seed": seed, "cells": len(truth)}
    row |= {"mape": 100.0 * statistics.fmean(errors), "within": 100.0 * statistics.fmean(e <= 0.1 for e in errors)}
    return row | {"spearman": rho(np.array(told), np.array(truth))}


def _told(
    benchmark: Benchmark, device: Device, cells: Sequence[Architecture], way: str, others: Sequence[Architecture]
) -> list[float]:
    """Predicts the milliseconds of cells, after the latencies of some others."""
    if way == COUNTED:
        measured = [device.latency[cell] for cell in cells]
        macs = [benchmark.values[cell][MACS] for cell in cells]
        constant, with_one = (calibrated(Form({}, cost, ()), macs, measured).base for cost in (0.0, 1.0))
        return [constant + (with_one - constant) * benchmark.values[cell][MACS] for cell in others]
    counted = benchmark.living if way == LIVE else None
    form = benchmark.predictor(device, cells, way != EDGES, counted)
    return benchmark.predicted(form, others if counted is None else [counted[cell] for cell in others])


def searched(benchmark: Benchmark, device: Device, way: str, seed: int) -> Row:
    """One search: the hypervolume of what it has judged, and for each limit the answer and its regret.

    "missed" is the regret of the best cell that it has judged and that keeps the limit, as all of them were measured.

    Raises:
        AssertionError: an answer breaks its limit on the device.
    """
    form = benchmark.predictor(device, benchmark.measured(device, seed))
    began = time.process_time()
    outcome = WAYS[way](Task(benchmark, device, seed, form))
    row: Row = {"part": "search", "device": device.name, "way": way, "seed": seed}
    row |= {"seconds": time.process_time() - began, "cells": len(outcome.judged)}
    row["hypervolume"] = device.share(outcome.judged)
    for number, answer in enumerate(outcome.answers):
        latency = device.latency[answer.cell]
        assert latency <= answer.limit, f"{way} on {device.name}, seed {seed}: {latency} ms break {answer.limit} ms"
        row |= {f"limit_{number}": answer.limit, f"latency_{number}": latency, f"broken_{number}": answer.broken}
        best = device.best_within(answer.limit)
        row[f"regret_{number}"] = best - device.accuracy[answer.cell]
        keeping = [device.accuracy[cell] for cell in outcome.judged if device.latency[cell] <= answer.limit]
        row[f"missed_{number}"] = best - max(keeping)
    return row


def wanted(devices: Sequence[str], ways: Sequence[str], seeds: int) -> Iterator[tuple[str, str, str, int]]:
    """Part, device, way and seed of each run, searches first; two measurements of a network have one seed."""
    for device in (name for name in JUDGED if name in devices):
        for seed in range(seeds):
            yield from (("search", device, way, seed) for way in WAYS if way in ways)
    for device in devices:
        for way in (fit for fit in FITS if fit in ways):
            yield from (("prediction", device, way, seed) for seed in range(1 if way == SAME else seeds))


def summary(rows: Sequence[Row]) -> list[Row]:
    """A row for each part, device and way: of each number the mean, the sample standard deviation and the worst."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["part"], row["device"], row["way"]), []).append(row)
    made = []
    for (part, device, way), several in groups.items():
        line: Row = {"part": part, "device": device, "way": way, "seeds": len(several)}
        for name in (name for name in several[0] if name not in ("part", "device", "way", "seed")):
            values = [float(row[name]) for row in several]
            line[name] = statistics.fmean(values)
            if not name.startswith(("limit", "cells")):
                line[f"{name} deviation"] = statistics.stdev(values) if len(values) > 1 else 0.0
                lowest = name.startswith(("spearman", "within", "hypervolume"))
                line[f"{name} worst"] = min(values) if lowest else max(values)
        made.append(line)
    return made


def report(lines: Sequence[Row], fronts: dict[str, float]) -> str:
    """The tables of the results as Markdown."""
    found = {(line["part"], line["device"], line["way"]): line for line in lines}
    texts = [*_predictions(found), "", *_volumes(found, fronts)]
    for number in range(4):
        texts += ["", *_regrets(found, number)]
    return "\n".join(texts)


Found = dict[tuple[str, str, str], Row]


def _spread(line: Row | None, name: str, digits: int) -> str:
    if line is None:
        return "-"
    mean, deviation = (f"{line[key]:.{digits}f}" for key in (name, f"{name} deviation"))
    return mean if line["seeds"] == 1 else f"{mean} ± {deviation}"


def _predictions(found: Found) -> list[str]:
    """MAPE in percent / share within 10 % in percent / Spearman."""

    def cell(line: Row | None) -> str:
        return "-" if line is None else f"{line['mape']:.1f} / {line['within']:.0f} / {_spread(line, 'spearman', 3)}"

    body = [[device, *(cell(found.get(("prediction", device, way))) for way in FITS)] for device in DEVICES]
    lines = {way: [found.get(("prediction", device, way)) for device in JUDGED] for way in FITS}
    means = [
        statistics.fmean(x["spearman"] for x in several if x) if all(several) else None for several in lines.values()
    ]
    return markdown_table(["device", *FITS], [*body, ["mean of the six", *(decimal(mean, 3) for mean in means)]])


def _volumes(found: Found, fronts: dict[str, float]) -> list[str]:
    body = []
    for way in WAYS:
        lines = [found.get(("search", device, way)) for device in JUDGED]
        told = ("-" if x is None else f"{_spread(x, 'hypervolume', 4)} ({x['hypervolume worst']:.4f})" for x in lines)
        body.append([way, *told])
    return markdown_table(["", *JUDGED], [[FRONT, *(f"{fronts[device]:.4f}" for device in JUDGED)], *body])


def _regrets(found: Found, number: int) -> list[str]:
    lines = [(way, [found.get(("search", device, way)) for device in JUDGED]) for way in WAYS]
    limits = next((several for _, several in lines if all(several)), [None] * len(JUDGED))
    head = [
        "",
        *(f"{d} {line[f'limit_{number}']:.4g} ms" if line else d for d, line in zip(JUDGED, limits, strict=True)),
    ]

    def cell(line: Row | None) -> str:
        return "-" if line is None else f"{_spread(line, f'regret_{number}', 2)} [{line[f'broken_{number}']:.2f}]"

    body = [[way, *map(cell, several)] for way, several in lines]
    best = [_spread(found.get(("search", device, "gradient")), f"missed_{number}", 2) for device in JUDGED]
    return markdown_table(head, [*body, ["gradient, best judged", *best]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="accuracies of the 15,625 cells")
    parser.add_argument("--latencies", type=Path, required=True, help="their latencies by device")
    parser.add_argument("--devices", nargs="+", choices=DEVICES, default=list(DEVICES))
    parser.add_argument("--ways", nargs="+", choices=[*WAYS, *FITS], default=[*WAYS, *FITS])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no other run is begun")
    parser.add_argument("--runs", type=Path, default=Path("runs/devices.jsonl"), help="a line for each run")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/devices.csv"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        benchmark = Benchmark.open(given.table, given.latencies)
    except InputError as error:
        parser.exit(2, f"{error}\n")
    rows = run(benchmark, wanted(given.devices, given.ways, given.seeds), given.runs, given.minutes)
    lines = summary(rows)
    names = list(dict.fromkeys(name for line in lines for name in line))
    texts = ([f"{v:.6g}" if isinstance(v := line.get(name, ""), float) else v for name in names] for line in lines)
    write_whole(given.output, csv_text([names, *texts]))
    front = benchmark.front_of_macs()
    print(report(lines, {name: benchmark.device(name).share(front) for name in JUDGED}))


def run(benchmark: Benchmark, runs: Iterator[tuple[str, str, str, int]], file: Path, minutes: float) -> list[Row]:
    """Makes the runs that the file does not have yet, a line each, and returns all that it has then."""
    began = time.monotonic()
    file.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
    done = {(row["part"], row["device"], row["way"], row["seed"]) for row in rows}
    device: Device | None = None
    with file.open("a", encoding="utf-8") as lines:
        for part, name, way, seed in runs:
            if time.monotonic() - began > 60 * minutes:
                break
            if (part, name, way, seed) in done or (way == LIVE and name not in WITHOUT_PATHS):
                continue
            if device is None or device.name != name:
                device = benchmark.device(name)
            make = searched if part == "search" else predicted
            rows.append(make(benchmark, device, way, seed))
            lines.write(json.dumps(rows[-1]) + "\n")
            lines.flush()
    return rows


if __name__ == "__main__":
    main()
