"""Every candidate operation: the size that it makes, and by hand what the simple ones compute."""

import pytest
import torch
from torch import nn

from supernet.runtime.errors import InputError
from supernet.space.operations import OPERATIONS, FactorizedReduce, Noise, Site, Zero, relu_conv_norm

POOLS = ("max_pool_3x3", "avg_pool_3x3")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_operation_halves_as_it_should(operation, size, stride):
    for site in (Site(6, 6, stride), Site(6, 6, stride, affine=False, pool_norm=True)):
        out = OPERATIONS[operation](site)(torch.randn(2, 6, *size))
        assert out.shape == (2, 6, *(-(-s // stride) for s in size))
        affine = [
            p
            for m in OPERATIONS[operation](site).modules()
            if isinstance(m, torch.nn.BatchNorm2d)
            for p in m.parameters()
        ]
        assert site.affine or not affine


def test_none_is_zero_and_skip_is_identity():
    x = torch.randn(2, 4, 6, 6)
    assert OPERATIONS["none"](Site(4, 4, 2))(x).abs().sum() == 0
    assert OPERATIONS["skip_connect"](Site(4, 4))(x) is x


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in POOLS])
@pytest.mark.parametrize("widths", [(6, 4), (4, 6), (2, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_operation_makes_the_width_that_is_asked_for(operation, widths, stride):
    module = OPERATIONS[operation](Site(*widths, stride))
    assert module(torch.randn(2, widths[0], 7, 4)).shape == (2, widths[1], -(-7 // stride), 4 // stride)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("widths", [(6, 4), (4, 6)])
def test_pooling_does_not_change_the_width_and_says_so(pool, widths):
    with pytest.raises(InputError, match=f"not {widths[1]} of {widths[0]}; leave it out") as error:
        OPERATIONS[pool](Site(*widths))
    assert "\n" not in str(error.value)


def test_pooling_by_hand():
    """The border takes no part: neither is it larger than what there is, nor does it count in the mean."""
    x = -torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    largest, mean = (OPERATIONS[name](Site(1, 1, 2))(x) for name in POOLS)
    assert largest.flatten().tolist() == [-1.0, -2.0, -4.0, -5.0]
    assert mean.flatten().tolist() == [-3.0, -4.0, -6.0, -7.0]
    normed = OPERATIONS["max_pool_3x3"](Site(1, 1, pool_norm=True))
    assert [type(module) for module in normed] == [nn.MaxPool2d, nn.BatchNorm2d]
    assert list(normed.parameters()) == []


@pytest.mark.parametrize(
    ("site", "kind"),
    [
        (Site(4, 4), nn.Identity),
        (Site(4, 6), nn.Sequential),
        (Site(4, 4, 2), FactorizedReduce),
        (Site(4, 6, 2), FactorizedReduce),
    ],
)
def test_a_skip_connection_has_weights_only_where_it_must(site, kind):
    module = OPERATIONS["skip_connect"](site)
    assert type(module) is kind
    assert any(True for _ in module.parameters()) == (kind is not nn.Identity)


@pytest.mark.parametrize("widths", [(3, 3), (3, 5)])
def test_none_is_zero_at_any_width_and_lets_no_gradient_through(widths):
    x = torch.randn(2, widths[0], 5, 5, requires_grad=True)
    out = Zero(2, widths[1])(x)
    assert torch.equal(out, torch.zeros(2, widths[1], 3, 3))
    assert not torch.autograd.grad(out.sum(), x)[0].any()


def test_noise_does_not_depend_on_what_comes_in():
    outs = []
    for x in (torch.zeros(2, 3, 6, 6), torch.full((2, 3, 6, 6), 9.0)):
        torch.manual_seed(0)
        outs.append(Noise(2, 4)(x))
    assert torch.equal(*outs)
    assert outs[0].std().item() == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("size", [(6, 6), (5, 7), (1, 1)])
def test_halving_takes_the_even_and_the_odd_pixels(size):
    """Both convolutions are identities here; of an odd size the last pixel stands for the one that there is not."""
    module = FactorizedReduce(1, 2).double()
    nn.init.ones_(module.even.weight)
    nn.init.ones_(module.odd.weight)
    x = torch.rand(1, 1, *size, dtype=torch.float64)
    even, odd = module.halves(x)[0]
    rows, columns = ([min(2 * i + 1, length - 1) for i in range(-(-length // 2))] for length in size)
    assert torch.equal(even, x[0, 0, ::2, ::2])
    assert torch.equal(odd, x[0, 0][rows][:, columns])


@pytest.mark.parametrize(
    ("name", "kernel", "dilation", "times"),
    [
        ("sep_conv_3x3", 3, 1, 2),
        ("sep_conv_5x5", 5, 1, 2),
        ("sep_conv_7x7", 7, 1, 2),
        ("dil_conv_3x3", 3, 2, 1),
        ("dil_conv_5x5", 5, 2, 1),
    ],
)
def test_separable_convolutions_are_those_of_darts(name, kernel, dilation, times):
    """Depthwise and 1x1, with a ReLU before and a norm after; a separable one does so twice."""
    module = OPERATIONS[name](Site(4, 6, 2))
    assert [type(m) for m in module] == [nn.ReLU, nn.Conv2d, nn.Conv2d, nn.BatchNorm2d] * times
    depthwise = [m for m in module if isinstance(m, nn.Conv2d) and m.groups == 4]
    assert [m.kernel_size for m in depthwise] == [(kernel, kernel)] * times
    assert [m.dilation for m in depthwise] == [(dilation, dilation)] * times
    assert [m.stride for m in depthwise] == [(2, 2), (1, 1)][:times]
    reach = [m for m in module if isinstance(m, nn.Conv2d) and m.groups == 1]
    assert [m.out_channels for m in reach] == [4, 6][-times:]


def test_a_cells_input_is_brought_to_its_width():
    module = relu_conv_norm(3, 5, affine=False)
    assert [type(m) for m in module] == [nn.ReLU, nn.Conv2d, nn.BatchNorm2d]
    assert sum(p.numel() for p in module.parameters()) == 15
    assert module(torch.randn(2, 3, 4, 4)).shape == (2, 5, 4, 4)
