"""The batched ensemble against networks of PyTorch that are trained one by one."""

import pytest
import torch
from torch import nn

from supernet.search.black_box.ensemble import Ensemble


def ensemble_of(members: int = 3) -> Ensemble:
    return Ensemble(
        5, members=members, layers=3, width=4, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def networks_of(ensemble: Ensemble) -> list[nn.Sequential]:
    """Each member as a network of its own."""
    networks = []
    for member in range(ensemble._members):
        modules: list[nn.Module] = []
        for weights, biases in ensemble._layers:
            linear = nn.Linear(weights.shape[1], weights.shape[2]).double()
            linear.weight.data, linear.bias.data = weights[member].T.clone(), biases[member, 0].clone()
            modules += [linear, nn.ReLU()]
        networks.append(nn.Sequential(*modules[:-1]))
    return networks


def data_of(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    return inputs, inputs.prod(1) + inputs[:, 0]


def flat(networks: list[nn.Sequential], read) -> torch.Tensor:
    """What `read` gives of all weights and biases, in the order of `Ensemble.parameters`."""
    places = [place for place, module in enumerate(networks[0]) if isinstance(module, nn.Linear)]
    parts = []
    for place in places:
        parts += [read(network[place].weight).T.flatten() for network in networks]
        parts += [read(network[place].bias) for network in networks]
    return torch.cat(parts)


def test_the_gradient_is_autograd_s():
    ensemble = ensemble_of()
    networks, (inputs, targets) = networks_of(ensemble), data_of(8)
    for network in networks:
        (network(inputs).squeeze(1) - targets).abs().mean().backward()
    ours = ensemble.gradient(inputs.expand(3, -1, -1), targets.expand(3, -1))
    assert torch.allclose(ours, flat(networks, lambda p: p.grad), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("count", [7, 8, 20])
def test_training_is_that_of_networks_one_by_one(count):
    """Each in its own order of examples, by Adam as the authors set it, the rest of an epoch as a smaller batch."""
    ensemble = ensemble_of()
    networks, (inputs, targets) = networks_of(ensemble), data_of(count)
    twin = torch.Generator()
    twin.set_state(ensemble._generator.get_state())
    ensemble.fit(inputs, targets, epochs=4, batch_size=8)
    optimizers = [torch.optim.Adam(n.parameters(), lr=0.01, betas=(0.9, 0.99), eps=1e-7) for n in networks]
    for _ in range(4):
        orders = torch.rand(3, count, generator=twin).argsort(1)
        assert sorted(orders[0].tolist()) == list(range(count))
        for network, optimizer, order in zip(networks, optimizers, orders, strict=True):
            for places in order.split(8):
                optimizer.zero_grad()
                (network(inputs[places]).squeeze(1) - targets[places]).abs().mean().backward()
                optimizer.step()
    assert torch.allclose(ensemble.parameters, flat(networks, lambda p: p.data), rtol=1e-9, atol=1e-12)
    theirs = torch.stack([network(inputs).squeeze(1) for network in networks]).detach()
    assert torch.allclose(ensemble.predict(inputs), theirs, rtol=1e-9, atol=1e-12)


def test_weights_begin_as_glorot_s_and_members_differ():
    ensemble = Ensemble(30, members=5, layers=10, width=20, generator=torch.Generator().manual_seed(0))
    assert len(ensemble._layers) == 11
    for weights, biases in ensemble._layers:
        limit = (6.0 / (weights.shape[1] + weights.shape[2])) ** 0.5
        assert 0.8 * limit < weights.abs().max() <= limit
        assert not biases.any()
    assert not torch.equal(ensemble._layers[0][0][0], ensemble._layers[0][0][1])
