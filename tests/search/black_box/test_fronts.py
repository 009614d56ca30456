"""Fronts against brute force: of enumerated spaces the whole front is known."""

import itertools

import pytest

from supernet.estimation.benchmark_tables import micro
from supernet.estimation.scores import Measured
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.search.black_box.fronts import Front, Point, ask_front, ends
from supernet.search.black_box.pareto import Nsga2
from supernet.space import spaces
from supernet.space.architecture import Architecture
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.survey import candidates_of

MICRO = spaces.micro()
SHAPE = (1, 8, 8)
SMALL = Mobile(
    (
        Stage((8, 12), depths=(1, 2), kernels=(3, 5), expansions=(2, 4)),
        Stage((16,), stride=2, kernels=(3, 5), expansions=(2, 4)),
    ),
    stem=8,
    stem_stride=1,
    head=16,
)


def front(*points, reference=(0.0, 10.0)):
    made = [Point(Architecture("mine", {"n": (str(n),)}), s, c) for n, (s, c) in enumerate(points)]
    return Front(made, "accuracy", "macs", reference)


def test_the_front_is_what_none_is_better_than():
    found = front((0.5, 3.0), (0.4, 2.0), (0.5, 4.0), (0.4, 2.0), (0.9, 8.0), (0.1, 2.5))
    assert [(p.score, p.cost) for p in found.points] == [(0.4, 2.0), (0.5, 3.0), (0.9, 8.0)]
    assert found.points[0].architecture["n"] == ("1",)  # of equals the first
    for point in found.tried:
        beaten = any(p.score >= point.score and p.cost <= point.cost and p != point for p in found.tried)
        same = any((p.score, p.cost) == (point.score, point.cost) for p in found.points)
        assert same or beaten


def test_hypervolume_by_counting_squares():
    found = front((0.2, 1.0), (0.5, 4.0), (0.9, 7.0))
    squares = itertools.product(range(1000), range(1000))  # of 0.001 x 0.01
    dominated = sum(
        any(p.score >= (s + 0.5) / 1000 and p.cost <= (c + 0.5) / 100 for p in found.points) for s, c in squares
    )
    assert found.hypervolume == pytest.approx(dominated * 1e-5, abs=1e-4)
    assert found.share == pytest.approx(found.hypervolume / 10.0)
    above = front((0.2, 1.0), (0.9, 7.0), reference=(0.5, 8.0))
    assert above.hypervolume == pytest.approx(0.4 * 1.0)
    assert above.share == pytest.approx(0.4 / (0.5 * 8.0))


def test_the_best_within_a_limit():
    found = front((0.2, 1.0), (0.5, 4.0), (0.9, 7.0))
    assert [found.at_most(limit).score for limit in (1.0, 3.9, 4.0, 100.0)] == [0.2, 0.2, 0.5, 0.9]
    with pytest.raises(InputError, match=r"limit=0.5: no architecture costs so little \(macs\); the cheapest has 1"):
        found.at_most(0.5)
    assert found.first(2).points == found.points[:2]


@pytest.mark.parametrize("cost", ["macs", "parameters", "memory", "bytes"])
@pytest.mark.parametrize("space", [MICRO, SMALL], ids=["cells", "mobile"])
def test_the_ends_are_those_of_all_architectures(space, cost):
    costs = SpaceCosts(space, SHAPE, 10)
    every = [costs.of(cost, one) for one in candidates_of(space).all()]
    found = ends(costs, cost)
    if found.dearest is None:  # the memory of cells is a function of whole networks: a descent finds what it finds
        assert (space, cost) == (MICRO, "memory")
    else:
        assert (costs.of(cost, found.cheapest), found.dearest) == (min(every), max(every))
    assert costs.of("macs", found.largest) == max(costs.of("macs", one) for one in candidates_of(space).all())


def test_a_cost_that_is_a_function_has_the_dearest_that_was_met():
    costs = SpaceCosts(MICRO, SHAPE, 10, own={"mine": lambda cell: float(str(cell.choices).count("conv"))})
    assert ends(costs, "mine").dearest is None
    found = ask_front(candidates_of(MICRO), micro(["digits_valid"]), "digits_valid", costs, "mine", evaluations=200)
    assert found.reference[1] == max(p.cost for p in found.tried) == 3.0
    assert found.points[0].cost == 0.0


def test_of_a_space_that_is_asked_whole_it_is_the_whole_front():
    table, costs = micro(["digits_valid"]), SpaceCosts(MICRO, SHAPE, 10)
    found = ask_front(candidates_of(MICRO), table, "digits_valid", costs, "parameters", evaluations=200, chance=10.0)
    assert len(found.tried) == candidates_of(MICRO).count or len(found.tried) == 60
    every = {(table(c).values["digits_valid"], costs.of("parameters", c)) for c in candidates_of(MICRO).all()}
    best = {p for p in every if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in every)}
    assert {(p.score, p.cost) for p in found.points} == best
    assert found.reference == (10.0, max(cost for _, cost in every))


def test_both_ends_are_asked_first_and_another_call_finds_more():
    costs = SpaceCosts(SMALL, SHAPE, 10)
    judge = lambda cell: Measured({"accuracy": costs.of("macs", cell) ** 0.5})  # noqa: E731
    few = ask_front(candidates_of(SMALL), judge, "accuracy", costs, "macs", evaluations=5, population=4)
    found = ends(costs, "macs")
    assert [p.architecture for p in few.tried[:2]] == [found.cheapest, found.largest]
    more = ask_front(candidates_of(SMALL), judge, "accuracy", costs, "macs", evaluations=30, population=4)
    assert more.tried[:5] == few.tried
    assert more.hypervolume > few.hypervolume


def test_first_architectures_that_break_the_limits_are_left_out():
    costs = SpaceCosts(MICRO, SHAPE, 10)
    found = ends(costs, "macs")
    candidates = candidates_of(MICRO, fits=lambda cell: cell != found.largest)
    explorer = Nsga2(candidates, first=(found.largest, found.cheapest))
    assert explorer.ask() == found.cheapest
    explorer.tell(found.cheapest, (0.0, 0.0))
    assert explorer.ask() not in (found.cheapest, found.largest)


def test_mistakes():
    costs = SpaceCosts(MICRO, SHAPE, 10)
    with pytest.raises(InputError, match="latency: needs a table"):
        ask_front(candidates_of(MICRO), micro(["digits_valid"]), "digits_valid", costs, "latency", evaluations=3)
    with pytest.raises(InputError, match="evaluations=0"):
        ask_front(candidates_of(MICRO), micro(["digits_valid"]), "digits_valid", costs, "macs", evaluations=0)
