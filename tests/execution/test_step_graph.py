"""What of whole steps as CUDA graphs can be said without a GPU; `tests/test_standin.py` runs them on a stand-in."""

import gc
import random
import weakref
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from supernet.execution.cuda_graphs import CudaCapture
from supernet.execution.precision import Accelerated
from supernet.execution.step_graph import Request, StepGraph, at_rates
from supernet.runtime.parameter_slots import ModuleSettings
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.training.sgd import sgd


def test_on_a_processor_every_step_is_plain():
    seen = []

    def step(tensors, numbers):
        seen.append((tensors, numbers))
        return (tensors[0].sum(),)

    network = nn.Linear(2, 1)
    run = Run(graphs=True)
    steps = StepGraph(run, network, Accelerated(network, run))
    steps.settle()
    images = torch.ones(2, 2)
    for number in range(5):
        assert steps(Request("key", [images], [float(number)], step))[0].item() == 4.0
    assert steps(Request(None, [images], [], step))[0].item() == 4.0
    assert [numbers for _, numbers in seen] == [[0.0], [1.0], [2.0], [3.0], [4.0], []]
    assert all(tensors[0] is images for tensors, _ in seen)
    assert steps.recorded == 0


@pytest.mark.parametrize(
    ("device", "graphs", "records"), [("cpu", True, False), ("cuda", True, True), ("cuda", False, False)]
)
def test_graphs_are_recorded_where_there_is_a_gpu(device, graphs, records):
    assert Run(torch.device(device), graphs=graphs).records is records


def test_rates_are_given_back_after_an_error_too():
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.5, 0.25)])
    rates = [torch.tensor(0.1), torch.tensor(0.2)]

    def fail():
        with at_rates(optimizer, rates):
            assert [group["lr"] for group in optimizer.param_groups] == rates
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]


def test_passes_of_a_recorded_step_are_neither_recorded_nor_rounded_where_they_are_to_be_exact():
    network = nn.Linear(2, 2)
    recorded = []

    def capture(forward, backward):
        recorded.append(forward)
        raise RuntimeError("no device")

    passes = Accelerated(network, Run(precision="bfloat16"), capture)
    images, plain = torch.randn(4, 2), network.forward
    expected = plain(images)
    with passes, passes.unrecorded():
        for _ in range(12):  # more than a graph of a pass waits for
            rounded = network(images)
            with passes.exact():
                assert torch.equal(network(images), expected)
        assert not torch.equal(rounded, expected)
    assert recorded == []


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


class Part:
    steps = 0


class Host:
    """Who takes part in a step, and changes what it keeps where it is told to."""

    streams, kept = 0, 0

    def count(self):
        self.kept += 1


@contextmanager
def unwatched():
    yield []


@pytest.fixture
def steps(monkeypatch):
    """Steps that are taken as on a GPU until one would be recorded."""
    monkeypatch.setattr(CudaCapture, "invalidated", False)
    monkeypatch.setattr("supernet.execution.step_graph._waits", unwatched)
    network, report = nn.Linear(2, 1), Lines()
    made = StepGraph(Run(report=report), network, Accelerated(network, Run()))
    made._on, made._settings = True, ModuleSettings(network)
    made._beside = lambda request: request.step(request.tensors, request.numbers)
    made.part = Part()
    made.recordings, made.lines = [], report.lines

    def record(request, streams):
        made.recordings.append(request.key)
        return replayed(request)

    made._record = record
    return made


def replayed(request):
    recorded = type("Recorded", (), {})()
    recorded.replay = lambda tensors, numbers: request.step(tensors, numbers)
    return recorded


def counted(network):
    network.steps = getattr(network, "steps", 0) + 1


DECISIONS = {
    "python": lambda steps, host: random.random(),
    "numpy": lambda steps, host: np.random.rand(),  # noqa: NPY002
    "torch": lambda steps, host: torch.rand(()),
    "the host counts": lambda steps, host: host.count(),
    "a part counts": lambda steps, host: counted(steps.part),
    "the network counts": lambda steps, host: counted(steps._network),
}


@pytest.mark.parametrize("decide", DECISIONS.values(), ids=DECISIONS)
def test_a_step_that_draws_or_counts_on_the_host_is_not_recorded(steps, decide):
    host = Host()
    taken = []

    def step(tensors, numbers, decide=None):
        assert decide is None or not steps._passes._recording
        taken.append(numbers)
        if decide is not None:
            decide(steps, host)
        return tensors

    for number in range(6):
        steps(Request("still", [torch.zeros(1)], [number], step, host))
        steps(Request("decides", [torch.zeros(1)], [number], partial(step, decide=decide), host, [steps.part]))
    assert steps.recordings == ["still"]
    assert len(taken) == 12
    (line,) = steps.lines
    assert line.endswith("(a part of it counts or draws on the host)")


