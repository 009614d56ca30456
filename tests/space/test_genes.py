"""What can be tried in a space: drawn evenly, changed by one answer, and listed completely."""

import itertools
import math
from collections import Counter
from random import Random

import pytest
import torch
from scipy.stats import chisquare

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision, check
from supernet.space.choosers import Decided
from supernet.space.darts import Darts
from supernet.space.genes import Candidates
from supernet.space.nasbench201 import NasBench201, canonical, from_string
from supernet.space.survey import candidates_of

SMALL = Darts(nodes=2, cells=3, operations=("none", "skip_connect", "sep_conv_3x3"))
SPACES = {"nasbench201": NasBench201(), "micro": NasBench201(nodes=2), "darts": SMALL, "whole darts": Darts()}
each_space = pytest.mark.parametrize("name", SPACES)


def difference(first: Architecture, second: Architecture) -> int:
    """In how many decisions that both answer the two differ."""
    return sum(first[name] != second[name] for name in set(first) & set(second))


@each_space
def test_everything_that_is_made_answers_the_space(name):
    candidates, rng = candidates_of(SPACES[name]), Random(0)
    decisions = {decision.name: decision for decision in candidates.decisions}
    first, second = candidates.random(rng), candidates.random(rng)
    for _ in range(50):
        made = [
            candidates.random(rng),
            candidates.mutate(first, rng),
            candidates.resample(first, 0.3, rng),
            candidates.crossover(first, second, rng),
        ]
        for architecture in made:
            check(architecture, decisions)
            assert candidates.architecture(candidates.genes(architecture)) is architecture
            assert ("none",) not in architecture.values() or "darts" not in name
        first, second = made[1], made[3]


@each_space
def test_a_space_is_counted_as_it_is_listed(name):
    candidates = candidates_of(SPACES[name])
    if candidates.count > 50_000:
        # Two kinds of cell; node n takes two of n states, each edge one of seven operations ("none" is no answer).
        cell = math.prod(math.comb(states, 2) * 7**2 for states in (2, 3, 4, 5))
        assert candidates.count == cell**2
        return
    listed = list(candidates.all())
    assert len(set(listed)) == len(listed) == candidates.count
    if isinstance(SPACES[name], NasBench201):
        assert set(listed) == set(SPACES[name].architectures())


def test_draws_are_even():
    candidates, rng = candidates_of(NasBench201(nodes=2)), Random(1)
    drawn = Counter(candidates.random(rng) for _ in range(12_500))
    assert len(drawn) == 125
    assert chisquare(list(drawn.values())).pvalue > 1e-3


def test_draws_of_inputs_are_even():
    candidates, rng = candidates_of(Darts(nodes=3, cells=1, operations=("skip_connect",))), Random(1)
    drawn = Counter(candidates.random(rng)["reduce/4"] for _ in range(6_000))
    assert set(drawn) == set(itertools.combinations("0123", 2))
    assert chisquare(list(drawn.values())).pvalue > 1e-3


@each_space
def test_a_mutant_differs_in_one_answer(name):
    candidates, rng = candidates_of(SPACES[name]), Random(2)
    for _ in range(100):
        parent = candidates.random(rng)
        mutant = candidates.mutate(parent, rng)
        assert mutant != parent
        assert difference(parent, mutant) == 1
        assert mutant in candidates.neighbours(parent)


def test_a_changed_input_keeps_the_operation():
    candidates = candidates_of(SMALL)
    for architecture in itertools.islice(candidates.all(), 40):
        for neighbour in candidates.neighbours(architecture):
            changed = [n for n in architecture if n in neighbour and architecture[n] != neighbour[n]]
            if changed[0].count("/") == 1:  # an input
                lost, new = set(architecture) - set(neighbour), set(neighbour) - set(architecture)
                assert [architecture[n] for n in lost] == [neighbour[n] for n in new]


def test_a_mutation_draws_the_node_first():
    """NATS-Bench draws the node and then the edge: the one edge into the first of three nodes is changed a third."""
    candidates, rng = candidates_of(NasBench201()), Random(3)
    parent = candidates.random(rng)
    changed = Counter(
        next(n for n in parent if parent[n] != mutant[n])
        for mutant in (candidates.mutate(parent, rng) for _ in range(3_000))
    )
    expected = [3000 / 3 / node for node in (1, 2, 2, 3, 3, 3)]
    assert chisquare([changed[f"cell/{n}/{s}"] for n in (1, 2, 3) for s in range(n)], expected).pvalue > 1e-3


@pytest.mark.parametrize(("name", "number"), [("nasbench201", 24), ("micro", 12)])
def test_neighbours_are_all_that_differ_in_one_answer(name, number):
    candidates = candidates_of(SPACES[name])
    middle = candidates.random(Random(4))
    found = candidates.neighbours(middle)
    assert len(found) == number
    assert set(found) == {other for other in candidates.all() if difference(middle, other) == 1}


