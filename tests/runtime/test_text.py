"""Nothing that a stranger named can move the cursor, fake a line or hide what it is."""

import pytest

from supernet.runtime.errors import InputError
from supernet.runtime.text import printable

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
