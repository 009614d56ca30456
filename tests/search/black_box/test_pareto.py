"""Ranks, fronts and hypervolume against an independent library, crowding and NSGA-II against the paper by hand."""

import itertools
import math
from collections import Counter

import moocore
import numpy as np
import pytest

from supernet.estimation.scores import Measured
from supernet.runtime.errors import InputError
from supernet.search.black_box.exploring import Budget, explore
from supernet.search.black_box.pareto import Nsga2, crowding_distances, hypervolume, nondominated, nondominated_ranks
from supernet.space.architecture import Architecture, Decision
from supernet.space.genes import Candidates
from supernet.space.nasbench201 import NasBench201
from supernet.space.survey import candidates_of

ALL = candidates_of(NasBench201())
CASES = list(itertools.product([1, 2, 3, 4], [1, 2, 30], ["different", "ties", "duplicates"]))
each_case = pytest.mark.parametrize(("objectives", "count", "kind"), CASES)


def points_of(objectives: int, count: int, kind: str) -> list[tuple[float, ...]]:
    """Random points; with ties each objective has few values, with duplicates half the points are there again."""
    rng = np.random.default_rng([objectives, count, len(kind)])
    drawn = rng.integers(0, 4, (count, objectives)) if kind == "ties" else rng.normal(size=(count, objectives))
    points = [tuple(map(float, point)) for point in drawn]
    return [*points, *points[: count // 2 + 1]] if kind == "duplicates" else points


@each_case
def test_ranks_are_those_of_moocore(objectives, count, kind):
    points = points_of(objectives, count, kind)
    assert nondominated_ranks(points) == moocore.pareto_rank(np.array(points), maximise=True).tolist()


@each_case
def test_the_front_is_that_of_moocore(objectives, count, kind):
    points = points_of(objectives, count, kind)
    theirs = moocore.is_nondominated(np.array(points), maximise=True, keep_weakly=True)
    assert nondominated(points) == np.flatnonzero(theirs).tolist()
    assert nondominated(points) == [place for place, rank in enumerate(nondominated_ranks(points)) if rank == 0]


@each_case
def test_the_hypervolume_is_that_of_moocore(objectives, count, kind):
    points = points_of(objectives, count, kind)
    for corner in (-5.0, 0.0):  # below all points, and in the midst of them
        reference = (corner,) * objectives
        theirs = moocore.hypervolume(np.array(points), ref=np.array(reference), maximise=True)
        assert hypervolume(points, reference) == pytest.approx(theirs, rel=1e-12)


def test_nothing_has_no_ranks_and_no_volume():
    assert nondominated_ranks([]) == nondominated([]) == crowding_distances([]) == []
    assert hypervolume([], (0.0, 0.0)) == 0.0


def test_crowding_is_the_paper_s_by_hand():
    points = [(0.0, 10.0), (2.0, 6.0), (4.0, 5.0), (10.0, 0.0)]
    assert crowding_distances(points) == [math.inf, 0.4 + 0.5, 0.8 + 0.6, math.inf]
    assert crowding_distances([(1.0, 1.0)] * 3) == [0.0] * 3  # no objective tells them apart
    twice = crowding_distances([(0.0, 2.0), (1.0, 1.0), (1.0, 1.0), (2.0, 0.0)])
    assert twice[0] == twice[3] == math.inf
    assert sum(twice[1:3]) == 2.0  # each of the equal ones has the other for a neighbour


def test_the_defaults_are_optuna_s():
    explorer = Nsga2(ALL)
    assert (explorer._size, explorer._crossover, explorer._mutation) == (50, 0.9, None)


def cost(cell: Architecture) -> tuple[float, float]:
    """Two objectives that no cell has both of: 3x3 convolutions, and few of them."""
    convolutions = float(sum(kept == ("nor_conv_3x3",) for kept in cell.values()))
    pools = float(sum(kept == ("avg_pool_3x3",) for kept in cell.values()))
    return convolutions, pools - convolutions


def test_whole_fronts_live_on_and_of_the_last_one_the_least_crowded():
    explorer = Nsga2(ALL, population=12)
    pool = []
    for generation in range(6):
        children = []
        for _ in range(12):
            children.append(explorer.ask())
            explorer.tell(children[-1], cost(children[-1]))
        pool = [*pool, *children]
        living = [architecture for architecture, _ in explorer._parents]
        if generation:
            ranks = nondominated_ranks([cost(cell) for cell in pool])
            last = sorted(ranks)[11]
            assert {cell for cell, rank in zip(pool, ranks, strict=True) if rank < last} <= set(living)
            partly = [cell for cell, rank in zip(pool, ranks, strict=True) if rank == last]
            distances = dict(zip(partly, crowding_distances([cost(cell) for cell in partly]), strict=True))
            kept = [distances[cell] for cell in partly if cell in living]
            lost = [distances[cell] for cell in partly if cell not in living]
            assert not lost or min(kept) >= max(lost)
            assert sum(rank <= last for rank in ranks) >= len(living) == 12
        pool = living


def test_a_tournament_is_won_by_rank_then_by_crowding():
    explorer = Nsga2(ALL, population=3, seed=2)
    cells = list(itertools.islice(ALL.all(), 3))
    for cell, fitness in zip(cells, [(2.0, 2.0), (1.0, 1.0), (0.0, 0.0)], strict=True):
        explorer.tell(cell, fitness)
    won = Counter(explorer._parent() for _ in range(900))
    shares = [won[cell] / 900 for cell in cells]
    assert shares == pytest.approx([5 / 9, 3 / 9, 1 / 9], abs=0.05)  # two of three with replacement
    explorer = Nsga2(ALL, population=4, seed=2)
    cells = list(itertools.islice(ALL.all(), 4))
    for cell, fitness in zip(cells, [(3.0, 0.0), (2.0, 1.0), (1.9, 1.1), (0.0, 3.0)], strict=True):
        explorer.tell(cell, fitness)
    assert nondominated_ranks([(3.0, 0.0), (2.0, 1.0), (1.9, 1.1), (0.0, 3.0)]) == [0] * 4
    won = Counter(explorer._parent() for _ in range(1600))
    assert won[cells[1]] + won[cells[2]] < 1600 * 0.3  # 4 / 16 of the pairs have no end of the front in them


def test_children_mix_two_parents_and_one_answer_in_n_is_drawn_anew():
    edges = {str(number): Decision(str(number), tuple("abcdefgh")) for number in range(8)}
    candidates = Candidates("mine", edges)
    explorer = Nsga2(candidates, population=2)
    first, second = (candidates.architecture(((answer,),) * 8) for answer in (0, 1))
    for parent in (first, second):
        explorer.tell(parent, (1.0,))
    answers = Counter(kept[0] for _ in range(2000) for kept in candidates.genes(explorer._child()))
    new = sum(count for answer, count in answers.items() if answer > 1) / 16_000
    assert new == pytest.approx(6 / 8 / 8, abs=0.01)  # drawn anew with 1 / 8, and 6 of 8 answers are not the parents'
    mixed = sum(len({kept for kept in candidates.genes(explorer._child()) if kept[0] < 2}) == 2 for _ in range(2000))
    assert 0.4 < mixed / 2000 < 0.9  # 0.9 of the children have two parents, half of these pairs are one parent twice


def test_nsga2_spreads_over_a_front_that_is_known():
    """Of 625 answers to four questions (convolutions, pools) the front is a line; random draws hold less of it."""

    def score(cell: Architecture) -> Measured:
        return Measured(dict(zip(("a", "b"), cost(cell), strict=True)))

    volumes = {}
    for name, explorer in {"nsga2": Nsga2(ALL, population=20), "random": Nsga2(ALL, population=600)}.items():
        found = explore(explorer, score, Budget(evaluations=600), objectives=("a", "b"))
        assert {e.fitness for e in found.front} == {
            found.evaluations[p].fitness for p in nondominated([e.fitness for e in found.evaluations])
        }
        volumes[name] = hypervolume([e.fitness for e in found.evaluations], (-1.0, -7.0))
    assert volumes["nsga2"] > volumes["random"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"population": 0}, "^population=0"), ({"crossover": 1.5}, "^crossover=1.5"), ({"mutation": -0.1}, "^mutation")],
)
def test_bad_settings_are_one_line(settings, words):
    with pytest.raises(InputError, match=words):
        Nsga2(ALL, **settings)


def test_points_of_another_size_are_one_line():
    with pytest.raises(InputError, match=r"^reference="):
        hypervolume([(1.0, 2.0)], (0.0,))
