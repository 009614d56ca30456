"""Integer programmes over the architectures of a space: the cheapest one, or the most probable one within limits.

Each answer to a decision is a variable that is 0 or 1. A decision that matters keeps as many answers as it has to, and
one that does not matter keeps none. Where a cost depends on the answers to several decisions, each combination has a
variable of its own, which agrees with theirs. HiGHS solves the programme (`scipy.optimize.milp`), to the optimum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from supernet.estimation.forms import Form, Term, conditions_of
from supernet.space.architecture import Architecture, Condition, Decision

_INFEASIBLE = 2  # what `milp` says where nothing passes


@dataclass(frozen=True)
class Expression:
    """A constant and a sum of multiples of variables."""

    constant: float
    factors: Mapping[int, float]

    def __add__(self, other: Expression) -> Expression:
        return added((self, other))

    def __mul__(self, factor: float) -> Expression:
        return Expression(factor * self.constant, {column: factor * own for column, own in self.factors.items()})


def added(expressions: Iterable[Expression], constant: float = 0.0) -> Expression:
    """Adds up expressions.

    Args:
        expressions: any number.
        constant: what comes to it.

    Returns:
        The sum.

    Example:
        >>> added([Expression(1.0, {0: 2.0}), Expression(0.0, {0: 1.0, 1: 1.0})], 3.0)
        Expression(constant=4.0, factors={0: 3.0, 1: 1.0})
    """
    factors: dict[int, float] = {}
    for expression in expressions:
        constant += expression.constant
        for column, factor in expression.factors.items():
            factors[column] = factors.get(column, 0.0) + factor
    return Expression(constant, factors)


class Programme:
    """The architectures of a space as the solutions of an integer programme.

    Args:
        space: the name of the space.
        decisions: all of the space, by name.
        allowed: the options of each decision that may be kept; None: all answers.

    Example:
        >>> edges = {name: Decision(name, ("a", "b")) for name in ("x", "y")}
        >>> programme = Programme("mine", edges)
        >>> programme.at_most(programme.kept("x", "b") + programme.kept("y", "b"), 1.0)
        >>> best = programme.solved(programme.kept("x", "b") * -1.0 + programme.kept("y", "b") * -2.0)
        >>> best.choices
        {'x': ('a',), 'y': ('b',)}
    """

    def __init__(
        self,
        space: str,
        decisions: Mapping[str, Decision],
        allowed: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.space, self.decisions = space, decisions
        self._upper: list[float] = []
        self._whole: list[bool] = []
        self._rows: list[tuple[Mapping[int, float], float, float]] = []
        self._answers: dict[tuple[str, str], int] = {}
        self._known: dict[object, Expression] = {}
        for name, decision in decisions.items():
            may = set(decision.answers if allowed is None else allowed.get(name, decision.answers))
            for answer in decision.answers:
                self._answers[name, answer] = self._variable(1.0 if answer in may else 0.0, whole=True)
        for name, decision in decisions.items():
            each = added(self.kept(name, answer) for answer in decision.answers)
            self._equal(each, self.there(decision.when) * float(decision.keep))

    def kept(self, name: str, answer: str) -> Expression:
        """1 where the architecture keeps an answer, else 0."""
        return Expression(0.0, {self._answers[name, answer]: 1.0})

    def there(self, when: Sequence[Condition]) -> Expression:
        """1 where all conditions are met, else 0."""
        implied = {c for name, _ in when for c in conditions_of(self.decisions[name].when, self.decisions)}
        left = tuple(sorted(set(when) - implied))
        if not left:
            return Expression(1.0, {})
        if len(left) == 1:
            return self._met(left[0])
        if left not in self._known:
            both = Expression(0.0, {self._variable(1.0): 1.0})
            each = [self._met(condition) for condition in left]
            for one in each:
                self.at_most(both + one * -1.0, 0.0)
            self.at_most(added(each) + both * -1.0, len(each) - 1.0)
            self._known[left] = both
        return self._known[left]

    def values(self, form: Form) -> list[Expression]:
        """The values of a form's terms."""
        return [self._value(term) for term in form.terms]

    def total(self, form: Form) -> Expression:
        """A form's sum; of one that takes the maximum a variable that is no smaller than any of its values."""
        if form.combine == "sum":
            return added(self.values(form), form.base)
        largest = self.free()
        for value in (Expression(form.base, {}), *self.values(form)):
            self.at_most(value + largest * -1.0, 0.0)
        return largest

    def free(self) -> Expression:
        """A new variable, 0 or more."""
        return Expression(0.0, {self._variable(np.inf): 1.0})

    def keep_below(self, form: Form, limit: float) -> None:
        """Lets only architectures pass that cost no more than a limit."""
        if form.combine == "sum":
            self.at_most(self.total(form) * (1.0 / limit), 1.0)
            return
        self.at_most(Expression(form.base / limit, {}), 1.0)
        for term in form.terms:
            beyond = Term(term.decisions, term.when, (term.values > limit).astype(np.float64), term.answers)
            self.at_most(self._value(beyond), 0.0)

    def at_most(self, value: Expression, limit: float) -> None:
        """Adds a row: `value` <= `limit`."""
        self._rows.append((value.factors, -np.inf, limit - value.constant))

    def decide(self, decided: Mapping[str, tuple[str, ...]]) -> None:
        """Leaves out all options but those that are decided, by decision."""
        others = [
            self.kept(name, answer)
            for name, kept in decided.items()
            for answer in self.decisions[name].answers
            if answer not in kept
        ]
        self.at_most(added(others), 0.0)

    def without(self, architecture: Mapping[str, tuple[str, ...]]) -> None:
        """Leaves out one architecture."""
        own = [self.kept(name, answer) for name, kept in architecture.items() for answer in kept]
        self.at_most(added(own), len(own) - 1.0)

    def solved(self, smallest: Expression) -> Architecture | None:
        """Finds the architecture for which an expression is smallest; None where no architecture passes."""
        if any(not factors and (low > 1e-9 or high < -1e-9) for factors, low, high in self._rows):
            return None
        costs = np.zeros(len(self._upper))
        costs[list(smallest.factors)] = list(smallest.factors.values())
        if 0.0 < (largest := np.abs(costs).max(initial=0.0)) < 1.0:  # the solver's tolerance is a millionth of a unit
            costs /= largest
        rows = [(factors, low, high) for factors, low, high in self._rows if factors]
        starts = np.cumsum([0, *(len(factors) for factors, _, _ in rows)])
        columns = [column for factors, _, _ in rows for column in factors]
        numbers = [factor for factors, _, _ in rows for factor in factors.values()]
        from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import, and few need it
        from scipy.sparse import csr_array

        matrix = csr_array((numbers, columns, starts), shape=(len(rows), len(costs)))
        found = milp(
            costs,
            integrality=np.array(self._whole, dtype=np.int64),
            bounds=Bounds(np.zeros(len(costs)), np.array(self._upper)),
            constraints=LinearConstraint(matrix, [low for _, low, _ in rows], [high for _, _, high in rows]),
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None and found.status != _INFEASIBLE:
            raise RuntimeError(f"the integer programme was not solved: {found.message}")
        if found.x is None:
            return None
        choices = {
            name: tuple(answer for answer in decision.answers if found.x[self._answers[name, answer]] > 0.5)
            for name, decision in self.decisions.items()
        }
        return Architecture(self.space, {name: kept for name, kept in choices.items() if kept})

    def _met(self, condition: Condition) -> Expression:
        name, options = condition
        known = [self.kept(name, option) for option in options if (name, option) in self._answers]
        if self.decisions[name].keep == 1 or len(known) < 2:
            return added(known)
        if condition not in self._known:
            one_of = Expression(0.0, {self._variable(1.0): 1.0})
            for one in known:
                self.at_most(one + one_of * -1.0, 0.0)
            self.at_most(one_of + added(known) * -1.0, 0.0)
            self._known[condition] = one_of
        return self._known[condition]

    def _value(self, term: Term) -> Expression:
        """A term's value: the sum of its table, each number times the variable of its combination of answers."""
        if not term.decisions:
            return self.there(term.when) * float(term.values)
        own = conditions_of(self.decisions[term.decisions[0]].when, self.decisions)
        if len(term.decisions) == 1 and set(term.when) <= set(own):  # its answers are kept only where they matter
            name = term.decisions[0]
            columns = [self._answers[name, answer] for answer in term.answers[0]]
            return Expression(0.0, {c: v for c, v in zip(columns, term.values.tolist(), strict=True) if v})
        numbers = term.values.reshape(-1).tolist()
        return Expression(0.0, {c: v for c, v in zip(self._combinations(term), numbers, strict=True) if v})

    def _combinations(self, term: Term) -> list[int]:
        """The variables of all combinations of answers, each 1 where the term counts and these are kept, else 0."""
        key = "combinations", term.decisions, term.when
        if key not in self._known:
            columns = [self._variable(1.0) for _ in product(*term.answers)]
            self._equal(Expression(0.0, dict.fromkeys(columns, 1.0)), self.there(term.when))
            grid = np.array(columns).reshape(term.values.shape)
            for axis, (name, answers) in enumerate(zip(term.decisions, term.answers, strict=True)):
                for place, answer in enumerate(answers):
                    having = Expression(0.0, dict.fromkeys(grid.take(place, axis).reshape(-1).tolist(), 1.0))
                    self.at_most(having + self.kept(name, answer) * -1.0, 0.0)
            self._known[key] = Expression(0.0, dict.fromkeys(columns, 1.0))
        return list(self._known[key].factors)

    def _equal(self, one: Expression, other: Expression) -> None:
        difference = one + other * -1.0
        self._rows.append((difference.factors, -difference.constant, -difference.constant))

    def _variable(self, upper: float, *, whole: bool = False) -> int:
        self._upper.append(upper)
        self._whole.append(whole)
        return len(self._upper) - 1
