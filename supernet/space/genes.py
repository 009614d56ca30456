"""The architectures of a space as things to try: draw one, change one, cross two, list the neighbours of one.

Everything that tries architectures (`supernet.search.black_box`) does it through `Candidates`. An architecture that has
been made once is made no second time: equal ones are one object, so that millions can be looked up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from random import Random

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision, check

Genes = tuple[tuple[int, ...], ...]
"""For each decision, in the order of `Candidates.decisions`, the answers kept, by index; () where it has no effect."""


class Candidates:
    """The architectures of a space that can be tried.

    Args:
        space: the name of the space.
        decisions: all of the network, by name.
        canonical: architecture -> a form that functionally equal architectures share; None: only equal ones are equal.
        fits: whether an architecture keeps the limits, such as a number of parameters; None: all do.
        repair: (architecture, rng) -> one like it that keeps the limits; None: those that do not are thrown away.

    Example:
        >>> edges = {name: Decision(name, ("none", "skip_connect", "conv"), optional=True) for name in ("a", "b")}
        >>> candidates, rng = Candidates("mine", edges), Random(0)
        >>> candidates.count, len(candidates.neighbours(candidates.random(rng)))
        (9, 4)
    """

    def __init__(
        self,
        space: str,
        decisions: Mapping[str, Decision],
        *,
        canonical: Callable[[Architecture], Hashable] | None = None,
        fits: Callable[[Architecture], bool] | None = None,
        repair: Callable[[Architecture, Random], Architecture] | None = None,
    ) -> None:
        self.space, self._by_name = space, dict(decisions)
        self.decisions = _after_conditions(decisions)
        place = {decision.name: number for number, decision in enumerate(self.decisions)}
        self._answers = [decision.answers for decision in self.decisions]
        for decision in self.decisions:
            if len(decision.answers) < decision.keep:
                raise InputError(
                    f"{decision.name}: keeps {decision.keep} of {', '.join(decision.answers) or 'no answers'}"
                )
        self._conditions = [
            [
                (place[name], frozenset(a for a, option in enumerate(self._answers[place[name]]) if option in options))
                for name, options in decision.when
                if name in place
            ]
            for decision in self.decisions
        ]
        self._open = [len(decision.answers) > decision.keep for decision in self.decisions]
        depends = [any(self._open[number] for number, _ in conditions) for conditions in self._conditions]
        self._dependent = [number for number, does in enumerate(depends) if does]
        self._nodes = self._mutable_by_node()
        self._canonical, self._fits, self._repair = canonical, fits, repair
        self._architectures: dict[Genes, Architecture] = {}
        self._genes: dict[Architecture, Genes] = {}
        self._keys: dict[Architecture, Hashable] = {}
        self._fitting: dict[Architecture, bool] = {}

    def random(self, rng: Random) -> Architecture:
        """Draws uniformly: of each decision as many answers as it keeps, decisions that do not matter left out.

        Args:
            rng: draws.

        Returns:
            The architecture.
        """
        genes: list[tuple[int, ...]] = []
        for number in range(len(self.decisions)):
            genes.append(self._draw(number, rng) if self.matters(number, genes) else ())
        return self.architecture(tuple(genes))

    def mutate(self, architecture: Architecture, rng: Random) -> Architecture:
        """Changes one answer: a node is drawn, then one of its decisions, then another answer to that.

        The node first, then the edge, is how the mutation of NATS-Bench draws (Dong et al. 2021). Where an input
        changes, the new edge has the operation of the old one.

        Args:
            architecture: the parent.
            rng: draws.

        Returns:
            Another architecture than the parent.

        Raises:
            InputError: the space has one architecture only.
        """
        genes = self.genes(architecture)
        nodes = [node for node in self._nodes if any(genes[number] for number in node)]
        if not nodes:
            raise InputError(f"space={self.space}: has a single architecture; there is nothing to change")
        node = nodes[rng.randrange(len(nodes))]
        numbers = [number for number in node if genes[number]]
        number = numbers[rng.randrange(len(numbers))]
        kept, answers = genes[number], len(self._answers[number])
        lost = kept[rng.randrange(len(kept))]
        others = [answer for answer in range(answers) if answer not in kept]
        changed = tuple(sorted([*(a for a in kept if a != lost), others[rng.randrange(len(others))]]))
        return self.architecture(self._settled((*genes[:number], changed, *genes[number + 1 :]), rng))

    def resample(self, architecture: Architecture, probability: float, rng: Random) -> Architecture:
        """Draws each answer anew with a probability; the new answer can be the old one (SPOS, Guo et al. 2020).

        Args:
            architecture: the parent.
            probability: of each decision, in [0, 1].
            rng: draws.

        Returns:
            An architecture, which may be the parent.
        """
        genes = list(self.genes(architecture))
        for number, kept in enumerate(genes):
            if kept and self._open[number] and rng.random() < probability:
                genes[number] = self._draw(number, rng)
        return self.architecture(self._settled(tuple(genes), rng))

    def crossover(self, first: Architecture, second: Architecture, rng: Random) -> Architecture:
        """Takes the answers to each decision from one of two parents, drawn evenly.

        Args:
            first: a parent.
            second: the other one.
            rng: draws.

        Returns:
            An architecture, which may be a parent.
        """
        pairs = list(zip(self.genes(first), self.genes(second), strict=True))
        chosen = [pair[rng.randrange(2)] or pair[0] or pair[1] for pair in pairs]
        return self.architecture(self._settled(tuple(chosen), rng))

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """Lists the architectures that differ in one answer.

        Args:
            architecture: in the middle.

        Returns:
            All neighbours, each once, in a fixed order. Where an input changes, the new edge has the operation of the
            old one.
        """
        genes = self.genes(architecture)
        found: dict[Architecture, None] = {}
        for number, kept in enumerate(genes):
            others = [a for a in range(len(self._answers[number])) if kept and a not in kept]
            for lost, other in itertools.product(kept, others):
                changed = tuple(sorted([*(a for a in kept if a != lost), other]))
                found[self.architecture(self._settled((*genes[:number], changed, *genes[number + 1 :])))] = None
        return list(found)

    def key(self, architecture: Architecture) -> Hashable:
        """The canonical form: functionally equal architectures have one key.

        Args:
            architecture: of this space.

        Returns:
            The key.
        """
        if architecture not in self._keys:
            form = self.genes(architecture) if self._canonical is None else self._canonical(architecture)
            self._keys[architecture] = form
        return self._keys[architecture]

    def fits(self, architecture: Architecture) -> bool:
        """Whether an architecture keeps the limits. It is asked once for each."""
        if self._fits is None:
            return True
        if architecture not in self._fitting:
            self._fitting[architecture] = self._fits(architecture)
        return self._fitting[architecture]

    @property
    def repairs(self) -> bool:
        """Whether `repaired` makes architectures keep the limits."""
        return self._fits is not None and self._repair is not None

    def repaired(self, architecture: Architecture, rng: Random) -> Architecture:
        """Makes an architecture keep the limits, where there is a way to.

        Args:
            architecture: of this space.
            rng: draws.

        Returns:
            One that keeps the limits and is like it; the same one where it does or where nothing repairs.
        """
        if self._repair is None or self.fits(architecture):
            return architecture
        return self.architecture(self.genes(self._repair(architecture, rng)))

    def encode(self, architecture: Architecture) -> list[float]:
        """The answers as zeros and ones.

        Args:
            architecture: of this space.

        Returns:
            1 for each answer kept and 0 for the others, all decisions behind each other.
        """
        genes = self.genes(architecture)
        return [
            float(a in kept) for kept, answers in zip(genes, self._answers, strict=True) for a in range(len(answers))
        ]

    @property
    def count(self) -> int | None:
        """How many architectures there are; None where decisions hang together in a way that is not counted."""
        several = [len(kept) > 1 and self.decisions[place].keep > 1 for c in self._conditions for place, kept in c]
        if any(several) or any(len(conditions) > 1 for conditions in self._conditions):
            return None
        after: dict[tuple[int, int], list[int]] = {}
        for number, conditions in enumerate(self._conditions):
            for place, kept in conditions:
                for answer in kept:
                    after.setdefault((place, answer), []).append(number)

        def ways(number: int) -> int:
            each = [math.prod(map(ways, after.get((number, a), []))) for a in range(len(self._answers[number]))]
            sums = [1] + [0] * self.decisions[number].keep  # elementary symmetric polynomials of `each`
            for value in each:
                for size in range(len(sums) - 1, 0, -1):
                    sums[size] += sums[size - 1] * value
            return sums[-1]

        return math.prod(ways(number) for number, conditions in enumerate(self._conditions) if not conditions)

    def all(self) -> Iterator[Architecture]:
        """All architectures, one after the other, in a fixed order."""
        yield from map(self.architecture, self._extended(()))

    def genes(self, architecture: Architecture) -> Genes:
        """The answers as numbers.

        Args:
            architecture: of this space.

        Returns:
            Its genes.

        Raises:
            InputError: the architecture does not answer the decisions of this space.
        """
        known = self._genes.get(architecture)
        if known is not None:
            return known
        check(architecture, self._by_name)
        made: list[tuple[int, ...]] = []
        for number, decision in enumerate(self.decisions):
            kept = architecture[decision.name] if self.matters(number, made) else ()
            if unknown := [option for option in kept if option not in self._answers[number]]:
                raise InputError(f"{decision.name}={unknown[0]!r} cannot be kept; known: {', '.join(decision.answers)}")
            made.append(tuple(sorted(self._answers[number].index(option) for option in kept)))
        self._genes[architecture] = genes = tuple(made)
        return genes

    def architecture(self, genes: Sequence[Sequence[int]]) -> Architecture:
        """The architecture of some genes, the same object for the same genes.

        Args:
            genes: the answers as numbers; what JSON or a checkpoint made of them is taken, too.

        Returns:
            The architecture.

        Raises:
            InputError: no architecture has such genes.
        """
        own: Genes = genes if isinstance(genes, tuple) else tuple(map(tuple, genes))  # lists out of JSON
        found = self._architectures.get(own)
        if found is not None:
            return found
        self._check_genes(own)
        choices = {
            decision.name: tuple(answers[index] for index in kept)
            for decision, answers, kept in zip(self.decisions, self._answers, own, strict=True)
            if kept
        }
        made = Architecture(self.space, choices)
        self._genes[made] = own
        self._architectures[own] = made
        return made

    def matters(self, number: int, genes: Sequence[tuple[int, ...]]) -> bool:
        """Whether a decision has an effect under the answers to those before it.

        Args:
            number: of the decision.
            genes: at least those before it.

        Returns:
            False where what it hangs on is not kept.
        """
        return all(not kept.isdisjoint(genes[place]) for place, kept in self._conditions[number])

    def _check_genes(self, genes: Genes) -> None:
        right = len(genes) == len(self.decisions) and all(
            all(type(index) is int and 0 <= index < len(answers) for index in kept)
            and len(set(kept)) == len(kept) <= decision.keep
            and bool(kept) == self.matters(number, genes)
            for number, (decision, answers, kept) in enumerate(zip(self.decisions, self._answers, genes, strict=True))
        )
        if not right:
            raise InputError(f"genes={str(genes)[:80]}: are of no architecture of {self.space}")

    def _draw(self, number: int, rng: Random) -> tuple[int, ...]:
        answers, keep = len(self._answers[number]), self.decisions[number].keep
        if keep == answers:
            return tuple(range(answers))
        return (rng.randrange(answers),) if keep == 1 else tuple(sorted(rng.sample(range(answers), keep)))

    def _settled(self, genes: Genes, rng: Random | None = None) -> Genes:
        """Drops answers that no longer matter and adds those that now do: an old one where it fits, else a drawn one,
        or the first where nothing is drawn."""
        if not self._dependent:
            return genes
        made, dropped = list(genes), list[tuple[str, ...]]()
        for number in self._dependent:
            if genes[number] and not self.matters(number, genes):
                dropped.append(tuple(self._answers[number][index] for index in genes[number]))
        for number in self._dependent:
            if not self.matters(number, made):
                made[number] = ()
            elif not made[number]:
                made[number] = self._taken_over(number, dropped, rng)
        return tuple(made)

    def _taken_over(self, number: int, dropped: list[tuple[str, ...]], rng: Random | None) -> tuple[int, ...]:
        answers, keep = self._answers[number], self.decisions[number].keep
        for place, options in enumerate(dropped):
            if len(options) == keep and all(option in answers for option in options):
                del dropped[place]
                return tuple(sorted(answers.index(option) for option in options))
        return tuple(range(keep)) if rng is None else self._draw(number, rng)

    def _mutable_by_node(self) -> list[list[int]]:
        nodes: dict[int, list[int]] = {}
        for number, conditions in enumerate(self._conditions):
            if self._open[number]:
                nodes.setdefault(conditions[0][0] if conditions else number, []).append(number)
        return list(nodes.values())

    def _extended(self, begun: Genes) -> Iterator[Genes]:
        number = len(begun)
        if number == len(self.decisions):
            yield begun
            return
        subsets = itertools.combinations(range(len(self._answers[number])), self.decisions[number].keep)
        for kept in subsets if self.matters(number, begun) else [()]:
            yield from self._extended((*begun, kept))


def _after_conditions(decisions: Mapping[str, Decision]) -> tuple[Decision, ...]:
    """The decisions in their order, but each behind those on which it depends."""

    def depth(decision: Decision) -> int:
        return max((1 + depth(decisions[name]) for name, _ in decision.when if name in decisions), default=0)

    return tuple(sorted(decisions.values(), key=depth))
