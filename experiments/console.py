"""Lines for a person, as they are: no markup is read in them, and nothing from elsewhere can fake another line."""

from __future__ import annotations

from rich.console import Console

from supernet.runtime.text import printable


def say(message: str) -> None:
    """Prints one line."""
    Console().print(printable(message), markup=False, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    """Prints one line about what is wrong, to the error stream."""
    Console(stderr=True).print(
        f"supernet: {printable(message)}", style="red", markup=False, highlight=False, soft_wrap=True
    )
