"""What of whole steps as CUDA graphs can be said without a GPU; `tests/test_standin.py` runs them on a stand-in."""

import pytest
import torch
from torch import nn

from supernet.execution.precision import Accelerated
from supernet.execution.step_graph import Request, StepGraph, at_rates
from supernet.runtime.run import Run


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
