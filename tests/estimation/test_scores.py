"""A score is any function of an architecture that says what is known of it."""

from dataclasses import FrozenInstanceError

import pytest

from supernet.estimation.scores import Measured, Score
from supernet.space.architecture import Architecture


def test_what_is_measured_cannot_be_changed_and_costs_nothing_unless_it_is_said():
    one, other = Measured({"accuracy": 0.5}), Measured({"accuracy": 0.5}, {"images": 4.0})
    assert one.cost == {}
    assert one != other
    assert one.cost is not Measured({}).cost
    with pytest.raises(FrozenInstanceError):
        one.values = {}


def test_a_plain_function_is_a_score():
    def skips(architecture: Architecture) -> Measured:
        return Measured({"skips": float(sum(kept == ("skip_connect",) for kept in architecture.values()))})

    score: Score = skips
    cell = Architecture("mine", {"a": ("skip_connect",), "b": ("conv",), "c": ("skip_connect",)})
    assert score(cell) == Measured({"skips": 2.0})
