"""What architectures cost, as a multilinear form: a base, and tables over the answers to a few decisions at a time.

With one-hot weights the form is the exact cost of an architecture. With relaxed ones, whose decisions are drawn
independently, it is the expected cost, differentiable in the weights. It is made of what the parts of a space cost
(`form_of`), or of the measured costs of some whole networks (`fitted`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernet.estimation.parts import Recorded, Variant
from supernet.runtime.devices import constant
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Condition, Decision, Weights

Probe = Callable[[Variant], float]
"""What a form of a part costs: its parameters, its multiply-adds, its milliseconds."""

Cost = Callable[[Architecture], float]
"""What an architecture costs, as a plain function: a person's own, or a form's `of`."""


@dataclass(frozen=True, eq=False)
class Term:
    """A table over the answers to some decisions, which counts where its conditions are met.

    Args:
        decisions: their names; () where the cost depends on the conditions alone.
        when: the conditions, those of the decisions among them.
        values: (answers of the first decision, answers of the second, ...), in float64.
        answers: of each of the decisions.
    """

    decisions: tuple[str, ...]
    when: tuple[Condition, ...]
    values: NDArray[np.float64]
    answers: tuple[tuple[str, ...], ...]

    def of(self, architecture: Mapping[str, tuple[str, ...]]) -> float:
        """The value for the answers of an architecture; 0 where the term does not count."""
        for name, options in self.when:
            kept = architecture.get(name, ())
            if not any(option in kept for option in options):
                return 0.0
        answers = [architecture.get(name, ()) for name in self.decisions]
        try:
            return sum(self._table[one] for one in product(*answers))
        except KeyError as error:
            raise InputError(
                f"architecture: keeps {', '.join(error.args[0])} at {', '.join(self.decisions)}; known: "
                f"{'; '.join(', '.join(known) for known in self.answers)}"
            ) from None

    @cached_property
    def _table(self) -> dict[tuple[str, ...], float]:
        return dict(zip(product(*self.answers), self.values.reshape(-1).tolist(), strict=True))

    @cached_property
    def tensor(self) -> Tensor:
        """The values as a tensor in float64, on the CPU."""
        return torch.from_numpy(self.values)


@dataclass(frozen=True, eq=False)
class Form:
    """What the architectures of a space cost: `base` and, where they count, the values of all terms.

    Args:
        decisions: of the space, by name.
        base: what every architecture costs.
        terms: the rest.
        combine: "sum", or "max" for what is not needed at the same time, such as memory: the largest of base and terms.

    Example:
        >>> edge = Decision("edge", ("none", "a", "b"))
        >>> form = Form({"edge": edge}, 10.0, (Term(("edge",), (), np.array([1.0, 3.0]), (("a", "b"),)),))
        >>> form.of(Architecture("mine", {"edge": ("b",)}))
        13.0
        >>> form({"edge": torch.tensor([0.0, 0.5, 0.5])})
        tensor(12.)
    """

    decisions: Mapping[str, Decision]
    base: float
    terms: tuple[Term, ...]
    combine: Literal["sum", "max"] = "sum"
    _placed: dict[tuple[torch.device, torch.dtype], list[Tensor]] = field(default_factory=dict, init=False, repr=False)

    def of(self, architecture: Mapping[str, tuple[str, ...]]) -> float:
        """The cost of an architecture.

        Args:
            architecture: the options kept, by decision.

        Returns:
            The number.

        Raises:
            InputError: the architecture answers a decision that the form does not know.
        """
        if unknown := [name for name in architecture if name not in self.decisions]:
            raise InputError(f"architecture: answers {unknown[0]!r}, which is no decision of this cost's space")
        values = [term.of(architecture) for term in self.terms]
        return math.fsum([self.base, *values]) if self.combine == "sum" else max([self.base, *values])

    def __call__(self, weights: Weights, decisions: Mapping[str, Decision] | None = None) -> Tensor:
        """The expected cost, where each weight is the probability that its option is kept.

        Args:
            weights: (options,) for each decision; inputs that have none are kept with equal probabilities.
            decisions: to which the weights belong, where those have fewer options than the space; None: the form's.

        Returns:
            A scalar, differentiable in the weights. Of a form that takes the maximum: the largest of the expected
            values of its terms.

        Raises:
            InputError: a decision about operations has no weights.
        """
        own = {name: self._probabilities(name, weights, decisions or self.decisions) for name in self._needed}
        like = next((weight for weight in weights.values()), torch.zeros(()))
        values = [constant((self.base,), like.device, like.dtype)[0]]
        for term, tensor in zip(self.terms, self._tensors(like), strict=True):
            value = tensor
            for name in reversed(term.decisions):
                value = value @ own[name]
            for name, options in term.when:
                counts = tuple(float(answer in options) for answer in self.decisions[name].answers)
                value = value * (own[name] @ constant(counts, like.device, like.dtype))
            values.append(value)
        together = torch.stack(values)
        return together.sum() if self.combine == "sum" else together.max()

    def changed(self, constant: float, factor: float) -> Form:
        """The form `constant` + `factor` times this one."""
        terms = tuple(replace(term, values=factor * term.values) for term in self.terms)
        return replace(self, base=constant + factor * self.base, terms=terms)

    @cached_property
    def _needed(self) -> list[str]:
        """The decisions on which the cost depends."""
        names = [(*term.decisions, *(name for name, _ in term.when)) for term in self.terms]
        return list(dict.fromkeys(name for several in names for name in several))

    def _probabilities(self, name: str, weights: Weights, decisions: Mapping[str, Decision]) -> Tensor:
        """(answers,): the weights of a decision's answers; what it cannot keep here has none."""
        decision = self.decisions[name]
        if name not in weights:
            if decision.role != "inputs":
                raise InputError(f"weights: none for {name}; give each decision about operations or numbers some")
            like = next(iter(weights.values()))
            return like.new_full((len(decision.answers),), decision.keep / len(decision.answers))
        given, options = weights[name], decisions[name].options
        if options[: len(decision.answers)] == decision.answers:
            return given[: len(decision.answers)]
        zero = given.new_zeros(())
        each = [given[options.index(answer)] if answer in options else zero for answer in decision.answers]
        return torch.stack(each)

    def _tensors(self, like: Tensor) -> list[Tensor]:
        """The values of the terms where and as the weights are; they are sent there once."""
        key = like.device, like.dtype
        if key not in self._placed:
            with torch.inference_mode(False):
                self._placed[key] = [term.tensor.to(*key) for term in self.terms]
        return self._placed[key]


