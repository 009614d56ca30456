"""The front of a trained supernet: for each cost the architecture of the best score that costs no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from supernet.estimation.forms import Form
from supernet.estimation.joined_scores import Joined
from supernet.estimation.limits import Limits
from supernet.estimation.programmes import Programme
from supernet.estimation.scores import Score
from supernet.estimation.space_costs import CostScore, SpaceCosts
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.runtime.workers import Workers
from supernet.search.black_box.exploring import Budget, Explored, explore
from supernet.search.black_box.pareto import Nsga2, hypervolume
from supernet.space.architecture import Architecture, Decision
from supernet.space.genes import Candidates


@dataclass(frozen=True)
class Point:
    """An architecture with its score and its cost.

    Args:
        architecture: which one.
        score: such as an accuracy; the larger the better.
        cost: such as milliseconds; the smaller the better.
    """

    architecture: Architecture
    score: float
    cost: float


@dataclass(frozen=True)
class Front:
    """Architectures of which none has a better score at the same cost or less.

    Args:
        tried: all that were judged, in their order; one or more.
        score: the name of the score.
        cost: the name of the cost.
        reference: the corner of the hypervolume, (score, cost): a score that chance reaches, and the cost of the
            dearest architecture.

    Attributes:
        points: the front, from the cheapest to the best; of equals the first.

    Example:
        >>> small, large = (Architecture("mine", {"edge": (option,)}) for option in ("pool", "conv"))
        >>> tried = [Point(small, score=0.5, cost=1.0), Point(large, score=0.8, cost=3.0)]
        >>> front = Front(tried, "accuracy", "macs", (0.1, 4.0))
        >>> front.hypervolume, front.at_most(2.5).score  # 0.4 x 3 below the first, and 0.3 x 1 more below the second
        (1.5, 0.5)
    """

    tried: Sequence[Point]
    score: str
    cost: str
    reference: tuple[float, float]
    points: Sequence[Point] = field(init=False)

    def __post_init__(self) -> None:
        kept: list[Point] = []
        for point in sorted(self.tried, key=lambda one: (one.cost, -one.score)):  # stable: of equals the first
            if not kept or point.score > kept[-1].score:
                kept.append(point)
        object.__setattr__(self, "points", tuple(kept))

    @property
    def hypervolume(self) -> float:
        """The area between the front and the reference, in units of the score times units of the cost."""
        return hypervolume([(point.score, -point.cost) for point in self.points], self._corner)

    @property
    def share(self) -> float:
        """The hypervolume as a share of the area that a score of 1 at no cost would have."""
        score, cost = self.reference
        return self.hypervolume / ((1.0 - score) * cost)

    @property
    def _corner(self) -> tuple[float, float]:
        return self.reference[0], -self.reference[1]

    def at_most(self, limit: float) -> Point:
        """The architecture of the best score that costs no more than a limit.

        Args:
            limit: the largest cost.

        Returns:
            The point of the front.

        Raises:
            InputError: none is within the limit, in one line with the cost of the cheapest; or it is no number.
        """
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise InputError(f"limit={str(limit)[:40]}: needs a number")
        within = [point for point in self.points if point.cost <= limit]
        if not within:
            raise InputError(
                f"limit={limit:g}: no architecture costs so little ({self.cost}); the cheapest has "
                f"{self.points[0].cost:.6g}"
            )
        return within[-1]

    def first(self, count: int) -> Front:
        """The front of the architectures that were judged first."""
        return Front(self.tried[:count], self.score, self.cost, self.reference)


@dataclass(frozen=True)
class Ends:
    """The ends between which a front lies.

    Args:
        cheapest: the architecture of the smallest cost.
        largest: that of the most multiply-adds, which is often the most accurate one.
        dearest: the largest cost that any architecture has; None where it is not known, because the cost is a function.
    """

    cheapest: Architecture
    largest: Architecture
    dearest: float | None


def ends(costs: SpaceCosts, cost: str, decisions: Mapping[str, Decision] | None = None) -> Ends:
    """Finds the ends of a space by integer programmes.

    Args:
        costs: of the space's final networks.
        cost: the name of the cost.
        decisions: of a supernet of the space, which may have fewer options; None: of the whole space.

    Returns:
        The ends.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201, to_string
        >>> costs = SpaceCosts(NasBench201(channels=8, cells=1, stages=1, nodes=1), (1, 8, 8), outputs=10)
        >>> found = ends(costs, "macs")
        >>> costs.of("macs", found.cheapest), to_string(found.largest), found.dearest
        (4688.0, '|nor_conv_3x3~0|', 41552.0)
    """
    cheapest, _ = Limits(costs, {}).cheapest(cost, decisions)
    largest, _ = _most(costs, costs.form("macs"), decisions)
    form = costs[cost]
    if not isinstance(form, Form):
        return Ends(cheapest, largest, None)
    if form.combine == "sum":
        return Ends(cheapest, largest, _most(costs, form, decisions)[1])
    return Ends(cheapest, largest, max([form.base, *(float(term.values.max()) for term in form.terms)]))


def _most(costs: SpaceCosts, form: Form, decisions: Mapping[str, Decision] | None) -> tuple[Architecture, float]:
    """The architecture of the largest sum."""
    allowed = None if decisions is None else {name: decision.answers for name, decision in decisions.items()}
    programme = Programme(costs.recorded.space, costs.decisions, allowed)
    found = programme.solved(programme.total(form) * -1.0)
    assert found is not None, "a space has an architecture"
    return found, form.of(found)


def front_of(explored: Explored, score: str, cost: str, reference: tuple[float, float | None]) -> Front:
    """The front of what an exploration has judged.

    Args:
        explored: its evaluations have both values.
        score: the name of the value that is to be large.
        cost: the name of the value that is to be small.
        reference: (score, cost) of the corner of the hypervolume; a cost of None is the largest that was met.

    Returns:
        The front.
    """
    judged = [one for one in explored.evaluations if not one.failed]
    tried = [Point(one.architecture, one.values[score], one.values[cost]) for one in judged]
    dearest = max(point.cost for point in tried) if reference[1] is None else reference[1]
    return Front(tried, score, cost, (reference[0], dearest))


def ask_front(
    candidates: Candidates,
    judge: Score,
    score: str,
    costs: SpaceCosts,
    cost: str,
    *,
    evaluations: int,
    decisions: Mapping[str, Decision] | None = None,
    population: int = 50,
    chance: float = 0.0,
    seed: int = 0,
    run: Run | None = None,
    rows: Path | None = None,
    workers: Workers | None = None,
) -> Front:
    """Asks a score for its front against a cost: NSGA-II that begins with both ends; continues from the checkpoint.

    Args:
        candidates: the architectures that can be tried.
        judge: architecture -> its score, such as the accuracy of a trained supernet.
        score: the name of the value that is to be large.
        costs: of the final networks of the space.
        cost: the name of the cost that is to be small.
        evaluations: how many architectures are judged at most.
        decisions: of the supernet, which may have fewer options than the space; None: the space's.
        population: of NSGA-II.
        chance: the score of the hypervolume's reference, such as `Task.chance_without_labels`.
        seed: of all draws.
        run: where it reports and saves; None: nowhere.
        rows: a CSV file with a row for each evaluation; None: none.
        workers: who judges; None: this process.

    Returns:
        The front.

    Raises:
        InputError: a setting is out of its range, or a name is not known.
        Interrupted: after saving, where the run was asked to stop.

    Example:
        >>> from supernet.estimation.benchmark_tables import micro
        >>> from supernet.space import spaces
        >>> from supernet.space.survey import candidates_of
        >>> space = spaces.micro()
        >>> costs = SpaceCosts(space, (1, 8, 8), 10)
        >>> name = "digits_valid"
        >>> front = ask_front(candidates_of(space), micro([name]), name, costs, "macs", evaluations=200, chance=10.0)
        >>> len(front.tried), front.points[-1].score == max(point.score for point in front.tried)
        (60, True)
    """
    cost = costs.named(cost)
    found = ends(costs, cost, decisions)
    first = tuple(dict.fromkeys((found.cheapest, found.largest)))
    counted = CostScore(costs.space, costs.shape, costs.outputs, costs.factories, (cost,), costs)
    explorer = Nsga2(candidates, population=population, first=first, seed=seed)
    explored = explore(
        explorer,
        Joined((judge, counted)),
        Budget(evaluations=evaluations),
        objectives=(score, f"-{cost}"),
        run=run,
        name="pareto",
        rows=rows,
        workers=workers,
    )
    return front_of(explored, score, cost, (chance, found.dearest))
