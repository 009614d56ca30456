import itertools

import torch

from supernet.search.discretisers import argmax
from supernet.space.architecture import Decision, check
from supernet.space.choices import Supernet
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts

OPTIONS = ("none", "a", "b")


def decisions(nodes: int) -> dict[str, Decision]:
    found = [Decision("stage/width", ("8", "16"))]
    for node in range(2, 2 + nodes):
        sources = tuple(str(s) for s in range(node))
        found.append(Decision(f"normal/{node}", sources, 2, inputs=True))
        found += [Decision(f"normal/{node}/{s}", OPTIONS) for s in sources]
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
            if not d.inputs or seed % 2
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
    weights = {d.name: torch.full((len(d.options),), 1 / len(d.options)) for d in every.values() if not d.inputs}
    for name in weights:
        if name.startswith("normal"):
            weights[name] = torch.tensor([0.9, 0.05, 0.05])
    architecture = argmax("toy", every, weights)
    assert architecture["normal/3"] == ("0", "1")
    assert all(kept == ("a",) for name, kept in architecture.items() if name.count("/") == 2)


def test_none_may_win_where_a_decision_is_optional():
    every = {
        name: d if d.inputs or name != "normal/3/2" else Decision(name, OPTIONS, optional=True)
        for name, d in decisions(2).items()
    }
    weights = {d.name: torch.tensor([0.8, 0.15, 0.05][: len(d.options)]) for d in every.values() if not d.inputs}
    architecture = argmax("toy", every, weights)
    assert architecture["normal/3/2"] == ("none",)
    assert architecture["normal/2/0"] == ("a",)


def test_answers_every_question_of_the_darts_space():
    every = Supernet(Darts(2, 3).network(Undecided(), (1, 8, 8), 2)).decisions
    weights = {d.name: torch.randn(len(d.options)).softmax(0) for d in every.values() if not d.inputs}
    architecture = argmax("darts", every, weights)
    check(architecture, every)
    assert sum(name.count("/") == 2 for name in architecture) == 16
