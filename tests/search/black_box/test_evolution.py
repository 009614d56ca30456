"""Evolution and local search against what their papers say, one step at a time."""

from collections import Counter

import pytest

from supernet.estimation.scores import Measured
from supernet.runtime.errors import InputError
from supernet.search.black_box.evolution import AgingEvolution, SposEvolution
from supernet.search.black_box.explorers import Explorer
from supernet.search.black_box.exploring import Budget, explore
from supernet.search.black_box.local_search import LocalSearch
from supernet.space.architecture import Architecture, Decision
from supernet.space.genes import Candidates
from supernet.space.nasbench201 import NasBench201, from_string
from supernet.space.survey import candidates_of

ALL = candidates_of(NasBench201())


def convolutions(cell: Architecture) -> float:
    return float(sum(kept == ("nor_conv_3x3",) for kept in cell.values()))


def answered(explorer: Explorer, count: int) -> list[Architecture]:
    asked = []
    for _ in range(count):
        asked.append(explorer.ask())
        explorer.tell(asked[-1], (convolutions(asked[-1]),))
    return asked


def test_the_defaults_are_published():
    aging, spos, local = AgingEvolution(ALL), SposEvolution(ALL), LocalSearch(ALL)
    assert (aging._size, aging._sample) == (100, 25)  # Real et al. 2019, section 4
    assert (spos._population, spos._parents, spos._mutants, spos._crossovers, spos._probability) == (
        50,
        10,
        25,
        25,
        0.1,
    )
    assert local._initial == 10


def test_aging_drops_the_oldest_and_not_the_worst():
    explorer = AgingEvolution(ALL, population=4, sample=2)
    asked = answered(explorer, 30)
    assert [cell for cell, _ in explorer._living] == asked[-4:]


def test_aging_draws_candidates_with_replacement():
    """With replacement a sample as large as the population can miss the best; else every child would be the best's."""
    explorer = AgingEvolution(ALL, population=3, sample=3, seed=1)
    answered(explorer, 3)
    best = max(explorer._living, key=lambda one: one[1][0])[0]
    parents = Counter(explorer._child() in set(ALL.neighbours(best)) for _ in range(300))
    assert 0.5 < parents[True] / 300 < 0.95  # 1 - (2 / 3) ** 3 = 0.70, and neighbours in common


def test_the_answer_of_an_evolution_is_the_best_of_its_history():
    forgotten = 0
    for seed in range(5):
        explorer = AgingEvolution(ALL, population=2, sample=1, seed=seed)
        found = explore(explorer, lambda cell: Measured({"a": convolutions(cell)}), Budget(evaluations=60))
        best = max(convolutions(evaluation.architecture) for evaluation in found.evaluations)
        assert convolutions(found.best) == best
        forgotten += best > max(fitness[0] for _, fitness in explorer._living)
    assert forgotten


def test_spos_changes_the_best_of_all_generations():
    explorer = SposEvolution(ALL, population=20, parents=4, mutants=10, crossovers=6)
    first = answered(explorer, 20)
    parents = sorted(first, key=lambda cell: -convolutions(cell))[:4]
    second = answered(explorer, 20)
    assert len({ALL.key(cell) for cell in first + second}) == 40
    for child in second[10:16]:  # every answer of a crossover is a parent's
        assert all(any(child[name] == parent[name] for parent in parents) for name in child)
    again = sorted(first + second, key=lambda cell: -convolutions(cell))[:4]
    third = answered(explorer, 20)
    for child in third[10:16]:
        assert all(any(child[name] == parent[name] for parent in again) for name in child)


def test_local_search_climbs_to_a_top_and_starts_again():
    explorer = LocalSearch(ALL, initial=5)
    asked = answered(explorer, 5)
    here = max(asked, key=convolutions)
    for _ in range(200):
        proposed = explorer.ask()
        if explorer._here is None:
            break
        assert proposed in ALL.neighbours(here)
        explorer.tell(proposed, (convolutions(proposed),))
        if convolutions(proposed) > convolutions(here):
            here = proposed
    top = from_string("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|")
    assert here == top
    assert explorer._here is None


def test_local_search_moves_to_a_known_neighbour_for_free():
    edges = {name: Decision(name, ("a", "b")) for name in ("x", "y")}
    candidates = Candidates("mine", edges)
    explorer = LocalSearch(candidates, initial=1)
    values = {("a", "a"): 0.0, ("a", "b"): 1.0, ("b", "a"): 2.0, ("b", "b"): 3.0}
    seen = []
    while (proposed := explorer.ask()) is not None:
        seen.append(proposed)
        explorer.tell(proposed, (values[proposed["x"][0], proposed["y"][0]],))
    assert len(seen) == len(set(seen)) == 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AgingEvolution(ALL, population=0), "population=0: needs 1 or more"),
        (lambda: AgingEvolution(ALL, sample=0), "sample=0: needs 1 or more"),
        (lambda: LocalSearch(ALL, initial=0), "initial=0: needs 1 or more"),
        (lambda: SposEvolution(ALL, parents=0), "parents=0: needs 1 or more"),
        (lambda: SposEvolution(ALL, population=10), "mutants=25, crossovers=25: need 0 or more, together up to"),
        (lambda: SposEvolution(ALL, mutants=-1), "mutants=-1"),
        (lambda: SposEvolution(ALL, probability=0.0), "probability=0.0: needs to lie in"),
    ],
)
def test_bad_settings_are_one_line(make, words):
    with pytest.raises(InputError, match=words):
        make()
