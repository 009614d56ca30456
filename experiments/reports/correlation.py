"""Rank correlations between measures of networks, and the variation of one network with the seed."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from scipy.stats import kendalltau, spearmanr

from .runs import Group, RunRecord, differing_words

_LEAST = 3  # pairs; fewer say nothing about an order
_LEAST_ALONE = 5  # for a line of its own beside that of all runs: three seeds are in perfect order by chance too often


@dataclass(frozen=True)
class Correlation:
    """Rank correlations of two measures over `n` pairs: Kendall's tau-b and Spearman's rho in [-1, 1].

    None below three pairs, and where one of the two is the same everywhere.
    """

    over: str
    between: str
    n: int
    tau: float | None
    rho: float | None


@dataclass(frozen=True)
class Noise:
    """Sample standard deviations over training seeds, pooled over `cells` of which each was trained several times."""

    cells: int
    trainings: int
    valid: float | None
    test: float | None


def correlate(over: str, between: str, pairs: Sequence[tuple[float, float]]) -> Correlation:
    """Tau-b and rho of pairs of numbers."""
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    if len(pairs) < _LEAST or len(set(firsts)) < 2 or len(set(seconds)) < 2:
        return Correlation(over, between, len(pairs), None, None)
    tau, rho = kendalltau(firsts, seconds).statistic, spearmanr(firsts, seconds).statistic
    return Correlation(over, between, len(pairs), float(tau), float(rho))


def correlations(groups: Sequence[Group]) -> list[Correlation]:
    """Correlates the search's estimate with the truth, and validation with test accuracy, where both are known.

    Over all networks that were trained alike, and over the runs of each group that has enough of them.
    """
    everything = [n for g in groups for n in g.members]
    alike: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        alike[group.members[0].training].append(group)
    found = []
    for members in alike.values():
        searched, those = [g for g in members if g.kind == "searched"], [n for g in members for n in g.members]
        whole = "all" if len(alike) == 1 else f"all, {differing_words(those, everything)}"
        found += _thought_and_truth(whole, [n for g in searched for n in g.members])
        if len(searched) > 1:
            for g in searched:
                found += [c for c in _thought_and_truth(g.label, g.members) if c.n >= _LEAST_ALONE]
        once = {n.outcome[1:]: n for n in those}  # a cell that two searches found counts once
        found += _compare(whole, "validation, test", list(once.values()), lambda n: n.valid, lambda n: n.test)
    return found


def _thought_and_truth(over: str, networks: Sequence[RunRecord]) -> list[Correlation]:
    found = _compare(over, "supernet's validation, test", networks, lambda n: n.search_valid, lambda n: n.test)
    for column in networks[0].table if networks else ():
        between = f"supernet's validation, table's {column}"
        found += _compare(over, between, networks, lambda n: n.search_valid, partial(_truth, column))
    return found


def _truth(column: str, network: RunRecord) -> float | None:
    return network.table.get(column)


_Measure = Callable[[RunRecord], float | None]


def _compare(
    over: str, between: str, networks: Sequence[RunRecord], first: _Measure, second: _Measure
) -> list[Correlation]:
    """One correlation, or none where nothing has both measures."""
    pairs = [(a, b) for n in networks if (a := first(n)) is not None and (b := second(n)) is not None]
    return [correlate(over, between, pairs)] if pairs else []


def noise(networks: Sequence[RunRecord]) -> Noise:
    """How much accuracies vary where cell and training are the same and the seed alone differs."""
    repeats: dict[tuple[str, str], dict[int, RunRecord]] = defaultdict(dict)
    for n in networks:
        if n.valid is not None or n.test is not None:
            repeats[n.training, n.genotype].setdefault(n.seed, n)
    several = [list(seeds.values()) for seeds in repeats.values() if len(seeds) > 1]
    valid = _pooled([[n.valid for n in cell if n.valid is not None] for cell in several])
    test = _pooled([[n.test for n in cell if n.test is not None] for cell in several])
    return Noise(len(several), sum(map(len, several)), valid, test)


def _pooled(samples: Sequence[Sequence[float]]) -> float | None:
    """The root of the variances' mean, weighted by degrees of freedom."""
    used = [sample for sample in samples if len(sample) > 1]
    if not used:
        return None
    squares = sum((len(sample) - 1) * statistics.variance(sample) for sample in used)
    return math.sqrt(squares / sum(len(sample) - 1 for sample in used))
