"""Local search: from a good architecture to a better neighbour, until no neighbour is better."""

from __future__ import annotations

from typing import Any

from supernet.search.black_box.explorers import Explorer, Fitness, check_counts
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates


class LocalSearch(Explorer):
    """Starts at the best of some drawn architectures and moves to the first neighbour that is better.

    Where no neighbour is better it starts again at new draws. No architecture is tried twice; a known neighbour that is
    better is moved to at no cost.

    Source: White, Nolen and Savani 2021, "Exploring the Loss Landscape in Neural Architecture Search" (UAI), with the
    ten draws and the first better neighbour of the authors' code.

    Args:
        candidates: the architectures that can be tried.
        initial: how many are drawn at each start.
        together: how many neighbours are judged before the first of them is compared. 1: one after the other, as
            published; more can be judged side by side, and some in vain, because the first better one is moved to.
        seed: of all draws.

    Raises:
        InputError: a count is below 1.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> edges = {name: Decision(name, ("a", "b", "c")) for name in ("x", "y", "z")}
        >>> explorer = LocalSearch(Candidates("mine", edges), initial=1)
        >>> for _ in range(27):
        ...     proposed = explorer.ask()
        ...     explorer.tell(proposed, (float(sum(kept == ("c",) for kept in proposed.values())),))
        >>> len(explorer.told), explorer.ask() is None
        (27, True)
    """

    def __init__(self, candidates: Candidates, *, initial: int = 10, together: int = 1, seed: int = 0) -> None:
        check_counts(initial=initial, together=together)
        super().__init__(candidates, seed=seed)
        self._initial, self._together = initial, together
        self._drawn: list[tuple[Architecture, Fitness]] = []
        self._here: tuple[Architecture, Fitness] | None = None
        self._neighbours: list[Architecture] = []

    def ask(self) -> Architecture | None:
        while True:
            if self._here is None:
                if len(self._drawn) < self._initial and (drawn := self.unknown()) is not None:
                    return drawn
                if not self._drawn:
                    return None
                self._move(*max(self._drawn, key=lambda one: one[1][0]))
                self._drawn = []
            while self._neighbours:
                neighbour = self._neighbours[-1]
                if not self.candidates.fits(neighbour):
                    self._neighbours.pop()
                    continue
                known = self.told.get(self.candidates.key(neighbour))
                if known is None:
                    return neighbour
                self._neighbours.pop()
                self._compare(neighbour, known[1])
            self._here = None  # a minimum

    def ask_together(self, enough: int) -> list[Architecture]:
        to_draw = self._initial - len(self._drawn)
        if self._here is None and to_draw and (drawn := self.several(self.unknown, min(to_draw, enough))):
            return drawn
        first = self.ask()
        if first is None or self._here is None:
            return [] if first is None else [first]
        rest = (one for one in reversed(self._neighbours[:-1]) if self.candidates.fits(one) and not self.known(one))
        return [first, *self.several(lambda: next(rest, None), self._together - 1)]

    def learn(self, architecture: Architecture, fitness: Fitness) -> None:
        if self._here is None:
            self._drawn.append((architecture, fitness))
            return
        if self._neighbours and self._neighbours[-1] is architecture:
            self._neighbours.pop()
        self._compare(architecture, fitness)

    def _compare(self, neighbour: Architecture, fitness: Fitness) -> None:
        assert self._here is not None
        if fitness[0] > self._here[1][0]:
            self._move(neighbour, fitness)

    def _move(self, architecture: Architecture, fitness: Fitness) -> None:
        self._here = (architecture, fitness)
        self._neighbours = self.candidates.neighbours(architecture)
        self.rng.shuffle(self._neighbours)

    def state_dict(self) -> dict[str, Any]:
        genes, here = self.candidates.genes, self._here
        return {
            **super().state_dict(),
            "drawn": [(genes(architecture), fitness) for architecture, fitness in self._drawn],
            "here": None if here is None else (genes(here[0]), here[1]),
            "neighbours": [genes(architecture) for architecture in self._neighbours],
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        made, here = self.candidates.architecture, state["here"]
        self._drawn = [(made(genes), tuple(fitness)) for genes, fitness in state["drawn"]]
        self._here = None if here is None else (made(here[0]), tuple(here[1]))
        self._neighbours = [made(genes) for genes in state["neighbours"]]
