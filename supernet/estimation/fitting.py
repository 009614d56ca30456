"""Forms from measurements of whole networks: fitted to them, or calibrated by them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from supernet.estimation.forms import Form, Term, conditions_of
from supernet.estimation.parts import Recorded
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.architecture import Architecture, Decision


def fitted(
    decisions: Mapping[str, Decision],
    architectures: Sequence[Architecture],
    values: Sequence[float],
    alike: Sequence[Sequence[str]] = (),
) -> Form:
    """Fits an additive form to measured costs of whole networks: a number for each answer, and one for every network.

    The squares of the relative errors are made small. Of NAS-Bench-201 there are 25 such numbers, and 100 measured
    cells are enough on most devices. Where the candidates of several decisions are the same modules on inputs of the
    same size (`alike`), they cost the same: then there are 5 numbers, and each is known better.

    Args:
        decisions: of the space, by name.
        architectures: that were measured, at least as many as there are independent numbers.
        values: what each of them costs, above 0.
        alike: groups of decisions whose answers cost the same; each group has one number for each answer.

    Returns:
        The form.

    Raises:
        InputError: there are too few architectures, a value is not above 0, or decisions of a group have other answers.

    Example:
        >>> edges = {name: Decision(name, ("a", "b")) for name in ("x", "y")}
        >>> cells = [Architecture("mine", {"x": (x,), "y": (y,)}) for x in "ab" for y in "ab"]
        >>> form = fitted(edges, cells, [1.0, 2.0, 4.0, 5.0])
        >>> [round(form.of(cell), 6) for cell in cells]
        [1.0, 2.0, 4.0, 5.0]
        >>> [round(fitted(edges, cells[:3], [1.0, 3.0, 3.0], [("x", "y")]).of(cell), 6) for cell in cells]
        [1.0, 3.0, 3.0, 5.0]
    """
    measured = _positive(values, len(architectures), "values")
    terms = []
    for name, decision in decisions.items():
        if decision.role != "inputs":
            when = conditions_of(decision.when, decisions)
            terms.append(Term((name,), when, np.zeros(len(decision.answers)), (decision.answers,)))
    tables = _tables(terms, alike)
    sizes = {table: len(term.values) for term, table in zip(terms, tables, strict=True)}
    starts = dict(zip(sizes, np.cumsum([1, *sizes.values()]), strict=False))
    matrix = np.zeros((len(architectures), 1 + sum(sizes.values())))
    matrix[:, 0] = 1.0
    for row, one in zip(matrix, architectures, strict=True):
        for term, table in zip(terms, tables, strict=True):
            row[starts[table] : starts[table] + sizes[table]] += _indicators(term, one)
    needed = 1 + sum(size - 1 for size in sizes.values())
    if len(matrix) < needed:
        raise InputError(
            f"architectures: measured were {len(matrix)}, and {quantity(needed, 'number is', 'numbers are')} to be "
            "found; measure more"
        )
    scale = np.abs(matrix[:, 1:]).mean() or 1.0  # the base carries what it can
    matrix[:, 1:] /= scale
    found = np.linalg.lstsq(matrix / measured[:, None], np.ones(len(matrix)), rcond=1e-10)[0]
    own = {table: found[start : start + sizes[table]] / scale for table, start in starts.items()}
    made = tuple(replace(term, values=own[table]) for term, table in zip(terms, tables, strict=True))
    return Form(dict(decisions), float(found[0]), made)


def alike(recorded: Recorded) -> tuple[tuple[str, ...], ...]:
    """Finds the decisions whose answers are the same modules on inputs of the same size, for `fitted`.

    Args:
        recorded: the parts of the space's networks.

    Returns:
        The groups, of two decisions or more each. A decision on which a part depends together with others is in none.

    Example:
        >>> from supernet.estimation.parts import record
        >>> from supernet.space.nasbench201 import NasBench201
        >>> alike(record(NasBench201(channels=4, cells=1, stages=1, nodes=2), (3, 8, 8), outputs=10))
        (('cell/1/0', 'cell/2/0', 'cell/2/1'),)
    """
    parts: dict[str, list[tuple[str, ...]]] = {}
    shared = {name for part in recorded.parts if len(part.decisions) > 1 for name in part.decisions}
    for part in recorded.parts:
        if len(part.decisions) == 1 and (name := part.decisions[0]) not in shared:
            there = (part.variants.get((answer,)) for answer in recorded.decisions[name].answers)
            parts.setdefault(name, []).append(tuple("" if variant is None else variant.key for variant in there))
    groups: dict[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]], list[str]] = {}
    for name, keys in parts.items():
        groups.setdefault((recorded.decisions[name].answers, tuple(sorted(keys))), []).append(name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def _tables(terms: Sequence[Term], alike: Sequence[Sequence[str]]) -> list[str]:
    """For each term the name of its table: that of the first decision of its group, or its own."""
    answers = {term.decisions[0]: term.answers[0] for term in terms}
    first: dict[str, str] = {}
    for group in alike:
        for name in group:
            if name not in answers:
                raise InputError(f"alike={name}: is no decision of this space that costs anything")
            if answers[name] != answers[group[0]]:
                raise InputError(f"alike: {name} and {group[0]} have other answers, and cannot cost the same")
            if name in first:
                raise InputError(f"alike: {name} is in two groups; one is needed")
            first[name] = group[0]
    return [first.get(term.decisions[0], term.decisions[0]) for term in terms]


def _indicators(term: Term, architecture: Architecture) -> list[float]:
    there = all(any(option in architecture.get(name, ()) for option in options) for name, options in term.when)
    kept = architecture.get(term.decisions[0], ()) if there else ()
    return [float(answer in kept) for answer in term.answers[0]]


def calibrated(form: Form, predicted: Sequence[float], measured: Sequence[float]) -> Form:
    """The form a + b times another one, where a and b make the relative errors on whole networks small.

    Args:
        form: adds up parts.
        predicted: what it says of some networks.
        measured: what these cost in truth, above 0.

    Returns:
        The calibrated form.

    Raises:
        InputError: there are fewer than two networks, their predictions are all equal, or a measurement is not above 0.

    Example:
        >>> round(calibrated(Form({}, 3.0, ()), [1.0, 2.0], [5.0, 7.0]).base, 6)  # 3 + 2 x
        9.0
    """
    truth = _positive(measured, len(predicted), "measured")
    if len(predicted) < 2 or min(predicted) == max(predicted):
        raise InputError(f"predicted: {quantity(len(set(predicted)), 'different prediction')}; two or more are needed")
    matrix = np.stack([np.ones(len(truth)), np.asarray(predicted, dtype=np.float64)], axis=1)
    constant, factor = np.linalg.lstsq(matrix / truth[:, None], np.ones(len(truth)), rcond=None)[0].tolist()
    return form.changed(constant, factor)


def _positive(values: Sequence[float], count: int, name: str) -> NDArray[np.float64]:
    measured = np.asarray(values, dtype=np.float64)
    if len(measured) != count:
        raise InputError(
            f"{name}: {quantity(len(measured), 'number')} for {quantity(count, 'network')}; each needs one"
        )
    if wrong := [value for value in measured.tolist() if not 0.0 < value < math.inf]:
        raise InputError(f"{name}={wrong[0]}: costs are numbers above 0")
    return measured
