import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from common import edge_decision, node_decision

from supernet.runtime.errors import InputError
from supernet.search.progressive.stages import Stage, pruned, resolve_stages
from supernet.search.recipe import SearchRecipe
from supernet.space.architecture import Decision
from supernet.space.choosers import Undecided
from supernet.space.darts import DARTS_OPERATIONS, Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.space.survey import divisor, survey
from supernet.training.schedules import Cosine

SHAPE = (3, 32, 32)
RECIPE = SearchRecipe(epochs=75, warm_up=30, schedule=Cosine(0.1, 0.0))
P_DARTS = [Stage(length=1 / 3, depth=d, keep=k, skip_dropout=p) for d, k, p in
           ((0.625, 5, 0.1), (1.375, 3, 0.4), (2.125, None, 0.7))]  # fmt: skip


def of(stages, space=None, recipe=RECIPE):
    return resolve_stages(stages, space or Darts(), recipe, SHAPE, 10)


def test_no_stages_are_one_stage_that_changes_nothing():
    (stage,) = of([])
    assert (stage.space, stage.recipe, stage.channel_divisor) == (Darts(), RECIPE, None)
    assert stage.recipe.schedule is RECIPE.schedule


def test_p_darts_sizes_are_the_published_ones():
    """Chen et al. 2019: 5, 11 and 17 cells, 25 epochs each, 10 of them without the alphas."""
    found = of(P_DARTS)
    assert [(stage.space.cells, stage.space.channels) for stage in found] == [(5, 16), (11, 16), (17, 16)]
    assert [(stage.recipe.epochs, stage.recipe.warm_up) for stage in found] == [(25, 10)] * 3
    assert [stage.recipe.skip_dropout for stage in found] == [0.1, 0.4, 0.7]
    for stage in found:  # a whole cosine in each
        assert stage.recipe.schedule(5, 25) == Cosine(0.1, 0.0)(5, 25)


def test_drnas_sizes_are_the_published_ones():
    """Chen et al. 2021: 36 channels, 20 cells, one cosine over both stages."""
    stages = [Stage(length=0.5, depth=2.5, width=2.25, channel_divisor=p, schedule="whole") for p in (6, 4)]
    found = of(stages, recipe=replace(RECIPE, epochs=50, warm_up=20))
    assert [(stage.space.channels, stage.space.cells, stage.channel_divisor) for stage in found] == [
        (36, 20, 6),
        (36, 20, 4),
    ]
    rates = [stage.recipe.schedule(epoch, 25) for stage in found for epoch in range(25)]
    assert rates == [0.05 * (1 + math.cos(math.pi * epoch / 50)) for epoch in range(50)]


def test_the_rate_is_multiplied():
    _, stage = of(
        [Stage(), Stage(inherit_weights=True, rate=0.1, length=1.6)], recipe=replace(RECIPE, epochs=50, warm_up=0)
    )
    assert stage.recipe.epochs == 80
    assert stage.recipe.schedule(8, 80) == pytest.approx(0.1 * Cosine(0.1, 0.0)(8, 80), rel=1e-15)


@pytest.mark.parametrize("cells", [1, 2, 3, 8])
def test_a_small_stage_still_asks_all_questions(cells):
    space = Darts(cells=cells)
    for stage in of([Stage(depth=0.1), Stage(depth=1.4)], space):
        assert set(survey(space, SHAPE, 10)) <= set(survey(stage.space, SHAPE, 10))
    (small,) = of([Stage(depth=0.1, length=0.001)], NasBench201())
    assert (small.space.cells, small.recipe.epochs, small.recipe.warm_up) == (1, 1, 0)


@pytest.mark.parametrize(
    ("most", "channels", "fits"), [(6, {36}, 6), (4, {18}, 3), (4, {8, 16}, 4), (4, {4}, 2), (6, {7}, 1), (1, {8}, 1)]
)
def test_divisor(most, channels, fits):
    assert divisor(most, {"normal/2/0": channels}) == fits


