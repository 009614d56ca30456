"""What is recognised of an operation, what is not, and that a change of the modules is noticed."""

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn

from supernet.execution.fused.executor import fused
from supernet.execution.modes import running
from supernet.execution.patterns import (
    Chain,
    Nothing,
    Pointwise,
    Pooling,
    Recognised,
    Reduction,
    SeparableStep,
    Skip,
    Structure,
    Unknown,
    recognise,
)
from supernet.execution.stacked.executor import stacked
from supernet.execution.stacked.stackable import Separable, stackable
from supernet.space.cells import Cell, reference
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.operations import OPERATIONS, Site, relu_conv_norm
from supernet.space.supernet import Supernet

SITE = Site(8, 8, affine=False, pool_norm=True)


def depthwise(channels=8, **settings):
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False, **settings)


def across(channels=8, out=8, **settings):
    return nn.Conv2d(channels, out, 1, bias=False, **settings)


def norm(channels=8, **settings):
    return nn.BatchNorm2d(channels, **settings)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_fields_operations_whatever_their_width_stride_and_norms(name, width, stride, affine):
    site = Site(8, 8 if "pool" in name else width, stride, affine, pool_norm=not affine)
    kinds = {
        "none": Nothing,
        "noise": Unknown,
        "max_pool_3x3": Pooling,
        "avg_pool_3x3": Pooling,
        "skip_connect": Reduction if stride == 2 else Skip if width == 8 else Pointwise,
        "nor_conv_1x1": Pointwise if stride == 1 else Chain,
    }
    found = recognise(OPERATIONS[name](site))
    assert type(found) is kinds.get(name, Chain)
    if "sep" in name:
        first, second = found.steps
        assert first.norm is None
        assert isinstance(second.norm, nn.BatchNorm2d)
    elif "dil" in name:
        assert isinstance(found.steps[0], SeparableStep)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("name", ["sep_conv_3x3", "dil_conv_5x5", "skip_connect", "avg_pool_3x3"])
def test_stacked_are_those_that_keep_their_width_with_plain_norms(name, width, affine):
    width = 8 if "pool" in name else width
    module = OPERATIONS[name](Site(8, width, 2, affine, pool_norm=not affine))
    assert isinstance(stackable(recognise(module), module, 8), Unknown) is (affine or width == 12)


def test_what_the_executors_rely_on_is_asked_for():
    for parts in (
        [nn.ReLU(inplace=True), depthwise(), across(), norm()],  # would overwrite the state
        [nn.ReLU(), depthwise(), across(), norm(momentum=None)],  # averages in another way
        [nn.ReLU(), depthwise(), across()],
        [nn.MaxPool2d(3, return_indices=True)],
        [nn.AvgPool2d(3), norm()],  # scale and shift
        [nn.AvgPool2d(3), norm(affine=False), nn.ReLU()],
        [],
    ):
        assert isinstance(recognise(nn.Sequential(*parts)), Unknown)
    biased = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    reflecting = depthwise(padding_mode="reflect")
    for first, second in (
        (biased, across()),
        (reflecting, across()),
        (depthwise(), nn.Conv2d(8, 8, 1)),
        (depthwise(), across(stride=2)),
        (nn.Conv2d(8, 8, 3, padding="same", groups=8, bias=False), across()),
        (nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False), across(16)),
    ):
        assert recognise(nn.Sequential(nn.ReLU(), first, second, norm())).steps == (first, second)


def test_one_module_used_twice_is_two_steps():
    relu, bn = nn.ReLU(), norm()
    found = recognise(nn.Sequential(relu, depthwise(), across(), bn, relu, depthwise(), across(), bn))
    assert [step.norm for step in found.steps] == [None, bn]


def test_a_subclass_is_not_taken_for_its_parent():
    class Doubled(nn.Identity):
        def forward(self, x):
            return 2 * x

    class Backwards(nn.Sequential):
        def forward(self, x):
            return x

    assert isinstance(recognise(Doubled()), Unknown)
    assert isinstance(recognise(Backwards(*relu_conv_norm(8, 8))), Unknown)


def test_poolings_that_compute_another_thing_have_another_key():
    pools = [nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.MaxPool2d(3, 1, 1)]
    assert len({recognise(pool).key for pool in pools}) == 3
    assert recognise(pools[0]).key == recognise(copy.deepcopy(pools[0])).key


def test_average_poolings_of_one_state_are_told_apart():
    """They look alike in print."""
    factories = {
        "with": lambda site: nn.AvgPool2d(3, site.stride, 1),
        "without": lambda site: nn.AvgPool2d(3, site.stride, 1, count_include_pad=False),
    }
    network, weights, images = small(factories, tuple(factories))
    assert_same(network, weights, images, fused)


def small(factories=OPERATIONS, names=("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3", "dil_conv_5x5")):
    torch.manual_seed(0)
    space = Darts(channels=4, cells=1, nodes=2, operations=names)
    network = Supernet(space.network(Undecided(factories), (3, 8, 8), 5)).double()
    weights = {
        n: torch.rand(len(d.options), dtype=torch.double) for n, d in network.decisions.items() if d.role == "operation"
    }
    return network, weights, torch.randn(2, 3, 8, 8, dtype=torch.double)


def assert_same(network, weights, images, executor):
    """In training mode, and in evaluation mode, where a norm does not take away what is added before it."""
    twin = copy.deepcopy(network)
    for training in (True, False):
        with running(twin.train(training), reference):
            wanted = twin(images, weights)
        with running(network.train(training), executor):
            torch.testing.assert_close(network(images, weights), wanted, rtol=1e-9, atol=1e-9)


