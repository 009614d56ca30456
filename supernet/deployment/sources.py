"""What a person may give a model to look at: files, folders, patterns, addresses on the web, pictures in memory."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supernet.data.images import SUFFIXES, is_image_file
from supernet.deployment.web import SCHEMES, fetched, scheme_of
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder, why_no_file

_PATTERN = frozenset("*?[")


def spread(source: Any) -> Iterator[Any]:
    """Yields what a source holds, one after the other: what names several files becomes these files.

    Args:
        source: the path of a file or of a folder (all images in it and below it), a pattern such as "photos/*.jpg", an
            address that begins with http:// or https://, anything else as it is; or several of such (`is_several`).

    Yields:
        Paths, fetched pictures (`Fetched`), and what else was given. An address is fetched when its turn comes.

    Raises:
        InputError: a folder or a pattern has no images, or an address cannot be fetched, in one line.

    Example:
        >>> list(spread([1, [2, 3]]))
        [1, 2, 3]
    """
    if is_several(source):
        for item in source:
            yield from spread(item)
    elif isinstance(source, str | Path) and is_folder(source):
        yield from image_files(source)
    elif isinstance(source, str) and why_no_file(source) == "no such file" and (scheme := scheme_of(source)):
        if scheme not in SCHEMES:
            raise InputError(f"{source[:200]}: {scheme} is not read; give a file, or an address of http or https")
        yield fetched(source)
    elif isinstance(source, str | Path) and _PATTERN & set(str(source)) and why_no_file(source) == "no such file":
        yield from _matching(str(source))
    else:
        yield source


def is_several(source: Any) -> bool:
    """Says whether a source holds others: a list, a tuple, or what yields them one by one, such as a generator.

    Example:
        >>> is_several(iter(["a.jpg"])), is_several("a.jpg")
        (True, False)
    """
    return isinstance(source, list | tuple) or (isinstance(source, Iterator) and not isinstance(source, io.IOBase))


def image_files(folder: str | Path) -> list[Path]:
    """Finds the image files in a folder and in the folders below it.

    Hidden files and folders (a name that begins with a dot) and linked folders are left out.

    Args:
        folder: the folder.

    Returns:
        The files, sorted by path.

    Raises:
        InputError: there is no image in it.
    """
    folder = Path(folder)
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, n) for n in files if not n.startswith(".") and is_image_file(Path(root, n))]
    if not found:
        raise InputError(f"{folder}: no images in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    return sorted(found)


def _matching(pattern: str) -> list[Path]:
    """The image files that a pattern names; ** goes through folders."""
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    images = [path for path in found if not why_no_file(path) and is_image_file(path)]
    if not images:
        raise InputError(f"{pattern}: no image matches this pattern; give a file, a folder or another pattern")
    return images