def form_of(
    recorded: Recorded,
    probe: Probe,
    *,
    outside: Mapping[tuple[str, ...], float] | None = None,
    combine: Literal["sum", "max"] = "sum",
) -> Form:
    """Makes the form of what a space's parts cost.

    Args:
        recorded: the parts.
        probe: what each form of a part costs; it is asked once for each key.
        outside: what there is besides the parts, for each answer to `recorded.sizes`; None: nothing.
        combine: whether costs add up or the largest counts.

    Returns:
        The form.

    Example:
        >>> from supernet.estimation.parts import record
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> recorded = record(NasBench201(channels=4, cells=1, stages=1, nodes=1), (3, 8, 8), outputs=10)
        >>> letters = form_of(recorded, lambda variant: float(variant.key.startswith("Identity")))
        >>> letters.of(from_string("|skip_connect~0|"))
        1.0
    """
    known = {key: probe(variant) for key, variant in recorded.variants.items()}
    given: list[tuple[tuple[str, ...], tuple[Condition, ...], Mapping[tuple[str, ...], float]]] = [
        (part.decisions, part.when, {answers: known[variant.key] for answers, variant in part.variants.items()})
        for part in recorded.parts
    ]
    given.append((recorded.sizes, (), outside or {}))
    join = np.add if combine == "sum" else np.maximum
    tables: dict[tuple[tuple[str, ...], tuple[Condition, ...]], NDArray[np.float64]] = {}
    for decisions, conditions, values in given:
        answers = [recorded.decisions[name].answers for name in decisions]
        table = np.array([values.get(one, 0.0) for one in product(*answers)]).reshape([len(one) for one in answers])
        names, when, table = _shortest(decisions, conditions, table, recorded.decisions)
        key = names, when
        tables[key] = join(tables[key], table) if key in tables else table
    base = float(tables.pop(((), ()), np.zeros(())))
    terms = tuple(
        Term(names, when, table, tuple(recorded.decisions[name].answers for name in names))
        for (names, when), table in tables.items()
        if table.any()
    )
    return Form(recorded.decisions, base, terms, combine)


def _shortest(
    names: tuple[str, ...], when: tuple[Condition, ...], table: NDArray[np.float64], decisions: Mapping[str, Decision]
) -> tuple[tuple[str, ...], tuple[Condition, ...], NDArray[np.float64]]:
    """Leaves out decisions whose answers make no difference, and adds the conditions of all decisions."""
    conditions = conditions_of([*when, *(c for name in names for c in decisions[name].when)], decisions)
    for name, options in (c for c in conditions if c[0] in names):  # the table itself can say so
        met = [float(answer in options) for answer in decisions[name].answers]
        table = table * np.array(met).reshape([-1 if own == name else 1 for own in names])
    conditions = tuple(condition for condition in conditions if condition[0] not in names)
    axis = 0
    while axis < len(names):
        first = table.take([0], axis)
        if (table == first).all():  # also where the table is empty
            table, names = np.asarray(table.take(0, axis)), (*names[:axis], *names[axis + 1 :])
        else:
            axis += 1
    return names, conditions, table


def conditions_of(when: Iterable[Condition], decisions: Mapping[str, Decision]) -> tuple[Condition, ...]:
    """Adds to conditions those under which the decisions in them matter.

    Args:
        when: the conditions.
        decisions: by name.

    Returns:
        Each condition once.

    Example:
        >>> depth = Decision("depth", ("1", "2"), role="number", when=(("wide", ("yes",)),))
        >>> conditions_of([("depth", ("2",))], {"depth": depth, "wide": Decision("wide", ("no", "yes"))})
        (('depth', ('2',)), ('wide', ('yes',)))
    """
    found: dict[Condition, None] = {}
    left = list(when)
    while left:
        condition = left.pop(0)
        if condition not in found:
            found[condition] = None
            left += decisions[condition[0]].when
    return tuple(found)
