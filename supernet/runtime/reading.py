"""Files that a person names: asked for and read without a surprise, whatever the name and whatever is in them."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from pathlib import Path

from supernet.runtime.errors import InputError


def why_no_file(path: str | Path) -> str:
    """Why `path` is no regular file, in a few words; "" where it is one.

    A name that no file can have (too long, a NUL in it) is "no such file": no exception. What is not regular, such as
    a pipe, must not be opened: a program waits for it without end.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return "no such file"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "" if stat.S_ISREG(mode) else "not a regular file"


def is_file(path: str | Path) -> bool:
    """Whether `path` is a regular file; no exception, whatever the name."""
    return not why_no_file(path)


def is_folder(path: str | Path) -> bool:
    """Whether `path` is a folder; no exception, whatever the name."""
    return why_no_file(path) == "a folder"


def read_text(path: str | Path, where: str, most: int) -> str:
    """The text (UTF-8) of a regular file, unpacked if its name ends in .gz.

    Args:
        path: the file.
        where: what names it in messages, such as "genotype=FILE".
        most: bytes of text at most; no more is ever read or unpacked.

    Returns:
        The text, without a byte order mark.

    Raises:
        InputError: one line, where it is no such file, larger, or not text.
    """
    path = Path(path)
    if reason := why_no_file(path):
        raise InputError(f"{where}: {reason}")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            raise InputError(f"{where}: more than {most >> 20} MiB of text; is it the right file?")
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{where}: cannot be read as text ({type(error).__name__})") from None
