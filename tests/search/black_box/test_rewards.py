import math

import pytest
import torch
from common import edge_decision, node_decision

from supernet.estimation.costs import multiply_adds, parameters
from supernet.estimation.limits import Limits
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.search.black_box.rewards import (
    KILO_PARAMETERS,
    AbsoluteReward,
    PowerReward,
    cost_of,
    mean_cost,
    quality,
)
from supernet.space.architecture import Architecture, random_architecture
from supernet.space.choosers import Decided
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.operations import OPERATIONS, Site

DECISIONS = {
    d.name: d
    for d in (
        node_decision("cell/2", ("0", "1", "2"), keep=2),
        *(edge_decision(f"cell/2/{source}", ("none", "skip_connect", "nor_conv_3x3")) for source in "012"),
    )
}
CELL = {"cell/2": ("0", "2"), "cell/2/0": ("skip_connect",), "cell/2/2": ("nor_conv_3x3",)}


def test_known_costs_are_the_convolution_weights_of_the_operations():
    """In thousands, at 16 channels and stride 1; norms do not count."""
    assert KILO_PARAMETERS.keys() == OPERATIONS.keys()
    for name, cost in KILO_PARAMETERS.items():
        module = OPERATIONS[name](Site(16, 16, affine=False))
        assert parameters(module) / 1000 == pytest.approx(cost), name


def test_the_cost_is_that_of_the_edges_that_are_kept():
    costs = {"none": 0.0, "skip_connect": 1.0, "nor_conv_3x3": 9.0}
    assert cost_of(CELL, DECISIONS, costs) == 10.0
    assert cost_of({**CELL, "cell/2/1": ("nor_conv_3x3",)}, DECISIONS, costs) == 10.0  # not kept: nobody asked


def test_the_mean_cost_is_that_of_many_draws():
    costs = {"none": 0.0, "skip_connect": 1.0, "nor_conv_3x3": 9.0}
    stream = torch.Generator().manual_seed(0)
    drawn = [cost_of(random_architecture("mine", DECISIONS, stream), DECISIONS, costs) for _ in range(3000)]
    spread = torch.tensor(drawn).std().item() / math.sqrt(3000)
    assert mean_cost(DECISIONS, costs) == pytest.approx(10.0)  # two edges of 5 each
    assert abs(sum(drawn) / 3000 - 10.0) < 5 * spread


def test_the_absolute_reward_is_tunas():
    """Accuracy + beta |T / T0 - 1|, on both sides of the target."""
    costs = {"none": 0.0, "skip_connect": 1.0, "nor_conv_3x3": 9.0}
    for target in (5.0, 10.0, 40.0):
        expected = 0.8 - 0.1 * abs(10.0 / target - 1)
        assert AbsoluteReward(costs, target)(0.8, CELL, DECISIONS) == pytest.approx(expected)
    assert AbsoluteReward(costs)(0.8, CELL, DECISIONS) == pytest.approx(0.8)  # CELL costs the mean


def test_the_power_reward_is_proxylessnas():
    """Accuracy (reference / latency) ** 0.1."""
    costs = {"none": 0.0, "skip_connect": 1.0, "nor_conv_3x3": 9.0}
    reward = PowerReward(costs, reference=80.0, always=30.0)
    assert reward(0.7, CELL, DECISIONS) == pytest.approx(0.7 * (80 / 40) ** 0.1)
    assert quality(0.7, CELL, DECISIONS) == 0.7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AbsoluteReward({"a": -1.0}), r"^costs\.a=-1\.0: needs 0 or more"),
        (lambda: AbsoluteReward(target=0.0), r"^target=0\.0: needs a cost above 0"),
        (lambda: AbsoluteReward(weight=0.1), r"^weight=0\.1: needs 0 or less"),
        (lambda: PowerReward({"a": math.nan}, 1.0), r"^costs\.a=nan: "),
        (lambda: PowerReward({"a": 1.0}, 0.0), r"^reference=0\.0: "),
        (lambda: PowerReward({"a": 1.0}, 1.0, exponent=-1.0), r"^exponent=-1\.0: "),
        (lambda: PowerReward({"a": 0.0}, 1.0), r"^always=0\.0: needs a cost above 0"),
        (lambda: AbsoluteReward({"none": 1.0})(0.5, CELL, DECISIONS), r"^costs: none for 'skip_connect'; give each of"),
        (
            lambda: AbsoluteReward(dict.fromkeys(OPERATIONS, 0.0))(0.5, CELL, DECISIONS),
            r"^target=None: all operations cost 0",
        ),
    ],
)
def test_refuses_nonsense(make, message):
    with pytest.raises(InputError, match=message):
        make()


MOBILE = Mobile((Stage((8,), depths=(1, 2), kernels=(3, 5), expansions=(2, 4)),), stem=8, head=16)
COSTS = SpaceCosts(MOBILE, (3, 16, 16), outputs=10)


def drawn(number: int) -> Architecture:
    return random_architecture("mobile", COSTS.decisions, torch.Generator().manual_seed(number))


@pytest.mark.parametrize("number", range(3))
def test_a_named_cost_is_that_of_the_network(number):
    """In a space of nested sizes no operation has a cost of its own."""
    network = MOBILE.network(Decided(drawn(number)), (3, 16, 16), 10)
    macs, parameters_of = multiply_adds(network, torch.zeros(1, 3, 16, 16)), parameters(network)
    absolute = AbsoluteReward("macs", target=2e5, weight=-0.1).in_space(Limits(COSTS, {}))
    assert absolute(0.5, drawn(number), COSTS.decisions) == pytest.approx(0.5 - 0.1 * abs(macs / 2e5 - 1))
    power = PowerReward("params", reference=1000.0, exponent=0.5).in_space(Limits(COSTS, {}))
    assert power(0.5, drawn(number), COSTS.decisions) == pytest.approx(0.5 * math.sqrt(1000 / parameters_of))


def test_the_target_is_the_limit_or_the_mean_of_drawn_networks():
    limit, free = Limits(COSTS, {"macs": 3e5}), Limits(COSTS, {})
    assert AbsoluteReward("macs").in_space(limit).target == 3e5
    assert AbsoluteReward("macs", target=1e5).in_space(limit).target == 1e5
    assert PowerReward("macs").in_space(limit).reference == 3e5
    reward = AbsoluteReward("macs", weight=-1.0).in_space(free)
    assert reward.target is None
    mean = sum(COSTS.of("macs", drawn(number)) for number in range(2000)) / 2000
    assert mean_cost(COSTS.decisions, reward.costs) == pytest.approx(mean, rel=0.02)


def test_named_costs_that_cannot_be_are_told_of():
    with pytest.raises(InputError, match=r"^costs=macs: nothing is known of costs here"):
        AbsoluteReward("macs").in_space(None)
    with pytest.raises(InputError, match=r"^costs=macs: nothing is known of costs here"):
        AbsoluteReward("macs", target=1.0)(0.5, {}, DECISIONS)
    with pytest.raises(InputError, match=r"^costs=joules: no cost has this name"):
        AbsoluteReward("joules").in_space(Limits(COSTS, {}))
    with pytest.raises(InputError, match=r"^reference=None: needs a number, or a limit on this cost"):
        PowerReward("macs").in_space(Limits(COSTS, {}))(0.5, drawn(0), COSTS.decisions)
