"""Explorers on the table of NAS-Bench-201 in place of trainings, under the protocol of NATS-Bench.

    python -m experiments.benchmarks.tabular nasbench201.csv.gz                       # all, some hours on one core
    python -m experiments.benchmarks.tabular nasbench201.csv.gz --only random local --seeds 20

A search judges a cell by its validation accuracy after 12 epochs, pays the seconds that this training would have taken,
and stops when its budget of them is spent; reported is the test accuracy after 200 epochs of the cell it found best
(Dong, Liu, Musial and Gabrys 2021). Numbers of the table are means over its trainings. Two protocols: "distinct": no
cell is tried twice, nor one that computes the same as a known one; "as published": every cell is its own, and what
forgets pays again for what it knew.

Each run is a line of `--runs`, and the same command goes on where it was stopped; `--minutes` stops it. Speed is in
seconds of the processor, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.setting import machine, write
from supernet.estimation.benchmark_tables import NasBench201Seconds, Table, read_table
from supernet.estimation.scores import Measured
from supernet.runtime.errors import InputError
from supernet.search.black_box.bananas import Bananas
from supernet.search.black_box.evolution import AgingEvolution, SposEvolution
from supernet.search.black_box.explorers import Explorer, RandomExplorer
from supernet.search.black_box.exploring import Budget, Evaluation, explore
from supernet.search.black_box.local_search import LocalSearch
from supernet.search.black_box.pareto import Nsga2
from supernet.search.black_box.policy import ControllerExplorer, PolicyExplorer
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates
from supernet.space.nasbench201 import NasBench201
from supernet.space.survey import candidates_of

BUDGETS = {"cifar10": (12_000.0, 20_000.0), "cifar100": (40_000.0,), "imagenet16_120": (120_000.0,)}
DISTINCT, PUBLISHED = "distinct", "as published"


@dataclass(frozen=True)
class Way:
    """One way to explore: an explorer; `forgets`: what makes it propose known cells, where it can.

    `objectives`: "valid" is the accuracy after 12 epochs. `seeds`: at most so many, where a run takes long.
    """

    explorer: Callable[..., Explorer]
    forgets: dict[str, bool] = field(default_factory=dict)
    objectives: tuple[str, ...] = ("valid",)
    seeds: int = 500


FORGETS = {"distinct": False}
WAYS = {
    "random": Way(RandomExplorer),
    "aging": Way(partial(AgingEvolution, population=10, sample=3), FORGETS),
    "spos": Way(SposEvolution),
    "local": Way(LocalSearch),
    "policy": Way(PolicyExplorer, FORGETS),
    "controller": Way(partial(ControllerExplorer, entropy_weight=0.01), FORGETS, seeds=50),  # rewards in percent
    "nsga2": Way(Nsga2),
    "nsga2_parameters": Way(Nsga2, objectives=("valid", "-parameters")),
    "bananas": Way(Bananas, seeds=50),
}


def score_of(table: Table, data: str) -> Callable[[Architecture], Measured]:
    """Looks up the accuracy after 12 epochs and the parameters, and what the training would have taken."""
    seconds, valid = NasBench201Seconds(data), f"{data}_valid_12"
    known: dict[Architecture, Measured] = {}

    def score(architecture: Architecture) -> Measured:
        if architecture not in known:
            row = table(architecture).values
            values = {"valid": row[valid], "parameters": row["params"]}
            known[architecture] = Measured(values, {"simulated_seconds": seconds(architecture)})
        return known[architecture]

    return score


def within(evaluations: Sequence[Evaluation], budget: float) -> Sequence[Evaluation]:
    """The evaluations that a smaller budget would have allowed: those begun before it was spent."""
    spent = 0.0
    for count, evaluation in enumerate(evaluations):
        if spent >= budget:
            return evaluations[:count]
        spent += evaluation.cost["simulated_seconds"]
    return evaluations


@dataclass(frozen=True)
class Benchmark:
    """The table, and the space in both protocols; what was looked up once is kept."""

    table: Table
    spaces: dict[str, Candidates]
    scores: dict[str, Callable[[Architecture], Measured]]

    def run(self, way: str, data: str, protocol: str, seed: int) -> dict[str, Any]:
        """One search: by budget the test accuracy of its pick and how many cells were judged, and its speed."""
        forgets = protocol == PUBLISHED
        made, test = WAYS[way], f"{data}_test_200"
        began = time.process_time()
        explorer = made.explorer(self.spaces[protocol], seed=seed, **(made.forgets if forgets else {}))
        budget = Budget(simulated_seconds=max(BUDGETS[data]))
        found = explore(explorer, self.scores[data], budget, objectives=made.objectives, repeats=forgets)
        seconds = time.process_time() - began
        at = {budget: within(found.evaluations, budget) for budget in BUDGETS[data]}

        def truth(rows: Sequence[Evaluation], key: str) -> float:
            return self.table(max(rows, key=lambda row: row.values[key]).architecture).values[test]

        result = {"data": data, "protocol": protocol, "way": way, "seed": seed, "seconds": seconds}
        result["evaluations"] = {str(budget): len(rows) for budget, rows in at.items()}
        result["test"] = {str(budget): truth(rows, "valid") for budget, rows in at.items()}
        if way == "random":  # the same cells, chosen by their size, and by the truth itself
            result["by parameters"] = {str(budget): truth(rows, "parameters") for budget, rows in at.items()}
            best = {str(b): max(self.table(row.architecture).values[test] for row in rows) for b, rows in at.items()}
            result["best of them"] = best
        return result


def open_benchmark(path: Path) -> Benchmark:
    """Reads what is needed of the table."""
    columns = [f"{data}_{what}" for data in BUDGETS for what in ("valid_12", "test_200")]
    table = read_table(path, [*columns, "params"])
    apart = candidates_of(NasBench201())
    spaces = {DISTINCT: apart, PUBLISHED: Candidates(apart.space, {d.name: d for d in apart.decisions})}
    return Benchmark(table, spaces, {data: score_of(table, data) for data in BUDGETS})


def wanted(only: Sequence[str], seeds: int, protocols: Sequence[str]) -> Iterator[tuple[str, str, str, int]]:
    """Way, data, protocol and seed of each run, the quick ones first."""
    ways = sorted(only or WAYS, key=lambda way: -WAYS[way].seeds)
    for way in ways:
        for seed in range(min(seeds, WAYS[way].seeds)):
            for data in BUDGETS:
                for protocol in protocols:
                    yield way, data, protocol, seed


def summary(runs: Sequence[dict[str, Any]], table: Table) -> list[dict[str, Any]]:
    """A row for each way, data, protocol and budget: mean, sample standard deviation and standard error.

    "found" is the share of the runs whose pick has the test accuracy of the cell that is best by validation of all.
    """
    values: dict[tuple[str, str, str, str], list[float]] = {}
    counts: dict[tuple[str, str, str, str], list[int]] = {}
    for run in runs:
        for column, name in {"test": run["way"], "by parameters": "most parameters", "best of them": "truth"}.items():
            for budget, value in run.get(column, {}).items():
                key = run["data"], budget, run["protocol"], name
                values.setdefault(key, []).append(value)
                counts.setdefault(key, []).append(run["evaluations"][budget])
    best = {
        data: [table(table.best(f"{data}_{by}")).values[f"{data}_test_200"] for by in ("valid_12", "test_200")]
        for data in BUDGETS
    }
    rows = []
    for (data, budget, protocol, name), tests in values.items():
        spread = statistics.stdev(tests) if len(tests) > 1 else 0.0
        row = {"data": data, "budget": float(budget), "protocol": protocol, "explorer": name, "seeds": len(tests)}
        row |= {"test": statistics.fmean(tests), "deviation": spread, "error": spread / len(tests) ** 0.5}
        row["evaluations"] = statistics.fmean(counts[data, budget, protocol, name])
        wanted, row["best possible"] = best[data]
        row["found"] = statistics.fmean(value == wanted for value in tests)
        rows.append(row)
    return rows


def speeds(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Candidates a second of processor time by way and protocol, over all runs together."""
    found: dict[str, dict[str, float]] = {}
    for way in WAYS:
        for protocol in (DISTINCT, PUBLISHED):
            of = [run for run in runs if run["way"] == way and run["protocol"] == protocol]
            judged = sum(max(run["evaluations"].values()) for run in of)
            if of:
                found.setdefault(way, {})[protocol] = judged / sum(run["seconds"] for run in of)
    return found


