"""What a network under construction is answered: all that is open, or what a genotype keeps."""

import pytest
import torch
from common import edge_decision, node_decision
from torch import nn

from supernet.runtime.errors import InputError
from supernet.space.choices import AUXILIARY, SKIP, InputChoice, OperationChoice, PartialChannels, Together, Total
from supernet.space.choosers import Decided, Undecided
from supernet.space.operations import FactorizedReduce, Site, Zero

OPTIONS = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3")
EDGE, NODE = edge_decision("normal/3/1", OPTIONS), node_decision("normal/3", ("0", "1", "2"), keep=2)
SITE = Site(8, 8)


def refusal(ask, *given) -> str:
    with pytest.raises(InputError) as error:
        ask(*given)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_undecided_keeps_every_option_in_its_order():
    chooser = Undecided(single=True)
    edge = chooser.operation(EDGE, SITE)
    assert chooser.searching
    assert isinstance(edge, OperationChoice)
    assert edge.single
    assert edge.decision == EDGE
    assert tuple(edge.candidates) == OPTIONS
    assert not Undecided().operation(EDGE, SITE).single


def test_undecided_keeps_every_input():
    sources, total = Undecided().inputs(NODE)
    assert sources == ("0", "1", "2")
    assert isinstance(total, InputChoice)
    assert total.decision == NODE
    states = [torch.full((1,), value) for value in (1.0, 2.0, 4.0)]
    assert total(states).item() == 7.0
    total.weights = torch.tensor([1.0, 0.5, 0.25])
    assert total(states).item() == 3.0


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"excluded": ("none", "max_pool_3x3")}, ("skip_connect", "sep_conv_3x3")),
        ({"kept": {"normal/3/1": ["sep_conv_3x3", "none"]}}, ("none", "sep_conv_3x3")),
        ({"kept": {"normal/3/0": ["sep_conv_3x3"]}}, OPTIONS),
        ({"kept": {"normal/3/1": ["sep_conv_3x3", "none"]}, "excluded": ("none",)}, ("sep_conv_3x3",)),
        ({"excluded": ("noise",)}, OPTIONS),
    ],
)
def test_options_are_left_out_and_the_others_keep_their_order(settings, left):
    edge = Undecided(**settings).operation(EDGE, SITE)
    assert edge.decision.options == tuple(edge.candidates) == left
    assert (edge.decision.name, edge.decision.when, edge.decision.group) == (EDGE.name, EDGE.when, EDGE.group)


def test_what_leaves_an_edge_nothing_is_refused():
    said = refusal(Undecided(excluded=OPTIONS[1:]).operation, EDGE, SITE)
    assert said == (
        "excluded=['skip_connect', 'max_pool_3x3', 'sep_conv_3x3']: leaves none of none, skip_connect, max_pool_3x3, "
        "sep_conv_3x3 at normal/3/1; keep one of skip_connect, max_pool_3x3, sep_conv_3x3"
    )
    optional = edge_decision("normal/3/1", OPTIONS, optional=True)  # there "none" is an answer
    assert Undecided(excluded=OPTIONS[1:]).operation(optional, SITE).decision.options == ("none",)
    assert "leaves nothing" in refusal(Undecided(excluded=OPTIONS).operation, optional, SITE)
    assert "'sep_conv_9x9'" in refusal(Undecided(excluded=("sep_conv_9x9",)).operation, EDGE, SITE)


def test_an_unknown_operation_is_refused_by_both():
    asked = edge_decision("normal/3/1", ("mine",))
    for chooser in (Undecided(), Decided({"normal/3/1": ("mine",)})):
        assert refusal(chooser.operation, asked, SITE).startswith("operation 'mine' at normal/3/1 is unknown; known: ")
    own = {"mine": lambda site: nn.Conv2d(site.channels_in, site.channels_out, 1, site.stride)}
    assert Undecided(own).operation(asked, Site(3, 5, 2)).candidates["mine"].weight.shape == (5, 3, 1, 1)
    assert Decided({"normal/3/1": ("mine",)}, own).operation(asked, Site(3, 5, 2)).stride == (2, 2)


