import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from common import edge_decision, node_decision

from supernet.estimation.limits import Limits
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.search.differentiable.discretisers import argmax, limit_skips, threshold
from supernet.space.architecture import Decision, check
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet

OPTIONS = ("none", "a", "b")


def decisions(nodes: int) -> dict[str, Decision]:
    found = [Decision("stage/width", ("8", "16"))]
    for node in range(2, 2 + nodes):
        sources = tuple(str(s) for s in range(node))
        found.append(node_decision(f"normal/{node}", sources, 2))
        found += [edge_decision(f"normal/{node}/{s}", OPTIONS) for s in sources]
    return {d.name: d for d in found}


def brute_force(every, weights, node):
    """The pair of (source, operation) choices of a node with the largest sorted strengths, over all there are."""
    edges = [(s, o) for s in every[node].options for o in ("a", "b")]
    pairs = [p for p in itertools.combinations(edges, 2) if p[0][0] != p[1][0]]

    def strengths(pair):
        beta = weights.get(node)
        value = [
            weights[f"{node}/{s}"][OPTIONS.index(o)].item() * (1 if beta is None else beta[int(s)].item())
            for s, o in pair
        ]
        return sorted(value, reverse=True)

    return max(pairs, key=strengths)


def test_equals_brute_force_over_all_choices():
    every = decisions(3)
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        weights = {
            d.name: torch.randn(len(d.options), generator=generator).softmax(0)
            for d in every.values()
            if d.role == "operation" or seed % 2
        }
        architecture = argmax("toy", every, weights)
        check(architecture, every)
        for node in ("normal/2", "normal/3", "normal/4"):
            best = brute_force(every, weights, node)
            assert architecture[node] == tuple(sorted(s for s, _ in best))
            assert {s: architecture[f"{node}/{s}"] for s, _ in best} == {s: (o,) for s, o in best}
        assert architecture["stage/width"] == (("8", "16")[weights["stage/width"].argmax()],)


def test_none_never_wins_and_ties_go_to_the_first():
    every = decisions(2)
    weights = {
        d.name: torch.full((len(d.options),), 1 / len(d.options)) for d in every.values() if d.role == "operation"
    }
    for name in weights:
        if name.startswith("normal"):
            weights[name] = torch.tensor([0.9, 0.05, 0.05])
    architecture = argmax("toy", every, weights)
    assert architecture["normal/3"] == ("0", "1")
    assert all(kept == ("a",) for name, kept in architecture.items() if name.count("/") == 2)


def test_none_may_win_where_a_decision_is_optional():
    every = {
        name: d if d.role == "inputs" or name != "normal/3/2" else replace(d, optional=True)
        for name, d in decisions(2).items()
    }
    weights = {
        d.name: torch.tensor([0.8, 0.15, 0.05][: len(d.options)]) for d in every.values() if d.role == "operation"
    }
    architecture = argmax("toy", every, weights)
    assert architecture["normal/3/2"] == ("none",)
    assert architecture["normal/2/0"] == ("a",)


def test_answers_every_question_of_the_darts_space():
    every = Supernet(Darts(2, 3).network(Undecided(), (1, 8, 8), 2)).decisions
    weights = {d.name: torch.randn(len(d.options)).softmax(0) for d in every.values() if d.role == "operation"}
    architecture = argmax("darts", every, weights)
    check(architecture, every)
    assert sum(name.count("/") == 2 for name in architecture) == 16


def fair(**strong: float) -> dict[str, torch.Tensor]:
    """Sigmoid weights of 0.1, but for those given: n2_0a=0.9 is operation a from state 0 to node 2."""
    weights = {d.name: torch.full((3,), 0.1) for d in decisions(2).values() if d.name.count("/") == 2}
    for key, value in strong.items():
        weights[f"normal/{key[1]}/{key[3]}"][OPTIONS.index(key[4])] = value
    return {**weights, "stage/width": torch.tensor([0.2, 0.1])}