def test_survey_counts_channels_of_every_edge():
    asked = survey(Darts(channels=4, cells=3), SHAPE, 10)
    assert asked["normal/2/0"] == {4}
    assert asked["reduce/2/0"] == {8, 16}
    assert survey(NasBench201(channels=4), SHAPE, 10)["cell/1/0"] == {4, 8, 16}


def decision(*options: str, **more) -> Decision:
    return edge_decision("normal/2/0", options, **more)


@pytest.mark.parametrize(
    ("weights", "keep", "left"),
    [
        ([0.1, 0.4, 0.2, 0.3], 2, ("a", "c")),
        ([0.1, 0.4, 0.2, 0.3], 3, ("a", "b", "c")),
        ([0.4, 0.3, 0.2, 0.1], 2, ("none", "a")),
        ([0.4, 0.1, 0.1, 0.1], 1, ("a",)),  # "none" is no answer; of equals the first
        ([0.4, 0.1, 0.2, 0.1], 1, ("b",)),
        ([0.1, 0.2, 0.3, 0.4], 9, ("none", "a", "b", "c")),
        ([0.1, 0.2, 0.3, 0.4], None, ("none", "a", "b", "c")),
    ],
)
def test_pruning_by_hand(weights, keep, left):
    question = decision("none", "a", "b", "c")
    inputs = node_decision("normal/2", ("0",))
    found = pruned({"normal/2": inputs, question.name: question}, {question.name: torch.tensor(weights)}, keep)
    assert found == {question.name: left}


def test_where_none_is_an_answer_it_can_stay_alone():
    question = decision("none", "a", optional=True)
    assert pruned({question.name: question}, {question.name: torch.tensor([0.6, 0.4])}, 1)[question.name] == ("none",)


def test_one_operation_can_be_left_of_an_edge():
    chooser = Undecided(kept={"cell/1/0": ("none",), "cell/2/0": ("skip_connect",)})
    supernet = Supernet(NasBench201(4, 1, 1, 2).network(chooser, SHAPE, 3))
    assert supernet.decisions["cell/1/0"].options == ("none",)
    weights = {n: torch.ones(len(d.options)) for n, d in supernet.decisions.items() if d.role == "operation"}
    assert supernet(torch.zeros(2, *SHAPE), weights).shape == (2, 3)


def test_what_is_left_is_pruned_again():
    chooser = Undecided(kept={"normal/2/0": ("none", "skip_connect", "sep_conv_3x3")})
    supernet = Supernet(Darts(channels=2, cells=3, nodes=2).network(chooser, SHAPE, 3))
    weights = {name: torch.arange(float(len(d.options))) for name, d in supernet.decisions.items()}
    left = pruned(supernet.decisions, weights, 2)
    assert left["normal/2/0"] == ("skip_connect", "sep_conv_3x3")
    assert left["normal/2/1"] == DARTS_OPERATIONS[-2:]


@dataclass(frozen=True)
class Odd:
    name: ClassVar[str] = "odd"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Stage(depth=0.0), "depth=0.0: multiplies"),
        (lambda: Stage(rate=math.inf), "rate=inf: multiplies"),
        (lambda: Stage(keep=0), "keep=0: needs 1 or more where it is given"),
        (lambda: Stage(channel_divisor=0), "channel_divisor=0: needs 1 or more where it is given"),
        (lambda: Stage(schedule="both"), "schedule=both: use own or whole"),
        (lambda: Stage(skip_dropout=1.0), "skip_dropout=1.0: needs to lie in"),
        (lambda: of([Stage(inherit_weights=True)]), "no stage before the first"),
        (lambda: of([Stage(depth=2.0), Stage(inherit_weights=True)]), "needs depth and width of the stage before"),
        (
            lambda: of([Stage(channel_divisor=2), Stage(channel_divisor=4, inherit_weights=True)]),
            "channel_divisor=4 after 2, inherit_weights=True",
        ),
        (
            lambda: of([Stage(), Stage(channel_divisor=4, inherit_weights=True)]),
            "channel_divisor=4 after None, inherit_weights=True",
        ),
        (lambda: of([Stage(depth=2.0)], Odd()), "space 'odd' has no cells"),
    ],
)
def test_mistakes(make, says):
    with pytest.raises(InputError, match=says):
        make()
