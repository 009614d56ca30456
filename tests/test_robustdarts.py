"""S1 to S4 of Zela et al. 2020 in conf/space, against cells that others have found in these spaces."""

import math
from dataclasses import replace

import pytest
import torch
from common import composed
from supernet.experiments.instantiate import build

from supernet.estimation.costs import parameters
from supernet.runtime.errors import InputError
from supernet.search.differentiable.discretisers import argmax
from supernet.space.architecture import Architecture, check, random_architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.operations import OPERATIONS, Site
from supernet.space.supernet import Supernet

OPERATION = {
    "m": "max_pool_3x3",
    "a": "avg_pool_3x3",
    "k": "skip_connect",
    "s": "sep_conv_3x3",
    "d": "dil_conv_3x3",
    "D": "dil_conv_5x5",
}

# Cells of DARTS-PT (Wang et al. 2021, their sota/cnn/genotypes.py), on CIFAR-10 where nothing else is said, with
# their rounded millions of parameters: two edges a node, normal and reduction cell.
FOUND = {
    "s1": [
        ("k0 k1 k0 k1 k0 k1 d3 D4", "m0 d1 m0 m1 s1 k3 k2 D3", 1.87),
        ("d0 k1 k0 k2 k0 k3 d3 D4", "m0 m1 m0 m1 s1 k2 k2 D4", 2.02),
        ("k0 D1 s1 k2 m0 k3 s0 m1", "a0 m1 m0 m1 k2 D3 D2 k3", 2.36),
        ("k0 k1 s1 k2 m0 s1 k2 D3", "a0 d1 m1 D2 a0 k3 k2 D3", 2.39),
        ("k0 k1 D0 k2 m0 s2 d3 d4", "m0 d1 a1 D2 k2 D3 a0 k4", 2.38),  # SVHN
    ],
    "s2": [("k0 k1 s0 k2 s1 k3 s1 s4", "s0 s1 s0 k2 s0 k2 s1 k4", 3.09)],
    "s3": [("s0 s1 s0 k1 k0 k2 s0 s1", "s0 k1 s0 k2 s0 k3 k3 s4", 3.42)],
    "s4": [("s0 s1 s0 s1 s0 s1 s1 s2", "s0 s1 s0 s2 s0 s3 s0 s1", 4.70)],
}


def space(name: str) -> Darts:
    return build(composed("experiment=none", f"space={name}")["space"], "space")


def supernet_of(space: Darts) -> Supernet:
    with torch.device("meta"):
        return Supernet(replace(space, channels=4, cells=3).network(Undecided(), (3, 32, 32), 10))


def read(normal: str, reduce: str) -> Architecture:
    choices = {}
    for kind, edges in (("normal", normal.split()), ("reduce", reduce.split())):
        for number, (operation, source) in enumerate(edges):
            node = f"{kind}/{2 + number // 2}"
            choices[node] = (*choices.get(node, ()), source)
            choices[f"{node}/{source}"] = (OPERATION[operation],)
    return Architecture("darts", choices)


@pytest.mark.parametrize("name", FOUND)
def test_cells_that_were_found_there_are_in_the_space_and_have_their_size(name):
    decisions = supernet_of(space(name)).decisions
    for normal, reduce, millions in FOUND[name]:
        architecture = read(normal, reduce)
        check(architecture, decisions)
        with torch.device("meta"):
            network = Darts(36, 20).network(Decided(architecture), (3, 32, 32), 10)
        assert parameters(network) / 1e6 == pytest.approx(millions, abs=0.0101)


@pytest.mark.parametrize("name", FOUND)
def test_cells_of_another_space_are_not(name):
    decisions = supernet_of(space(name)).decisions
    with pytest.raises(InputError, match="is unknown"):
        check(read(*FOUND["s1" if name != "s1" else "s4"][0][:2]), decisions)


def test_two_operations_on_each_of_the_28_edges_of_s1():
    edges = [d for d in supernet_of(space("s1")).decisions.values() if d.role == "operation"]
    assert len(edges) == 28
    assert all(len(d.options) == 2 for d in edges)
    assert {o for d in edges for o in d.options} == set(OPERATION.values())
    assert len({d.options for d in edges if d.name.startswith("normal")}) == 5


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("s2", ("skip_connect", "sep_conv_3x3")),
        ("s3", ("none", "skip_connect", "sep_conv_3x3")),
        ("s4", ("noise", "sep_conv_3x3")),
    ],
)
def test_operations_of_the_others_are_the_same_everywhere(name, operations):
    decisions = [d for d in supernet_of(space(name)).decisions.values() if d.role == "operation"]
    assert [d.options for d in decisions] == [operations] * 28
    assert (space(name).channels, space(name).cells, space(name).nodes) == (16, 8, 4)


def test_the_right_answer_of_s4_has_its_published_size():
    decisions = supernet_of(space("s4")).decisions
    weights = {d.name: torch.tensor([0.1, 0.9]) for d in decisions.values() if d.role == "operation"}
    best = argmax("darts", decisions, weights)
    with torch.device("meta"):
        network = Darts(36, 20).network(Decided(best), (3, 32, 32), 10)
    assert parameters(network) == 4_701_718


def test_none_of_s3_takes_part_in_the_search_only():
    decisions = supernet_of(space("s3")).decisions
    weights = {d.name: torch.tensor([0.9, 0.06, 0.04]) for d in decisions.values() if d.role == "operation"}
    drawn = random_architecture("darts", decisions, torch.Generator().manual_seed(0))
    for architecture in (argmax("darts", decisions, weights), drawn):
        assert not any("none" in kept for kept in architecture.values())


def test_noise_is_normal_whatever_comes_in_and_follows_the_seed():
    x = torch.full((8, 4, 25, 25), math.nan)
    torch.manual_seed(0)
    one, two = OPERATIONS["noise"](Site(4, 4))(x), OPERATIONS["noise"](Site(4, 4, 2))(x)
    assert (one.shape, two.shape) == ((8, 4, 25, 25), (8, 4, 13, 13))
    assert one.mean().abs() < 5 / one.numel() ** 0.5
    assert one.std().item() == pytest.approx(1, abs=5 / (2 * one.numel()) ** 0.5)
    torch.manual_seed(0)
    assert torch.equal(OPERATIONS["noise"](Site(4, 4)).eval()(x), one)
    assert not torch.equal(OPERATIONS["noise"](Site(4, 4)).eval()(x), one)