def plainly(tensors, numbers):
    return tensors


def test_each_kind_of_batch_has_its_own_graph_and_a_new_one_takes_the_place_of_the_oldest(steps):
    batches = [torch.zeros(2, 3), torch.zeros(3, 3), torch.zeros(2, 3, dtype=torch.float64), torch.zeros(3, 2).t()]
    batches.append(torch.zeros(1))
    requests = [Request("key", [batch], [], plainly) for batch in batches]
    for number, request in enumerate(requests, start=1):
        for _ in range(4):
            steps(request)
        assert len(steps.recordings) == number
    assert steps.recorded == 4
    for request in requests[1:]:
        steps(request)
    assert len(steps.recordings) == 5
    steps(requests[0])
    assert (len(steps.recordings), steps.recorded) == (6, 4)


def moved(network):
    network.weight.data = network.weight.data.clone()


def frozen(network):
    network.bias.requires_grad_(False)


@pytest.mark.parametrize("change", [moved, frozen, nn.Module.eval])
def test_a_network_that_is_set_anew_is_recorded_anew_after_one_plain_step(steps, change):
    host = Host()

    def changing(tensors, numbers):
        host.count()
        return tensors

    still = Request("still", [torch.zeros(1)], [], plainly)
    refused = Request("refused", [torch.zeros(1)], [], changing, host)
    steps.settle()
    for _ in range(5):
        steps(still), steps(refused)
    steps.settle()
    assert (steps.recorded, steps.recordings) == (1, ["still"])
    change(steps._network)
    steps.settle()
    assert steps.recorded == 0
    refused = replace(refused, step=plainly)
    steps(still), steps(refused)
    assert steps.recorded == 0
    steps(still), steps(refused)
    steps.settle()  # nothing has changed
    assert (steps.recorded, steps.recordings) == (2, ["still", "still", "refused"])


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_a_network_with_hooks_is_not_recorded(steps, kind):
    getattr(steps._network, f"register_{kind}_hook")(lambda *_: None)
    request = Request("key", [torch.zeros(1)], [], plainly)
    for _ in range(6):
        steps(request)
    assert (steps.recorded, steps.recordings) == (0, [])
    (line,) = steps.lines
    assert line.endswith("(the network has hooks)")


@pytest.mark.parametrize(("decides_at", "recordings"), [((0, 1), ["key"]), ((2,), []), ((0, 1, 2), [])])
def test_the_last_plain_step_is_the_one_that_is_watched(steps, decides_at, recordings):
    """In those before it libraries may set themselves up, and count on the host."""
    host, tensors = Host(), [torch.zeros(1)]

    def step(tensors, numbers):
        if numbers[0] in decides_at:
            host.count()
        return tensors

    for number in range(5):
        steps(Request("key", tensors, [number], step, host))
    assert steps.recordings == recordings


@pytest.mark.parametrize("error", [TypeError("a tensor is no number"), AssertionError(), RuntimeError("CUDA\nmore")])
def test_after_an_error_while_a_step_is_recorded_all_steps_are_plain(steps, error):
    taken = []

    def record(request, streams):
        raise error

    steps._record = record
    request = Request("key", [torch.zeros(1)], [], lambda tensors, numbers: taken.append(tensors) or tensors)
    for _ in range(6):
        steps(request)
        steps(replace(request, key="other"))
    assert (len(taken), steps.recorded, CudaCapture.invalidated) == (12, 0, True)
    (line,) = steps.lines
    assert line.endswith(f"({str(error).split(chr(10))[0] or 'AssertionError'})")


def test_a_state_that_is_loaded_drops_the_graphs_and_an_optimiser_does_not_keep_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    network = nn.Linear(2, 1)
    optimizer = sgd(network, 0.1, 0.9)
    steps = StepGraph(Run(torch.device("cuda")), network, Accelerated(network, Run()), [optimizer])
    steps._graphs["key"] = None
    optimizer.load_state_dict(optimizer.state_dict())
    assert steps.recorded == 0
    there = weakref.ref(steps)
    gc.disable()
    try:
        del steps
        assert there() is None
    finally:
        gc.enable()
    optimizer.load_state_dict(optimizer.state_dict())