@pytest.mark.parametrize("stride", [1, 2])
def test_operations_see_a_part_of_the_channels(stride):
    edge = Undecided(channel_divisor=4).operation(EDGE, Site(8, 8, stride))
    assert isinstance(edge, PartialChannels)
    assert (edge.operated, edge.stride, edge.divisor) == (2, stride, 4)
    assert {m.num_features for m in edge.modules() if isinstance(m, nn.BatchNorm2d)} == {2}
    edge.choice.weights = torch.ones(len(OPTIONS))
    assert edge(torch.randn(2, 8, 5, 7)).shape == (2, 8, -(-5 // stride), -(-7 // stride))


@pytest.mark.parametrize(
    ("divisor", "site", "says"),
    [
        (3, Site(8, 8), "channel_divisor=3: 8 channels at normal/3/1 cannot be divided"),
        (8, Site(8, 8), "parts of two or more"),
        (2, Site(8, 16), "keeps its 8 channels, and 16 are to come out"),
    ],
)
def test_channels_that_cannot_be_divided_are_refused(divisor, site, says):
    assert says in refusal(Undecided(channel_divisor=divisor).operation, EDGE, site)


@pytest.mark.parametrize("divisor", [0, -1])
def test_a_divisor_is_one_or_more(divisor):
    assert refusal(lambda: Undecided(channel_divisor=divisor)).startswith(f"channel_divisor={divisor}: ")


@pytest.mark.parametrize(
    ("options", "site", "beside"),
    [
        (OPTIONS, Site(8, 8), False),  # the option does the same
        (OPTIONS, Site(8, 8, 2), True),  # it has weights of its own
        (OPTIONS, Site(8, 4), True),
        (("none", "sep_conv_3x3"), Site(8, 8), True),
    ],
)
def test_a_skip_connection_runs_beside_the_others(options, site, beside):
    edge = Undecided(auxiliary=True).operation(edge_decision("normal/3/1", options[:2] + options[3:]), site)
    assert edge.decision.auxiliary
    assert (tuple(edge.candidates)[-1] == AUXILIARY) == beside
    assert AUXILIARY not in edge.decision.options
    if beside and SKIP in edge.candidates:
        assert edge.candidates[AUXILIARY] is not edge.candidates[SKIP]


def test_decided_builds_what_the_genotype_keeps():
    cell = {"normal/3": ("0", "2"), "normal/3/1": ("skip_connect",), "normal/3/0": ("none",)}
    chooser = Decided(cell)
    assert not chooser.searching
    assert isinstance(chooser.operation(EDGE, SITE), nn.Identity)
    assert isinstance(chooser.operation(EDGE, Site(8, 8, 2)), FactorizedReduce)
    assert isinstance(chooser.operation(edge_decision("normal/3/0", OPTIONS), SITE), Zero)
    sources, total = chooser.inputs(NODE)
    assert sources == ("0", "2")
    assert isinstance(total, Total)
    assert total([torch.ones(1), torch.ones(1)]).item() == 2.0
    assert Decided(cell, searching=True).searching


def test_decided_adds_several_operations_of_one_edge():
    twice = Decided({"normal/3/1": ("skip_connect", "skip_connect")}).operation(EDGE, SITE)
    assert isinstance(twice, Together)
    assert torch.equal(twice(torch.ones(1, 8, 2, 2)), torch.full((1, 8, 2, 2), 2.0))


def test_where_the_genotype_says_nothing_all_inputs_feed_and_operations_are_asked_for():
    assert Decided({}).inputs(NODE)[0] == ("0", "1", "2")
    said = refusal(Decided({}).operation, EDGE, SITE)
    assert said == (
        "the genotype has no operation for normal/3/1; one of none, skip_connect, max_pool_3x3, sep_conv_3x3 is needed"
    )


@pytest.mark.parametrize(
    ("kept", "says"), [(("0", "5", "7"), "gives normal/3 5, 7;"), ((), "gives normal/3 no input;")]
)
def test_inputs_that_there_are_not_are_refused(kept, says):
    said = refusal(Decided({"normal/3": kept}).inputs, NODE)
    assert says in said
    assert "it can take 0, 1, 2" in said
