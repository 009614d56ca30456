"""Finds the tar files that a person names: one, a folder of them, or many by braces as webdataset writes them."""

from __future__ import annotations

import importlib
import os
import re
from itertools import islice
from pathlib import Path
from typing import Any

from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder
from supernet.runtime.text import quantity

_MOST = 100_000  # shards
_DIGITS = 100  # of the number of one
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")
_PACKED = re.compile(r"\.(tgz|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)
_ADDRESS = re.compile(r"(pipe|[a-z][a-z0-9+.-]+)://?|pipe:|.*[|]\s*$", re.IGNORECASE)


def webdataset_module(name: str) -> Any:
    """Imports a module of the extra `supernet[webdataset]`. Raises InputError where it is not installed.

    Args:
        name: of the module.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or name).split(".")[0]
        raise InputError(f'{missing} is not installed; pip install "supernet[webdataset]" brings it') from None


def shard_paths(where: str | Path, setting: str) -> list[str]:
    """Lists the tar files of a part.

    Args:
        where: a tar file, a folder of tar files, or a path with braces, such as `train-{000000..000012}.tar`. Braces
            are expanded as the library webdataset does.
        setting: how messages call it.

    Returns:
        The files, in order. They are there by name; nothing is opened.

    Raises:
        InputError: it is an address, no file, or its braces do not close.
    """
    said = f"{setting}={where}"
    if not isinstance(where, str | Path):
        raise InputError(f"{said}: needs one path; several files are written with braces, such as {{a,b}}.tar")
    where = str(where)
    if _ADDRESS.match(where):
        raise InputError(f"{said}: needs files of this machine; copy the shards to it, or mount where they are")
    if is_folder(where):
        return _in_folder(where, said)
    paths = _expanded(where, said) if "{" in where and not os.path.exists(where) else [where]
    if lost := [path for path in paths if not os.path.isfile(path)]:
        of_all = f": {len(lost):,} of {quantity(len(paths), 'file')} are not there, such as {lost[0]}"
        among = of_all if len(paths) > 1 else ""
        raise InputError(f"{said}{among or ': no such file or folder'}")
    if len(set(paths)) < len(paths):
        raise InputError(f"{said}: names a file twice")
    return paths


def _in_folder(folder: str, said: str) -> list[str]:
    """The tar files in a folder but hidden ones, such as those that a Mac leaves behind. Packed ones are refused."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name[0] != "." and entry.is_file()]
    except OSError as error:
        raise InputError(f"{said}: cannot be read ({error.strerror})") from None
    if packed := sorted(name for name in names if _PACKED.search(name)):
        raise InputError(f"{said}: {packed[0]} is packed, so that no member can be found alone; unpack it")
    if not (found := sorted(name for name in names if name.endswith(".tar"))):
        raise InputError(f"{said}: no .tar file in this folder")
    return [os.path.join(folder, name) for name in found]


def _expanded(where: str, said: str) -> list[str]:
    braces = webdataset_module("braceexpand")  # which webdataset itself expands them by
    if any(_many(first, last) for first, last in _RANGE.findall(where)):
        raise InputError(f"{said}: more than {_MOST:,} files")
    try:
        paths = list(islice(braces.braceexpand(where, escape=False), _MOST + 1))
    except (braces.UnbalancedBracesError, ValueError):
        raise InputError(f"{said}: its braces do not close; such as train-{{000000..000012}}.tar") from None
    if len(paths) > _MOST:
        raise InputError(f"{said}: more than {_MOST:,} files")
    return paths


def _many(first: str, last: str) -> bool:
    return max(len(first), len(last)) > _DIGITS or abs(int(first) - int(last)) >= _MOST