def test_threshold_keeps_the_two_best_edges_and_of_them_the_strong():
    """Of node 3's three strong edges the best two; of node 2's one strong edge that one, without the weak."""
    weights = fair(n3_0a=0.9, n3_1b=0.95, n3_2a=0.86, n2_1b=0.9, n2_0a=0.84)
    architecture = threshold("toy", decisions(2), weights)
    assert architecture["normal/3"] == ("0", "1")
    assert architecture["normal/2"] == ("1",)
    assert architecture["normal/2/1"] == ("b",)
    assert "normal/2/0" not in architecture
    assert "normal/3/2" not in architecture
    everything = threshold("toy", decisions(2), weights, least=0.0)
    assert everything == argmax("toy", decisions(2), weights)


def test_threshold_counts_equality_and_leaves_no_node_without_input():
    exact = fair(n2_0a=0.5, n2_1a=0.5, n3_0a=0.3, n3_2b=0.4)
    architecture = threshold("toy", decisions(2), exact, least=0.5)
    assert architecture["normal/2"] == ("0", "1")
    assert architecture["normal/3"] == ("2",)  # the strongest, though weak


def test_networks_are_built_from_what_the_threshold_leaves():
    every = Supernet(Darts(2, 3).network(Undecided(), (1, 8, 8), 2)).decisions
    weights = {d.name: torch.rand(len(d.options)) for d in every.values() if d.role == "operation"}
    architecture = threshold("darts", every, weights, least=0.97)
    assert sum(name.count("/") == 2 for name in architecture) < 16
    Darts(2, 3).network(Decided(architecture), (1, 8, 8), 2)(torch.zeros(2, 1, 8, 8))


SKIPPING = ("none", "skip_connect", "conv")


def skips(architecture, kind="normal"):
    return [n for n, kept in architecture.items() if n.startswith(kind) and kept == ("skip_connect",)]


def skipping(nodes: int, options=SKIPPING):
    found = {}
    for kind in ("normal", "reduce"):
        for node in range(2, 2 + nodes):
            sources = tuple(str(s) for s in range(node))
            found[f"{kind}/{node}"] = node_decision(f"{kind}/{node}", sources, 2)
            found.update({f"{kind}/{node}/{s}": edge_decision(f"{kind}/{node}/{s}", options) for s in sources})
    return found


@pytest.mark.parametrize("most", range(7))
def test_limit_skips_against_a_second_writing_of_the_papers_procedure(most):
    """Matrices in place of decisions, as in the paper's script: zero the weakest kept skip, choose again, until few."""
    every = skipping(3)
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        lean = torch.tensor([0.0, 1.0, 0.0])
        weights = {
            n: (torch.randn(3, generator=generator) + lean).softmax(0)
            for n, d in every.items()
            if d.role == "operation"
        }
        architecture = limit_skips("toy", every, weights, most)
        check(architecture, every)
        table = {n: w.clone() for n, w in weights.items() if n.startswith("normal")}
        while True:
            kept = {}
            for node in (2, 3, 4):
                value = {s: table[f"normal/{node}/{s}"][1:].max().item() for s in range(node)}
                for s in sorted(value, key=lambda s: -value[s])[:2]:
                    kept[f"normal/{node}/{s}"] = table[f"normal/{node}/{s}"][1:].argmax().item()
            on = {n: table[n][1].item() for n, best in kept.items() if best == 0}
            if len(on) <= most:
                break
            table[min(on, key=on.get)][1] = 0.0
        expected = {n: (SKIPPING[1 + best],) for n, best in kept.items()}
        assert {n: k for n, k in architecture.items() if n.startswith("normal") and n.count("/") == 2} == expected
        assert len(skips(architecture)) <= most
        free = argmax("toy", every, weights)
        assert skips(architecture, "reduce") == skips(free, "reduce")  # reduction cells are left alone


