"""The benchmark of devices on a small space whose accuracies and latencies are made up."""

import json
import math
from random import Random

import numpy as np
import pytest
import torch

from experiments.benchmarks import device_searches, devices
from experiments.benchmarks.device_tables import MACS, TEST, VALID, Benchmark, live
from supernet.estimation.benchmark_tables import read_table
from supernet.space.architecture import Architecture, Decision
from supernet.space.nasbench201 import NasBench201, from_string, to_string

SPACE = NasBench201(channels=4, cells=1, stages=1, nodes=2)
GAINS = {"none": 0.0, "avg_pool_3x3": 4.0, "skip_connect": 8.0, "nor_conv_1x1": 14.0, "nor_conv_3x3": 20.0}
TIMES = {"none": 0.1, "avg_pool_3x3": 1.5, "skip_connect": 0.3, "nor_conv_1x1": 2.0, "nor_conv_3x3": 5.0}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("devices"), Random(0)
    accuracies, latencies = [f"arch,{TEST},{VALID},{MACS}"], ["index,lat_pixel2,lat_raspi4"]
    for index, cell in enumerate(SPACE.architectures()):
        kept = [options[0] for name, options in cell.items() if name.count("/") == 2]
        accuracy = 15.0 + sum(GAINS[o] for o in kept) + rng.random()
        accuracies.append(f"{to_string(cell)},{accuracy},{accuracy / 2},{10 + sum(TIMES[o] for o in kept) * 90:.0f}")
        alive = [options[0] for name, options in live(cell).items() if name.count("/") == 2]
        times = ((2.0 + sum(TIMES[o] for o in several)) * rng.uniform(0.95, 1.05) for several in (kept, alive))
        latencies.append(f"{index},{','.join(map(str, times))}")
    (folder / "table.csv").write_text("\n".join(accuracies))
    (folder / "latencies.csv").write_text("\n".join(latencies))
    return folder / "table.csv", folder / "latencies.csv"


@pytest.fixture(scope="module")
def benchmark(files):
    table = read_table(files[0], [TEST, VALID, MACS])
    return Benchmark(table, read_table(files[1], ["lat_pixel2", "lat_raspi4"], table), SPACE)


def task(benchmark, seed=0):
    device = benchmark.device("pixel2")
    return device_searches.Task(benchmark, device, seed, benchmark.predictor(device, benchmark.measured(device, seed)))


