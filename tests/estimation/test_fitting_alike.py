"""Decisions whose candidates are the same modules share the numbers that are fitted."""

import itertools
from random import Random

import numpy as np
import pytest

from supernet.estimation.fitting import alike, fitted
from supernet.estimation.parts import record
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.survey import candidates_of

COSTS = {"none": 0.0, "skip_connect": 0.5, "nor_conv_1x1": 2.0, "nor_conv_3x3": 5.0, "avg_pool_3x3": 1.25}


def operations(cell):
    return [kept[0] for name, kept in cell.items() if name.count("/") == 2]


@pytest.fixture(scope="module")
def recorded():
    return record(NasBench201(channels=4, cells=1, stages=2), (3, 8, 8), outputs=10)


def test_the_edges_of_nasbench201_are_alike_and_those_of_darts_by_their_stride(recorded):
    assert alike(recorded) == (tuple(name for name in recorded.decisions if name.count("/") == 2),)
    groups = alike(record(Darts(channels=4, cells=5, nodes=2), (3, 16, 16), outputs=10))
    together = {name: group for group in groups for name in group}
    assert "reduce/2/2" not in together.get("reduce/2/0", ()), "one of the two has stride 2"
    assert all(len({name.split("/")[0] for name in group}) == 1 for group in groups), "their numbers of cells differ"


def test_six_cells_are_enough_for_five_operations(recorded):
    """Shared numbers are exact from six cells; 25 numbers of their own need as many cells."""
    candidates, rng = candidates_of(NasBench201()), Random(3)
    cells = [candidates.random(rng) for _ in range(40)]
    values = [10.0 + sum(COSTS[o] for o in operations(cell)) for cell in cells]
    form = fitted(recorded.decisions, cells[:6], values[:6], alike(recorded))
    assert [form.of(cell) for cell in cells] == pytest.approx(values)
    with pytest.raises(InputError, match="measured were 6, and 25 numbers"):
        fitted(recorded.decisions, cells[:6], values[:6])


def test_shared_numbers_are_weighted_least_squares_of_counts(recorded):
    """Against the normal equations of the counts, in numbers that do not depend on each other."""
    candidates, rng, noise = candidates_of(NasBench201()), Random(4), np.random.default_rng(4)
    cells = [candidates.random(rng) for _ in range(60)]
    values = np.array([10.0 + sum(COSTS[o] for o in operations(cell)) for cell in cells])
    values *= 1 + 0.1 * noise.standard_normal(60)
    named = [o for o in COSTS if o != "none"]
    counts = np.array([[1.0, *(operations(cell).count(o) for o in named)] for cell in cells])
    weighted = counts / values[:, None]
    solution = np.linalg.solve(weighted.T @ weighted, weighted.sum(0))
    form = fitted(recorded.decisions, cells, values, alike(recorded))
    assert [form.of(cell) for cell in cells] == pytest.approx(counts @ solution)
    assert [fitted(recorded.decisions, cells, values).of(cell) for cell in cells] != pytest.approx(counts @ solution)


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ([("x", "w")], "alike=w: is no decision"),
        ([("x", "z")], "z and x have other answers"),
        ([("x", "y"), ("y",)], "y is in two groups"),
    ],
)
def test_groups_that_make_no_sense(groups, says):
    edges = {name: Decision(name, ("a", "b")) for name in "xy"} | {"z": Decision("z", ("a", "c"))}
    answers = itertools.product("ab", "ab", "ac")
    cells = [Architecture("mine", {name: (o,) for name, o in zip("xyz", kept, strict=True)}) for kept in answers]
    with pytest.raises(InputError, match=says):
        fitted(edges, cells, [1.0] * len(cells), groups)
