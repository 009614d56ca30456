"""Makes text that came from somewhere else (a file's name, a class, a recorded word) safe to show."""

from __future__ import annotations


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
