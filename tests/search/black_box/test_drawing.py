from functools import partial
from random import Random
from types import SimpleNamespace

import pytest
import torch

from supernet.estimation.limits import Limits
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.seeding import generator
from supernet.search.black_box.drawing import candidates_within, drawn_within
from supernet.search.black_box.evolution import AgingEvolution, SposEvolution
from supernet.search.black_box.explorers import RandomExplorer
from supernet.search.black_box.local_search import LocalSearch
from supernet.search.black_box.pareto import Nsga2
from supernet.search.black_box.policies import IndependentPolicy
from supernet.search.black_box.policy import PolicyExplorer
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.black_box.reinforce import ReinforceStrategy
from supernet.search.black_box.sandwich import SandwichStrategy
from supernet.space import spaces
from supernet.space.architecture import random_architecture
from supernet.space.nasbench201 import NasBench201

SPACE = NasBench201(channels=4, cells=1)
COSTS = SpaceCosts(SPACE, (3, 8, 8), 10)
LEAST = Limits(COSTS, {}).cheapest("macs")[1]
TIGHT = Limits(COSTS, {"macs": LEAST})  # "none", skip connections and pooling alone: 729 of 15,625 cells
DRAW = partial(random_architecture, SPACE.name, COSTS.decisions)


def test_without_limits_and_within_wide_ones_draws_stay_what_they_are():
    wide = Limits(COSTS, {"macs": 1e12})
    for limits in (None, Limits(COSTS, {}), wide):
        for number in range(5):
            assert drawn_within(limits, COSTS.decisions, DRAW, 3, number) == DRAW(generator(3, number))


@pytest.fixture(scope="module")
def tight():
    """Limits of a mobile space in which one network in some million fits, so that draws alone find none."""
    costs = SpaceCosts(spaces.ofa_mbv3(), (3, 64, 64), 10)
    return Limits(costs, {"macs": 1.02 * Limits(costs, {}).cheapest("macs")[1]})


def test_draws_within_tight_limits_fit_and_differ(tight):
    draw = partial(random_architecture, "ofa_mbv3", tight.costs.decisions)
    drawn = [drawn_within(tight, tight.costs.decisions, draw, 0, number) for number in range(30)]
    assert all(tight.fits(one) for one in drawn)
    assert not any(tight.fits(draw(generator(1, number))) for number in range(200))
    assert len(set(drawn)) > 5
    assert drawn == [drawn_within(tight, tight.costs.decisions, draw, 0, number) for number in range(30)]


@pytest.mark.parametrize(
    "explorer",
    [
        RandomExplorer,
        partial(AgingEvolution, population=5, sample=2),
        partial(AgingEvolution, population=5, sample=2, distinct=False),
        partial(SposEvolution, population=6, parents=3, mutants=2, crossovers=2),
        LocalSearch,
        partial(Nsga2, population=6),
        PolicyExplorer,
    ],
)
def test_explorers_propose_only_what_fits_where_almost_nothing_does(explorer, tight):
    costs = tight.costs
    made = explorer(candidates_within("ofa_mbv3", costs.decisions, tight), seed=1)
    proposed = []
    for _ in range(25):
        one = made.ask()
        assert one is not None
        proposed.append(one)
        made.tell(one, (-costs.of("parameters", one), 0.0))
    assert all(tight.fits(one) for one in proposed)
    assert len(set(proposed)) > 5


def test_uniform_search_draws_paths_and_candidates_within():
    strategy = UniformStrategy(SPACE.name, COSTS.decisions, limits=TIGHT)
    assert TIGHT.fits(strategy.finish())
    for _ in range(10):
        assert float(COSTS.form("macs")(strategy.sample(None))) == LEAST


def test_the_sandwich_ends_within():
    space = spaces.micro_mobile()
    costs = SpaceCosts(space, (1, 8, 8), 10)
    tight = Limits(costs, {"macs": 1.01 * Limits(costs, {}).cheapest("macs")[1]})
    assert tight.fits(SandwichStrategy(space.name, costs.decisions, limits=tight, seed=1).finish())
    free = [SandwichStrategy(space.name, costs.decisions, seed=seed).finish() for seed in range(20)]
    assert not all(map(tight.fits, free))


def test_reinforcement_draws_within_and_answers_within():
    adam = partial(torch.optim.Adam, lr=0.1)
    strategy = ReinforceStrategy(
        SPACE.name, COSTS.decisions, policy=IndependentPolicy, optimizer=adam, limits=TIGHT, seed=2
    )
    with torch.no_grad():
        strategy.policy.logits[:, 3] = 5.0  # it likes the large convolution everywhere
    assert not TIGHT.fits(strategy.policy.most_likely())
    assert TIGHT.fits(strategy.finish())
    for _ in range(10):
        assert float(COSTS.form("macs")(strategy.sample(SimpleNamespace(progress=0.5)))) == LEAST


def test_candidates_are_repaired_into_their_own_objects():
    candidates = candidates_within(SPACE.name, COSTS.decisions, TIGHT)
    drawn = [candidates.random(Random(seed)) for seed in range(20)]
    made = [candidates.repaired(one, Random(0)) for one in drawn]
    assert all(TIGHT.fits(one) for one in made)
    assert all(candidates.architecture(candidates.genes(one)) is one for one in made)
    assert not candidates_within(SPACE.name, COSTS.decisions, None).repairs
