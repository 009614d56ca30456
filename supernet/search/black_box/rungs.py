"""Rungs: architectures are judged with a small resource first, and the best of them with more and more.

The resource of a rung is a whole number, such as the epochs of a training. A unit of a budget is one of these for one
architecture: 27 architectures trained for 3 epochs each are 81 units.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

from supernet.estimation.scores import Measured
from supernet.runtime.errors import InputError
from supernet.search.black_box.explorers import Explorer, Fitness, RandomExplorer
from supernet.search.black_box.exploring import RESOURCE, UNITS
from supernet.search.black_box.judging import WithResource
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates

_REPEATS = 1000  # known architectures in a row after which a source has nothing new to say


class ResourceScore(Protocol):
    """A score that takes a resource, such as `estimation.short_training.ShortTrainingScore`."""

    @property
    def most(self) -> int | None:
        """The largest resource that can be asked for; None: any."""
        ...

    @property
    def continues(self) -> bool:
        """Whether more of the resource costs the difference only: the score goes on where it was."""
        ...

    def __call__(self, architecture: Architecture, resource: int, /) -> Measured:
        """Judges an architecture with this much of the resource."""
        ...


@dataclass(frozen=True)
class LookedUp:
    """Makes a score with a resource of a function of both, such as a table's columns for several lengths of training.

    Args:
        function: maps an architecture and a resource to what is known.
        most: the largest resource that can be asked for; None: any.
        continues: whether more of the resource costs the difference only.

    Example:
        >>> score = LookedUp(lambda architecture, epochs: Measured({"accuracy": 1 - 1 / epochs}), most=200)
        >>> score(Architecture("mine", {}), 4).values["accuracy"]
        0.75
    """

    function: Callable[[Architecture, int], Measured]
    most: int | None = None
    continues: bool = True

    def __call__(self, architecture: Architecture, resource: int, /) -> Measured:
        return self.function(architecture, resource)


@dataclass(frozen=True)
class Bracket:
    """One run of successive halving: how many architectures begin, and the resource of each rung.

    Args:
        architectures: that begin, 1 or more.
        resources: of the rungs, from the lowest up.
        factor: one of so many goes on to the next rung, at least one.

    Example:
        >>> Bracket(27, (3, 9, 27, 81), factor=3).rungs
        [(27, 3), (9, 9), (3, 27), (1, 81)]
    """

    architectures: int
    resources: tuple[int, ...]
    factor: int

    @property
    def rungs(self) -> list[tuple[int, int]]:
        """How many architectures each rung judges, and with what resource."""
        counts = [self.architectures]
        while len(counts) < len(self.resources):
            counts.append(kept(counts[-1], self.factor))
        return list(zip(counts, self.resources, strict=True))

    def units(self, continues: bool) -> int:
        """What the bracket costs: sums of resources, or of what each rung has more than the one below it."""
        below = (0, *self.resources[:-1]) if continues else (0,) * len(self.resources)
        return sum(count * (resource - had) for (count, resource), had in zip(self.rungs, below, strict=True))


def kept(count: int, factor: int) -> int:
    """How many of a rung go on: one of `factor`, rounded down, but one at least.

    Example:
        >>> kept(34, 3), kept(2, 3)
        (11, 1)
    """
    return max(1, count // factor)


@dataclass(frozen=True)
class Ladder:
    """The resources of the rungs: from the most down, each `factor` times as small, rounded down, while above `least`.

    Source: Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar 2018, "Hyperband: A Novel Bandit-Based Approach to
    Hyperparameter Optimization" (JMLR 18), algorithm 1; its R is `most` in units of `least`, its eta is `factor`. All
    is computed with whole numbers: the logarithm of 243 to the base 3 is 4.999... in floating point.

    Args:
        least: the smallest resource, 1 or more.
        most: the largest, which the last rung has.
        factor: between two rungs, 2 or more.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> Ladder(most=81).resources(2), Ladder(most=243).top
        ((9, 27, 81), 5)
    """

    least: int = 1
    most: int = 81
    factor: int = 3

    def __post_init__(self) -> None:
        if self.least < 1:
            raise InputError(f"least={self.least}: needs 1 or more units of the resource")
        if self.most < self.least:
            raise InputError(f"most={self.most}: needs least={self.least} or more units of the resource")
        if self.factor < 2:
            raise InputError(
                f"factor={self.factor}: needs 2 or more, such as 3; one of so many goes on to the next rung"
            )

    @property
    def top(self) -> int:
        """The rungs above the lowest: the logarithm of most / least to the base `factor`, rounded down."""
        top = 0
        while self.least * self.factor ** (top + 1) <= self.most:
            top += 1
        return top

    def resources(self, above: int) -> tuple[int, ...]:
        """The resources of the topmost rungs.

        Args:
            above: how many rungs there are above the first of them, at most `top`.

        Returns:
            A resource for each rung, the smallest first.
        """
        return tuple(self.most // self.factor ** (above - rung) for rung in range(above + 1))

    def brackets(self) -> tuple[Bracket, ...]:
        """Hyperband's brackets, from the one of most architectures to the one that judges all with the whole resource.

        Example:
            >>> [bracket.architectures for bracket in Ladder(most=81).brackets()]
            [81, 34, 15, 8, 5]
        """
        count = self.top + 1
        return tuple(
            Bracket(-(-count * self.factor**s // (s + 1)), self.resources(s), self.factor)
            for s in reversed(range(count))
        )


@dataclass(frozen=True)
class Job:
    """An evaluation that was asked for.

    Args:
        bracket: its number.
        rung: its number, from 0.
        resource: of the rung.
        had: the resource of the rung below, which the architecture was judged with; 0: none.
    """

    bracket: int
    rung: int
    resource: int
    had: int

    def units(self, continues: bool) -> int:
        """What the evaluation costs."""
        return self.resource - (self.had if continues else 0)


class RungExplorer(Explorer):
    """Proposes new architectures for the lowest rung, and known ones again for higher ones.

    After `ask` the evaluation that is meant is in `open`. Several may be asked for before the first is told; then
    None can also mean that the next question depends on an answer that is not there yet.

    Args:
        candidates: the architectures that can be tried.
        seed: of all draws.
        ladder: the resources of the rungs.
        source: makes the explorer that proposes new architectures. It is told what each has in its first rung, whose
            resource differs between the brackets of Hyperband.

    Attributes:
        open: the evaluation of each architecture that was asked for and not told.
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        seed: int = 0,
        ladder: Ladder | None = None,
        source: Callable[..., Explorer] = RandomExplorer,
    ) -> None:
        super().__init__(candidates, seed=seed)
        self.ladder = ladder or Ladder()
        self.open: dict[Architecture, Job] = {}
        self._source: Explorer = source(candidates, seed=seed)
        self._again: list[Architecture] = []  # were open when the state was saved, and nobody works on them now
        self._exhausted = False

    @abstractmethod
    def next_job(self) -> tuple[Architecture, Job] | None:
        """Decides on the next evaluation; None: there is none, or none before an open one is told."""

    @property
    def evaluations(self) -> int | None:
        """How many evaluations there are in all where the space is large enough; None: without end."""
        return None

    @abstractmethod
    def plan(self, continues: bool) -> str:
        """Says what is going to be judged and what it costs.

        Args:
            continues: whether more of the resource costs the difference only.

        Returns:
            One line.
        """

    def ask(self) -> Architecture | None:
        while self._again:
            architecture = self._again.pop(0)
            if architecture in self.open:
                return architecture
        found = self.next_job()
        if found is None:
            return None
        architecture, job = found
        self.open[architecture] = job
        return architecture

    def tell(self, architecture: Architecture, fitness: Fitness) -> None:
        """Takes the answer to a proposal; raises InputError where it was not asked for."""
        if architecture not in self.open:
            raise InputError("architecture: was not asked for; tell what `ask` gave, once")
        job = self.open.pop(architecture)
        if job.rung == 0:
            self._source.tell(architecture, fitness)
        self.told.setdefault(self.candidates.key(architecture), (architecture, fitness))
        self.climbed(architecture, job, -math.inf if math.isnan(fitness[0]) else fitness[0])

    @abstractmethod
    def climbed(self, architecture: Architecture, job: Job, fitness: float) -> None:
        """Takes the answer of one rung, which is never NaN."""

    def new(self) -> Architecture | None:
        """Asks the source until it gives an architecture that is not known, nor computes the same as a known one."""
        working = {self.candidates.key(architecture) for architecture in self.open}
        for _ in range(0 if self._exhausted else _REPEATS):
            architecture = self._source.ask()
            if architecture is None:
                break
            key = self.candidates.key(architecture)
            if key in self.told:
                self._source.tell(architecture, self.told[key][1])
            elif key not in working:
                return architecture
        self._exhausted = not self.open
        return None

    def new_together(self, enough: int) -> list[Architecture]:
        """Asks the source, while nothing is open, for several architectures that can be judged side by side.

        Args:
            enough: how many there is room for.

        Returns:
            As many of them as the source gives before it wants to be told; none where it has nothing new.
        """
        for _ in range(0 if self._exhausted else _REPEATS):
            proposed = self._source.ask_together(enough)[:enough]
            found = dict[Hashable, Architecture]()
            for architecture in proposed:
                key = self.candidates.key(architecture)
                if key in self.told:
                    self._source.tell(architecture, self.told[key][1])
                else:
                    found.setdefault(key, architecture)
            if found or not proposed:
                self._exhausted = not found
                return list(found.values())
        self._exhausted = True
        return []

    def ask_together(self, enough: int) -> list[Architecture]:
        if again := [architecture for architecture in self._again if architecture in self.open]:
            self._again = []
            return again
        return super().ask_together(enough)

    def state_dict(self) -> dict[str, Any]:
        genes = self.candidates.genes
        return {
            **super().state_dict(),
            "ladder": list(astuple(self.ladder)),
            "source": self._source.state_dict(),
            "open": [(genes(architecture), list(astuple(job))) for architecture, job in self.open.items()],
            "exhausted": self._exhausted,
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        if (there := list(state["ladder"])) != (here := list(astuple(self.ladder))):
            raise InputError(f"ladder={here}: it was begun with least, most, factor of {there}")
        super().load_state_dict(state)
        self._source.load_state_dict(state["source"])
        self.open = {self.candidates.architecture(genes): Job(*job) for genes, job in state["open"]}
        self._again = list(self.open)
        self._exhausted = state["exhausted"]


@dataclass(frozen=True)
class AtRung(WithResource):
    """Judges an architecture with the resource for which a `RungExplorer` has asked.

    Args:
        explorer: has asked.
        score: judges with a resource.
    """

    explorer: RungExplorer
    score: ResourceScore

    def resource(self, architecture: Architecture) -> int:
        return self.explorer.open[architecture].resource

    def completed(self, architecture: Architecture, measured: Measured) -> Measured:
        """The values of the score, then bracket, rung and resource; its cost, and the units of the evaluation."""
        job = self.explorer.open[architecture]
        where = {"bracket": float(job.bracket), "rung": float(job.rung), RESOURCE: float(job.resource)}
        units = float(job.units(self.score.continues))
        return Measured({**measured.values, **where}, {**measured.cost, UNITS: units})


def words(brackets: Sequence[Bracket]) -> list[str]:
    """Each bracket in words.

    Example:
        >>> words([Bracket(9, (1, 3), 3)])
        ['9 at 1, 3 at 3']
    """
    return [", ".join(f"{count} at {resource}" for count, resource in bracket.rungs) for bracket in brackets]
