"""Cells that keep their inputs alone: the same numbers, computed again for the gradient."""

import copy

import pytest
import torch

from supernet.execution.fused.executor import fused
from supernet.execution.modes import running
from supernet.execution.recomputation import checkpointed
from supernet.space.cells import reference
from supernet.space.choices import Choice
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.dropout import set_drop_path
from supernet.space.supernet import Supernet


def supernet(**settings) -> Supernet:
    torch.manual_seed(0)
    space = Darts(channels=4, cells=2, nodes=2, operations=("skip_connect", "max_pool_3x3", "sep_conv_3x3"))
    return Supernet(space.network(Undecided(**settings), (1, 6, 6), 3)).double()


def given(network: Supernet):
    stream = torch.Generator().manual_seed(1)
    images = torch.randn(5, 1, 6, 6, dtype=torch.float64, generator=stream)
    draw = {name: torch.rand(len(d.options), generator=stream).double() for name, d in network.decisions.items()}
    return images, {name: weights.requires_grad_() for name, weights in draw.items()}


def passed(network: Supernet, executor):
    """Loss, all gradients, and the buffers after a pass and its gradient."""
    images, weights = given(network)
    torch.manual_seed(2)  # of what is dropped
    with running(network, executor):
        loss = network(images, weights).square().sum()
    gradients = torch.autograd.grad(loss, [*network.parameters(), *weights.values()], allow_unused=True)
    return loss.detach(), gradients, [buffer.clone() for buffer in network.buffers()]


def assert_same(one, other):
    assert torch.equal(one[0], other[0])
    for a, b in zip([*one[1], *one[2]], [*other[1], *other[2]], strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("executor", [reference, fused])
@pytest.mark.parametrize("settings", [{}, {"single": True}, {"auxiliary": True}])
def test_gradients_and_statistics_are_those_of_a_pass_that_keeps_everything(executor, settings):
    assert_same(passed(supernet(**settings), checkpointed(executor)), passed(supernet(**settings), executor))


def test_what_is_dropped_is_dropped_the_second_time_too():
    plain, again = supernet(), supernet()
    for network in (plain, again):
        set_drop_path(network, 0.5)
    assert_same(passed(again, checkpointed(reference)), passed(plain, reference))
    assert not torch.equal(passed(again, reference)[0], passed(supernet(), reference)[0])


def test_cells_run_twice_with_a_gradient_and_once_without():
    network, calls = supernet(), []

    def counted(cell, inputs):
        calls.append(cell)
        return reference(cell, inputs)

    images, weights = given(network)
    with running(network, checkpointed(counted)):
        with torch.no_grad():
            network(images, weights)
        assert len(calls) == 2
        calls.clear()
        loss = network(images, weights).sum()
        assert len(calls) == 2
        loss.backward()
    first, last = network.network.cells
    assert calls == [first, last, last, first]


def test_parameters_that_stand_in_are_those_of_the_first_time():
    """The gradient is asked for after the parameters are back, and after another pass with other weights."""
    network, plain = supernet(), supernet()
    images, weights = given(network)
    doubled = [(2 * p).detach().requires_grad_() for p in network.parameters()]
    with running(network, checkpointed(reference)):
        with network.slots.replaced(doubled):
            loss = network(images, weights).square().sum()
        network(images.flip(0), {name: 3 * value for name, value in weights.items()})
        gradients = torch.autograd.grad(loss, [*doubled, *weights.values()], allow_unused=True)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(2)
    expected = plain(images, weights).square().sum()
    assert torch.equal(loss, expected)
    wanted = torch.autograd.grad(expected, [*plain.parameters(), *weights.values()], allow_unused=True)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(gradients, wanted, strict=True))


def test_nothing_of_the_second_time_stays():
    network = supernet()
    before = copy.deepcopy([dict(module._parameters) for module in network.modules()])
    passed(network, checkpointed(reference))
    assert all(choice.weights is None for choice in network.modules() if isinstance(choice, Choice))
    assert {int(norm.num_batches_tracked) for norm in network.norms} == {1}
    for module, own in zip(network.modules(), before, strict=True):
        assert module._parameters.keys() == own.keys()
        assert all(torch.equal(module._parameters[name], value) for name, value in own.items() if value is not None)
