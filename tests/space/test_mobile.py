"""The mobile space itself: its questions, its settings, genotypes given block by block."""

from dataclasses import asdict

import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.space.architecture import matters, random_architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.dropout import DropPath
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Block, Stage
from supernet.space.supernet import Supernet
from supernet.space.survey import candidates_of, decisions_of

NESTED = Mobile(
    (
        Stage((8, 16), depths=(1, 2, 3), kernels=(3, 5), expansions=(2, 4), squeeze=(False, True)),
        Stage((16,), depths=(1,), stride=2, kernels=(3, 5, 7), activations=("relu", "hardswish")),
    ),
    stem=8,
    head=32,
)
SEPARATE = Mobile(
    (Stage((8,), depths=(3,), kernels=(3, 5), expansions=(1, 2.5), skip=True), Stage((16,), stride=2, kernels=(3, 5))),
    stem=8,
    head=32,
    sharing="separate",
)


def test_a_nested_space_asks_for_each_size():
    decisions = decisions_of(NESTED)
    names = [f"stage1/{n}/{kind}" for n in (1, 2, 3) for kind in ("kernel", "expand", "squeeze")]
    assert set(decisions) == {"stage1/width", "stage1/depth", *names, "stage2/1/kernel", "stage2/1/activation"}
    assert decisions["stage1/3/kernel"].when == (("stage1/depth", ("3",)),)
    assert decisions["stage1/2/kernel"].when == (("stage1/depth", ("2", "3")),)
    assert decisions["stage1/1/kernel"].when == ()
    assert {d.group for d in decisions.values()} == {"stage1", "stage2"}
    assert candidates_of(NESTED).count == 2 * (8 + 8**2 + 8**3) * 6


def test_a_separate_space_asks_for_each_block():
    decisions = decisions_of(SEPARATE)
    assert decisions["stage1/1"].options == ("skip_connect", "k3_e1", "k3_e2_5", "k5_e1", "k5_e2_5")
    assert decisions["stage2/1"].options == ("k3_e6", "k5_e6")
    assert candidates_of(SEPARATE).count == 5**3 * 2


def test_what_is_drawn_is_built_and_no_more():
    decisions = decisions_of(NESTED)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        drawn = random_architecture("mobile", decisions, generator)
        assert set(drawn) == {d.name for d in decisions.values() if matters(d, drawn)}
        network = NESTED.network(Decided(drawn), (3, 8, 8), 4)
        assert len(network.stages[0].blocks) == int(drawn["stage1/depth"][0])
        for place, block in enumerate(network.stages[0].blocks, start=1):
            assert block.form.kernel == int(drawn[f"stage1/{place}/kernel"][0])
            assert block.form.channels_out == int(drawn["stage1/width"][0])
            assert block.form.expanded == block.form.channels_in * int(drawn[f"stage1/{place}/expand"][0])
            assert block.form.squeeze == (drawn[f"stage1/{place}/squeeze"] == ("se",))


def test_a_plain_network_is_one_of_the_supernet_and_has_nothing_of_the_search():
    with torch.device("meta"):
        largest = Supernet(NESTED.network(Undecided(), (3, 8, 8), 4))
        answer = NESTED.architecture([[Block(5, 4, True)] * 3, [Block(7, 6)]])
        network = NESTED.network(Decided(answer), (3, 8, 8), 4)
    theirs = {name.removeprefix("network."): value.shape for name, value in largest.state_dict().items()}
    assert {name: value.shape for name, value in network.state_dict().items()} == theirs
    assert not list(network.questions)


def test_a_network_is_given_block_by_block():
    answer = NESTED.architecture(
        [[Block(3, 2, False), Block(5, 4, True)], [Block(7, 6, activation="relu")]], widths=(8, 16)
    )
    assert dict(answer) == {
        "stage1/width": ("8",),
        "stage1/depth": ("2",),
        "stage1/1/kernel": ("3",),
        "stage1/1/expand": ("2",),
        "stage1/1/squeeze": ("plain",),
        "stage1/2/kernel": ("5",),
        "stage1/2/expand": ("4",),
        "stage1/2/squeeze": ("se",),
        "stage2/1/kernel": ("7",),
        "stage2/1/activation": ("relu",),
    }
    short = SEPARATE.architecture([[Block(3, 1), None], [Block(5, 6)]])
    assert [short[f"stage1/{n}"] for n in (1, 2, 3)] == [("k3_e1",), ("skip_connect",), ("skip_connect",)]


