"""The weights' optimiser. PyTorch's fused step runs on a processor, too."""

import copy

import pytest
import torch
from torch import nn

from supernet.training.sgd import sgd


class Paths(nn.Module):
    """Two layers, of which a step uses those that are on."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def forward(self, x, on):
        for number in on:
            x = self.layers[number](x)
        return x.pow(2).sum()


STEPS = [(0,), (0, 1), (1,), (0, 1)]
"""The second layer's first gradient is there in step 2."""


def trained(optimizer, network, steps=STEPS):
    torch.manual_seed(1)
    for on in steps:
        optimizer.zero_grad()
        network(torch.randn(4, 3), on).backward()
        optimizer.step()
    return [p.detach().clone() for p in network.parameters()]


def networks():
    torch.manual_seed(0)
    network = Paths()
    return network, copy.deepcopy(network)


SETTINGS = [{}, {"weight_decay": 0.1}, {"nesterov": True}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_fused_steps_where_a_first_gradient_comes_late_are_the_plain_ones(settings):
    one, other = networks()
    plain = trained(torch.optim.SGD(one.parameters(), 0.05, 0.9, **settings), one)
    fused = trained(sgd(other, 0.05, 0.9, fused=True, **settings), other)
    for a, b in zip(plain, fused, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_pytorchs_fused_step_still_needs_its_momenta():
    """If this fails, PyTorch has mended it and the zeros can go."""
    network, _ = networks()
    with pytest.raises(TypeError):
        trained(torch.optim.SGD(network.parameters(), 0.05, 0.9, fused=True), network)


def test_on_a_processor_nothing_is_fused_and_nothing_prepared():
    network, other = networks()
    optimizer = sgd(network, 0.05, 0.9)
    assert not optimizer.state
    assert optimizer.param_groups[0]["fused"] is None
    plain = trained(torch.optim.SGD(other.parameters(), 0.05, 0.9), other)
    assert all(map(torch.equal, trained(optimizer, network), plain))


@pytest.mark.parametrize("fused_before", [True, None])
@pytest.mark.parametrize("fused_after", [True, None])
def test_a_state_that_lacks_momenta_goes_on(fused_before, fused_after):
    """Of a checkpoint from before the zeros were made, or of another device."""
    one, other = networks()
    first = torch.optim.SGD(one.parameters(), 0.05, 0.9, fused=fused_before)
    trained(first, one, STEPS[:1])
    state = copy.deepcopy(first.state_dict())
    assert len(state["state"]) == 2
    other.load_state_dict(one.state_dict())
    plain = torch.optim.SGD(one.parameters(), 0.05, 0.9)
    plain.load_state_dict(copy.deepcopy({**state, "param_groups": [{**state["param_groups"][0], "fused": None}]}))
    optimizer = sgd(other, 0.05, 0.9, fused=fused_after)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["fused"] is fused_after
    for a, b in zip(trained(plain, one, STEPS[1:]), trained(optimizer, other, STEPS[1:]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_without_momentum_there_are_no_zeros():
    network, _ = networks()
    assert not sgd(network, 0.05, 0.0, fused=True).state
