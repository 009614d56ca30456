"""Nothing that a stranger named can move the cursor, fake a line or hide what it is; one thing is no several."""

import re
from pathlib import Path

import pytest

from supernet.runtime.errors import InputError
from supernet.runtime.text import printable, quantity

SHOWN = [
    ("cat", "cat"),
    ("猫 é ß [b]", "猫 é ß [b]"),
    ("a\nb\r\tc", "a\\nb\\r\\tc"),
    ("\x1b[31mred\x9b", "\\x1b[31mred\\x9b"),
    ("\u202egnp.exe", "\\u202egnp.exe"),
    ("zero\u200bwidth", "zero\\u200bwidth"),
    ("half of a pair \ud800", "half of a pair \\ud800"),
    (7, "7"),
]


@pytest.mark.parametrize(("given", "shown"), SHOWN)
def test_what_is_not_printable_is_written_as_its_escape(given, shown):
    assert printable(given) == shown


def test_a_mistake_is_one_line_whatever_it_quotes():
    assert str(InputError("no class '\x1b[2Ja\nb'")) == "no class '\\x1b[2Ja\\nb'"


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (1, ("image",), "1 image"),
        (0, ("image",), "0 images"),
        (12345, ("epoch",), "12,345 epochs"),
        (2, ("class",), "2 classes"),
        (2, ("box",), "2 boxes"),
        (2, ("batch",), "2 batches"),
        (2, ("category",), "2 categories"),
        (2, ("day",), "2 days"),
        (0.5, ("second",), "0.5 seconds"),
        (1, ("copy is", "copies are"), "1 copy is"),
        (3, ("copy is", "copies are"), "3 copies are"),
    ],
)
def test_the_noun_is_that_of_the_count(count, words, said):
    assert quantity(count, *words) == said


def test_counts_in_lines_for_people_are_made_by_it():
    """Of "{len(...)} images" nobody knows that it is not 1; a comment in a table's file is read by programs, too."""
    root = Path(__file__).parents[2]
    written = re.compile(r"\{(?:len|sum)\([^{}]*\)(?::,)?\} (?!of\b|is\b|has\b|needs\b)(?:[a-z]+ )?[a-z]+s\b")
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for part in ("supernet", "experiments")
        for path in (root / part).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if written.search(line) and not line.strip().startswith('yield f"# ')
    ]
    assert found == []