def markdown(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A table for each protocol: a row for each explorer, a column for each data set and budget."""
    lines = []
    columns = [(data, budget) for data, budgets in BUDGETS.items() for budget in budgets]
    for protocol in (DISTINCT, PUBLISHED):
        lines += ["", protocol, "", "| | " + " | ".join(f"{data} {budget:,.0f} s" for data, budget in columns) + " |"]
        lines.append("|---|" + "---|" * len(columns))
        for name in [*WAYS, "most parameters", "truth"]:
            of = {(r["data"], r["budget"]): r for r in rows if (r["explorer"], r["protocol"]) == (name, protocol)}
            if of:
                cells = [_cell(of[c]) if c in of else "-" for c in columns]
                lines.append(f"| {name} ({max(r['seeds'] for r in of.values())}) | " + " | ".join(cells) + " |")
    return lines


def _cell(row: dict[str, Any]) -> str:
    return f"{row['test']:.2f} ± {row['deviation']:.2f} ({row['found']:.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="of the 15,625 cells, as `supernet.estimation.benchmark_tables` reads")
    parser.add_argument("--only", nargs="+", choices=[*WAYS], default=[])
    parser.add_argument("--protocols", nargs="+", choices=[DISTINCT, PUBLISHED], default=[DISTINCT, PUBLISHED])
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no other run is begun")
    parser.add_argument("--runs", type=Path, default=Path("runs/tabular.jsonl"), help="a line for each run")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/tabular.json"))
    arguments = parser.parse_args()
    try:
        benchmark, began = open_benchmark(arguments.table), time.monotonic()
    except InputError as error:
        parser.exit(2, f"{error}\n")
    arguments.runs.parent.mkdir(parents=True, exist_ok=True)
    text = arguments.runs.read_text(encoding="utf-8") if arguments.runs.exists() else ""
    runs = [json.loads(line) for line in text.splitlines()]
    done = {(run["way"], run["data"], run["protocol"], run["seed"]) for run in runs}
    with arguments.runs.open("a", encoding="utf-8") as file:
        for way, data, protocol, seed in wanted(arguments.only, arguments.seeds, arguments.protocols):
            if time.monotonic() - began > 60 * arguments.minutes:
                break
            if (way, data, protocol, seed) not in done:
                runs.append(benchmark.run(way, data, protocol, seed))
                file.write(json.dumps(runs[-1]) + "\n")
                file.flush()
    rows, fast = summary(runs, benchmark.table), speeds(runs)
    record = {"machine": machine(torch.device("cpu")), "candidates a second of processor time": fast, "rows": rows}
    write(arguments.output, record)
    print("\n".join(markdown(rows)))
    print(json.dumps(fast, indent=1))


if __name__ == "__main__":
    main()
