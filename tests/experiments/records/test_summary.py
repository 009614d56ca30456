"""What a job shows at its end: names from elsewhere move nothing on a terminal and mean nothing to a shell."""

import io
from pathlib import Path

from rich.console import Console
from supernet.experiments.records.summary import Finalist, show_next, show_table


def shown(show, *what) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    show(console, *what)
    return console.file.getvalue()


def test_columns_of_a_table_are_text():
    """Markup in a column's name was read (`[/b]` even ended the job in a traceback), escape sequences were printed."""
    columns = {"[/b]": 1.0, "[red]x": 2.0, "a\x1b[31mb": 3.0}
    said = shown(show_table, [Finalist("searched", 1, 1, None, None, table=columns)], columns)
    assert all(name in said for name in ("[/b]", "[red]x", "a\\x1b[31mb"))
    assert "\x1b" not in said


def test_what_to_type_next_is_one_word_for_each_folder():
    said = shown(show_next, Path("a b; touch x"), [])
    assert "supernet-show 'a b; touch x'\n" in said
    assert "\x1b" not in shown(show_next, Path("a\x1b[31m"), [])
