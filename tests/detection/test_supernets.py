"""Supernets and decided networks that end in a detector: every way to run them computes the same."""

import copy

import pytest
import torch

from supernet.detection.head import AnchorFree
from supernet.detection.losses import detection_loss
from supernet.estimation.costs import macs, parameters
from supernet.estimation.memory import peak_memory
from supernet.estimation.space_costs import SpaceCosts
from supernet.execution.engines import engine
from supernet.execution.fused.executor import fused
from supernet.execution.modes import running
from supernet.execution.stacked.executor import stacked
from supernet.space.cells import reference
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.dropout import set_drop_path
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.supernet import Supernet
from supernet.space.survey import random_cell

SIZE = (48, 72)
DARTS = Darts(
    channels=8, cells=3, nodes=2, stem="imagenet", operations=("skip_connect", "sep_conv_3x3", "avg_pool_3x3")
)
MOBILE = Mobile(tuple(Stage((8,), (1, 2), 2, (3, 5), (2, 3)) for _ in range(4)), stem=8)
HEAD = AnchorFree(2, width=8, towers=1)
LABELS = torch.tensor(
    [
        [[0.0, 4, 4, 40, 30, 0, 936], [1.0, 30, 10, 62, 46, 0, 1152], [1.0, 0, 30, 20, 48, 1, 360]],
        [[1.0, 10, 5, 60, 40, 0, 1750], [-1.0, 0, 0, 0, 0, 0, 0], [-1.0, 0, 0, 0, 0, 0, 0]],
    ]
)


def images():
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def loss_of(output):
    return detection_loss(output, LABELS.double(), SIZE, HEAD.strides)


def weights_of(supernet, single=False):
    """Weights of all options, or of one of each."""
    draw = torch.Generator().manual_seed(1)
    weights = {}
    for name, decision in supernet.decisions.items():
        if decision.role != "inputs":
            value = torch.rand(len(decision.options), dtype=torch.float64, generator=draw)
            weights[name] = (value == value.max()).double() if single else value / value.sum()
    return weights


def outcome(network, executor, *given):
    network = copy.deepcopy(network)
    with running(network, executor):
        loss = loss_of(network(*given))
        gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)
    return [loss, *gradients]


@pytest.mark.parametrize("executor", [fused, stacked])
@pytest.mark.parametrize("chooser", [Undecided(), Undecided(channel_divisor=4), Undecided(single=True)])
def test_every_executor_computes_what_the_reference_does(chooser, executor):
    torch.manual_seed(0)
    supernet = Supernet(DARTS.network(chooser, (3, *SIZE), HEAD)).double()
    given = images(), weights_of(supernet, chooser.single)
    for expected, made in zip(*(outcome(supernet, e, *given) for e in (reference, executor)), strict=True):
        torch.testing.assert_close(made, expected, rtol=1e-7, atol=1e-9 * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("space", [DARTS, MOBILE], ids=["darts", "mobile"])
def test_the_loss_is_differentiable_in_the_weights_of_the_options_twice(space):
    """The first and the second derivative along a direction are those of finite differences."""
    torch.manual_seed(0)
    supernet = Supernet(space.network(Undecided(), (3, *SIZE), HEAD)).double()
    weights, x = weights_of(supernet), images()
    draw = torch.Generator().manual_seed(2)
    direction = {name: torch.randn(value.shape, dtype=torch.float64, generator=draw) for name, value in weights.items()}

    def along(step):
        at = torch.tensor(float(step), dtype=torch.float64, requires_grad=True)
        loss = loss_of(supernet(x, {name: value + at * direction[name] for name, value in weights.items()}))
        (first,) = torch.autograd.grad(loss, at, create_graph=True)
        (second,) = torch.autograd.grad(first, at)
        return loss.item(), first.item(), second.item()

    (_, first, second), ahead, behind = (along(step) for step in (0.0, 1e-6, -1e-6))
    assert first == pytest.approx((ahead[0] - behind[0]) / 2e-6, rel=1e-4)
    assert second == pytest.approx((ahead[1] - behind[1]) / 2e-6, rel=1e-3)


@pytest.mark.parametrize("space", [DARTS, MOBILE], ids=["darts", "mobile"])
def test_costs_of_the_parts_are_those_of_the_whole_network(space):
    costs = SpaceCosts(space, (3, *SIZE), HEAD)
    network = costs.network(architecture := random_cell(space, 2))
    assert costs.of("parameters", architecture) == parameters(network)
    assert costs.of("macs", architecture) == macs(network, (3, *SIZE))
    assert costs.of("memory", architecture) == peak_memory(network, torch.zeros(1, 3, *SIZE, device="meta"))


@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_a_decided_network_computes_the_same_on_every_engine(drop_path):
    torch.manual_seed(0)
    network = DARTS.network(Decided(random_cell(DARTS, 1)), (3, *SIZE), HEAD)
    set_drop_path(network, drop_path)
    outputs = []
    for name in ("reference", "fused"):
        torch.manual_seed(7)
        outputs.append(engine(name).apply(copy.deepcopy(network))(images().float()))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-3)
