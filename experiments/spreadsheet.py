"""Cells of CSV files as spreadsheets read them."""

from __future__ import annotations

from collections.abc import Iterable

from supernet.runtime.text import printable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: object) -> object:
    """A value for a cell of a CSV file, which no spreadsheet takes for a formula.

    Args:
        value: a number or None, which stay as they are, or a text (a name, a setting).

    Returns:
        The text on one line, with an apostrophe before it where it begins as a formula does and is no number.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value.lstrip(" ").startswith(_FORMULA) and not _is_number(text) else text


def row(values: Iterable[object]) -> list[object]:
    """A line of a CSV file: each value as a `cell`."""
    return [cell(value) for value in values]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
