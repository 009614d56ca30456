"""Files that a person names: asked for and read without a surprise, whatever the name and whatever is in them."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from supernet.runtime.errors import InputError


def is_file(path: str | Path) -> bool:
    """Whether `path` is a regular file. A name that no file can have (too long, a NUL in it) is none: no exception."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: str | Path) -> bool:
    """Whether `path` is a folder. A name that no folder can have is none: no exception."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


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
    if not is_file(path):
        raise InputError(f"{where}: {'a folder' if is_folder(path) else 'no such file'}")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            raise InputError(f"{where}: more than {most >> 20} MiB of text; is it the right file?")
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{where}: cannot be read as text ({type(error).__name__})") from None
