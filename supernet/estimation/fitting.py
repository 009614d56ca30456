"""Forms from measurements of whole networks: fitted to them, or calibrated by them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from supernet.estimation.forms import Form, Term, conditions_of
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision


def fitted(decisions: Mapping[str, Decision], architectures: Sequence[Architecture], values: Sequence[float]) -> Form:
    """Fits an additive form to measured costs of whole networks: a number for each answer, and one for every network.

    The squares of the relative errors are made small. Of NAS-Bench-201 there are 25 such numbers, and 100 measured
    cells are enough on most devices.

    Args:
        decisions: of the space, by name.
        architectures: that were measured, at least as many as there are independent numbers.
        values: what each of them costs, above 0.

    Returns:
        The form.

    Raises:
        InputError: there are too few architectures, or a value is not above 0.

    Example:
        >>> edges = {name: Decision(name, ("a", "b")) for name in ("x", "y")}
        >>> cells = [Architecture("mine", {"x": (x,), "y": (y,)}) for x in "ab" for y in "ab"]
        >>> form = fitted(edges, cells, [1.0, 2.0, 4.0, 5.0])
        >>> [round(form.of(cell), 6) for cell in cells]
        [1.0, 2.0, 4.0, 5.0]
    """
    measured = _positive(values, len(architectures), "values")
    terms = []
    for name, decision in decisions.items():
        if decision.role != "inputs":
            when = conditions_of(decision.when, decisions)
            terms.append(Term((name,), when, np.zeros(len(decision.answers)), (decision.answers,)))
    rows = [[1.0, *(x for term in terms for x in _indicators(term, one))] for one in architectures]
    matrix = np.array(rows).reshape(len(architectures), -1)
    needed = 1 + sum(len(term.values) - 1 for term in terms)
    if len(matrix) < needed:
        raise InputError(
            f"architectures: {len(matrix)} were measured, and {needed} numbers are to be found; measure more"
        )
    scale = np.abs(matrix[:, 1:]).mean() or 1.0  # the base carries what it can
    matrix[:, 1:] /= scale
    found = np.linalg.lstsq(matrix / measured[:, None], np.ones(len(matrix)), rcond=1e-10)[0]
    base, rest = float(found[0]), np.split(found[1:] / scale, np.cumsum([len(term.values) for term in terms])[:-1])
    made = tuple(replace(term, values=own) for term, own in zip(terms, rest, strict=True))
    return Form(dict(decisions), base, made)


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
        raise InputError(f"predicted: {len(set(predicted))} different predictions; two or more are needed")
    matrix = np.stack([np.ones(len(truth)), np.asarray(predicted, dtype=np.float64)], axis=1)
    constant, factor = np.linalg.lstsq(matrix / truth[:, None], np.ones(len(truth)), rcond=None)[0].tolist()
    return form.changed(constant, factor)


def _positive(values: Sequence[float], count: int, name: str) -> NDArray[np.float64]:
    measured = np.asarray(values, dtype=np.float64)
    if len(measured) != count:
        raise InputError(f"{name}: {len(measured)} numbers for {count} networks; each needs one")
    if wrong := [value for value in measured.tolist() if not 0.0 < value < math.inf]:
        raise InputError(f"{name}={wrong[0]}: costs are numbers above 0")
    return measured
