"""CSV files for spreadsheets."""

from __future__ import annotations

import csv
import io
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


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """The text of a CSV file of these rows: each value as a `cell`."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
