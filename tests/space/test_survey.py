"""What a space asks, without its weights."""

import pytest
import torch
from torch import nn

from supernet.space.architecture import check
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.operations import OPERATIONS
from supernet.space.supernet import Supernet
from supernet.space.survey import divisor, random_cell, survey

SPACES = [
    Darts(channels=4, cells=3, nodes=2),
    Darts(channels=4, cells=1, nodes=2),
    NasBench201(channels=4, cells=1, stages=2, nodes=2),
]


@pytest.mark.parametrize("space", SPACES)
def test_a_survey_names_the_operation_decisions_of_the_supernet(space):
    decisions = Supernet(space.network(Undecided(), (3, 8, 8), 5)).decisions
    assert survey(space, (3, 8, 8), 5).keys() == {name for name, d in decisions.items() if d.role == "operation"}


def test_channels_are_those_of_all_cells_that_share_a_decision():
    """DARTS halves the size and doubles the channels at a third and at two thirds."""
    asked = survey(Darts(channels=4, cells=6, nodes=2), (3, 8, 8), 5)
    assert asked["normal/2/0"] == {4, 8, 16}
    assert asked["reduce/3/2"] == {8, 16}
    assert survey(NasBench201(channels=3, stages=3), (3, 8, 8), 5)["cell/3/1"] == {3, 6, 12}


def test_a_survey_makes_no_weights_and_draws_nothing(monkeypatch):
    built = []
    monkeypatch.setattr(nn.Conv2d, "reset_parameters", lambda self: built.append(self.weight.device.type))
    state = torch.get_rng_state()
    survey(SPACES[0], (3, 8, 8), 5)
    random_cell(SPACES[0])
    assert set(built) == {"meta"}
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("most", "channels", "found"),
    [
        (4, [{16}, {32, 64}], 4),
        (4, [{6}, {12}], 3),
        (8, [{8}], 4),  # one channel alone is too few
        (4, [{4}, {5}], 1),
        (1, [{16}], 1),
        (16, [{36}, {144}], 12),
    ],
)
def test_the_divisor_fits_all_and_leaves_two_channels(most, channels, found):
    assert divisor(most, {str(number): asked for number, asked in enumerate(channels)}) == found


@pytest.mark.parametrize("space", SPACES)
def test_random_cells_are_answers_and_are_numbered(space):
    decisions = Supernet(space.network(Undecided(), (3, 8, 8), 5)).decisions
    cells = [random_cell(space, seed, number) for seed in (0, 1) for number in range(3)]
    for cell in cells:
        check(cell, decisions)
        assert cell.space == space.name
    assert len(set(cells)) > 3
    assert [random_cell(space, seed, number) for seed in (0, 1) for number in range(3)] == cells


def test_own_operations_can_be_drawn():
    space = Darts(channels=4, cells=1, nodes=2, operations=("mine",))
    cell = random_cell(space, factories={**OPERATIONS, "mine": lambda site: nn.Identity()})
    assert {kept for name, kept in cell.items() if name.count("/") == 2} == {("mine",)}
