"""The grammar of Genotype(...): a call whose fields are lists, tuples, texts, numbers, None and range(...).

Python's own parser is not used, because long or deep texts are not safe with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from supernet.runtime.errors import InputError

EXPECTED = "expected Genotype(normal=[...], reduce=[...])"
_DEEPEST = 8
_TOKEN = re.compile(
    r"""
    \s+ | \#[^\n]*
    | (?P<text>[uU]?(?:'[^'\\\n]*'|"[^"\\\n]*"))
    | (?P<number>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<mark>[][(),=])
    """,
    re.VERBOSE,
)


def read_call(text: str) -> Call:
    """Reads the call that a text begins with. What follows the call is ignored.

    Args:
        text: the text, which begins with "Genotype".

    Returns:
        The fields of the call.

    Raises:
        InputError: it is no such call, in one line.

    Example:
        >>> read_call("Genotype(normal=[('skip_connect', 0)], normal_concat=range(2, 6))").named
        [('normal', [['skip_connect', 0]]), ('normal_concat', range(2, 6))]
    """
    return _Reader(text).call()


@dataclass(frozen=True)
class Call:
    """The fields of a call.

    Args:
        positional: the values without a name, in their order.
        named: (name, value) of the others, in their order.
    """

    positional: list[Any]
    named: list[tuple[str, Any]]


class _Reader:
    """Reads one Genotype(...): lists and tuples (as lists) of texts, numbers, None and range(...), and nothing else."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0
        self.kind, self.word = "", ""
        self._next()

    def call(self) -> Call:
        """The fields between the parentheses."""
        self._next()  # Genotype
        self._expect("(")
        made = Call([], [])
        while self.word != ")" or self.kind != "mark":
            if self.kind == "name" and re.match(r"\s*=", self._text[self._at :]):
                key = self.word
                self._next()
                self._expect("=")
                made.named.append((key, self._value()))
            else:
                made.positional.append(self._value())
            if not self._comma(")"):
                break
        return made

    def _value(self) -> Any:
        kind, word = self.kind, self.word
        if kind == "mark" and word in "([":
            items, open_end = self._items(")" if word == "(" else "]")
            return items[0] if word == "(" and open_end and len(items) == 1 else items  # (x) is x, (x,) is a tuple
        self._next()
        if kind == "text":
            return word.lstrip("uU")[1:-1]
        if kind == "number":
            return _number(word)
        if kind == "name" and word == "None":
            return None
        if kind == "name" and word in ("range", "list", "tuple") and self.kind == "mark" and self.word == "(":
            given, _ = self._items(")")
            if word == "range":
                return _range(given)
            if len(given) == 1 and isinstance(given[0], list | range):
                return list(given[0])
        raise InputError(f"genotype text: holds more than lists, names and numbers ({(word or 'its end')[:40]!r})")

    def _items(self, end: str) -> tuple[list[Any], bool]:
        """The values between brackets, and whether no comma follows the last one."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise InputError("genotype text: its lists are nested too deep")
        self._next()
        items: list[Any] = []
        while not (self.kind == "mark" and self.word == end):
            items.append(self._value())
            if not self._comma(end):
                self._depth -= 1
                return items, True
        self._next()
        self._depth -= 1
        return items, False

    def _comma(self, end: str) -> bool:
        """Passes a comma or the end; returns whether more may follow."""
        if self.kind == "mark" and self.word == end:
            self._next()
            return False
        self._expect(",")
        return True

    def _expect(self, mark: str) -> None:
        if self.kind != "mark" or self.word != mark:
            raise InputError(f"genotype text: not readable at {(self.word or 'its end')[:40]!r}; {EXPECTED}")
        self._next()

    def _next(self) -> None:
        while self._at < len(self._text):
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                # The text behind the last parenthesis is not ours: it is a mistake only where it is asked for.
                self.kind, self.word = "other", self._text[self._at]
                return
            self._at = match.end()
            if match.lastgroup:
                self.kind, self.word = match.lastgroup, match[0]
                return
        self.kind, self.word = "end", ""


def _number(word: str) -> int | float:
    if len(word) > 40:
        raise InputError(f"genotype text: {word[:20]}... is no number of a genotype")
    return float(word) if set(word) & set(".eE") else int(word)


def _range(bounds: list[Any]) -> range:
    small = 1 <= len(bounds) <= 3 and all(type(bound) is int and abs(bound) < 1000 for bound in bounds)
    if not small or bounds[2:] == [0] or not len(range(*bounds)):
        raise InputError("genotype text: concat needs a range of nodes, such as range(2, 6), or a list of them")
    return range(*bounds)
