"""Explorers: they propose architectures and learn from how good those are (ask and tell).

An explorer knows nothing of how an architecture is judged: the same one explores a supernet, a table, a proxy or short
trainings (`exploring.explore`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from random import Random
from typing import Any

from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates

Fitness = tuple[float, ...]
"""How good an architecture is: a number for each objective, the larger the better."""

TRIES = 100  # proposals that turn out to be known before another way of proposing is taken
_LISTED = 50_000  # architectures of a space that is listed to find the last unknown ones
_STREAM = 0xE4B1


class Explorer(ABC):
    """Proposes architectures and learns from their values.

    An explorer of one's own says what `ask` proposes, and in `learn` what it makes of an answer. Where it can propose
    several before it has heard of the first, it says so in `ask_together`.

    Args:
        candidates: the architectures that can be tried.
        seed: of all draws.

    Attributes:
        rng: draws; its state is part of the checkpoint.
        told: key of an architecture (`Candidates.key`) -> it and its fitness, in the order of the answers.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> class First(Explorer):
        ...     def ask(self):
        ...         return self.fresh(lambda: next(self.candidates.all()), tries=1)
        >>> explorer = First(Candidates("mine", {"edge": Decision("edge", ("a", "b"))}))
        >>> first = explorer.ask()
        >>> explorer.tell(first, (0.5,))
        >>> first["edge"], explorer.ask() is None
        (('a',), True)
    """

    def __init__(self, candidates: Candidates, *, seed: int = 0) -> None:
        self.candidates = candidates
        self.rng = Random(generator(seed, _STREAM).initial_seed())
        self.told: dict[Hashable, tuple[Architecture, Fitness]] = {}
        self._open_keys: set[Hashable] = set()  # of what `several` has proposed so far

    @abstractmethod
    def ask(self) -> Architecture | None:
        """Proposes the next architecture. It may be a known one, whose answer costs nothing.

        Returns:
            The architecture; None where there is nothing left to propose.
        """

    def ask_together(self, enough: int) -> list[Architecture]:
        """Proposes the architectures that can be judged side by side; all are told, in this order, before the next.

        How many there are is a matter of the explorer, never of how many workers judge. One after the other, unless an
        explorer says more.

        Args:
            enough: more are not needed. An explorer whose proposals stay the same then gives no more than that.

        Returns:
            One or more; none where there is nothing left to propose.
        """
        proposed = self.ask()
        return [] if proposed is None else [proposed]

    def several(self, propose: Callable[[], Architecture | None], count: int) -> list[Architecture]:
        """Asks `propose` several times; meanwhile `fresh` and `unknown` count what it has given as known.

        Args:
            propose: gives an architecture, or None where there is none.
            count: how many are wanted.

        Returns:
            Up to so many.
        """
        proposed = list[Architecture]()
        try:
            while len(proposed) < count and (architecture := propose()) is not None:
                proposed.append(architecture)
                self._open_keys.add(self.candidates.key(architecture))
        finally:
            self._open_keys.clear()
        return proposed

    def known(self, architecture: Architecture) -> bool:
        """Whether it, or one that computes the same, was told or is proposed at the moment."""
        key = self.candidates.key(architecture)
        return key in self.told or key in self._open_keys

    def tell(self, architecture: Architecture, fitness: Fitness) -> None:
        """Takes the answer to a proposal.

        Args:
            architecture: what was proposed.
            fitness: how good it is, the larger the better; one number for each objective.
        """
        self.told.setdefault(self.candidates.key(architecture), (architecture, fitness))
        self.learn(architecture, fitness)

    def why(self) -> str | None:
        """Says in words why `ask` gave None, where an explorer ends for a reason of its own; None: nothing is new."""
        return None

    def learn(self, architecture: Architecture, fitness: Fitness) -> None:
        """Learns from an answer; does nothing unless an explorer says more.

        Args:
            architecture: what was proposed.
            fitness: how good it is.
        """
        return

    def fresh(self, propose: Callable[[], Architecture], tries: int = TRIES) -> Architecture | None:
        """Asks `propose` until it gives an architecture that is not known and keeps the limits.

        Where limits are so tight that nothing is found, it is asked as often again, and what it gives is changed until
        it keeps them (`Candidates.repaired`).

        Args:
            propose: gives an architecture at each call.
            tries: how often it is asked at most.

        Returns:
            The architecture; None where all tries gave known ones or such that break the limits.
        """
        for _ in range(tries):
            architecture = propose()
            if not self.known(architecture) and self.candidates.fits(architecture):
                return architecture
        for _ in range(tries if self.candidates.repairs else 0):
            architecture = self.candidates.repaired(propose(), self.rng)
            if not self.known(architecture):
                return architecture
        return None

    def unknown(self) -> Architecture | None:
        """Draws an architecture that is not known and keeps the limits.

        Where draws do not find one, a space of up to 50,000 architectures is listed, so that its very last ones are
        found; in a larger one ten times as many draws have to do.

        Returns:
            The architecture; None where there is none, or none was found.
        """
        drawn = self.fresh(lambda: self.candidates.random(self.rng))
        if drawn is not None:
            return drawn
        count = self.candidates.count
        if count is None or count > _LISTED:
            return self.fresh(lambda: self.candidates.random(self.rng), 10 * TRIES)
        left = [
            architecture
            for architecture in self.candidates.all()
            if not self.known(architecture) and self.candidates.fits(architecture)
        ]
        return left[self.rng.randrange(len(left))] if left else None

    def state_dict(self) -> dict[str, Any]:
        """All that the explorer has learnt and drawn, for a checkpoint."""
        told = [(self.candidates.genes(architecture), fitness) for architecture, fitness in self.told.values()]
        return {"rng": self.rng.getstate(), "told": told}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Takes over what `state_dict` gave."""
        version, numbers, gauss = state["rng"]
        self.rng.setstate((version, tuple(numbers), gauss))
        pairs = [(self.candidates.architecture(genes), tuple(fitness)) for genes, fitness in state["told"]]
        self.told = {self.candidates.key(architecture): (architecture, fitness) for architecture, fitness in pairs}


class RandomExplorer(Explorer):
    """Draws architectures, each once: the baseline that every other explorer has to beat.

    Args:
        candidates: the architectures that can be tried.
        seed: of all draws.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> explorer = RandomExplorer(Candidates("mine", {"edge": Decision("edge", ("a", "b"))}))
        >>> for accuracy in (0.5, 0.25):
        ...     explorer.tell(explorer.ask(), (accuracy,))
        >>> len(explorer.told), explorer.ask() is None
        (2, True)
    """

    def ask(self) -> Architecture | None:
        return self.unknown()

    def ask_together(self, enough: int) -> list[Architecture]:
        return self.several(self.unknown, enough)


def check_counts(**settings: int) -> None:
    """Refuses counts below 1.

    Args:
        settings: counts by the names of their settings.

    Raises:
        InputError: names the first.

    Example:
        >>> check_counts(population=10)
        >>> check_counts(population=0)
        Traceback (most recent call last):
        supernet.runtime.errors.InputError: population=0: needs 1 or more
    """
    for name, value in settings.items():
        if value < 1:
            raise InputError(f"{name}={value}: needs 1 or more")
