"""Evolution: the best architectures so far are changed a little, and the changed ones are tried."""

from __future__ import annotations

from collections import deque
from typing import Any

from supernet.runtime.errors import InputError
from supernet.search.black_box.explorers import Explorer, Fitness, check_counts
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates

_FITTING_TRIES = 1000  # children among which one has to keep the limits


class AgingEvolution(Explorer):
    """Regularised evolution: of some drawn at random the best has a child, and the oldest dies, however good it is.

    Source: Real, Aggarwal, Huang and Le 2019, "Regularized Evolution for Image Classifier Architecture Search" (AAAI),
    algorithm 1. The defaults are theirs; NATS-Bench has a population of 10 and samples of 3. Candidates are drawn with
    replacement, as in the authors' code.

    Args:
        candidates: the architectures that can be tried.
        population: how many live at a time; as many are drawn at the start.
        sample: how many of them are drawn as candidates for a parent.
        distinct: whether a child that is known already is replaced by another child, and where none is found by a
            drawn architecture. False: it lives again, as published.
        together: how many children are made before the first of them is judged. 1: each parent is chosen with the
            knowledge of all children before, as published; more can be judged side by side.
        seed: of all draws.

    Raises:
        InputError: a count is below 1.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> edges = {name: Decision(name, ("a", "b", "c")) for name in ("x", "y")}
        >>> explorer = AgingEvolution(Candidates("mine", edges), population=2, sample=2)
        >>> while (proposed := explorer.ask()) is not None:
        ...     explorer.tell(proposed, (float(proposed["x"] == ("c",)),))
        >>> len(explorer.told)
        9
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        population: int = 100,
        sample: int = 25,
        distinct: bool = True,
        together: int = 1,
        seed: int = 0,
    ) -> None:
        check_counts(population=population, sample=sample, together=together)
        super().__init__(candidates, seed=seed)
        self._sample, self._distinct, self._size, self._together = sample, distinct, population, together
        self._living: deque[tuple[Architecture, Fitness]] = deque(maxlen=population)

    def ask(self) -> Architecture | None:
        if len(self._living) < self._size:
            return self.unknown()
        if self._distinct:
            return self.fresh(self._child) or self.unknown()
        return self._fitting_child()

    def ask_together(self, enough: int) -> list[Architecture]:
        to_draw = self._size - len(self._living)
        return self.several(self.ask, min(to_draw, enough) if to_draw else self._together)

    def learn(self, architecture: Architecture, fitness: Fitness) -> None:
        self._living.append((architecture, fitness))  # a full population loses its oldest

    def _child(self) -> Architecture:
        drawn = [self._living[self.rng.randrange(self._size)] for _ in range(self._sample)]
        parent, _ = max(drawn, key=lambda one: one[1][0])  # of equals the first
        return self.candidates.mutate(parent, self.rng)

    def _fitting_child(self) -> Architecture | None:
        children = (self._child() for _ in range(_FITTING_TRIES))
        found = next((child for child in children if self.candidates.fits(child)), None)
        if found is None and self.candidates.repairs:
            return self.candidates.repaired(self._child(), self.rng)
        return found

    def state_dict(self) -> dict[str, Any]:
        living = [(self.candidates.genes(architecture), fitness) for architecture, fitness in self._living]
        return {**super().state_dict(), "living": living}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        pairs = [(self.candidates.architecture(genes), tuple(fitness)) for genes, fitness in state["living"]]
        self._living = deque(pairs, maxlen=self._size)


class SposEvolution(Explorer):
    """SPOS' evolution: generations of mutants and crossovers of the best architectures so far.

    Source: Guo, Zhang, Mu, Heng, Liu, Wei and Sun 2020, "Single Path One-Shot Neural Architecture Search with Uniform
    Sampling" (ECCV), section 3.4, with the figures of the authors' code: 20 generations of 50. No architecture is tried
    twice; where ten times as many tries do not make enough new mutants or crossovers, drawn ones fill the generation,
    and where a space has no more it ends (the authors' code would not).

    Args:
        candidates: the architectures that can be tried.
        population: architectures of a generation.
        parents: the best so far that have children.
        mutants: how many of a generation are mutants.
        crossovers: how many are crossovers; drawn ones are the rest.
        probability: with which a mutant's answers are drawn anew, each by itself, in (0, 1].
        seed: of all draws.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> edges = {name: Decision(name, ("a", "b", "c")) for name in ("x", "y")}
        >>> explorer = SposEvolution(Candidates("mine", edges), population=4, parents=2, mutants=2, crossovers=2)
        >>> while (proposed := explorer.ask()) is not None:
        ...     explorer.tell(proposed, (float(proposed["x"] == ("c",)),))
        >>> len(explorer.told)
        9
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        population: int = 50,
        parents: int = 10,
        mutants: int = 25,
        crossovers: int = 25,
        probability: float = 0.1,
        seed: int = 0,
    ) -> None:
        check_counts(population=population, parents=parents)
        if mutants < 0 or crossovers < 0 or mutants + crossovers > population:
            raise InputError(
                f"mutants={mutants}, crossovers={crossovers}: need 0 or more, together up to population={population}"
            )
        if not 0.0 < probability <= 1.0:
            raise InputError(f"probability={probability}: needs to lie in (0, 1], such as 0.1")
        super().__init__(candidates, seed=seed)
        self._population, self._parents = population, parents
        self._mutants, self._crossovers, self._probability = mutants, crossovers, probability
        self._queue: deque[Architecture] = deque()

    def ask(self) -> Architecture | None:
        return next(iter(self.ask_together(1)), None)

    def ask_together(self, enough: int) -> list[Architecture]:
        if not self._queue:
            self._queue.extend(self._generation())
        return list(self._queue)

    def learn(self, architecture: Architecture, fitness: Fitness) -> None:
        if self._queue and self._queue[0] is architecture:
            self._queue.popleft()

    def _generation(self) -> list[Architecture]:
        best = sorted(self.told.values(), key=lambda one: -one[1][0])[: self._parents]  # stable: of equals the first
        parents = [architecture for architecture, _ in best]
        made = dict[Any, Architecture]()
        for number, propose in ((self._mutants, self._mutant), (self._crossovers, self._crossing)):
            wanted, tries = len(made) + number, 10 * number
            while parents and len(made) < wanted and tries:
                tries -= 1
                self._add(made, propose(parents))
        while len(made) < self._population:
            drawn = self.fresh(lambda: self.candidates.random(self.rng))
            if drawn is not None and self.candidates.key(drawn) not in made:
                made[self.candidates.key(drawn)] = drawn
                continue
            rest = self.unknown()  # few are left: the next one alone, where it is not in this generation already
            if rest is not None and self.candidates.key(rest) not in made:
                made[self.candidates.key(rest)] = rest
                continue
            break
        return list(made.values())

    def _add(self, made: dict[Any, Architecture], proposed: Architecture) -> None:
        key = self.candidates.key(proposed)
        if key not in self.told and key not in made and self.candidates.fits(proposed):
            made[key] = proposed

    def _mutant(self, parents: list[Architecture]) -> Architecture:
        parent = parents[self.rng.randrange(len(parents))]
        return self.candidates.resample(parent, self._probability, self.rng)

    def _crossing(self, parents: list[Architecture]) -> Architecture:
        first, second = (parents[self.rng.randrange(len(parents))] for _ in range(2))
        return self.candidates.crossover(first, second, self.rng)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "queue": [self.candidates.genes(architecture) for architecture in self._queue]}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        self._queue = deque(self.candidates.architecture(genes) for genes in state["queue"])
