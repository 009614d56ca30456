"""The bookkeeping of CUDA graphs, with a capture that replays by running the functions again."""

import copy
import warnings
from contextlib import nullcontext

import pytest
import torch
from replay import Replay
from torch import nn
from torch.func import functional_call

from supernet.execution.cuda_graphs import CudaCapture, Graphed
from supernet.execution.precision import Accelerated
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.space.choosers import Undecided
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet


class Network(nn.Module):
    """A norm, a parameter that is not used, a dictionary of weights, two outputs."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
        self.unused = nn.Parameter(torch.ones(2))
        self.drop = nn.Dropout(0.0)

    def forward(self, x, weights):
        y = self.drop(self.layers(x * weights["a"]))
        return y, y.sum(1) * weights["b"].sum()


@pytest.fixture
def twins():
    torch.manual_seed(0)
    network = Network()
    capture = Replay()
    other = copy.deepcopy(network)
    other.forward = Graphed(other, other.forward, capture, patience=2)
    return network, other, capture


def batch(size=5, gradient=True):
    weights = {"a": torch.randn(4), "b": torch.randn(2)}
    return torch.randn(size, 4), {n: w.requires_grad_(gradient) for n, w in weights.items()}


def gradients(network, x, weights, **settings):
    y, z = network(x, weights)
    at = [w for w in weights.values() if w.requires_grad]
    return torch.autograd.grad(y.pow(2).sum() + z.sum(), [*at, *network.parameters()], allow_unused=True, **settings)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


def test_results_gradients_and_statistics_are_those_of_the_network(twins):
    network, other, capture = twins
    for _ in range(6):
        x, weights = batch()
        assert_same(gradients(network, x, weights), gradients(other, x, weights))
    assert (capture.recorded, capture.replayed) == (1, 4)
    for (name, one), (_, two) in zip(network.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(one, two), name


def test_recording_is_no_step_and_draws_nothing(twins):
    network, other, _ = twins
    for each in (network, other):
        each.drop.p = 0.5
    drawn = []
    for each in (network, other):
        torch.manual_seed(1)
        drawn.append([each(*batch())[0] for _ in range(5)])
    assert_same(*drawn)


def test_what_is_returned_stays_as_it_is(twins):
    network, other, capture = twins
    batches = [batch() for _ in range(6)]
    expected = [gradients(network, *b) for b in batches]
    got = [gradients(other, *b) for b in batches]
    assert capture.replayed > 2
    for one, two in zip(expected, got, strict=True):
        assert_same(one, two)


def test_trained_alike(twins):
    losses = []
    for network in twins[:2]:
        torch.manual_seed(2)
        optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9)
        for _ in range(8):
            optimizer.zero_grad()
            loss = network(*batch(gradient=False))[0].pow(2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    assert_same(losses[:8], losses[8:])


def test_each_signature_has_its_graph(twins):
    _, other, capture = twins

    def steps(count=4, **how):
        for _ in range(count):
            gradients(other, *batch(**how))
        return capture.recorded

    assert steps() == 1
    assert steps(gradient=False) == 2
    assert steps(size=7) == 3
    other.drop.p = 0.25
    assert steps() == 4
    assert steps() == 4
    other.eval()
    assert steps() == 5
    for size in range(8, 20):
        steps(size=size)
    assert len(other.forward._graphs) == 8


def test_passes_that_take_turns_are_recorded_too(twins):
    network, other, capture = twins
    for step in range(12):
        x, weights = batch(gradient=step % 2 == 0)
        assert_same(gradients(network, x, weights), gradients(other, x, weights))
    assert (capture.recorded, capture.replayed) == (2, 8)


def test_a_smaller_last_batch_and_a_setting_in_motion_are_not_recorded(twins):
    network, other, capture = twins
    for step in range(40):
        x, weights = batch(3 if step % 10 == 9 else 5)
        assert_same(gradients(network, x, weights), gradients(other, x, weights))
    assert capture.recorded == 1
    for step in range(6):
        other.drop.p = 0.001 * step + 0.001
        gradients(other, *batch())
    assert capture.recorded == 1


def test_other_tensors_can_stand_in_for_the_parameters(twins):
    network, other, capture = twins
    for _ in range(5):
        stand_ins = {n: torch.randn_like(p).requires_grad_() for n, p in network.named_parameters()}
        args = batch()
        results = []
        for each in (network, other):
            y, _ = functional_call(each, stand_ins, args)
            results.append(torch.autograd.grad(y.pow(2).sum(), [*stand_ins.values()], allow_unused=True))
        assert_same(*results)
    assert capture.recorded == 1
    assert capture.replayed == 3


def test_own_parameters_detached_are_not_copied(twins):
    _, other, _ = twins
    for _ in range(4):
        x, weights = batch()
        other_self = {n: p.detach() for n, p in other.named_parameters()}
        functional_call(other, other_self, (x, weights))[0].sum().backward()
    (graph,) = other.forward._graphs.values()
    assert len(graph._mine) == 3
    assert not {p.data_ptr() for p in other.parameters()} & {t.data_ptr() for t in graph._mine}
    asked = graph.asked([x, *weights.values(), *other_self.values()])
    assert [id(t) for t in asked] == [id(t) for t in (x, *weights.values())], "constants are not told to autograd"


def test_parameters_that_move_in_place_are_seen(twins):
    """They are read where they are: what an optimiser does to them is there in the next pass."""
    network, other, capture = twins
    for step in range(6):
        x, weights = batch()
        assert_same(gradients(network, x, weights), gradients(other, x, weights))
        with torch.no_grad():
            for each in (network, other):
                for parameter in each.parameters():
                    parameter.mul_(1.0 + 0.1 * step)
    assert capture.replayed == 4


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("training", [True, False])
def test_passes_without_gradients_are_recorded_for_themselves(twins, mode, training):
    """Validation is such passes; those of a training go on being what they were."""
    network, other, capture = twins
    for step in range(12):
        x, weights = batch()
        if step % 3:
            for each in twins[:2]:
                each.train(training)
            with mode():
                assert_same(network(x, weights), other(x, weights))
            for each in twins[:2]:
                each.train()
        else:
            assert_same(gradients(network, x, weights), gradients(other, x, weights))
    assert (capture.recorded, capture.replayed) == (2, 2 + 6)
    assert_same(list(network.buffers()), list(other.buffers()))


def test_a_validation_between_a_pass_and_its_gradient_is_refused(twins):
    _, other, _ = twins
    for _ in range(3):
        gradients(other, *batch())
        with torch.no_grad():
            other(*batch())
    loss = other(*batch())[0].sum()
    with torch.no_grad():
        other(*batch())
    with pytest.raises(InputError, match=r"^graphs=True"):
        loss.backward()


def test_a_pass_that_is_overwritten_is_refused(twins):
    _, other, _ = twins
    for _ in range(3):
        gradients(other, *batch())
    first, _ = other(*batch())
    other(*batch())
    with pytest.raises(InputError, match=r"^graphs=True"):
        first.sum().backward()
    last, _ = other(*batch())
    last.sum().backward(retain_graph=True)
    with pytest.raises(InputError, match="second time"):
        last.sum().backward()


def test_second_derivatives_are_refused(twins):
    _, other, _ = twins
    for _ in range(3):
        gradients(other, *batch())
    with pytest.raises(InputError, match="differentiates twice"):
        gradients(other, *batch(), create_graph=True)


def test_a_failing_capture_warns_once_and_leaves_the_network_running(twins):
    network, other, _ = twins

    tried = []

    def fail(forward, backward):
        tried.append(forward())
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    other.forward = Graphed(other, network.__class__.forward.__get__(other), fail, patience=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for size in (5, 5, 5, 6, 6, 6):
            x, weights = batch(size)
            assert_same(gradients(network, x, weights), gradients(other, x, weights))
    assert len(caught) == 1
    assert "(operation not permitted when stream is capturing)" in str(caught[0].message)
    assert len(tried) == 1, "CUDA may not have recovered: nothing else is recorded"
    assert_same(list(network.buffers()), list(other.buffers()))


def test_what_waits_for_the_device_is_never_tried():
    """A supernet of single paths reads which operations are on."""
    space, images = NasBench201(channels=4, cells=1, stages=1, nodes=2), torch.randn(4, 1, 6, 6)
    network = Supernet(space.network(Undecided(single=True), (1, 6, 6), 3))
    weights = {n: torch.eye(len(d.options))[0] for n, d in network.decisions.items() if d.role == "operation"}
    capture = Replay()
    graphed = Graphed(network, network.forward, capture, patience=0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        graphed(images, weights)
    with pytest.warns(UserWarning, match="depends on numbers"):
        graphed(images, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graphed(images, weights)
    assert capture.recorded == 0


def test_hooks_are_called(twins):
    _, other, capture = twins
    heard = []
    other.layers[0].register_forward_hook(lambda *_: heard.append(1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            gradients(other, *batch())
    assert ["hooks" in str(warning.message) for warning in caught] == [True]
    assert (len(heard), capture.recorded) == (5, 0)


def test_passes_are_graphs_only_within_and_only_where_wanted():
    network, capture = Network(), Replay()
    run = Run(graphs=True)
    accelerated = Accelerated(network, run, capture)
    for _ in range(6):
        with accelerated:
            gradients(network, *batch())
    assert capture.recorded == 1
    assert "forward" not in vars(network)
    replayed = capture.replayed
    gradients(network, *batch())
    assert capture.replayed == replayed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Accelerated(network, run):  # on the CPU, without a capture: no graph
            gradients(network, *batch())
    assert "forward" not in vars(network)


def test_after_an_invalidated_capture_cuda_records_nothing_in_this_process(monkeypatch):
    """Of `torch.cuda` only what the capture asks for, on a machine without a GPU."""
    now, asked = ["default"], []

    class Graph:
        def __init__(self, *_, stream, **__):
            self.stream = stream

        def __enter__(self):
            asked.append(self.stream)
            now[0] = self.stream

        def __exit__(self, *_):
            raise RuntimeError("operation failed due to a previous error during capture")  # and the stream stays

    made = {"Stream": lambda device: f"own of {device}", "graph_pool_handle": lambda: 0, "CUDAGraph": list}
    made |= {"synchronize": lambda: None, "graph": Graph, "device": lambda _: nullcontext()}
    made |= {"stream": lambda _: nullcontext(), "current_stream": lambda: now[0]}
    for name, stand_in in {**made, "set_stream": lambda stream: now.__setitem__(0, stream)}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(CudaCapture, "invalidated", False)
    with pytest.raises(RuntimeError, match="previous error during capture"):
        CudaCapture(torch.device("cuda:1"))(list, None)
    assert asked == ["own of cuda:1"], "the stream is on the network's device"
    assert now == ["default"]
    with pytest.raises(RuntimeError, match="earlier recording"):
        CudaCapture(torch.device("cuda:1"))(list, None)
    assert len(asked) == 1


def test_autocast_is_part_of_the_signature(twins):
    network, other, capture = twins
    for precision in (torch.bfloat16, None):
        for _ in range(4):
            x, weights = batch()
            results = []
            for each in (network, other):
                with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None):
                    y, _ = each(x, weights)
                results.append(torch.autograd.grad(y.float().sum(), [weights["a"]]))
                assert y.dtype == (precision or torch.float32)
            assert_same(*results)
    assert capture.recorded == 2
