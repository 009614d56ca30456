"""Networks that end in a head: which maps it gets, in every space, and what such a network cannot have."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from supernet.genotypes.literature import published
from supernet.runtime.errors import InputError
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.heads import Feature
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201
from supernet.space.spaces import fbnet, ofa_mbv3
from supernet.space.supernet import Supernet
from supernet.space.survey import decisions_of, random_cell, survey


@dataclass(frozen=True)
class Sums:
    """A head that keeps what it was told of its maps, and adds all that it is given."""

    def build(self, features: Sequence[Feature]) -> nn.Module:
        return Summing(features)


class Summing(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features, self.shapes = list(features), []

    def forward(self, *maps):
        self.shapes = [tuple(x.shape[1:]) for x in maps]
        return torch.stack([x.mean((1, 2, 3)) for x in maps], 1)


MOBILE = Mobile((Stage((8,)), Stage((16,), (1, 2), 2, kernels=(3, 5))), stem=8)
SPACES = {
    "darts": (Darts(channels=4, cells=6, nodes=2, stem="imagenet"), [(8, 8), (16, 16), (32, 32)]),
    "darts cifar": (Darts(channels=4, cells=3, nodes=3), [(12, 1), (24, 2), (48, 4)]),
    "darts two cells": (Darts(channels=4, cells=2, nodes=2, stem="imagenet"), [(4, 8), (16, 16), (32, 32)]),
    "darts one cell": (Darts(channels=4, cells=1, nodes=2, stem="imagenet"), [(4, 8), (16, 16)]),
    "nasbench201": (NasBench201(channels=4, cells=1, nodes=2), [(4, 1), (8, 2), (16, 4)]),
    "fbnet": (fbnet(width=0.25), [(8, 2), (8, 4), (8, 8), (32, 16), (88, 32)]),
    "ofa": (ofa_mbv3(width=0.25), [(8, 2), (8, 4), (16, 8), (32, 16), (40, 32)]),
}


@pytest.mark.parametrize("size", [(64, 96), (61, 83)])
@pytest.mark.parametrize("name", SPACES)
def test_a_head_gets_the_maps_that_it_was_told_of(name, size):
    space, expected = SPACES[name]
    torch.manual_seed(0)
    network = space.network(Decided(random_cell(space)), (3, *size), Sums()).eval()
    assert network(torch.randn(2, 3, *size)).shape[0] == 2
    told = network.prediction.features
    given = [(f.channels, -(-size[0] // f.stride), -(-size[1] // f.stride)) for f in told]
    assert network.prediction.shapes == given
    assert len(told) >= 2
    assert [f.stride for f in told] == [told[0].stride * 2**n for n in range(len(told))]
    if expected:
        assert [(f.channels, f.stride) for f in told] == expected


def test_the_genotype_of_the_literature_ends_in_a_head():
    """DARTS's output has all four nodes: 4 times the channels, doubled at each reduction."""
    space = Darts(channels=16, cells=8, stem="imagenet")
    with torch.device("meta"):
        network = space.network(Decided(published("darts_v2")), (3, 288, 384), Sums())
    assert network.prediction.features == [Feature(64, 8), Feature(128, 16), Feature(256, 32)]


@pytest.mark.parametrize("space", [Darts(channels=4, cells=3, nodes=2), NasBench201(channels=4, cells=1), MOBILE])
def test_a_head_takes_the_place_of_the_classifier_alone(space):
    with torch.device("meta"):
        plain = space.network(Undecided(), (3, 32, 32), 10)
        headed = space.network(Undecided(), (3, 32, 32), Sums())
    gone = {name.split(".")[0] for name in set(plain.state_dict()) - set(headed.state_dict())}
    assert gone <= {"classifier", "head"}
    assert set(headed.state_dict()) <= set(plain.state_dict())
    assert Supernet(headed).decisions == Supernet(plain).decisions
    assert decisions_of(space, outputs=Sums()) == decisions_of(space)
    assert survey(space, (3, 32, 32), Sums()) == survey(space, (3, 32, 32), 10)


def test_what_cannot_end_in_a_head():
    with pytest.raises(InputError, match="auxiliary=True: is a second classifier, and this network ends in a head"):
        Darts(cells=3, auxiliary=True).network(Undecided(), (3, 32, 32), Sums())
    with pytest.raises(InputError, match=r"resolutions=\[32\]: this network ends in a head"):
        fbnet(resolutions=(32,)).network(Undecided(), (3, 32, 32), Sums())
    wide = Mobile((Stage((8,)), Stage((8, 16), (1, 2))), stem=8)
    with pytest.raises(InputError, match="stages: stage 2 has several widths, and this network ends in a head"):
        wide.network(Undecided(), (3, 32, 32), Sums())
