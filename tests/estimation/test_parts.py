import pytest
import torch
from torch import nn

from supernet.estimation.descriptions import described
from supernet.estimation.parts import record
from supernet.runtime.errors import InputError
from supernet.space.architecture import Decision
from supernet.space.darts import Darts
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201
from supernet.space.operations import OPERATIONS, Site
from supernet.space.survey import decisions_of

NESTED = Mobile(
    (
        Stage((16, 24), depths=(1, 2), expansions=(2, 4)),
        Stage((24, 32), depths=(1, 3), stride=2, kernels=(3, 5), squeeze=(False, True)),
    ),
    stem=8,
    head=32,
    resolutions=(32, 64),
)
SPACES = [Darts(4, 5, nodes=3), NasBench201(channels=4, cells=1), NESTED]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_questions_are_those_of_a_supernet_in_its_order(space):
    recorded = record(space, (3, 64, 64), 10)
    asked = decisions_of(space, shape=(3, 64, 64))
    assert list(recorded.decisions.items()) == list(asked.items())


def test_norms_are_those_of_the_final_network():
    keys = record(SPACES[0], (3, 16, 16), 10).variants
    assert not any("fixed" in key for key in keys)  # in a search they do not learn scale and shift
    assert "MaxPool2d(kernel_size=3, stride=1, padding=1, dilation=1, ceil_mode=False) @ 4x16x16" in keys


def test_an_edge_is_there_where_its_node_takes_it():
    recorded = record(SPACES[0], (3, 16, 16), 10)
    part = next(part for part in recorded.parts if part.name == "cells.0.edges.1-3")
    assert (part.decisions, part.when) == (("normal/3/1",), (("normal/3", ("1",)),))
    assert [answers for (answers,) in part.variants] == [o for o in Darts().operations if o != "none"]


def test_a_nested_block_has_every_form_that_its_sizes_give_it():
    recorded = record(NESTED, (3, 64, 64), 10)
    assert recorded.sizes == ("resolution",)
    part = next(part for part in recorded.parts if part.name == "stages.1.blocks.2")
    assert part.when == (("stage2/depth", ("3",)),)
    assert set(part.decisions) == {"stage2/width", "stage2/3/kernel", "stage2/3/squeeze", "resolution"}
    assert len(part.variants) == 2**4
    first = next(part for part in recorded.parts if part.name == "stages.1.blocks.0")
    given = {variant.shapes[0] for variant in first.variants.values()}
    assert given == {(channels, side, side) for channels in (16, 24) for side in (16, 32)}


def test_equal_parts_have_one_key_and_run():
    recorded = record(SPACES[1], (3, 16, 16), 10)
    asked = sum(len(part.variants) for part in recorded.parts)
    assert len(recorded.variants) < asked
    for key, variant in recorded.variants.items():
        assert key == variant.key
        made = variant.module(*variant.inputs(batch=2))
        assert made.is_meta
        assert made.shape[0] == 2


def test_no_memory_is_taken_for_weights():
    recorded = record(SPACES[0], (3, 16, 16), 10)
    modules = [recorded.skeleton, *(variant.module for variant in recorded.variants.values())]
    assert all(parameter.is_meta for module in modules for parameter in module.parameters())


def test_keys_tell_forms_apart():
    sites = [Site(8, 8), Site(8, 8, stride=2), Site(8, 8, affine=False)]
    texts = {described(factory(site)) for factory in (OPERATIONS["sep_conv_3x3"], OPERATIONS["none"]) for site in sites}
    assert len(texts) == 5  # "none" has no norm
    conv = nn.Conv2d(4, 6, (1, 7), (1, 2), (0, 3), bias=True)
    assert described(conv) == "Conv2d(4>6 1x7 stride1x2 pad0x3 bias)"
    assert described(nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 2))) == "Sequential(Linear(3>2 bias))"


class Twice(nn.Module):
    def __init__(self, edge):
        super().__init__()
        self.edge = edge

    def forward(self, x):
        return self.edge(self.edge(x)).mean(dim=(2, 3))


class TwiceSpace:
    name = "twice"

    def network(self, choose, shape, outputs):
        return Twice(choose.operation(Decision("edge", ("skip_connect", "max_pool_3x3")), Site(3, 3)))


def test_bad_input():
    with pytest.raises(InputError, match="space=twice: edge has to run once in each pass"):
        record(TwiceSpace(), (3, 8, 8), 10)
    with pytest.raises(InputError, match="operation 'conv' at cell/1/0 is unknown"):
        record(NasBench201(nodes=1, operations=("conv",)), (3, 8, 8), 10)


def test_the_skeleton_gives_what_a_network_gives():
    recorded = record(NESTED, (3, 64, 64), 10)
    for answers, image in recorded.sized():
        assert recorded.skeleton(image).shape == (1, 10), answers
    assert recorded.around(lambda skeleton, image: float(skeleton.resize(image).shape[-1])) == {
        ("32",): 32.0,
        ("64",): 64.0,
    }
    assert torch.device("meta") == image.device
