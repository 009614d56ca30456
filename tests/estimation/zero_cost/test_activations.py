"""Proxies of forward passes against a Hamming kernel and a Zen score written out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from supernet.data.batches import Batch
from supernet.estimation.zero_cost.activations import naswot, zen, zen_terms
from supernet.estimation.zero_cost.probe import Probe
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator


class Twice(nn.Module):
    """Two ReLUs on one state, as two edges from it have them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        return self.first(x) + self.second(x)


def images(count=5):
    stream = torch.Generator().manual_seed(0)
    return Batch(torch.randn(count, 2, 6, 6, generator=stream), torch.arange(count) % 2)


def network():
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), Twice(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*body, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 2))


def test_naswot_counts_pairs_of_images_output_by_output():
    given, batch = network(), images()
    state = given[:2](batch.images)
    last = given[:6](batch.images)
    kernel = np.zeros((5, 5))
    for codes, times in ((state > 0, 2), (last > 0, 1)):
        flat = codes.flatten(1).tolist()
        for i in range(5):
            for j in range(5):
                kernel[i, j] += times * sum(a == b for a, b in zip(flat[i], flat[j], strict=True))
    sign, expected = np.linalg.slogdet(kernel)
    assert sign == 1
    assert naswot(Probe(given, [batch])) == pytest.approx(expected, rel=1e-12)


def test_two_images_with_the_same_outputs_on_have_no_determinant():
    batch = images()
    same = Batch(batch.images[[0, 0, 1, 2]], batch.labels[:4])
    assert naswot(Probe(network(), [same])) == -math.inf


def test_naswot_wants_a_relu():
    given = nn.Sequential(nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(InputError, match=r"^proxies=naswot: it counts the outputs of ReLUs, and this network has none"):
        naswot(Probe(given, [images()]))


def by_hand(batch, seed):
    """The score of `network` with its own draws, by plain functions."""
    draws = generator(seed, 0x2E4)
    shapes = ((3, 2, 3, 3), (4, 3, 3, 3), (2, 4))
    first, second, _ = (torch.randn(shape, generator=draws) for shape in shapes)
    x = torch.randn(batch.images.shape, generator=draws)
    near = x + 0.01 * torch.randn(batch.images.shape, generator=draws)
    features, variances = [], []
    for given in (x, near):
        own = []
        for weight in (first, second):
            given = nn.functional.conv2d(given, weight)
            variance, mean = torch.var_mean(given, (0, 2, 3), correction=0)
            own.append(torch.var(given, (0, 2, 3)))
            given = (given - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
            given = 2 * given.relu() if weight is first else given.relu()
        features.append(given)
        variances.append(own)
    distance = math.log(float((features[0] - features[1]).abs().sum((1, 2, 3)).mean()))
    remembered = passes = 0.0
    for one, two in zip(*variances, strict=True):
        remembered += 0.5 * math.log(float((0.81 + 0.09 * one + 0.1 * two).mean()))
        passes += 0.5 * math.log(float(((0.09 * one + 0.1 * two) / 0.19).mean()))
    return distance, remembered, passes


@pytest.mark.parametrize("seed", [0, 1])
def test_zen_is_the_algorithm_written_out(seed):
    class BeforePooling(nn.Module):
        """Pooling that is no module, as in the spaces' networks."""

        def __init__(self):
            super().__init__()
            self.body, self.head = network()[:6], nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    given, batch = BeforePooling(), images()
    distance, remembered, passes = by_hand(batch, seed)
    probe = Probe(given, [batch], seed=seed)
    terms = zen_terms(probe)
    assert (terms.distance, terms.remembered, terms.passes) == pytest.approx((distance, remembered, passes), rel=1e-4)
    assert zen(probe) == pytest.approx(distance + remembered, rel=1e-4)


def test_zen_leaves_the_network_alone():
    given = network()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    modes = [module.training for module in given.eval().modules()]
    zen(Probe(given, [images()]))
    naswot(Probe(given, [images()]))
    assert [module.training for module in given.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())


def test_zen_of_features_that_do_not_depend_on_the_input():
    class Nothing(nn.Module):
        def forward(self, x):
            return x.mul(0.0)

    given = nn.Sequential(nn.Conv2d(2, 3, 3), Nothing(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
    terms = zen_terms(Probe(given, [images()]))
    assert terms.distance == -math.inf
    assert terms.passes == 0.0  # the norm of a constant scales nothing
    assert terms.remembered == pytest.approx(0.5 * math.log(0.81), rel=1e-5)


def test_zen_wants_features():
    given = nn.Sequential(nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(InputError, match=r"^proxies=zen: no module of this network gives features"):
        zen(Probe(given, [images()]))