def test_limit_skips_never_ends_in_none_although_it_is_an_answer():
    """P-DARTS drops Zero in its last stage (get_min_k_no_zero in its train_search.py), whatever the space."""
    every = {n: replace(d, optional=True) for n, d in skipping(2).items()}
    weights = {n: torch.tensor([0.6, 0.1, 0.3]) for n, d in every.items() if d.role == "operation"}
    assert argmax("toy", every, weights)["normal/2/0"] == ("none",)
    found = limit_skips("toy", every, weights)
    assert {kept for name, kept in found.items() if every[name].role == "operation"} == {("conv",)}
    weights = {n: torch.tensor([0.6, 0.3, 0.1]) for n, d in every.items() if d.role == "operation"}
    found = limit_skips("toy", every, weights)  # what a skip connection too many makes room for is no "none", either
    assert {kept for name, kept in found.items() if name.startswith("normal") and every[name].role == "operation"} == {
        ("conv",),
        ("skip_connect",),
    }
    alone = {"normal/2/0": Decision("normal/2/0", ("none",), optional=True)}
    assert limit_skips("toy", alone, {"normal/2/0": torch.ones(1)})["normal/2/0"] == ("none",)


def test_limit_skips_leaves_weights_alone_and_says_where_it_cannot_be():
    every = skipping(2)
    weights = {n: torch.tensor([0.1, 0.6, 0.3]) for n, d in every.items() if d.role == "operation"}
    before = {n: w.clone() for n, w in weights.items()}
    assert len(skips(limit_skips("toy", every, weights))) == 2
    assert all(torch.equal(weights[n], before[n]) for n in weights)
    only = skipping(2, ("skip_connect",))
    with pytest.raises(InputError, match=r"^most=2: this space needs more skip_connect in normal cells"):
        limit_skips("toy", only, {n: torch.ones(1) for n, d in only.items() if d.role == "operation"})


def test_each_discretiser_keeps_limits_besides_its_own_rule():
    space = NasBench201(channels=4, cells=1)
    costs = SpaceCosts(space, (3, 8, 8), 10)
    limits = Limits(costs, {"macs": 100_000})
    edges = {n: d for n, d in costs.decisions.items() if d.role == "operation"}
    large = {n: torch.tensor([0.01, 0.3, 0.1, 0.5, 0.09]) for n in edges}  # none, skip, 1x1, 3x3, pool
    assert not limits.fits(argmax(space.name, costs.decisions, large))
    found = argmax(space.name, costs.decisions, large, limits=limits)
    assert limits.fits(found)
    few = limit_skips(space.name, costs.decisions, large, most=1, group="cell", limits=limits)
    operations = [few[name] for name in edges]
    assert limits.fits(few)
    assert operations.count(("skip_connect",)) <= 1
    assert ("none",) not in operations
    assert [found[name] for name in edges].count(("skip_connect",)) > 1
    wide = Limits(costs, {"macs": 1e9})
    for discretiser in (argmax, partial(limit_skips, most=1, group="cell"), partial(threshold, least=0.4)):
        kept = discretiser(space.name, costs.decisions, large, limits=wide)
        assert kept == discretiser(space.name, costs.decisions, large)


def test_threshold_leaves_out_weak_edges_of_what_fits():
    space = Darts(4, 3, nodes=2)
    costs = SpaceCosts(space, (3, 8, 8), 10)
    stream = torch.Generator().manual_seed(0)
    weights = {n: torch.rand(8, generator=stream) for n, d in costs.decisions.items() if d.role == "operation"}
    limits = Limits(costs, {"macs": 1.1 * Limits(costs, {}).cheapest("macs")[1]})
    assert not limits.fits(threshold(space.name, costs.decisions, weights))
    found = threshold(space.name, costs.decisions, weights, limits=limits)
    assert limits.fits(found)
    whole = argmax(space.name, costs.decisions, weights, limits=limits)
    assert set(found) <= set(whole)


def test_numbers_are_chosen_and_those_that_do_not_matter_left_out():
    depth = Decision("depth", ("1", "2"), role="number")
    kernel = Decision("kernel", ("3", "5"), role="number", when=(("depth", ("2",)),))
    every = {d.name: d for d in (kernel, depth)}  # also where a decision comes before what it depends on
    weights = {"depth": torch.tensor([0.6, 0.4]), "kernel": torch.tensor([0.1, 0.9])}
    assert argmax("mine", every, weights).choices == {"depth": ("1",)}
    deep = {**weights, "depth": torch.tensor([0.4, 0.6])}
    assert argmax("mine", every, deep).choices == {"depth": ("2",), "kernel": ("5",)}
