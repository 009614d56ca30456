import itertools
import math
from random import Random

import pytest
import torch

from supernet.estimation.limits import Limits
from supernet.estimation.memory import peak_memory
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.search.differentiable.discretisers import argmax
from supernet.space.architecture import Decision, check, random_architecture
from supernet.space.darts import Darts
from supernet.space.genes import Candidates
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201

NESTED = Mobile(
    (
        Stage((8, 16), depths=(1, 2), kernels=(3, 5), expansions=(2, 3)),
        Stage((16, 24), depths=(1, 2), stride=2, kernels=(3,), expansions=(2, 4)),
    ),
    stem=8,
    head=16,
    resolutions=(16, 24),
)
SEPARATE = Mobile(
    (Stage((8,), depths=(3,), kernels=(3, 5), expansions=(2, 3), skip=True),), stem=8, head=16, sharing="separate"
)
SPACES = {
    "darts": Darts(4, 3, nodes=2, operations=("sep_conv_3x3", "dil_conv_5x5")),
    "nasbench201": NasBench201(channels=4, cells=1, nodes=2),
    "nested": NESTED,
    "separate": SEPARATE,
}
SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def known():
    """The costs of each space, and all of its architectures."""
    found = {}
    for name, space in SPACES.items():
        costs = SpaceCosts(space, SHAPE, 10)
        found[name] = costs, list(Candidates(space.name, costs.decisions).all())
    return found


def weights_of(decisions, seed, inputs=False):
    stream = torch.Generator().manual_seed(seed)
    asked = {n: d for n, d in decisions.items() if inputs or d.role != "inputs"}
    return {n: (2 * torch.randn(len(d.options), generator=stream)).softmax(0) for n, d in asked.items()}


def score(architecture, decisions, weights):
    """Written out: log p of what is kept; where no node chooses between edges, against the best answer."""
    total = 0.0
    for name, kept in architecture.items():
        if name in weights:
            values = dict(zip(decisions[name].options, weights[name].tolist(), strict=True))
            edge = decisions[name].role == "inputs" or any(
                decisions[n].role == "inputs" for n, _ in decisions[name].when
            )
            best = 0.0 if edge else math.log(max(values[answer] for answer in decisions[name].answers))
            total += sum(math.log(values[option]) - best for option in kept)
    return total


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("inputs", [False, True])
def test_without_limits_it_is_argmax(known, name, inputs):
    costs, _ = known[name]
    for seed in range(20):
        weights = weights_of(costs.decisions, seed, inputs)
        found = Limits(costs, {}).most_probable(weights)
        assert dict(found) == dict(argmax(SPACES[name].name, costs.decisions, weights))


@pytest.mark.parametrize("name", SPACES)
def test_within_limits_it_is_the_best_of_all(known, name):
    costs, everything = known[name]
    sizes = {kind: sorted(costs.of(kind, one) for one in everything) for kind in ("macs", "parameters")}
    for seed, (share, other) in enumerate([(0.1, 0.6), (0.3, 0.2), (0.01, 1.0)]):
        shares = {"macs": share, "parameters": other}
        most = {kind: values[int(shares[kind] * (len(values) - 1))] for kind, values in sizes.items()}
        limits, weights = Limits(costs, most), weights_of(costs.decisions, seed, inputs=seed == 1)
        fitting = [one for one in everything if limits.fits(one)]
        found = limits.most_probable(weights)
        best = max(score(one, costs.decisions, weights) for one in fitting)
        assert limits.fits(found)
        assert score(found, costs.decisions, weights) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("name", SPACES)
