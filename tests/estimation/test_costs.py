import pytest
import torch
from torch import nn

from supernet.estimation.costs import macs, parameters
from supernet.execution.engines import Engine, engine
from supernet.genotypes.literature import published
from supernet.space.cells import reference
from supernet.space.choosers import Decided
from supernet.space.darts import Darts

# Multiply-adds in millions of convolutions and linear layers, counted independently of this library.
CIFAR = {"darts_v1": 501.0, "darts_v2": 528.4, "snas_moderate": 440.7, "pdarts": 532.2, "pc_darts_cifar": 556.7}
IMAGENET = {"darts_v2": 529.9, "pc_darts_image": 581.6}


@pytest.mark.parametrize(("name", "millions"), CIFAR.items())
def test_published_cells_on_cifar(name, millions):
    network = Darts(36, 20, auxiliary=True).network(Decided(published(name)), (3, 32, 32), 10)
    assert macs(network, (3, 32, 32)) / 1e6 == pytest.approx(millions, abs=0.05)
    assert network.training


@pytest.mark.parametrize(("name", "millions"), IMAGENET.items())
def test_published_cells_on_imagenet(name, millions):
    network = Darts(48, 14, stem="imagenet").network(Decided(published(name)), (3, 224, 224), 1000)
    assert macs(network, (3, 224, 224)) / 1e6 == pytest.approx(millions, abs=0.05)


def test_by_hand():
    network = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 5))
    assert macs(network, (2, 4, 4)) == 16 * 6 * 9 + 96 * 5
    assert parameters(network) == (6 * 9 + 6) + 12 + (96 * 5 + 5)


def test_auxiliary_head_is_not_counted():
    plain, with_head = (
        Darts(4, 3, auxiliary=auxiliary).network(Decided(published("darts_v1")), (3, 8, 8), 10)
        for auxiliary in (False, True)
    )
    assert parameters(plain) == parameters(with_head)


def test_what_runs_compiled_is_counted_too():
    """On sixteen channels the fast executor's convolutions are not PyTorch's own."""
    used = engine("fused", torch.device("cpu"))
    space = Darts(channels=16, cells=3)
    fast, plain = (
        Engine(executor).apply(space.network(Decided(published("darts_v2")), (3, 8, 8), 10))
        for executor in (used.executor, reference)
    )
    assert macs(used.apply(fast), (3, 8, 8)) == macs(plain, (3, 8, 8))
