"""What all console commands share: mistakes are one line, and a reader that stops early is no mistake."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps

from supernet.runtime.errors import InputError

_BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE has ended


def command(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Decorates the main function of the console command `name`.

    InputError becomes one line and exit code 2. Where what reads the output has gone (`... | head`) the command ends
    without a word, with exit code 141.
    """

    def decorate(main: Callable[[], None]) -> Callable[[], None]:
        @wraps(main)
        def run() -> None:
            try:
                try:
                    main()
                except InputError as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    sys.exit(2)
                finally:
                    sys.stdout.flush()
            except BrokenPipeError:
                # Python flushes once more as it ends: into nothing, or it would complain there.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(_BROKEN_PIPE)

        return run

    return decorate