def test_resampling_takes_its_own_answer_too():
    """SPOS redraws a gene among all options, so that a fifth of the redrawn ones stay; none is forced to change."""
    candidates, rng = candidates_of(NasBench201()), Random(5)
    parent = candidates.random(rng)
    changed = sum(difference(parent, candidates.resample(parent, 0.5, rng)) for _ in range(2_000))
    assert abs(changed / (2_000 * 6) - 0.5 * 4 / 5) < 0.02
    assert candidates.resample(parent, 1e-12, rng) is parent


def test_a_crossover_takes_each_answer_from_a_parent():
    candidates, rng = candidates_of(SMALL), Random(6)
    first, second = candidates.random(rng), candidates.random(rng)
    for _ in range(50):
        child = candidates.crossover(first, second, rng)
        for name, kept in child.items():
            parents = [parent[name] for parent in (first, second) if name in parent]
            assert kept in parents or not parents


def test_the_benchmark_has_6466_classes():
    """The number that NATS-Bench gives for cells that differ once "none" and "skip_connect" are what they do."""
    assert len({canonical(cell) for cell in NasBench201().architectures()}) == 6466


def test_cells_of_one_class_compute_the_same():
    classes = {}
    for cell in NasBench201(nodes=2).architectures():
        classes.setdefault(canonical(cell), []).append(cell)
    assert any(len(cells) > 1 for cells in classes.values())
    space, images = NasBench201(channels=4, cells=1, stages=1, nodes=2), torch.randn(4, 1, 6, 6, dtype=torch.float64)
    for cells in classes.values():
        outputs = []
        for cell in cells:
            network = space.network(Decided(cell, searching=True), (1, 6, 6), 3).double()
            for parameter in network.parameters():  # the same for the same shape, wherever it stands
                torch.nn.init.constant_(parameter, 0.1)
                with torch.no_grad():
                    parameter += torch.linspace(0, 1, parameter.numel(), dtype=torch.float64).view_as(parameter)
            outputs.append(network(images))
        for output in outputs[1:]:
            torch.testing.assert_close(output, outputs[0], rtol=1e-9, atol=1e-9)


def test_equal_architectures_share_a_key():
    candidates = candidates_of(NasBench201(nodes=2))
    first = from_string("|nor_conv_3x3~0|+|none~0|skip_connect~1|")
    second = from_string("|skip_connect~0|+|nor_conv_3x3~0|none~1|")
    assert candidates.key(first) == candidates.key(second) != candidates.key(from_string("|none~0|+|none~0|none~1|"))
    plain = candidates_of(SMALL)
    assert len({plain.key(cell) for cell in itertools.islice(plain.all(), 100)}) == 100


def test_an_encoding_says_every_answer():
    candidates = candidates_of(SMALL)
    codes = {tuple(candidates.encode(cell)) for cell in candidates.all()}
    assert len(codes) == candidates.count
    assert {len(code) for code in codes} == {sum(len(d.answers) for d in candidates.decisions)}
    assert set().union(*codes) == {0.0, 1.0}


def test_limits_are_asked_once_for_each():
    asked = []
    candidates = candidates_of(
        NasBench201(nodes=1), fits=lambda cell: bool(asked.append(cell)) or "none" not in str(cell)
    )
    cells = list(candidates.all())
    assert [candidates.fits(cell) for cell in cells] == [candidates.fits(cell) for cell in cells]
    assert asked == cells
    assert sum(map(candidates.fits, cells)) == 4


@pytest.mark.parametrize(
    "genes", [(), ((0,),), ((0,), (9,)), ((0,), (0, 1)), ((0,), ()), ((0,), (-1,)), ((0,), (True,)), ((0,), ("a",))]
)
def test_genes_of_no_architecture_are_refused(genes):
    with pytest.raises(InputError, match="no architecture"):
        candidates_of(NasBench201(nodes=1)).architecture(genes)


def test_an_architecture_of_another_space_is_refused():
    with pytest.raises(InputError, match="no answer to"):
        candidates_of(NasBench201(nodes=3)).genes(from_string("|none~0|"))
    edge = Decision("edge", ("none", "a", "b"))
    with pytest.raises(InputError, match="cannot be kept; known: a, b"):
        Candidates("mine", {"edge": edge}).genes(Architecture("mine", {"edge": ("none",)}))


def test_a_space_without_a_choice_has_no_mutants():
    candidates = Candidates("mine", {"edge": Decision("edge", ("a",))})
    assert candidates.count == 1
    assert candidates.neighbours(candidates.random(Random(0))) == []
    with pytest.raises(InputError, match="space=mine: has a single architecture"):
        candidates.mutate(candidates.random(Random(0)), Random(0))
    with pytest.raises(InputError, match="edge: keeps 2 of a"):
        Candidates("mine", {"edge": Decision("edge", ("a", "none"), keep=2)})