def test_the_cheapest_is_the_cheapest_of_all(known, name):
    costs, everything = known[name]
    for kind in ("macs", "parameters", "bytes"):
        least = min(costs.of(kind, one) for one in everything)
        assert Limits(costs, {}).cheapest(kind)[1] == least


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_the_unit_of_a_cost_does_not_matter(known, unit):
    costs, everything = known["darts"]
    form = costs.form("macs").changed(0.0, unit)
    own = SpaceCosts(SPACES["darts"], SHAPE, 10, own={"mine": form})
    sizes = sorted(form.of(one) for one in everything)
    assert Limits(own, {}).cheapest("mine")[1] == sizes[0]
    limits, weights = Limits(own, {"mine": sizes[len(sizes) // 5]}), weights_of(costs.decisions, 1)
    best = max(score(one, costs.decisions, weights) for one in everything if limits.fits(one))
    assert score(limits.most_probable(weights), costs.decisions, weights) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("name", ["nested", "separate"])
def test_memory_of_chains_is_limited_exactly(known, name):
    costs, everything = known[name]
    peaks = {one: costs.of("memory", one) for one in everything}
    limits = Limits(costs, {"memory": sorted(set(peaks.values()))[1]})
    weights = weights_of(costs.decisions, 3)
    found = limits.most_probable(weights)
    fitting = [one for one in everything if peaks[one] <= limits.most["memory"]]
    best = max(score(one, costs.decisions, weights) for one in fitting)
    assert score(found, costs.decisions, weights) == pytest.approx(best, abs=1e-5)
    assert limits.cheapest("memory")[1] == min(peaks.values())
    assert limits.cheapest("memory")[1] == peak_memory(
        costs.network(limits.cheapest("memory")[0]), torch.zeros(1, *SHAPE, device="meta")
    )


def test_a_cost_that_is_no_form_is_asked_of_one_after_the_other(known):
    costs, everything = known["nasbench201"]
    plain = SpaceCosts(SPACES["nasbench201"], SHAPE, 10, own={"letters": lambda one: float(len(one.to_json()))})
    lengths = sorted(plain.of("letters", one) for one in everything)
    limits, weights = Limits(plain, {"letters": lengths[40], "macs": 200_000}), weights_of(costs.decisions, 2)
    found = limits.most_probable(weights)
    best = max(score(one, costs.decisions, weights) for one in everything if limits.fits(one))
    assert score(found, costs.decisions, weights) == pytest.approx(best, abs=1e-5)
    with pytest.raises(InputError, match=r"limits.letters=10: no architecture keeps it; the cheapest has 2"):
        Limits(plain, {"letters": 10}).check()


def test_the_ranking_goes_down_and_repeats_nothing(known):
    costs, everything = known["nasbench201"]
    weights = weights_of(costs.decisions, 4)
    listed = list(itertools.islice(Limits(costs, {"macs": 150_000}).ranked(weights), 20))
    scores = [score(one, costs.decisions, weights) for one in listed]
    fitting = [one for one in everything if costs.of("macs", one) <= 150_000]
    assert scores == pytest.approx(sorted((score(o, costs.decisions, weights) for o in fitting), reverse=True)[:20])
    assert len(set(listed)) == 20


@pytest.mark.parametrize("name", SPACES)
def test_repair_ends_within_the_limits_and_near_by(known, name):
    costs, everything = known[name]
    sizes = sorted(costs.of("macs", one) for one in everything)
    stream, rng, kept = torch.Generator().manual_seed(0), Random(0), 0
    for limit in (sizes[0], sizes[len(sizes) // 3]):
        limits = Limits(costs, {"macs": limit})
        for _ in range(20):
            drawn = random_architecture(SPACES[name].name, costs.decisions, stream)
            made = limits.repaired(drawn, rng)
            check(made, costs.decisions)
            assert limits.fits(made)
            kept += made is drawn
            assert (made is drawn) == limits.fits(drawn)
    assert kept > 0


def test_several_limits_at_once_have_one_that_is_below_all(known):
    costs, everything = known["nested"]
    sizes = {kind: sorted(costs.of(kind, one) for one in everything) for kind in ("macs", "parameters")}
    most = {"macs": sizes["macs"][len(everything) * 3 // 10], "parameters": sizes["parameters"][len(everything) // 3]}
    limits = Limits(costs, most)
    assert limits.fits(limits.anchor())

    def share(one):
        return max(costs.of(kind, one) / limit for kind, limit in most.items())

    assert share(limits.anchor()) == pytest.approx(min(map(share, everything)), abs=1e-6)


def test_only_the_options_of_the_supernet_are_chosen(known):
    costs, _ = known["nasbench201"]
    fewer = {
        n: d if d.role == "inputs" else Decision(n, ("nor_conv_3x3", "nor_conv_1x1"), group=d.group, when=d.when)
        for n, d in costs.decisions.items()
    }
    limits = Limits(costs, {"macs": 250_000})
    weights = {n: torch.tensor([0.9, 0.1]) for n, d in fewer.items() if d.role == "operation"}
    found = limits.most_probable(weights, fewer)
    assert {kept[0] for name, kept in found.items() if fewer[name].role == "operation"} <= {
        "nor_conv_3x3",
        "nor_conv_1x1",
    }
    with pytest.raises(InputError, match=r"limits.macs=160,000: no architecture keeps it; the cheapest has 179,360"):
        Limits(costs, {"macs": 160_000}).check(fewer)
    Limits(costs, {"macs": 160_000}).check()
    with pytest.raises(InputError, match="does not ask 'other', which the search decides"):
        limits.check({"other": Decision("other", ("a",))})


@pytest.mark.parametrize(
    ("most", "words"),
    [
        ({"macs": -1}, r"limits.macs=-1: needs a number above 0"),
        ({"macs": 0}, r"limits.macs=0: needs a number above 0"),
        ({"macs": True}, r"limits.macs=True: needs a number above 0"),
        ({"macs": "5e6"}, r"limits.macs=5e6: needs a number above 0"),
        ({"macs": math.nan}, r"limits.macs=nan: needs a number above 0"),
        ({"watts": 3.0}, r"limits.watts: no cost has this name; known: bytes, macs, memory, parameters"),
        ({"latency": 3.0}, r"limits.latency: needs a table of measured times; supernet-latency makes one"),
        ({"params": 1e6, "parameters": 1e6}, r"limits.parameters=1000000.0: parameters has a limit already"),
    ],
)
def test_limits_that_cannot_be(known, most, words):
    with pytest.raises(InputError, match=words):
        Limits(known["nasbench201"][0], most)


def test_limits_that_nothing_keeps(known):
    costs, everything = known["nested"]
    least = {kind: min(costs.of(kind, one) for one in everything) for kind in ("macs", "parameters")}
    with pytest.raises(
        InputError, match=rf"limits.macs=5: no architecture keeps it; the cheapest has {least['macs']:,.0f}"
    ):
        Limits(costs, {"macs": 5, "parameters": 1e9}).check()
    own = SpaceCosts(NESTED, SHAPE, 10, own={"contrary": costs.form("macs").changed(3 * least["macs"], -1.0)})
    with pytest.raises(InputError, match=r"limits: no architecture keeps macs=.* together; the nearest has macs"):
        Limits(own, {"macs": 1.01 * least["macs"], "contrary": 1.5 * least["macs"]}).check()
    assert not Limits(costs, {})
    Limits(costs, {}).check()
