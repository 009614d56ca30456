"""Inherited weights, against the definition: the same function of old channels, in float64."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from supernet.runtime.errors import InputError
from supernet.search.progressive.weight_inheritance import inherit_operation, inherit_weights, widening
from supernet.space.choices import OperationChoice
from supernet.space.choosers import Undecided
from supernet.space.darts import DARTS_OPERATIONS, Darts
from supernet.space.nasbench201 import NASBENCH201_OPERATIONS, NasBench201
from supernet.space.operations import OPERATIONS, FactorizedReduce, Site
from supernet.space.supernet import Supernet

SHAPE = (3, 8, 8)


def shaken(module: nn.Module) -> nn.Module:
    """In float64, with parameters and statistics that are nowhere special."""
    module.double()
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5) if tensor.dim() == 1 else tensor.data.normal_()
    return module


def test_widening_copies_every_channel_about_equally_often():
    assert widening(3, 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert widening(4, 4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("option", [*DARTS_OPERATIONS, "sep_conv_7x7", "conv_7x1_1x7", "nor_conv_3x3", "nor_conv_1x1"])
@pytest.mark.parametrize(("before", "after"), [(4, 9), (5, 7)])
def test_a_widened_operation_computes_the_same_function(option, stride, training, before, after):
    torch.manual_seed(0)
    site = Site(before, before, stride, affine=option != "sep_conv_3x3", pool_norm=True)
    old, new = (
        shaken(OPERATIONS[option](s)).train(training)
        for s in (site, replace(site, channels_in=after, channels_out=after))
    )
    index = widening(before, after)
    inherit_operation(old, new, index)
    x = torch.randn(5, before, 7, 6, dtype=torch.float64)
    out = index
    if isinstance(new, FactorizedReduce):  # the halves keep together
        even, first = widening(before // 2, after // 2), before // 2
        out = torch.cat([even, first + widening(before - first, after - after // 2)])
    torch.testing.assert_close(new(x[:, index]), old(x)[:, out], rtol=1e-11, atol=1e-11)
    for one, other in zip(old.buffers(), new.buffers(), strict=True):  # statistics have moved alike
        torch.testing.assert_close(other, one[out] if one.dim() else one, rtol=1e-11, atol=1e-11)


def test_without_the_shares_it_would_not_be_the_same():
    """What the authors' code does: copies count twice."""
    old, new = (shaken(OPERATIONS["nor_conv_1x1"](Site(c, c))).eval() for c in (2, 3))
    index = widening(2, 3)
    inherit_operation(old, new, index)
    copied = old[1].weight[index][:, index]
    assert torch.equal(new[1].weight * torch.tensor([2.0, 1.0, 2.0]).view(1, 3, 1, 1), copied)


def supernet_of(chooser, space=None, seed=0):
    torch.manual_seed(seed)
    network = (space or Darts(channels=12, cells=3, nodes=2)).network(chooser, SHAPE, 3)
    return shaken(Supernet(network))


@pytest.mark.parametrize("chooser", [Undecided(), Undecided(channel_divisor=3)])
@pytest.mark.parametrize("space", [Darts(channels=12, cells=3, nodes=2), NasBench201(12, 1, 2, 2)])
def test_the_same_supernet_inherits_the_same_logits(chooser, space):
    before, now = supernet_of(chooser, space), supernet_of(chooser, space, seed=1)
    weights = {n: torch.rand(len(d.options), dtype=torch.float64) for n, d in before.decisions.items()}
    images = torch.randn(4, *SHAPE, dtype=torch.float64)
    before.eval(), now.eval()
    assert not torch.allclose(before(images, weights), now(images, weights))
    inherit_weights(before, now)
    assert torch.equal(before(images, weights), now(images, weights))
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), now.state_dict().values(), strict=True))


@pytest.mark.parametrize("space", [Darts(channels=12, cells=3, nodes=2), NasBench201(12, 1, 2, 2)])
def test_fewer_operations_compute_what_they_did_with_zero_weights_elsewhere(space):
    operations = DARTS_OPERATIONS if isinstance(space, Darts) else NASBENCH201_OPERATIONS
    before = supernet_of(Undecided(), space)
    edges = [name for name, d in before.decisions.items() if d.role == "operation"]
    kept = {name: (operations[1], operations[2 + i % 2]) for i, name in enumerate(edges)}
    now = supernet_of(Undecided(kept=kept), space, seed=1)
    inherit_weights(before, now)
    few = {name: torch.rand(2, dtype=torch.float64) for name in edges}
    many = {name: torch.zeros(len(operations), dtype=torch.float64) for name in edges}
    for name in edges:
        many[name][[operations.index(o) for o in kept[name]]] = few[name]
    images = torch.randn(4, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(now(images, few), before(images, many), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("divisors", [(6, 3), (3, 1)])
def test_wider_parts_of_channels(divisors):
    before, now = (supernet_of(Undecided(channel_divisor=p), seed=p) for p in divisors)
    inherit_weights(before, now)
    choices = [[m for m in s.modules() if isinstance(m, OperationChoice)] for s in (before, now)]
    for old, new in zip(*choices, strict=True):
        one, other = (c.candidates["sep_conv_3x3"][1].weight for c in (old, new))
        assert len(other) == len(one) * divisors[0] // divisors[1]
        assert torch.equal(other[: len(one)], one)
    assert torch.equal(before.network.classifier.weight, now.network.classifier.weight)


def test_what_does_not_fit():
    small = Darts(channels=4, cells=3, nodes=2)
    with pytest.raises(InputError, match=r"weights of \(4,\) cannot be widened to \(6,\)"):
        inherit_weights(supernet_of(Undecided(), small), supernet_of(Undecided(), replace(small, channels=6)))
    with pytest.raises(InputError, match=r"has no network\.stem\.0\.weight of this size"):
        inherit_weights(supernet_of(Undecided(), small), supernet_of(Undecided(), replace(small, stem_multiplier=2)))
    with pytest.raises(InputError, match="use the same channel_divisor or a smaller one"):
        inherit_weights(supernet_of(Undecided(channel_divisor=3)), supernet_of(Undecided(channel_divisor=6)))
    odd, wide = nn.Linear(3, 3), nn.Linear(3, 4)
    with pytest.raises(InputError, match="cannot be widened"):
        inherit_operation(odd, wide, widening(2, 5))
