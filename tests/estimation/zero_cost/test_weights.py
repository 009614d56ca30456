"""Proxies of the weights alone against sums over all paths and over all layers."""

import itertools
import math

import pytest
import torch
from torch import nn

from supernet.data.batches import Batch
from supernet.estimation.zero_cost.probe import Probe
from supernet.estimation.zero_cost.weights import l2_norm, synflow


def image(channels, side):
    return Batch(torch.randn(1, channels, side, side), torch.tensor([0]))


def test_synflow_is_the_sum_over_all_paths_once_for_each_layer():
    """R = sum over paths of the product of |weights|; every layer's weights give the sum of w dR/dw = R (no biases)."""
    torch.manual_seed(0)
    sizes = (4, 3, 3, 2)
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)]
    given = nn.Sequential(nn.Flatten(), layers[0], nn.BatchNorm1d(3), nn.ReLU(), *layers[1:])
    total = 0.0
    for path in itertools.product(*(range(size) for size in sizes)):
        total += math.prod(abs(float(layer.weight.detach()[path[k + 1], path[k]])) for k, layer in enumerate(layers))
    assert synflow(Probe(given, [image(1, 2)])) == pytest.approx(math.log(3 * total), rel=1e-6)


def test_biases_take_part_as_their_absolute_values():
    given = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Linear(2, 2))
    with torch.no_grad():
        for layer in (given[1], given[2]):
            layer.weight.fill_(-0.5)
            layer.bias.fill_(-1.0)
    # First outputs 4 x 0.5 + 1 = 3, R = 2 (2 x 0.5 x 3 + 1); the last layer's sum is 6, the first's 4 x 2 x 0.5 = 4.
    assert synflow(Probe(given, [image(1, 2)])) == pytest.approx(math.log(6 + 4), rel=1e-6)


def test_convolutions_share_weights_between_paths():
    torch.manual_seed(0)
    given = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 2, bias=False))
    given.append(nn.Flatten())
    first, second = given[0].weight.detach().abs(), given[3].weight.detach().abs()
    # On ones without padding every place sees the same: 2 x 2 places, each channel sum over the kernels.
    total = 4 * float((first.sum((1, 2, 3))[None] * second.sum((2, 3))).sum())
    assert synflow(Probe(given, [image(2, 5)])) == pytest.approx(math.log(2 * total), rel=1e-6)


def test_synflow_is_computed_in_float64_and_grows_beyond_float32():
    layers = [nn.Linear(4, 4, bias=False) for _ in range(70)]
    for layer in layers:
        nn.init.constant_(layer.weight, -2.0)
    given = nn.Sequential(nn.Flatten(), *layers)
    assert synflow(Probe(given, [image(1, 2)])) == pytest.approx(math.log(70 * 4) + 70 * math.log(8), rel=1e-12)


def test_the_images_and_the_signs_of_weights_play_no_part_and_the_network_stays_as_it_was():
    torch.manual_seed(0)
    given = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    before = {name: value.clone() for name, value in given.state_dict().items()}
    value = synflow(Probe(given, [image(2, 5)]))
    assert value == synflow(Probe(given, [image(2, 5)]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in given.state_dict().items())
    assert given[0].weight.dtype == torch.float32
    with torch.no_grad():
        given[0].weight.neg_()
    assert synflow(Probe(given, [image(2, 5)])) == value


def test_no_path_is_minus_infinity():
    given = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False))
    nn.init.zeros_(given[1].weight)
    assert synflow(Probe(given, [image(1, 2)])) == -math.inf


def test_l2_norm_adds_the_norms_of_layers():
    given = nn.Sequential(nn.Conv2d(1, 1, 2), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        given[0].weight.fill_(1.0)
        given[3].weight.copy_(torch.tensor([[3.0], [4.0]]))
    assert l2_norm(Probe(given, [image(1, 2)])) == pytest.approx(2.0 + 5.0, rel=1e-6)
