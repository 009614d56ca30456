"""Keeps what took long to find out about a data set in the person's cache folder, as arrays.

What is kept there can be deleted at any time. Nobody trusts it: who reads it checks that it fits what it is about.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from supernet.data.names import Names

Arrays = Mapping[str, np.ndarray]
_FORM = 1  # of all that is kept; another number lets it be found out anew


def cache_folder() -> Path | None:
    """The folder: `supernet` in `XDG_CACHE_HOME`, which is ~/.cache unless it is set; None for a person without one."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "supernet"
    except RuntimeError:  # no home
        return None


def load(key: str) -> Arrays | None:
    """Reads what was kept under a key.

    Args:
        key: says what it is about, such as a path.

    Returns:
        The arrays; None where nothing was kept, or it is damaged, or of somebody else.
    """
    path = _path(key)
    if path is None:
        return None
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
            return None
        with np.load(path, allow_pickle=False) as arrays:  # a checksum of each array is checked
            found = {name: arrays[name] for name in arrays.files}
        return found if found.pop("key").tobytes() == _encoded(key) else None
    except Exception:  # what a damaged archive raises depends on the byte
        return None


def keep(key: str, arrays: Arrays) -> None:
    """Keeps arrays under a key, whole or not at all. Where that is impossible nothing is kept, and nobody is told.

    Args:
        key: says what they are about.
        arrays: of numbers.
    """
    path = _path(key)
    if path is None:
        return
    partial = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".partial", delete=False) as file:
            partial = file.name
            np.savez_compressed(file, key=np.frombuffer(_encoded(key), np.uint8), **arrays)  # type: ignore[arg-type]
        os.replace(partial, path)
    except OSError:
        if partial:
            Path(partial).unlink(missing_ok=True)


def packed_names(name: str, names: Names) -> Arrays:
    """Names as two arrays.

    Example:
        >>> list(unpacked_names("a", packed_names("a", Names.of(["x.png", "y.png"]).take(np.array([1])))))
        ['y.png']
    """
    block = b"".join(names.block[start:end] for start, end in zip(names.starts, names.ends, strict=True))
    ends = np.cumsum(names.ends - names.starts, dtype=np.int64)
    return {f"{name}_block": np.frombuffer(block, np.uint8), f"{name}_ends": ends}


def unpacked_names(name: str, arrays: Arrays) -> Names:
    """The names of two arrays. Raises ValueError or KeyError where they hold none."""
    block, ends = arrays[f"{name}_block"], arrays[f"{name}_ends"]
    if block.dtype != np.uint8 or block.ndim != 1 or ends.dtype != np.int64 or ends.ndim != 1:
        raise ValueError("no names")
    if (np.diff(ends, prepend=0) < 0).any() or (int(ends[-1]) if len(ends) else 0) != len(block):
        raise ValueError("names out of their block")
    return Names.packed(block.tobytes(), ends)


def _path(key: str) -> Path | None:
    folder = cache_folder()
    name = hashlib.sha256(_encoded(f"{_FORM}\0{key}")).hexdigest()[:32]
    return folder / f"{name}.npz" if folder is not None else None


def _encoded(key: str) -> bytes:
    """A key as bytes; a path in it may hold bytes that are no text."""
    return key.encode("utf-8", "surrogateescape")
