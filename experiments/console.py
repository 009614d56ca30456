"""Shared by all console commands: a mistake is reported in one line, and a closed pipe is no mistake.

Lines for a person are printed as they are: no markup is read in them, and nothing from elsewhere can fake another line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

from rich.console import Console

from supernet.runtime.errors import InputError
from supernet.runtime.text import printable

_BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE has ended


def command(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Decorates the main function of the console command `name`.

    InputError becomes one line and exit code 2. Where what reads the output has gone (`... | head`) the command ends
    silently, with exit code 141.
    """

    def decorate(main: Callable[[], None]) -> Callable[[], None]:
        @wraps(main)
        def run() -> None:
            with reader_may_stop():
                try:
                    main()
                except InputError as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    sys.exit(2)

        return run

    return decorate


@contextmanager
def reader_may_stop() -> Iterator[None]:
    """Within it a program whose output pipe was closed ends with exit code 141 and prints nothing."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more as it ends: into nothing, or it would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)


def say(message: str, console: Console | None = None) -> None:
    """Prints one line, to the standard output or to a console that is there already."""
    (console or Console()).print(printable(message), markup=False, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    """Prints one line of the command `supernet` about what is wrong, to the error stream."""
    Console(stderr=True).print(
        f"supernet: {printable(message)}", style="red", markup=False, highlight=False, soft_wrap=True
    )
