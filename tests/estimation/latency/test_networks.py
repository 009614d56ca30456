"""The networks that a table is calibrated on, in a space whose networks can all be counted."""

from functools import cache

import pytest
import torch

from supernet.estimation.costs import macs
from supernet.estimation.latency.networks import random_networks, spread_networks
from supernet.estimation.parts import record
from supernet.space.architecture import check
from supernet.space.choosers import Decided
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage

SPACE = Mobile((Stage((8, 12), depths=(1, 2), kernels=(3, 5), expansions=(3, 6)),), stem=8, head=16)
SHAPE = (3, 16, 16)
RECORDED = record(SPACE, SHAPE, 10)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


@cache
def count(architecture):
    return macs(SPACE.network(Decided(architecture), SHAPE, 10), SHAPE)


ALL = random_networks(RECORDED, 40, draws())


def test_all_networks_of_a_small_space_are_found_once():
    assert len(ALL) == len(set(ALL)) == 2 * (4 + 16)
    assert len(random_networks(RECORDED, 1000, draws(1))) == 40


def test_the_last_networks_of_a_space_are_found_besides_others():
    for seed in range(5):
        found = random_networks(RECORDED, 3, draws(seed), without=ALL[3:])
        assert set(found) == set(ALL[:3])
    assert random_networks(RECORDED, 3, draws(), without=ALL) == []


@pytest.mark.slow
def test_both_ends_are_in_and_what_is_between_is_spread():
    counts = sorted(map(count, ALL))
    found = spread_networks(RECORDED, 8, draws())
    assert [count(each) for each in found[:2]] == [counts[0], counts[-1]]
    for each in found:
        check(each, RECORDED.decisions)
    several = [count(each) for seed in range(30) for each in spread_networks(RECORDED, 12, draws(seed))]
    uniform = [count(each) for each in ALL]
    assert torch.tensor(several).double().std() > 1.2 * torch.tensor(uniform).double().std()


@pytest.mark.parametrize("number", [0, 1])
def test_few_are_the_ends(number):
    assert len(spread_networks(RECORDED, number, draws())) == number
