"""One network, measured in turns with a sentinel."""

import os

import pytest
import torch
from clockwork import Clock, Clockwork, watch
from torch import nn

from supernet.estimation.latency import runtimes
from supernet.estimation.latency.measuring import measure, measured_as
from supernet.estimation.latency.runtimes import EagerTorch, OnnxRuntime, runtime_of
from supernet.estimation.latency.table import Head, LatencyTable
from supernet.runtime.errors import InputError


def cost(name, module, shapes):
    return {"network": 6.0, "sentinel": 2.0}[name]


@pytest.mark.parametrize(("speed", "expected"), [(None, 6.0), (2.0, 6.0), (3.0, 9.0)])
def test_the_speed_of_a_table_can_be_taken(speed, expected):
    clock = Clock()
    found = measure(nn.ReLU(), (3, 8, 8), Clockwork(clock, cost), repeats=5, speed=speed, stopwatch=watch(clock))
    assert (found.median, found.low, found.high, found.least) == pytest.approx((expected,) * 4)
    assert found.rounds == 5


def test_the_network_stays_as_it_is():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure(network, (3, 8, 8), EagerTorch(), repeats=1)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("runtime", [OnnxRuntime(), EagerTorch()], ids=lambda r: r.name)
def test_programs_run_the_module(runtime):
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU()).eval()
    [(name, program)] = runtime.programs([("it", (module, ((1, 2, 4, 4),)))])
    made = program()
    values = torch.as_tensor(made[0] if isinstance(made, list) else made)
    assert (name, tuple(values.shape)) == ("it", (1, 3, 4, 4))
    settings = runtime.settings()
    assert (settings["runtime"], settings["threads"], settings["torch"]) == (runtime.name, "1", torch.__version__)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("tensorrt",), "runtime=tensorrt: no such runtime; known: onnxruntime, torch"),
        (("onnxruntime", "cuda"), "device=cuda: ONNX Runtime"),
        (("torch", "tpu"), "device=tpu"),
        (("torch", "cpu", 0), "threads=0"),
        (("torch", "cpu", 9999), "threads=9999: needs a whole number from 1 to 4, the processors"),
        (("onnxruntime", "cpu", 5), "threads=5: needs a whole number from 1 to 4, the processors"),
        (("onnxruntime", "cpu", "2"), "threads=2: needs a whole number"),
        (("torch", "cpu", True), "threads=True"),
    ],
)
def test_other_runtimes_are_one_line(given, says, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert runtime_of("torch", threads=4).threads == runtime_of("onnxruntime", threads=4).threads == 4
    with pytest.raises(InputError, match=says):
        runtime_of(*given)


def test_programs_do_not_start_more_threads_than_a_system_has(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(runtimes, "_MOST_THREADS", 2)
    modules = [(str(number), (nn.ReLU(), ((1, 2),))) for number in range(3)]
    assert len(list(OnnxRuntime(1).programs(modules))) == 3
    with pytest.raises(InputError, match="threads=2: 3 programs or more would start over 2 threads together"):
        list(OnnxRuntime(2).programs(modules))


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_table_of_more_threads_than_here_says_why_it_is_not_measured(runtime, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    table = LatencyTable("latency=t.csv", {}, Head(runtime={"runtime": runtime, "device": "cpu", "threads": "64"}))
    with pytest.raises(InputError, match=r"^latency=t.csv was measured with 64 threads, and 2 can be used here$"):
        measured_as(table)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device=cuda: PyTorch sees no GPU here"):
        runtime_of("torch", "cuda")


def test_repeats_below_one():
    with pytest.raises(InputError, match="repeats=0"):
        measure(nn.ReLU(), (3, 8, 8), EagerTorch(), repeats=0)
