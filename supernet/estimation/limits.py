"""Limits on what an architecture may cost: which architectures keep them, the cheapest, and the most probable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from supernet.estimation.forms import Cost, Form
from supernet.estimation.programmes import Expression, Programme
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision, Weights, matters
from supernet.space.genes import Candidates

_CUTS = 100  # most probable architectures that are tried one after the other where a limit is no form
_FEW = 200  # architectures of a space that are all asked for a cost that is no form
_LARGEST = 1e300
_TINY = 1e-300  # a probability whose logarithm is still a number

Restriction = Callable[[Programme], None]
"""Adds rows to a programme: what else an architecture has to be."""


@dataclass(frozen=True, eq=False)
class Limits:
    """The most that an architecture may cost, by the name of the cost.

    Where costs are forms, all answers are exact: an integer programme finds them. A cost that is only known of whole
    networks (a person's function) is asked of one architecture after the other.

    Args:
        costs: of the final networks of the space.
        most: the largest cost that is allowed, by its name, such as {"macs": 50e6, "latency": 3.0}; {}: no limits.

    Raises:
        InputError: a limit is not above 0, or of a cost that is not known.

    Example:
        >>> import torch
        >>> from supernet.space.nasbench201 import NasBench201, to_string
        >>> costs = SpaceCosts(NasBench201(channels=8, cells=1, stages=1, nodes=2), (1, 8, 8), outputs=10)
        >>> limits = Limits(costs, {"macs": 20_000})
        >>> limits.cheapest("macs")[1]
        4688.0
        >>> likes = {name: torch.tensor([0.1, 0.1, 0.2, 0.5, 0.1]) for name in ("cell/1/0", "cell/2/0", "cell/2/1")}
        >>> found = limits.most_probable(likes)
        >>> to_string(found), limits.of(found)
        ('|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_1x1~1|', {'macs': 16976.0})
    """

    costs: SpaceCosts
    most: Mapping[str, float]
    _anchors: dict[str, Architecture] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "most", _checked(self.most, self.costs))

    def __bool__(self) -> bool:
        return bool(self.most)

    def of(self, architecture: Architecture) -> dict[str, float]:
        """What an architecture costs, of all that is limited."""
        return {name: self.costs.of(name, architecture) for name in self.most}

    def fits(self, architecture: Architecture) -> bool:
        """Whether an architecture keeps all limits."""
        return all(self.costs.of(name, architecture) <= limit for name, limit in self.most.items())

    def check(self, decisions: Mapping[str, Decision] | None = None) -> None:
        """Finds before anything runs whether there is an architecture within the limits.

        Args:
            decisions: of a supernet of the space, which may have fewer options; None: of the whole space.

        Raises:
            InputError: there is none. It names the cost of the cheapest architecture.
        """
        if decisions is not None and set(decisions) - set(self.costs.decisions):
            strange = sorted(set(decisions) - set(self.costs.decisions))[0]
            raise InputError(
                f"limits: the final space does not ask {strange!r}, which the search decides; use one space"
            )
        if decisions is not None and (lacking := sorted(set(self.costs.decisions) - set(decisions))):
            raise InputError(
                f"limits: the final space asks {lacking[0]!r}, which the search does not decide; use one space"
            )
        if self.most:
            self.anchor(decisions)

    def cheapest(self, name: str, decisions: Mapping[str, Decision] | None = None) -> tuple[Architecture, float]:
        """Finds the architecture that costs the least.

        Args:
            name: of the cost.
            decisions: of a supernet of the space; None: of the whole space.

        Returns:
            The architecture and its cost: the least of all where the cost is a form, or the space has few
            architectures. Else the best that descents come to, from the networks of the fewest multiply-adds and of
            the smallest parts; they end below the limit on this cost, where there is one.
        """
        cost = self.costs[name]
        if isinstance(cost, Form):
            found = self._least(cost, decisions)
            return found, self.costs.of(name, found)
        enough, ends = self.most.get(self.costs.named(name), 0.0), list[tuple[float, Architecture]]()
        for start in (self.costs.counted("macs"), self.costs.footprint):
            found = self._descended(
                self._least(start, decisions), lambda one: self.costs.of(name, one), enough, decisions
            )
            ends.append((self.costs.of(name, found), found))
            if ends[-1][0] <= enough:
                break
        else:  # a descent ends where no neighbour costs less, which need not be the end
            ends += [(self.costs.of(name, one), one) for one in self._few(decisions) or ()]
        least, found = min(ends, key=lambda end: end[0])
        return found, least

    def anchor(self, decisions: Mapping[str, Decision] | None = None) -> Architecture:
        """Finds the architecture that is the furthest below all limits together.

        Args:
            decisions: of a supernet of the space; None: of the whole space.

        Returns:
            The architecture whose largest share of a limit is the smallest; with one limit it is the cheapest.

        Raises:
            InputError: no architecture keeps the limits.
        """
        key = "" if decisions is None else str({name: decision.answers for name, decision in decisions.items()})
        if key not in self._anchors:
            for name, limit in self.most.items():
                own, least = self.cheapest(name, decisions)
                if least > limit:
                    proved = isinstance(self.costs[name], Form) or self._few(decisions) is not None
                    raise _unkept({name: limit}, least, proved)
            self._anchors[key] = own if len(self.most) == 1 else self._balanced(decisions)
        return self._anchors[key]

    def most_probable(
        self,
        weights: Weights,
        decisions: Mapping[str, Decision] | None = None,
        restrictions: Sequence[Restriction] = (),
    ) -> Architecture:
        """Finds the most probable architecture within the limits; without limits it is that of `argmax`.

        Its logarithm of the probability is a sum over the decisions that matter. So that one with fewer decisions has
        no advantage, each is compared with its own most probable answer; edges between which a node chooses are
        compared with each other, because their number is the same.

        Args:
            weights: the probability of each option, or its strength, (options,) for each decision; inputs may have
                none.
            decisions: to which the weights belong, where those have fewer options than the space; None: the space's.
            restrictions: what else it has to be.

        Returns:
            The architecture.

        Raises:
            InputError: no architecture keeps the limits, or none does together with the restrictions.
        """
        tried = []
        for found in self.ranked(weights, decisions, restrictions):
            if self.fits(found):
                return found
            tried.append(found)
            if len(tried) == _CUTS:
                break
        self.check(decisions)
        if not tried or restrictions:
            raise InputError(f"limits: no architecture keeps {self} together with what else it has to be; allow more")
        return self.repaired(tried[0], Random(0), decisions)

    def ranked(
        self,
        weights: Weights,
        decisions: Mapping[str, Decision] | None = None,
        restrictions: Sequence[Restriction] = (),
    ) -> Iterator[Architecture]:
        """Lists architectures from the most probable one down, such as to measure one after the other.

        Limits on costs that are forms are kept; of other costs nothing is known before they are asked.

        Args:
            weights: as `most_probable` takes them.
            decisions: to which the weights belong.
            restrictions: what else they have to be.

        Yields:
            Architectures.
        """
        programme = self._programme(decisions)
        for restrict in restrictions:
            restrict(programme)
        for name, form in self._forms().items():
            programme.keep_below(form, self.most[name])
        wanted = log_probability(programme, self.costs.decisions if decisions is None else decisions, weights) * -1.0
        while (found := programme.solved(wanted)) is not None:
            yield found
            programme.without(found)

    def completes(
        self, decided: Mapping[str, tuple[str, ...]], decisions: Mapping[str, Decision] | None = None
    ) -> bool:
        """Whether some architecture within the limits keeps of each decided question only what is decided.

        Args:
            decided: the options that may be kept, by decision.
            decisions: of a supernet of the space; None: of the whole space.

        Returns:
            Whether there is one, as far as costs are forms.
        """
        programme = self._programme(decisions)
        programme.decide(decided)
        for name, form in self._forms().items():
            programme.keep_below(form, self.most[name])
        return programme.solved(Expression(0.0, {})) is not None

    def repaired(
        self, architecture: Architecture, rng: Random, decisions: Mapping[str, Decision] | None = None
    ) -> Architecture:
        """Moves decisions in random order to the answers of the cheapest architecture until the limits are kept.

        Draws that are rejected find nothing where one architecture in a million fits; this always ends.

        Args:
            architecture: that breaks a limit, or keeps them all.
            rng: draws the order.
            decisions: of a supernet of the space; None: of the whole space.

        Returns:
            An architecture within the limits.

        Raises:
            InputError: no architecture keeps the limits.
        """
        if not self.most or self.fits(architecture):
            return architecture
        goal, now = self.anchor(decisions), dict(architecture.choices)
        asked = Candidates(goal.space, self.costs.decisions if decisions is None else decisions)
        names = sorted(name for name in goal if now.get(name) != goal[name])
        rng.shuffle(names)
        for name in names:
            now[name] = goal[name]
            moved = _settled(asked, now, goal)
            if self.fits(moved):
                return moved
        return goal

    def __str__(self) -> str:
        return ", ".join(f"{name}={_number(limit)}" for name, limit in self.most.items()) or "no limits"

    def _programme(self, decisions: Mapping[str, Decision] | None) -> Programme:
        allowed = None if decisions is None else {name: one.answers for name, one in decisions.items()}
        return Programme(self.costs.recorded.space, self.costs.decisions, allowed)

    def _least(self, form: Form, decisions: Mapping[str, Decision] | None) -> Architecture:
        programme = self._programme(decisions)
        found = programme.solved(programme.total(form))
        assert found is not None, "a space has an architecture"
        return found

    def _few(self, decisions: Mapping[str, Decision] | None) -> list[Architecture] | None:
        """All architectures of a space that has few; None where there are more."""
        asked = Candidates(self.costs.recorded.space, self.costs.decisions if decisions is None else decisions)
        count = asked.count
        return list(asked.all()) if count is not None and count <= _FEW else None

    def _forms(self) -> dict[str, Form]:
        costs = {name: self.costs[name] for name in self.most}
        return {name: cost for name, cost in costs.items() if isinstance(cost, Form)}

    def _balanced(self, decisions: Mapping[str, Decision] | None) -> Architecture:
        """The architecture of the smallest largest share of a limit; a descent where some limits are no forms."""
        programme, forms = self._programme(decisions), self._forms()
        share = programme.free()
        for name, form in forms.items():
            programme.at_most(programme.total(form) * (1.0 / self.most[name]) + share * -1.0, 0.0)
        found = programme.solved(share)
        assert found is not None, "a space has an architecture"
        if len(forms) < len(self.most):
            found = self._descended(found, self._share, 1.0, decisions)
        if not self.fits(found):
            shares = ", ".join(f"{name} {_number(value)}" for name, value in self.of(found).items())
            raise InputError(f"limits: no architecture keeps {self} together; the nearest has {shares}")
        return found

    def _share(self, architecture: Architecture) -> float:
        return max(value / self.most[name] for name, value in self.of(architecture).items())

    def _descended(
        self, start: Architecture, cost: Cost, enough: float, decisions: Mapping[str, Decision] | None
    ) -> Architecture:
        """Goes from an architecture to a neighbour that costs less, until there is none or it costs little enough."""
        candidates = Candidates(start.space, self.costs.decisions if decisions is None else decisions)
        best, least = start, cost(start)
        while least > enough:
            cheaper = ((other, cost(other)) for other in candidates.neighbours(best))
            best, value = next(((other, own) for other, own in cheaper if own < least), (best, least))
            if value == least:
                break
            least = value
        return best


def log_probability(programme: Programme, decisions: Mapping[str, Decision], weights: Weights) -> Expression:
    """The logarithm of an architecture's probability as an expression of a programme (`Limits.most_probable`).

    Args:
        programme: of the space.
        decisions: to which the weights belong.
        weights: (options,) for each decision; inputs may have none.

    Returns:
        The expression.
    """
    factors: dict[int, float] = {}
    for name, decision in decisions.items():
        if name not in weights:
            continue
        values = dict(zip(decision.options, weights[name].tolist(), strict=False))  # an auxiliary skip may follow
        logarithms = {answer: math.log(max(values[answer], _TINY)) for answer in decision.answers}
        chosen_by_inputs = any(decisions[other].role == "inputs" for other, _ in decision.when if other in decisions)
        relative = 0.0 if chosen_by_inputs or decision.role == "inputs" else max(logarithms.values())
        for answer, logarithm in logarithms.items():
            factors |= {c: f * (logarithm - relative) for c, f in programme.kept(name, answer).factors.items()}
    return Expression(0.0, factors)


def _settled(
    asked: Candidates, wanted: Mapping[str, tuple[str, ...]], otherwise: Mapping[str, tuple[str, ...]]
) -> Architecture:
    """The architecture with the answers that are wanted, where they matter, and others where none is wanted."""
    choices: dict[str, tuple[str, ...]] = {}
    for decision in asked.decisions:  # each behind those on which it depends
        if matters(decision, choices):
            name = decision.name
            choices[name] = wanted.get(name) or otherwise.get(name) or decision.answers[: decision.keep]
    return Architecture(asked.space, choices)


def _checked(limits: Mapping[str, float], costs: SpaceCosts) -> dict[str, float]:
    """The limits by the proper names of their costs. Raises InputError where one cannot be."""
    own: dict[str, float] = {}
    for name, limit in limits.items():
        plain = isinstance(limit, int | float) and not isinstance(limit, bool)
        if not plain or not 0.0 < limit < _LARGEST:
            raise InputError(f"limits.{name}={limit}: needs a number above 0, or none for no limit")
        try:
            proper = costs.named(name)
        except InputError as error:
            raise InputError(f"limits.{error}") from None
        if proper in own:
            raise InputError(f"limits.{name}={limit}: {proper} has a limit already")
        own[proper] = float(limit)
    return own


def _unkept(limits: Mapping[str, float], least: float, proved: bool) -> InputError:
    ((name, limit),) = limits.items()
    found = "no architecture keeps it; the cheapest" if proved else "no architecture was found that keeps it; the best"
    return InputError(f"limits.{name}={_number(limit)}: {found} has {_number(least)}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
