"""Numbers and tables as Markdown."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence

from supernet.runtime.text import printable

_EMPHASIS = re.compile(r"[*]|~(?=~)|(?<=~)~|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is one


def spread(values: Sequence[float], digits: int = 4) -> str:
    """Mean and sample standard deviation; the latter is not known of one value."""
    if not values:
        return "-"
    deviation = f"{statistics.stdev(values):.{digits}f}" if len(values) > 1 else "n/a"
    return f"{statistics.mean(values):.{digits}f} ± {deviation}"


def number(value: float | None, digits: int = 4) -> str:
    """A number for a table; "-" where it is not known."""
    return "-" if value is None else f"{value:.{digits}f}"


def escaped(text: object) -> str:
    """Text from elsewhere (a name, a setting) as Markdown that shows it and does nothing else.

    It is one line; no HTML, code, link, emphasis or further cell of a table begins in it.
    """
    line = _EMPHASIS.sub(r"\\\g<0>", printable(text).replace("\\", "\\\\"))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line.replace("|", "\\|").replace("`", "\\`").replace("](", "]\\(").replace("][", "]\\[")


def code(text: object) -> str:
    """Text from elsewhere in a code span; as `escaped` where it holds what could end the span or begin HTML."""
    line = printable(text)
    return escaped(line) if set(line) & set("`<>&") or "](" in line else f"`{line}`"


def markdown_table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table. Cells are text, not Markdown: they are `escaped`."""
    lines: list[Sequence[str]] = [head, *body]
    made = ["| " + " | ".join(map(escaped, line)) + " |" for line in lines]
    return [made[0], "| " + " | ".join(["---"] * len(head)) + " |", *made[1:]]


def is_share(score: str) -> bool:
    """Whether a score is a share of right answers, which people read in percent, and no area or precision.

    Args:
        score: its name.

    Example:
        >>> is_share("balanced_accuracy"), is_share("auroc")
        (True, False)
    """
    return score.endswith("accuracy")
