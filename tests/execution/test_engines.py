"""Ways to run one and the same network, by name."""

import pytest
import torch
from torch import nn

from supernet.execution.engines import NAMES, Engine, engine
from supernet.execution.fused.executor import fused
from supernet.execution.stacked.executor import Stacked, stacked
from supernet.runtime.errors import InputError
from supernet.space.cells import reference
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet


def supernet(channels=4) -> Supernet:
    torch.manual_seed(0)
    return Supernet(Darts(channels=channels, cells=2, nodes=2).network(Undecided(), (3, 8, 8), 5))


@pytest.mark.parametrize(
    ("name", "device", "executor", "layout"),
    [
        ("fused", "cpu", fused, torch.channels_last),
        ("fused", "cuda:0", stacked, torch.contiguous_format),
        ("fused", torch.device("mps"), stacked, torch.contiguous_format),
        ("reference", "cpu", reference, torch.contiguous_format),
        ("reference", "cuda", reference, torch.contiguous_format),
    ],
)
def test_each_name_has_its_form_on_each_device(name, device, executor, layout):
    assert engine(name, device) == Engine(executor, layout)
    again = engine(name, device, checkpoint_cells=True)
    assert again.executor is not executor
    assert again.memory_format == layout


def test_on_a_gpu_1x1_convolutions_are_matrix_products():
    """Grouped convolutions were measured there: a step takes 2.6 times as long with them."""
    assert engine("fused", "cuda").executor == Stacked("matmul") != Stacked("convolution")


def test_another_name_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"^'turbo' is no engine; use one of fused, reference$"):
        engine("turbo")


def test_an_engine_changes_all_cells_of_the_network_and_nothing_else():
    network = supernet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert engine("fused").apply(network) is network
    assert [cell.execute for cell in network.network.cells] == [fused, fused]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.network.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    engine("reference").apply(network)
    assert [cell.execute for cell in network.network.cells] == [reference, reference]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("again", [False, True])
def test_every_engine_computes_what_the_reference_does(name, again):
    plain, other = supernet().double(), supernet().double()
    engine(name, checkpoint_cells=again).apply(other)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    weights = {n: torch.rand(len(d.options), dtype=torch.float64) for n, d in plain.decisions.items()}
    for mode in (True, False):
        out = plain.train(mode)(images, weights)
        torch.testing.assert_close(other.train(mode)(images, weights), out, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("layer", "narrow"),
    [
        (nn.Conv2d(3, 1, 3), True),
        (nn.Conv2d(2, 2, 3, groups=2), True),
        (nn.Conv2d(4, 4, 3, groups=4), False),
        (nn.Conv2d(1, 2, 3), False),
    ],
)
def test_very_narrow_networks_are_left_to_the_reference_on_a_processor(layer, narrow):
    """Channels-last, such convolutions make the library write beyond its memory."""
    network = supernet().network
    network.add_module("more", layer)
    network = engine("fused").apply(network)
    assert [cell.execute for cell in network.cells] == [reference if narrow else fused] * 2
    engine("fused", "cuda").apply(network)  # contiguous: nothing is narrow there
    assert [cell.execute for cell in network.cells] == [stacked] * 2


def test_a_network_without_cells_gets_the_order_in_memory():
    network = engine("fused").apply(nn.Sequential(nn.Conv2d(3, 4, 3)))
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
