"""Shared by all console commands: a mistake is reported in one line, and a closed pipe is no mistake.

Lines for a person are printed as they are: no markup is read in them, and nothing from elsewhere can fake another line.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import NoReturn

from rich.console import Console

from supernet.runtime.errors import InputError
from supernet.runtime.text import printable

_BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE has ended
_NAME = ContextVar("name", default="supernet")  # of the command that runs


def command(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Decorates the main function of the console command `name`.

    InputError becomes one line and exit code 2, and so does a file or folder that cannot be used. Warnings of the
    library have the command's name in front. Where what reads the output has gone (`... | head`) the command ends
    silently, with exit code 141.
    """

    def decorate(main: Callable[[], None]) -> Callable[[], None]:
        @wraps(main)
        def run() -> None:
            with reader_may_stop(), _called(name):
                try:
                    main()
                except BrokenPipeError:
                    raise
                except (InputError, OSError) as error:
                    print(f"{name}: {_in_a_line(error)}", file=sys.stderr)
                    sys.exit(2)

        return run

    return decorate


class Parser(argparse.ArgumentParser):
    """A parser of the words of a command, whose mistakes are one line.

    Example:
        >>> from supernet.runtime.errors import InputError
        >>> parser = Parser(prog="supernet-x")
        >>> _ = parser.add_argument("--seed", type=int)
        >>> try:
        ...     parser.parse_args(["--seed", "a"])
        ... except InputError as error:
        ...     print(error)
        --seed: invalid int value: 'a'; see --help
    """

    def error(self, message: str) -> NoReturn:
        """Raises InputError, where argparse would print its usage and leave."""
        raise InputError(f"{message.removeprefix('argument ')}; see --help")


class _Warnings(logging.Handler):
    """Prints what the library warns of, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


@contextmanager
def _called(name: str) -> Iterator[None]:
    """Within it lines about what is wrong begin with this name, and warnings of the library are such lines."""
    log, handler, before = logging.getLogger("supernet"), _Warnings(logging.WARNING), _NAME.set(name)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        _NAME.reset(before)


def warnings_are_printed() -> bool:
    """Whether what the library warns of is printed as it is; in a job it goes to the job's log alone."""
    return any(isinstance(handler, _Warnings) for handler in logging.getLogger("supernet").handlers)


def _in_a_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return printable(f"{os.fsdecode(error.filename)}: cannot be used ({error.strerror})")
    return printable(" ".join(str(error).split())) if isinstance(error, OSError) else str(error)


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
    """Prints one line of the command that runs about what is wrong, to the error stream."""
    Console(stderr=True).print(
        f"{_NAME.get()}: {printable(message)}", style="red", markup=False, highlight=False, soft_wrap=True
    )
