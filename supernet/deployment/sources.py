"""What a person may give a model to look at: files, folders, patterns, addresses on the web, pictures in memory."""

from __future__ import annotations

import glob
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supernet.data.images import SUFFIXES
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder, why_no_file

_MOST_BYTES = 64 << 20  # of a picture from the web
_WAIT, _DEADLINE = 10.0, 60.0  # seconds for an answer, and for the whole picture
_PIECE = 1 << 16
_PATTERN = frozenset("*?[")
_SCHEMES = ("http", "https")


@dataclass(frozen=True)
class Fetched:
    """The bytes of a picture from the web, still as a file.

    Args:
        address: where it came from.
        raw: the bytes.
    """

    address: str
    raw: bytes


def spread(source: Any) -> Iterator[Any]:
    """Yields what a source holds, one after the other: what names several files becomes these files.

    Args:
        source: the path of a file or of a folder (all images in it and below it), a pattern such as "photos/*.jpg", an
            address that begins with http:// or https://, anything else as it is; or a list of such.

    Yields:
        Paths, fetched pictures (`Fetched`), and what else was given. An address is fetched when its turn comes.

    Raises:
        InputError: a folder or a pattern has no images, or an address cannot be fetched, in one line.

    Example:
        >>> list(spread([1, [2, 3]]))
        [1, 2, 3]
    """
    if isinstance(source, list | tuple):
        for item in source:
            yield from spread(item)
    elif isinstance(source, str | Path) and is_folder(source):
        yield from image_files(source)
    elif isinstance(source, str) and why_no_file(source) == "no such file" and (scheme := _scheme(source)):
        if scheme not in _SCHEMES:
            raise InputError(f"{source[:200]}: {scheme} is not read; give a file, or an address of http or https")
        yield fetched(source)
    elif isinstance(source, str) and _PATTERN & set(source) and why_no_file(source) == "no such file":
        yield from _matching(source)
    else:
        yield source


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
        found += [Path(root, n) for n in files if not n.startswith(".") and Path(n).suffix.lower() in SUFFIXES]
    if not found:
        raise InputError(f"{folder}: no images in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    return sorted(found)


def fetched(address: str, *, most: int = _MOST_BYTES, wait: float = _WAIT, deadline: float = _DEADLINE) -> Fetched:
    """Fetches a picture from the web, by http or https alone.

    Args:
        address: of the picture.
        most: how many bytes it may have.
        wait: seconds to wait for each answer.
        deadline: seconds for all of it.

    Returns:
        Its bytes; whether they are a picture is still to be seen.

    Raises:
        InputError: there is no network or no such picture, or it is too large or comes too slowly, in one line.
    """
    end, pieces, size = time.monotonic() + deadline, list[bytes](), 0
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "supernet"})
        with _opener().open(request, timeout=wait) as answer:
            while piece := answer.read1(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise InputError(
                        f"{address[:200]}: more than {most >> 20} MiB; fetch it yourself and give the file"
                    )
                if time.monotonic() > end:
                    raise InputError(f"{address[:200]}: not here after {deadline:g} s; fetch it yourself")
    except urllib.error.HTTPError as error:
        raise InputError(
            f"{address[:200]}: the server says {error.code} ({error.reason}); look at the address"
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise InputError(
            f"{address[:200]}: cannot be fetched ({reason}); is there a network? Else give a file"
        ) from None
    return Fetched(address, b"".join(pieces))


class _SameKind(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to http and https alone."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if _scheme(newurl) not in _SCHEMES:
            raise urllib.error.URLError(f"it leads to {newurl[:80]}, which is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https and nothing else, neither files of this machine nor ftp."""
    opener = urllib.request.OpenerDirector()
    kinds: Sequence[type[urllib.request.BaseHandler]] = (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
        _SameKind,
    )
    for kind in kinds:
        opener.add_handler(kind())
    return opener


def _scheme(text: str) -> str:
    """The scheme of an address such as "https://...", or ""."""
    before, mark, _ = text.partition("://")
    return before.lower() if mark and before.isalnum() else ""


def _matching(pattern: str) -> list[Path]:
    """The image files that a pattern names; ** goes through folders."""
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    images = [path for path in found if path.suffix.lower() in SUFFIXES and not why_no_file(path)]
    if not images:
        raise InputError(f"{pattern}: no image matches this pattern; give a file, a folder or another pattern")
    return images
