"""The tabular benchmark: its budgets, its way of going on, and its figures against the published ones."""

import json
import statistics
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import tabular
from supernet.search.black_box.explorers import RandomExplorer
from supernet.search.black_box.exploring import Budget, Evaluation, explore
from supernet.space.nasbench201 import from_string


def copy_of_the_table() -> Path | None:
    """The benchmark as a CSV file, in a folder `shared` beside the repository or above it."""
    name = Path("shared", "data", "nasbench201", "nasbench201.csv.gz")
    return next((p / name for p in Path(__file__).resolve().parents if (p / name).is_file()), None)


@pytest.fixture(scope="module")
def benchmark() -> tabular.Benchmark:
    if (path := copy_of_the_table()) is None:
        pytest.skip("there is no copy of the benchmark's table here")
    return tabular.open_benchmark(path)


def test_a_smaller_budget_is_the_beginning_of_a_larger_one(benchmark):
    runs = []
    for seconds in (3_000.0, 6_000.0):
        explorer = RandomExplorer(benchmark.spaces["distinct"], seed=7)
        runs.append(explore(explorer, benchmark.scores["cifar10"], Budget(simulated_seconds=seconds)).evaluations)
    assert list(tabular.within(runs[1], 3_000.0)) == list(runs[0])
    assert len(runs[0]) < len(runs[1])


def test_the_evaluation_that_passes_the_budget_counts():
    cell = from_string("|none~0|")
    rows = [Evaluation(cell, {}, {"simulated_seconds": 4.0}, (0.0,)) for _ in range(5)]
    assert [len(tabular.within(rows, budget)) for budget in (1.0, 4.0, 4.5, 8.0, 100.0)] == [1, 1, 2, 2, 5]


@pytest.mark.parametrize(("way", "published"), [("random", 93.86), ("local", 94.28)])
def test_twenty_seeds_are_near_the_published_mean(benchmark, way, published):
    """Standard deviations of single runs are 0.27 and 0.20; four standard errors are allowed."""
    runs = [benchmark.run(way, "cifar10", "as published", seed) for seed in range(1000, 1020)]
    tests = [run["test"]["20000.0"] for run in runs]
    assert statistics.fmean(tests) == pytest.approx(published, abs=0.25)
    assert 150 < statistics.fmean(run["evaluations"]["20000.0"] for run in runs) < 210
    if way == "random":
        by_size = statistics.fmean(run["by parameters"]["20000.0"] for run in runs)
        best = statistics.fmean(run["best of them"]["20000.0"] for run in runs)
        assert by_size < statistics.fmean(tests) < best < 94.38


def test_what_forgets_pays_again_only_as_published(benchmark):
    paid = {}
    for protocol in ("distinct", "as published"):
        explorer = tabular.WAYS["policy"].explorer(benchmark.spaces[protocol], learning_rate=0.5)
        budget, repeats = Budget(evaluations=300), protocol == "as published"
        found = explore(explorer, benchmark.scores["cifar10"], budget, objectives=("valid",), repeats=repeats)
        paid[protocol] = len({evaluation.architecture for evaluation in found.evaluations})
    assert paid["distinct"] == 300 > paid["as published"]


def call(monkeypatch, tmp_path, table, *words):
    output = ["--runs", str(tmp_path / "runs.jsonl"), "--output", str(tmp_path / "record.json")]
    monkeypatch.setattr(sys, "argv", ["tabular", str(table), *words, *output])
    tabular.main()


def test_the_same_command_goes_on_with_what_is_there(benchmark, monkeypatch, tmp_path, capsys):
    for seeds in ("1", "2"):
        call(monkeypatch, tmp_path, copy_of_the_table(), "--only", "random", "nsga2", "--seeds", seeds)
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert len(lines) == len({(r["way"], r["data"], r["protocol"], r["seed"]) for r in lines}) == 2 * 3 * 2 * 2
    record = json.loads((tmp_path / "record.json").read_text())
    row = next(r for r in record["rows"] if (r["explorer"], r["budget"], r["protocol"]) == ("nsga2", 2e4, "distinct"))
    tests = [
        r["test"]["20000.0"]
        for r in lines
        if (r["way"], r["protocol"]) == ("nsga2", "distinct")
        if r["data"] == "cifar10"
    ]
    assert (row["seeds"], row["test"], row["deviation"]) == (2, statistics.fmean(tests), statistics.stdev(tests))
    assert round(row["best possible"], 2) == 94.37
    best = benchmark.table(benchmark.table.best("cifar10_valid_12")).values["cifar10_test_200"]
    assert row["found"] == tests.count(best) / 2
    assert "| random (2) | " in capsys.readouterr().out


def test_no_table_is_one_line(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, tmp_path, tmp_path / "none.csv.gz")
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
