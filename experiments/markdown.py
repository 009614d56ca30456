"""Numbers and tables as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean and sample standard deviation; the latter is not known of one value."""
    if not values:
        return "-"
    deviation = f"{statistics.stdev(values):.{digits}f}" if len(values) > 1 else "n/a"
    return f"{statistics.mean(values):.{digits}f} ± {deviation}"


def number(value: float | None, digits: int = 4) -> str:
    """A number for a table; "-" where it is not known."""
    return "-" if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines: list[Sequence[str]] = [head, ["---"] * len(head), *body]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
