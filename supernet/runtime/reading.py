"""Reads files that a person names, safely for every name and every content."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from pathlib import Path

from supernet.runtime.errors import InputError


def why_no_file(path: str | Path) -> str:
    """Says why a path is no regular file.

    A file that is not regular, such as a pipe, must not be opened, because a program could wait for it without end.

    Args:
        path: any name. One that no file can have (too long, with a NUL in it) is "no such file" and no exception.

    Returns:
        The reason in a few words, or "" where it is a regular file.

    Example:
        >>> why_no_file("/"), why_no_file("/no/such/name")
        ('a folder', 'no such file')
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return "no such file"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "" if stat.S_ISREG(mode) else "not a regular file"


def file_of(path: str | Path, name: str) -> Path:
    """The path that a person has given.

    Args:
        path: of a file or a folder.
        name: of the argument, for the message.

    Returns:
        It as a path.

    Raises:
        InputError: it is no path at all.

    Example:
        >>> file_of("model.onnx", "path")
        PosixPath('model.onnx')
    """
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise InputError(f"{name}={str(path)[:60]}: needs the path of a file")
    return Path(path)


def is_file(path: str | Path) -> bool:
    """Says whether a path is a regular file, which a program can open without waiting for anyone.

    Args:
        path: any name; none causes an exception.

    Returns:
        True for a regular file or a link to one.

    Example:
        >>> is_file("/"), is_file("/no/such/name")
        (False, False)
    """
    return not why_no_file(path)


def is_folder(path: str | Path) -> bool:
    """Says whether a path is a folder.

    Args:
        path: any name; none causes an exception.

    Returns:
        True for a folder or a link to one.

    Example:
        >>> is_folder("/"), is_folder("/no/such/name")
        (True, False)
    """
    return why_no_file(path) == "a folder"


def read_text(path: str | Path, where: str, most: int) -> str:
    """Reads the text (UTF-8) of a regular file, and unpacks it if its name ends in .gz.

    Args:
        path: the file.
        where: how messages name it, such as "path=FILE".
        most: how many bytes of text it may have; no more are read or unpacked.

    Returns:
        The text, without a byte order mark.

    Raises:
        InputError: there is no such file, or it is larger or not text, in one line.
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
        way_out = "; save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        raise InputError(f"{where}: cannot be read as text ({type(error).__name__}){way_out}") from None