class Shifted(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 1


def give_a_bias(parts):
    parts[2].bias = nn.Parameter(torch.ones(8, dtype=torch.double))


def dilate(parts):
    parts[1].padding = parts[1].dilation = (2, 2)


def change_the_padding(parts):
    parts[1].padding_mode, parts[1]._reversed_padding_repeated_twice = "circular", [1, 1, 1, 1]


CHANGES = {
    "another part": lambda parts: parts.__setitem__(0, nn.Softplus()),
    "one more part": lambda parts: parts.append(nn.Softplus()),
    "one less part": lambda parts: parts.__delitem__(3),
    "a bias": give_a_bias,
    "another window": dilate,
    "another padding": change_the_padding,
    "another class": lambda parts: setattr(parts[1], "__class__", Shifted),
    "another average": lambda parts: setattr(parts[3], "momentum", None),
    "another eps": lambda parts: setattr(parts[3], "eps", 0.1),
}


@pytest.mark.parametrize("executor", [fused, stacked])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change, executor):
    """What was recognised at an earlier pass is not used for modules that have changed since."""
    network, weights, images = small()
    with running(network, executor):
        network(images, weights)
    CHANGES[change](network.network.cells[0].edges["2-3"].candidates["sep_conv_3x3"])
    assert_same(network, weights, images, executor)


@pytest.mark.parametrize("executor", [fused, stacked])
def test_a_change_of_one_of_two_poolings_is_noticed(executor):
    """Until then they are the same, and computed once for both edges."""
    network, weights, images = small(names=("avg_pool_3x3", "skip_connect"))
    with running(network, executor):
        network(images, weights)
    network.network.cells[0].edges["0-3"].candidates["avg_pool_3x3"][0].count_include_pad = True
    assert_same(network, weights, images, executor)


@pytest.mark.parametrize("executor", [fused, stacked])
def test_a_hook_that_comes_and_goes_is_called(executor):
    network, weights, images = small()
    part, calls = network.network.cells[0].edges["2-3"].candidates["sep_conv_3x3"][1], []
    with running(network, executor):
        network(images, weights)
        for register in (part.register_forward_hook, part.register_forward_pre_hook):
            handle = register(lambda *_: calls.append(1))
            network(images, weights)
            handle.remove()
        handle = part.register_full_backward_hook(lambda *_: calls.append(1))
        network(images, weights).sum().backward()
        handle.remove()
        network(images, weights)
    assert len(calls) == 3


def test_it_is_recognised_once_and_forgotten_with_the_cell():
    network, weights, images = small()
    cell = network.network.cells[0]
    with running(network, fused):
        network(images, weights)
        known = Recognised.of(cell)
        network(images, weights)
        assert Recognised.of(cell) is known
    alive = weakref.ref(cell)
    del cell, known, network
    gc.collect()
    assert alive() is None


def test_an_empty_container_that_is_filled_has_changed():
    outer = nn.Sequential(nn.Sequential())
    structure = Structure(outer)
    assert structure.unchanged()
    outer[0].append(nn.ReLU())
    assert not structure.unchanged()


@pytest.mark.parametrize("executor", [fused, stacked])
def test_edges_that_change_the_width(executor):
    """A cell from 4 to 6 channels; what its last edge reads is 6 wide already."""
    names = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_5x5", "nor_conv_1x1", "nor_conv_3x3", "conv_7x1_1x7")

    def place(edge, source):
        return names, replace(SITE, channels_in=4 if source < 2 else 6, channels_out=6)

    torch.manual_seed(0)
    cell = Cell("normal", Undecided(), [nn.Identity(), relu_conv_norm(3, 4)], 2, place, keep=2)
    network = Supernet(Net(cell)).double()
    assert not cell.keeps_width
    weights = {
        n: torch.rand(len(d.options), dtype=torch.double).requires_grad_()
        for n, d in network.decisions.items()
        if d.role == "operation"
    }
    images = torch.randn(2, 3, 7, 6, dtype=torch.double)
    twin, results = copy.deepcopy(network), []
    for one, by in ((network, reference), (twin, executor)):
        with running(one, by):
            out = one(images, weights)
        at = [*weights.values(), *one.parameters()]
        slopes = torch.autograd.grad(out.square().sum(), at, materialize_grads=True, allow_unused=True)
        results.append([out, *slopes, *one.buffers()])
    assert results[0][0].shape == (2, 12, 7, 6)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-8, atol=1e-9 * max(a.abs().max().item(), 1.0))


class Net(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.stem, self.cell = nn.Conv2d(3, 4, 1), cell

    def forward(self, images):
        return self.cell(self.stem(images), images)


def test_the_stacked_form_asks_for_more():
    """A square, centred kernel, and norms that are alike: without scale, with statistics."""
    for parts in (
        [depthwise(), across(), norm()],
        [depthwise(), across(), norm(affine=False, track_running_stats=False)],
        [nn.Conv2d(8, 8, (3, 5), padding=(1, 2), groups=8, bias=False), across(), norm(affine=False)],
        [nn.Conv2d(8, 8, 3, padding=2, groups=8, bias=False), across(), norm(affine=False)],
        [depthwise(), across(out=16), norm(16, affine=False)],
    ):
        module = nn.Sequential(nn.ReLU(), *parts)
        assert isinstance(recognise(module), Chain)
        assert isinstance(stackable(recognise(module), module, 8), Unknown)
    plain = OPERATIONS["sep_conv_5x5"](SITE)
    assert isinstance(stackable(recognise(plain), plain, 8), Separable)
    assert isinstance(stackable(recognise(plain), plain, 4), Unknown)