@pytest.mark.parametrize(
    ("space", "stages", "widths", "message"),
    [
        (NESTED, [[Block(3, 2)]], (), "stages=1, widths=0: the space has 2 stages"),
        (NESTED, [[Block(3, 3)], [Block(3, 6)]], (), "stage1/1/expand=3: is not in the space; it has 2, 4"),
        (NESTED, [[Block(3, 2)] * 4, [Block(3, 6)]], (), "stage1/depth=4: is not in the space; it has 1, 2, 3"),
        (NESTED, [[Block(3, 2)], [Block(3, 6)]], (12, 16), "stage1/width=12: is not in the space; it has 8, 16"),
        (NESTED, [[Block(3, 2)], [Block(3, 6, True)]], (), "stage2/1/squeeze=se: is not in the space; it has False"),
        (SEPARATE, [[Block(7, 1)], [Block(3, 6)]], (), "stage1/1=: is not in the space; it has skip_connect, k3_e1"),
        (SEPARATE, [[Block(3, 1)], [None]], (), "stage2/1=skip_connect: is not in the space"),
    ],
)
def test_blocks_that_the_space_lacks_are_one_line(space, stages, widths, message):
    with pytest.raises(InputError) as error:
        space.architecture(stages, widths=widths)
    assert message in str(error.value)


def test_settings_go_through_plain_containers():
    """As a model file and a yaml have them."""
    assert Mobile(**asdict(NESTED)) == NESTED
    listed = {
        **asdict(SEPARATE),
        "stages": [
            {k: list(v) if isinstance(v, tuple) else v for k, v in s.items()} for s in asdict(SEPARATE)["stages"]
        ],
    }
    assert Mobile(**listed) == SEPARATE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": ()}, "stages=0: needs 1 to 64"),
        ({"stages": ({"channels": (8,), "kernel": 3},)}, "stages: kernel is unknown; a Stage has channels, "),
        ({"stem": 0}, "stem=0: needs a whole number from 1 to 16,384"),
        ({"stem_stride": 3}, "stem_stride=3: use 1 or 2"),
        ({"dropout": 1.0}, r"dropout=1.0: needs to lie in \[0, 1\)"),
        ({"head_activation": "gelu"}, "head_activation=gelu: use one of relu, "),
        ({"resolutions": (32, 16)}, "resolutions=.32, 16.: needs different sides from 8 to 4,096"),
        ({"sharing": "separate"}, "sharing=separate: stage 1 has several depths or widths"),
    ],
)
def test_bad_settings_are_one_line(settings, message):
    with pytest.raises(InputError, match=message):
        Mobile(**{"stages": NESTED.stages, "stem": 8, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernels": (4,)}, "kernels=4: needs odd sizes"),
        ({"kernels": (5, 3)}, "kernels=.5, 3.: needs its values from small to large"),
        ({"depths": (2, 2)}, "depths=.2, 2.: needs one value or more, all different"),
        ({"channels": (0,)}, "channels=.0.: needs whole numbers from 1"),
        ({"expansions": (0.5,)}, "expansions=0.5: needs numbers from 1 to 32"),
        ({"activations": ("gelu",)}, "activations=gelu: use one of relu, "),
        ({"stride": 3}, "stride=3: use 1 or 2"),
        ({"squeeze": (1,)}, "squeeze=.1.: needs True, False or both"),
    ],
)
def test_bad_stages_are_one_line(settings, message):
    with pytest.raises(InputError, match=message):
        Stage(**{"channels": (8,), **settings})


def test_deeper_blocks_are_dropped_more_in_proportion_to_those_that_are_there():
    answer = SEPARATE.architecture([[Block(3, 1), None, Block(5, 1)], [Block(3, 6)]])
    network = SEPARATE.network(Decided(answer), (3, 8, 8), 4)
    shares = [module.share for module in network.modules() if isinstance(module, DropPath)]
    assert shares == [0.0, pytest.approx(1 / 3)]  # the third one has no residual