def test_what_has_no_effect_is_left_out():
    """Against all paths of a cell, listed."""
    for cell in NasBench201().architectures():
        kept = {(int(n.split("/")[2]), int(n.split("/")[1])): o[0] for n, o in cell.items() if n.count("/") == 2}
        ways = [[(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]]
        used = {edge for way in ways if all(kept[edge] != "none" for edge in way) for edge in way}
        alive = {n: o[0] for n, o in live(cell).items() if n.count("/") == 2}
        assert all(alive[f"cell/{b}/{a}"] == (o if (a, b) in used else "none") for (a, b), o in kept.items())


def test_many_predictions_at_once_are_those_of_the_form(benchmark):
    made = task(benchmark)
    cells = list(benchmark.values)[::7]
    assert benchmark.predicted(made.form, cells) == pytest.approx([made.form.of(cell) for cell in cells])


@pytest.mark.parametrize("way", devices.FITS)
def test_predictions_are_near_where_costs_add_up(benchmark, way):
    device = benchmark.device("raspi4" if way == devices.LIVE else "pixel2")
    row = devices.predicted(benchmark, device, way, seed=1)
    assert row["spearman"] > 0.9
    assert row["mape"] < (25.0 if way == devices.COUNTED else 6.0)
    assert row["cells"] == (len(device.latency) - 100 if way != devices.SAME else len(benchmark.same))


@pytest.mark.parametrize("way", device_searches.WAYS)
def test_answers_keep_the_limits_as_measured(benchmark, monkeypatch, way):
    monkeypatch.setattr(device_searches, "EVALUATIONS", 60)
    monkeypatch.setattr(device_searches, "ASKED", 10)
    monkeypatch.setattr(device_searches, "POPULATION", 5)
    made = task(benchmark)
    outcome = device_searches.WAYS[way](made)
    assert len(set(outcome.judged)) == len(outcome.judged) <= 60
    assert [answer.limit for answer in outcome.answers] == list(made.device.limits)
    assert all(made.device.latency[answer.cell] <= answer.limit for answer in outcome.answers)
    assert 0.8 < made.device.share(outcome.judged) <= 1.0
    again = device_searches.WAYS[way](task(benchmark))
    assert (again.judged, again.answers) == (outcome.judged, outcome.answers)


def test_cells_without_a_path_are_left_out_where_they_were_not_measured(benchmark):
    """An edge straight to the output, or two after each other: 125 cells less those with neither."""
    assert len(benchmark.device("pixel2").latency) == 125
    assert len(benchmark.device("raspi4").latency) == 125 - (25 - 16)


def test_a_search_that_breaks_a_limit_is_no_result(benchmark, monkeypatch):
    slowest = max(benchmark.values, key=benchmark.device("pixel2").latency.__getitem__)
    answer = device_searches.Answer(1.0, slowest)
    monkeypatch.setitem(device_searches.WAYS, "wrong", lambda task: device_searches.Outcome([slowest], [answer]))
    with pytest.raises(AssertionError, match=r"break 1\.0 ms"):
        devices.searched(benchmark, benchmark.device("pixel2"), "wrong", 0)


def test_the_estimated_gradient_is_that_of_the_expected_error(monkeypatch):
    """Against the gradient of the sum over all cells, within four standard errors."""
    edges = {name: Decision(name, ("a", "b", "c"), optional=True) for name in ("x", "y")}
    errors = {(a, b): 1.0 + 2.0 * "abc".index(a) * "abc".index(b) - "abc".index(b) for a in "abc" for b in "abc"}
    logits = {"x": torch.tensor([0.1, -0.4, 0.3]), "y": torch.tensor([0.5, 0.2, -0.6])}
    alphas = [tensor.requires_grad_() for tensor in logits.values()]
    weights = {name: tensor.softmax(0) for name, tensor in logits.items()}
    table = torch.tensor([[errors[a, b] for b in "abc"] for a in "abc"])
    exact = torch.autograd.grad(weights["x"] @ table @ weights["y"], alphas, retain_graph=True)
    stream = torch.Generator().manual_seed(0)

    def judge(cell: Architecture) -> float:
        return errors[cell["x"][0], cell["y"][0]]

    settings = {"judge": judge, "space": "mine", "decisions": edges, "generator": stream}
    step = device_searches.Drawn(None, None, None, None, None, 0.0, **settings)
    found = [torch.cat(torch.autograd.grad(step.loss(None, weights), alphas, retain_graph=True)) for _ in range(800)]
    mean, deviation = torch.stack(found).mean(0), torch.stack(found).std(0)
    assert ((mean - torch.cat(exact)).abs() <= 4.0 * deviation / math.sqrt(800)).all()
    assert torch.cat(exact).abs().max() > 10 * (deviation / math.sqrt(800)).max()


def test_it_goes_on_where_it_was_stopped(benchmark, tmp_path):
    runs = [("prediction", "pixel2", way, 0) for way in (devices.EDGES, devices.PARTS, devices.COUNTED)]
    whole = devices.run(benchmark, iter(runs), tmp_path / "whole.jsonl", minutes=1.0)
    devices.run(benchmark, iter(runs[:1]), tmp_path / "runs.jsonl", minutes=1.0)
    assert devices.run(benchmark, iter(runs), tmp_path / "runs.jsonl", minutes=1.0) == whole
    assert [json.loads(line)["way"] for line in (tmp_path / "runs.jsonl").read_text().splitlines()] == [
        way for *_, way, _ in runs
    ]
    assert devices.run(benchmark, iter(runs), tmp_path / "none.jsonl", minutes=-1.0) == []
    (line, *_) = devices.summary(whole)
    assert line["mape worst"] == line["mape"]
    assert line["seeds"] == 1


def test_the_limits_are_quantiles_that_some_cell_has(benchmark):
    device = benchmark.device("pixel2")
    shares = [np.mean([latency <= limit for latency in device.latency.values()]) for limit in device.limits]
    assert shares == pytest.approx([0.10, 0.25, 0.50, 0.75], abs=0.01)
    assert device.share(device.latency) == 1.0
    assert from_string(to_string(next(iter(device.latency)))) in device.latency
