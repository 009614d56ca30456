"""Writes the genotype of any space as one line, for tables and for people: "stage1/1/kernel=3 stage1/depth=2".

Cells of NAS-Bench-201 are written as the benchmark does (`supernet.space.nasbench201`).
"""

from __future__ import annotations

import re

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import NasBench201, from_string, to_string

_WORD = re.compile(r"[^\s=+]+")
_NUMBER = re.compile(r"([0-9]{1,9})")


def to_text(architecture: Architecture) -> str:
    """Writes what an architecture keeps: each decision with its options, in an order that depends on the names alone.

    Several options of one decision have a plus between them. The name of the space is not in the text.

    Args:
        architecture: of any space.

    Returns:
        One line, which `from_text` reads; equal genotypes have equal texts.

    Raises:
        InputError: a name has a blank, a plus or an equals sign in it.

    Example:
        >>> to_text(Architecture("mobile", {"stage10/depth": ("1",), "stage2/1/kernel": ("3",)}))
        'stage2/1/kernel=3 stage10/depth=1'
        >>> to_text(Architecture("darts", {"normal/2": ("0", "1")}))
        'normal/2=0+1'
    """
    if architecture.space == NasBench201.name:
        return to_string(architecture)
    for word in (word for name, kept in architecture.items() for word in (name, *kept)):
        if not _WORD.fullmatch(word):
            raise InputError(f"genotype: {word[:80]!r} has a blank, '=' or '+' in it, or nothing; no line can hold it")
    return " ".join(f"{name}={'+'.join(architecture[name])}" for name in sorted(architecture, key=_natural))


def from_text(text: str, space: str) -> Architecture:
    """Reads what `to_text` writes. Whether the space asks such questions is for the space to say.

    Args:
        text: the line; blanks between answers play no part.
        space: the name of the space.

    Returns:
        The architecture.

    Raises:
        InputError: the text is anything else.

    Example:
        >>> from_text("stage1/depth=2 stage1/1/kernel=3", "mobile")["stage1/depth"]
        ('2',)
    """
    if space == NasBench201.name:
        return from_string(text)
    choices: dict[str, tuple[str, ...]] = {}
    for answer in text.split():
        name, equals, options = answer.partition("=")
        kept = tuple(options.split("+"))
        if not (name and equals and all(_WORD.fullmatch(option) for option in kept)) or "+" in name:
            raise InputError(
                f"genotype {text[:80]!r}: {answer[:40]!r} is no answer; it needs answers such as stage1/depth=2"
            )
        if name in choices:
            raise InputError(f"genotype {text[:80]!r}: {name[:40]!r} is there twice")
        choices[name] = kept
    if not choices:
        raise InputError("genotype '': needs answers such as stage1/depth=2")
    return Architecture(space, choices)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts stage2 before stage10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]
