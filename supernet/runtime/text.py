"""Text: what came from somewhere else made safe to show, counts in words, and rows written as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable


def printable(text: object) -> str:
    """Returns a text as one line that a terminal, a log and a table show unchanged.

    Control characters (line ends, escape sequences, characters that hide or reorder others) are written as Python
    writes them in a string. So a name from a stranger can neither move the cursor nor fake a second line.

    Args:
        text: anything; its `str()` is taken.

    Returns:
        The same characters, each one that is not printable replaced by its escape.

    Example:
        >>> print(printable("cat\\x1b[31m"))
        cat\\x1b[31m
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(text))


def quantity(count: float, one: str, several: str = "") -> str:
    """Says how many there are of something, in a line for people.

    Args:
        count: how many; from 1,000 on its digits are written in groups.
        one: what follows the number 1: a noun, alone or with the words that depend on it.
        several: what follows all other numbers; "": `one` with the ending of a plural.

    Returns:
        The number and the words.

    Example:
        >>> quantity(1, "image"), quantity(1200, "box"), quantity(0, "copy")
        ('1 image', '1,200 boxes', '0 copies')
        >>> quantity(1, "image is grey", "images are grey")
        '1 image is grey'
    """
    return f"{count:,} {one if count == 1 else several or _plural(one)}"


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "sh", "tch")) else f"{noun}s"


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Writes rows as CSV for a program to read again: values as they are, a line end after each row.

    Args:
        rows: of one file.

    Returns:
        The text.

    Example:
        >>> csv_lines([("step", "tag"), (1, "loss, train")])
        'step,tag\\n1,"loss, train"\\n'
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def shortened(name: str) -> str:
    """Shortens a name to what a message or a picture shows of it.

    Args:
        name: any text.

    Returns:
        The first 80 characters and "..." where there are more; otherwise the name as it is.

    Example:
        >>> shortened("darts_v2"), len(shortened("x" * 1000))
        ('darts_v2', 83)
    """
    return name if len(name) <= 80 else f"{name[:80]}..."
