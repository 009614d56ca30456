"""Reads arrays of labels: numbers of classes, one-hot rows, or a column of 0 and 1 for each of several labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

FORMS = ("auto", "one", "several")


def check_form(labels: str) -> None:
    """Raises InputError where a form of labels is none of auto, one, several.

    Args:
        labels: the form that a person asks for.
    """
    if labels not in FORMS:
        raise InputError(f"labels={labels}: use {', '.join(FORMS)}")


def read_labels(arrays: Mapping[str, np.ndarray], form: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Turns the labels of all parts into numbers of one form.

    Args:
        arrays: the labels of N images each, by the name with which messages begin; the training images' come first.
        form: "one" (a class an image), "several" (a column for each label), or "auto": columns are one-hot where each
            row of all parts has one 1 and zeros, and otherwise several labels.

    Returns:
        The labels by the same names: (N,) int64, or (N, columns) int64 with 1, 0 and -1 (unknown); and short notes.

    Raises:
        InputError: an array is not understood, or parts have other columns.

    Example:
        >>> read_labels({"train": np.array([[1, 0], [1, 1]])}, "auto")[0]["train"].tolist()
        [[1, 0], [1, 1]]
        >>> read_labels({"train": np.array([[1, 0], [0, 1]])}, "auto")[0]["train"].tolist()
        [0, 1]
    """
    check_form(form)
    for name, labels in arrays.items():
        if labels.dtype.kind not in "biuf":
            words = " instead of words: use np.unique(labels, return_inverse=True)[1] and classes=[...]"
            raise InputError(
                f"{_told(name, labels)}; use one whole number an image{words * (labels.dtype.kind in 'US')}"
            )
    if form == "several":
        columns = {name: _columns(labels, name) for name, labels in arrays.items()}
    else:
        columns = {n: _columns(each, n) for n, each in arrays.items() if each.ndim == 2 and each.shape[1] > 1}
        if form == "one" or all(map(_is_one_hot, columns.values())):
            read = {n: _from_one_hot(columns[n], n) if n in columns else _whole_numbers(arrays[n], n) for n in arrays}
            return read, [f"{_shape(name, columns[name])}: one-hot, read as class numbers" for name in [*columns][:1]]
    (first, given), *others = columns.items()
    if len(columns) < len(arrays):
        name = next(name for name in arrays if name not in columns)
        raise InputError(f"{_told(name, arrays[name])}, {_shape(first, given)}; use the same form for all parts")
    for name, other in others:
        if other.shape[1] != given.shape[1]:
            raise InputError(
                f"{name} has {quantity(other.shape[1], 'column')}, {_shape(first, given)}; use the same for all parts"
            )
    note = f"{_shape(first, given)}: {quantity(given.shape[1], 'label')}, of which an image may have several or none"
    return columns, [note, *unknown_note(columns)]


def unknown_note(columns: Mapping[str, np.ndarray]) -> list[str]:
    """A line about labels that are not known, or none.

    Args:
        columns: labels (N, L) of each part, -1 where unknown.
    """
    unknown, every = (sum(int(f(each)) for each in columns.values()) for f in (lambda a: (a < 0).sum(), np.size))
    if not unknown:
        return []
    return [f"unknown, so not learnt from and not judged by: {unknown:,} of {quantity(every, 'label')}"]


def _told(name: str, labels: np.ndarray) -> str:
    return f"{name} is {labels.dtype} of shape {labels.shape}"


def _shape(name: str, labels: np.ndarray) -> str:
    return f"{name.split(': ')[-1]} of shape {' x '.join(map(str, labels.shape))}"


def _whole_numbers(labels: np.ndarray, name: str) -> np.ndarray:
    flat, told = labels.reshape(-1), _told(name, labels)
    if flat.dtype.kind == "f" and not (np.isfinite(flat).all() and (flat == np.floor(flat)).all()):
        raise InputError(f"{told} with fractions; use one whole number for each image")
    if flat.size and float(flat.max()) >= 2**63:
        raise InputError(f"{told} up to {flat.max()}; use whole numbers from 0 on")
    return flat.astype(np.int64)


def _columns(labels: np.ndarray, name: str) -> np.ndarray:
    """(N, columns) int64 of 0, 1 and -1; NaN is -1."""
    if labels.ndim == 1:
        labels = labels[:, None]
    if labels.ndim != 2:
        raise InputError(f"{_told(name, labels)}; use one whole number an image, or a column for each label")
    known = np.where(np.isnan(labels), -1, labels) if labels.dtype.kind == "f" else labels
    wrong = ~np.isin(known, (-1, 0, 1))
    if wrong.any():
        raise InputError(
            f"{_told(name, labels)}: {quantity(labels.shape[1], 'column')} of other numbers than 0, 1 and -1 "
            f"(unknown), such as {known[wrong][0]:g}; use labels.argmax(1) where they are probabilities"
        )
    return known.astype(np.int64)


def _is_one_hot(columns: np.ndarray) -> bool:
    return bool((columns >= 0).all() and (columns.sum(1) == 1).all())


def _from_one_hot(columns: np.ndarray, name: str) -> np.ndarray:
    if not _is_one_hot(columns):
        row = int(((columns < 0).any(1) | (columns.sum(1) != 1)).argmax())
        shown = columns[row].tolist()[:20]
        raise InputError(f"{name}: row {row} is not one-hot, {shown}; read the columns as several labels")
    return columns.argmax(1)
