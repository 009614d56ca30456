"""Several objectives at once: nondominated ranks, crowding distances, hypervolume, and NSGA-II.

Everything here is to be large. A point dominates another where it is nowhere smaller and somewhere larger; equal points
do not dominate each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.search.black_box.explorers import Explorer, Fitness, check_counts
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates


def nondominated(points: Sequence[Fitness]) -> list[int]:
    """Finds the points that no other dominates (the Pareto front).

    Args:
        points: (count, objectives); the larger the better.

    Returns:
        Their places, in ascending order; of equal points all.

    Example:
        >>> nondominated([(3, 0), (1, 1), (0, 3), (2, 0)])
        [0, 1, 2]
    """
    front = dict[Fitness, None]()
    for point in sorted(set(points), reverse=True):  # those that could dominate a point come before it
        if not any(all(a >= b for a, b in zip(other, point, strict=True)) for other in front):
            front[point] = None
    return [place for place, point in enumerate(points) if point in front]


def nondominated_ranks(points: Sequence[Fitness]) -> list[int]:
    """Sorts points into fronts: rank 0 is dominated by none, rank 1 by those of rank 0 alone, and so on.

    Source: Deb, Pratap, Agarwal and Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II",
    section III.A. It takes memory for count x count numbers.

    Args:
        points: (count, objectives); the larger the better.

    Returns:
        The rank of each point.

    Example:
        >>> nondominated_ranks([(3, 0), (1, 1), (0, 3), (2, 0), (1, 0)])
        [0, 0, 0, 1, 2]
    """
    table = np.asarray(points, dtype=np.float64)
    if not len(table):
        return []
    above, below = table[:, None], table[None]
    dominates = np.all(above >= below, axis=2) & np.any(above > below, axis=2)
    waits_for = dominates.sum(0)  # how many that are not ranked yet dominate each point
    ranks, rank = np.full(len(table), -1), 0
    while (ranks < 0).any():
        front = (waits_for == 0) & (ranks < 0)
        ranks[front] = rank
        waits_for -= dominates[front].sum(0)
        rank += 1
    return ranks.tolist()


def crowding_distances(points: Sequence[Fitness]) -> list[float]:
    """Measures how far the neighbours of each point are along the front; the ends of each objective are infinitely far.

    Source: Deb et al. 2002, section III.B. An objective in which all points are equal adds nothing.

    Args:
        points: of one front, (count, objectives).

    Returns:
        For each point the sum over the objectives of the distance between its two neighbours, as a share of the range.

    Example:
        >>> crowding_distances([(4.0, 0.0), (3.0, 1.0), (0.0, 4.0)])
        [inf, 2.0, inf]
    """
    distances = [0.0] * len(points)
    for objective in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda place: points[place][objective])  # of equals the first
        values = [points[place][objective] for place in order]
        if values[0] == values[-1]:
            continue
        distances[order[0]] = distances[order[-1]] = math.inf
        if math.isfinite(span := values[-1] - values[0]):
            for before, place, after in zip(values, order[1:-1], values[2:], strict=False):
                distances[place] += (after - before) / span
    return distances


def hypervolume(points: Sequence[Fitness], reference: Fitness) -> float:
    """Measures the space that points dominate above a reference point: the larger, the better they are as a set.

    It sweeps from the best of the last objective down, and measures each slice in the objectives that are left. Two
    objectives take count x log(count) steps, each further one up to count times as many.

    Source: Zitzler and Thiele 1998, "Multiobjective Optimization Using Evolutionary Algorithms" (PPSN).

    Args:
        points: (count, objectives); the larger the better. Such as are not above the reference add nothing.
        reference: the corner, (objectives,).

    Returns:
        An area for two objectives, a volume for three.

    Raises:
        InputError: the reference has another number of objectives than a point.

    Example:
        >>> hypervolume([(2.0, 1.0), (1.0, 2.0)], (0.0, 0.0))
        3.0
    """
    for point in points:
        if len(point) != len(reference):
            raise InputError(
                f"reference={reference}: has {quantity(len(reference), 'objective')}, a point has {len(point)}"
            )
    above = [point for point in points if all(a > b for a, b in zip(point, reference, strict=True))]
    return _swept(sorted(above, key=lambda point: -point[-1]), reference)


def _swept(points: Sequence[Fitness], reference: Fitness) -> float:
    """The hypervolume of points above the reference whose last objectives descend."""
    if not points:
        return 0.0
    if len(reference) == 1:
        return points[0][0] - reference[0]
    *levels, bottom = [point[-1] for point in points] + [reference[-1]]
    volume, widest = 0.0, reference[0]
    for number, (level, below) in enumerate(zip(levels, [*levels[1:], bottom], strict=True), start=1):
        if len(reference) == 2:
            widest = max(widest, points[number - 1][0])
            volume += (level - below) * (widest - reference[0])
        elif level > below:
            slices = sorted((point[:-1] for point in points[:number]), key=lambda point: -point[-1])
            volume += (level - below) * _swept(slices, reference[:-1])
    return volume


class Nsga2(Explorer):
    """NSGA-II: generations of children, of which with their parents the best fronts live on, spread over the front.

    Parents win a tournament of two by rank, then by crowding distance. A child takes each answer from one of two
    parents; then answers are drawn anew. A child that is known already is replaced by another one, and where none is
    found by a drawn architecture.

    Source: Deb, Pratap, Agarwal and Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II"
    (IEEE Transactions on Evolutionary Computation). Their operators are for numbers; those for categories and their
    probabilities are the defaults of Optuna's sampler.

    Args:
        candidates: the architectures that can be tried.
        population: of each generation; as many are drawn at the start.
        crossover: the probability that a child has two parents, in [0, 1].
        mutation: the probability with which each of its answers is drawn anew, in [0, 1]; None: 1 / (the number of
            answers that it has and that could be others).
        first: architectures that are tried before any is drawn, such as the ends of the front: the cheapest, the
            largest.
        seed: of all draws.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> edges = {name: Decision(name, ("a", "b", "c")) for name in ("x", "y")}
        >>> explorer = Nsga2(Candidates("mine", edges), population=2)
        >>> while (proposed := explorer.ask()) is not None:
        ...     explorer.tell(proposed, (float(proposed["x"] == ("c",)), -float(proposed["y"] == ("c",))))
        >>> len(explorer.told)
        9
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        population: int = 50,
        crossover: float = 0.9,
        mutation: float | None = None,
        first: Sequence[Architecture] = (),
        seed: int = 0,
    ) -> None:
        check_counts(population=population)
        for name, probability in {"crossover": crossover, "mutation": mutation or 0.0}.items():
            if not 0.0 <= probability <= 1.0:
                raise InputError(f"{name}={probability}: needs to lie in [0, 1], such as 0.9")
        super().__init__(candidates, seed=seed)
        self._size, self._crossover, self._mutation = population, crossover, mutation
        self._first = tuple(first)
        self._open = [len(decision.answers) > decision.keep for decision in candidates.decisions]
        self._parents: list[tuple[Architecture, Fitness]] = []
        self._children: list[tuple[Architecture, Fitness]] = []
        self._standing: list[tuple[int, float]] = []  # of each parent: -rank and crowding distance

    def ask(self) -> Architecture | None:
        for architecture in self._first:
            if not self.known(architecture) and self.candidates.fits(architecture):
                return architecture
        return (self.fresh(self._child) if self._parents else None) or self.unknown()

    def ask_together(self, enough: int) -> list[Architecture]:
        return self.several(self.ask, min(self._size - len(self._children), enough))

    def learn(self, architecture: Architecture, fitness: Fitness) -> None:
        self._children.append((architecture, fitness))
        if len(self._children) == self._size:
            self._parents = self._survivors([*self._parents, *self._children])
            self._children, self._standing = [], _standing([fitness for _, fitness in self._parents])

    def _survivors(self, pool: list[tuple[Architecture, Fitness]]) -> list[tuple[Architecture, Fitness]]:
        """Whole fronts as long as they fit, of the next one the least crowded."""
        standing = _standing([fitness for _, fitness in pool])
        best = sorted(range(len(pool)), key=lambda place: standing[place], reverse=True)  # stable: of equals the first
        return [pool[place] for place in best[: self._size]]

    def _child(self) -> Architecture:
        child = self._parent()
        if self.rng.random() < self._crossover:
            child = self.candidates.crossover(child, self._parent(), self.rng)
        mutation = self._mutation
        if mutation is None:
            answered = zip(self.candidates.genes(child), self._open, strict=True)
            mutation = 1 / max(1, sum(bool(kept) and can_change for kept, can_change in answered))
        return self.candidates.resample(child, mutation, self.rng)

    def _parent(self) -> Architecture:
        first, second = (self.rng.randrange(len(self._parents)) for _ in range(2))
        return self._parents[second if self._standing[second] > self._standing[first] else first][0]

    def state_dict(self) -> dict[str, Any]:
        genes = self.candidates.genes
        populations = {"parents": self._parents, "children": self._children}
        return {**super().state_dict(), **{n: [(genes(a), f) for a, f in pairs] for n, pairs in populations.items()}}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        made = self.candidates.architecture
        self._parents, self._children = (
            [(made(genes), tuple(fitness)) for genes, fitness in state[name]] for name in ("parents", "children")
        )
        self._standing = _standing([fitness for _, fitness in self._parents])


def _standing(points: Sequence[Fitness]) -> list[tuple[int, float]]:
    """(-rank, crowding distance within the front) of each point: the larger, the better."""
    ranks = nondominated_ranks(points)
    fronts = dict[int, list[int]]()
    for place, rank in enumerate(ranks):
        fronts.setdefault(rank, []).append(place)
    standing = [(0, 0.0)] * len(points)
    for rank, places in fronts.items():
        for place, distance in zip(places, crowding_distances([points[p] for p in places]), strict=True):
            standing[place] = (-rank, distance)
    return standing
