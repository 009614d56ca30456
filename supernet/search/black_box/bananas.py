"""BANANAS: an ensemble of small networks predicts which mutants of the best architectures are worth a try."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import torch

from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.search.black_box.ensemble import Ensemble
from supernet.search.black_box.explorers import Explorer, Fitness, check_counts
from supernet.space.architecture import Architecture, edge_name
from supernet.space.genes import Candidates

Encoding = Literal["automatic", "paths", "one_hot"]
_MOST_PATHS = 10_000  # features
_STREAM = 0xBA4A


class Bananas(Explorer):
    """BANANAS: mutants of the best so far, of which an ensemble's draws choose those to try.

    Some architectures are drawn. Then in each round an ensemble is trained on all that is known; it judges mutants of
    the best architecture, and where that has too few new ones, of the next best; a draw from the normal distribution of
    each one's predictions (independent Thompson sampling) chooses those that are tried. A mutant differs from its
    parent in one answer; one that is known is left out.

    What differs from the authors' code: the objective is standardised for the ensemble, so that its unit plays no part.
    Schneider, Pfisterer, Binder and Bischl 2021 ("Mutation is All You Need", arXiv:2107.07343) find that the mutants
    of the best do most of the work, not the ensemble: compare with `LocalSearch`. It pays only where an evaluation
    takes much longer than training the ensemble, some tenths of a second for each round.

    Source: White, Neiswanger and Savani 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural
    Architecture Search" (AAAI). The defaults are those of the authors' code.

    Args:
        candidates: the architectures that can be tried.
        initial: how many are drawn at the start.
        round: how many are tried before the ensemble is trained again.
        mutants: how many candidates are drawn from each parent, and enough to go on with.
        parents: up to how many of the best have mutants.
        members: networks of the ensemble.
        layers: hidden layers of a network.
        width: of a hidden layer.
        epochs: passes over all that is known in each round.
        learning_rate: of Adam, above 0.
        encoding: "paths": which sequences of operations lead from the input of a cell to its last node, up to two
            operations long (the truncated path encoding; 30 features in NAS-Bench-201); "one_hot": which answers are
            kept; "automatic": paths where the space is of such cells.
        seed: of all draws.

    Raises:
        InputError: a setting is out of its range, or paths are asked for in a space without such cells.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> edges = {name: Decision(name, ("a", "b", "c")) for name in ("x", "y")}
        >>> explorer = Bananas(Candidates("mine", edges), initial=2, round=2, epochs=5)
        >>> while (proposed := explorer.ask()) is not None:
        ...     explorer.tell(proposed, (float(proposed["x"] == ("c",)),))
        >>> len(explorer.told)
        9
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        initial: int = 10,
        round: int = 10,
        mutants: int = 100,
        parents: int = 5,
        members: int = 5,
        layers: int = 10,
        width: int = 20,
        epochs: int = 150,
        learning_rate: float = 0.01,
        encoding: Encoding = "automatic",
        seed: int = 0,
    ) -> None:
        check_counts(initial=initial, round=round, mutants=mutants, parents=parents)
        check_counts(members=members, layers=layers, width=width, epochs=epochs)
        if not 0.0 < learning_rate < math.inf:
            raise InputError(f"learning_rate={learning_rate}: needs a number above 0, such as 0.01")
        super().__init__(candidates, seed=seed)
        self._initial, self._round, self._mutants, self._parents = initial, round, mutants, parents
        self._members, self._layers, self._width = members, layers, width
        self._epochs, self._rate = epochs, learning_rate
        self._encode = _encoding(candidates, encoding)
        self._generator = generator(seed, _STREAM)
        self._queue: deque[Architecture] = deque()

    def ask(self) -> Architecture | None:
        if not self._queue and len(self.told) >= self._initial:
            self._queue.extend(self._chosen(self._candidates()))
        return self._queue[0] if self._queue else self.unknown()

    def ask_together(self, enough: int) -> list[Architecture]:
        if (to_draw := self._initial - len(self.told)) > 0 and not self._queue:
            return self.several(self.unknown, min(to_draw, enough))
        first = self.ask()
        return list(self._queue) if self._queue or first is None else [first]

    def learn(self, architecture: Architecture, fitness: Fitness) -> None:
        if self._queue and self._queue[0] is architecture:
            self._queue.popleft()

    def _candidates(self) -> list[Architecture]:
        """New mutants of the best, each of another key."""
        best = sorted(self.told.values(), key=lambda one: -one[1][0])[: self._parents]  # stable: of equals the first
        made = dict[Hashable, Architecture]()
        for parent, _ in best:
            if len(made) >= self._mutants:
                break
            for _ in range(self._mutants):
                mutant = self.candidates.mutate(parent, self.rng)  # of the parent, not of the mutant before
                key = self.candidates.key(mutant)
                if key not in self.told and key not in made and self.candidates.fits(mutant):
                    made[key] = mutant
        return list(made.values())

    def _chosen(self, mutants: list[Architecture]) -> list[Architecture]:
        """Those with the largest draws."""
        known = [(architecture, f[0]) for architecture, f in self.told.values() if math.isfinite(f[0])]
        if len(mutants) <= self._round or not known:
            return mutants[: self._round]
        objective = torch.tensor([value for _, value in known], dtype=torch.float64)
        spread = objective.std(correction=0).item() or 1.0
        targets = ((objective - objective.mean()) / spread).float()
        inputs = torch.tensor([self._encode(architecture) for architecture, _ in known])
        ensemble = Ensemble(
            inputs.shape[1],
            members=self._members,
            layers=self._layers,
            width=self._width,
            generator=self._generator,
        )
        ensemble.fit(inputs, targets, epochs=self._epochs, learning_rate=self._rate)
        predicted = ensemble.predict(torch.tensor([self._encode(mutant) for mutant in mutants]))
        noise = torch.randn(len(mutants), generator=self._generator)
        drawn = predicted.mean(0) + predicted.std(0, correction=0) * noise
        return [mutants[place] for place in drawn.argsort(descending=True, stable=True)[: self._round].tolist()]

    def state_dict(self) -> dict[str, Any]:
        queue = [self.candidates.genes(architecture) for architecture in self._queue]
        return {**super().state_dict(), "queue": queue, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        self._queue = deque(self.candidates.architecture(genes) for genes in state["queue"])
        self._generator.set_state(state["generator"])


def path_encoding(candidates: Candidates, longest: int = 2) -> Callable[[Architecture], list[float]] | None:
    """Encodes a cell by the sequences of operations on the paths from its input to its last node.

    Source: White, Neiswanger and Savani 2021, section 3. Paths over different nodes with the same operations are one.

    Args:
        candidates: of a space.
        longest: paths with more operations are left out (truncated).

    Returns:
        architecture -> 1 for each sequence of operations that is there and 0 for the others, the shortest first; None
        where the space has no such cells: where nodes choose their inputs, or there are several cells.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> from supernet.space.survey import candidates_of
        >>> encode = path_encoding(candidates_of(NasBench201(nodes=2, operations=("none", "skip_connect"))))
        >>> encode(from_string("|skip_connect~0|+|none~0|skip_connect~1|"))  # none; skip; none none ... skip skip
        [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    """
    paths = _paths(candidates)
    if paths is None:
        return None
    kept_paths = [path for path in paths if len(path) <= longest]
    count = len(candidates.decisions[kept_paths[0][0]].answers)
    starts = {length: sum(count**shorter for shorter in range(1, length)) for length in range(1, longest + 1)}
    size = sum(count**length for length in range(1, max(map(len, kept_paths)) + 1))
    if size > _MOST_PATHS:
        return None

    def encode(architecture: Architecture) -> list[float]:
        genes, features = candidates.genes(architecture), [0.0] * size
        for path in kept_paths:
            number = 0
            for edge in path:
                number = number * count + genes[edge][0]
            features[starts[len(path)] + number] = 1.0
        return features

    return encode


def _paths(candidates: Candidates) -> Sequence[Sequence[int]] | None:
    """All paths from state 0 to the last node, as the numbers of their edges' decisions; None without such cells."""
    numbers = {decision.name: number for number, decision in enumerate(candidates.decisions)}
    nodes = [decision for decision in candidates.decisions if decision.role == "inputs"]
    edges = {node.name: {source: edge_name(node.name, source) for source in node.options} for node in nodes}
    names = [name for sources in edges.values() for name in sources.values()]
    answers = {candidates.decisions[numbers[name]].answers for name in names if name in numbers}
    cells = {node.name.rpartition("/")[0] for node in nodes}
    if len(cells) != 1 or len(answers) != 1 or {*names, *edges} != {*numbers}:
        return None
    if any(node.keep < len(node.options) for node in nodes):
        return None
    reaching: dict[str, list[list[int]]] = {"0": [[]]}  # state -> the paths to it
    for node in nodes:
        sources = edges[node.name]
        if any(source not in reaching for source in sources):
            return None  # a cell with a second input
        paths = [[*path, numbers[edge]] for source, edge in sources.items() for path in reaching[source]]
        reaching[node.name.rpartition("/")[2]] = paths
    return paths


def _encoding(candidates: Candidates, encoding: Encoding) -> Callable[[Architecture], list[float]]:
    if encoding not in ("automatic", "paths", "one_hot"):
        raise InputError(f"encoding={encoding}: known: automatic, paths, one_hot")
    paths = None if encoding == "one_hot" else path_encoding(candidates)
    if paths is None and encoding == "paths":
        raise InputError("encoding=paths: this space has no cells in which each node has all its inputs; use one_hot")
    return paths or candidates.encode
