"""One network, measured in turns with a sentinel."""

import pytest
import torch
from clockwork import Clock, Clockwork, watch
from torch import nn

from supernet.estimation.latency.measuring import measure
from supernet.estimation.latency.runtimes import EagerTorch, OnnxRuntime, runtime_of
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
    ],
)
def test_other_runtimes_are_one_line(given, says):
    with pytest.raises(InputError, match=says):
        runtime_of(*given)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device=cuda: PyTorch sees no GPU here"):
        runtime_of("torch", "cuda")


def test_repeats_below_one():
    with pytest.raises(InputError, match="repeats=0"):
        measure(nn.ReLU(), (3, 8, 8), EagerTorch(), repeats=0)
