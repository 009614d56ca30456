"""Rank correlations and the noise of seeds, against their definitions and against scipy and numpy."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from supernet.experiments.reports.correlation import correlate, correlations, noise
from supernet.experiments.reports.runs import RunRecord, group


def network(**changes) -> RunRecord:
    given = {"run": Path("run"), "kind": "searched", "words": (), "settings": "s", "training": "t", "experiment": ""}
    given |= {
        "method": "",
        "data": "digits",
        "space": "micro",
        "score": "accuracy",
        "seed": 0,
        "genotype": "g",
        "parameters": 1,
    }
    given |= {"valid": None, "test": None, "training_seconds": None, "search_seconds": None, "search_valid": None}
    given |= {"score": "accuracy"}
    return RunRecord(**{**given, "table": {}, "best": {}, **changes})


def tau_b(pairs):
    """Kendall 1945: concordant minus discordant pairs over the geometric mean of the pairs not tied in each."""
    signs = [(np.sign(a[0] - b[0]), np.sign(a[1] - b[1])) for a, b in itertools.combinations(pairs, 2)]
    return sum(x * y for x, y in signs) / np.sqrt(sum(x * x for x, _ in signs) * sum(y * y for _, y in signs))


def rho(pairs):
    """Spearman 1904: the correlation of the ranks, equal numbers sharing the mean of theirs."""
    ranks = [
        [np.mean([1 + sum(w < v for w in xs), sum(w <= v for w in xs)]) for v in xs] for xs in zip(*pairs, strict=True)
    ]
    return np.corrcoef(ranks)[0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_those_of_the_definitions(seed):
    pairs = [tuple(map(float, pair)) for pair in np.random.default_rng(seed).integers(0, 6, (12, 2))]  # with ties
    found = correlate("all", "a, b", pairs)
    assert found.n == 12
    assert found.tau == pytest.approx(tau_b(pairs), abs=1e-12)
    assert found.rho == pytest.approx(rho(pairs), abs=1e-12)


def test_correlations_by_hand():
    found = correlate("all", "a, b", [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0)])
    assert found.tau == pytest.approx(4 / 6)  # 5 pairs in order, 1 not
    assert found.rho == pytest.approx(1 - 6 * 2 / (4 * 15))  # 1 - 6 sum d^2 / (n (n^2 - 1))


@pytest.mark.parametrize("pairs", [[], [(1.0, 2.0), (2.0, 3.0)], [(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]])
def test_too_few_pairs_and_constants_have_no_order(pairs):
    found = correlate("all", "a, b", pairs)
    assert (found.n, found.tau, found.rho) == (len(pairs), None, None)


def test_which_pairs_are_compared():
    """All methods together, each with enough runs alone; a cell that two found and trained counts once."""
    rows = [
        network(settings=s, words=(f"method={s}",), seed=n, genotype=f"{s}{n}", search_valid=v, valid=v, test=t)
        for s, scores in (("a", [0.5, 0.6, 0.7, 0.8, 0.9]), ("b", [0.9, 0.8, 0.7, 0.6, 0.5]), ("c", [0.3, 0.2, 0.1]))
        for n, (v, t) in enumerate(zip((0.1, 0.2, 0.3, 0.4, 0.5), scores, strict=False))
    ]
    rows.append(network(settings="b", words=("method=b",), seed=0, genotype="a0", valid=0.1, test=0.5))
    rows.append(network(kind="random", words=("method=b",), seed=0, genotype="r", valid=0.0, test=0.95))
    found = {(c.over, c.between): c for c in correlations(group(rows))}
    thought = "supernet's validation, test"
    assert found["all", thought].n == 13
    assert found["method=a", thought].tau == pytest.approx(1)
    assert found["method=b", thought].tau == pytest.approx(-1)
    assert ("method=c", thought) not in found, "three runs alone say too little"
    assert found["all", "validation, test"].n == 14


def test_networks_that_were_trained_differently_are_not_mixed():
    rows = [
        network(
            settings=s,
            training=s,
            words=(f"retrain.epochs={s}",),
            seed=n,
            genotype=f"{n}",
            search_valid=n / 4,
            test=n / 4,
        )
        for s in "12"
        for n in range(3)
    ]
    found = [(c.over, c.n) for c in correlations(group(rows)) if c.between == "supernet's validation, test"]
    assert sorted(found) == [("all, retrain.epochs=1", 3), ("all, retrain.epochs=2", 3)]


def test_noise_is_pooled_over_cells_that_several_seeds_trained():
    first, second = [0.90, 0.92, 0.97], [0.50, 0.60]
    rows = [network(genotype="a", seed=n, test=v, valid=v / 2) for n, v in enumerate(first)]
    rows += [network(genotype="b", kind="random", seed=n, test=v, valid=v / 2) for n, v in enumerate(second)]
    rows += [network(genotype="a", seed=0, test=0.90, valid=0.45)]  # the same run again
    rows += [network(genotype="c", seed=0, test=0.1), network(genotype="c", training="other", seed=1, test=0.9)]
    rows += [network(genotype="d", seed=n) for n in range(3)]  # never trained
    found = noise(rows)
    pooled = np.sqrt((2 * np.var(first, ddof=1) + np.var(second, ddof=1)) / 3)
    assert (found.cells, found.trainings) == (2, 5)
    assert found.test == pytest.approx(pooled)
    assert found.valid == pytest.approx(pooled / 2)
    assert noise(rows[-3:]).test is None
