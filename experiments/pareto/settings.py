"""The settings of a front in its files, and what is said before a front of other settings is replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, read_text

from ..console import say

FRONT, FORMAT, VERSION = "front.csv", "supernet.front", 1
SETTINGS, SEARCH = "settings", "search"  # in the files: all on which a front depends, and a hash of what is searched
_LARGEST = 1 << 26  # bytes of a file


def front_there(folder: Path) -> Mapping[str, Any] | None:
    """The settings of the front that a folder has; None where it has none, {} of an older supernet.

    Raises:
        InputError: its front.csv is another program's.
    """
    if not (folder / FRONT).exists():
        return None
    head = read_text(folder / FRONT, f"{folder / FRONT}", _LARGEST).partition("\n")[0]
    known = _json(head.removeprefix("# "))
    if known.get("format") != FORMAT:
        raise InputError(f"{folder / FRONT}: is there already, and is no front that could be replaced; --output FOLDER")
    return _settings(known)


def network_there(path: Path) -> Mapping[str, Any] | None:
    """The settings of the network that was chosen into a folder; None where there is none, {} where it is not known."""
    return _settings(_json(read_text(path, str(path), _LARGEST))) if is_file(path) else None


def say_what_is_replaced(path: Path, there: Mapping[str, Any] | None, now: Mapping[str, Any], console: Console) -> None:
    """Says of a file that is replaced in what its settings differ from those that are asked for."""
    if there is None or there == now:
        return
    told = [name for name in now if name != SEARCH and name in there and there[name] != now[name]]
    said = "; ".join(f"{name} {there[name]}, now {now[name]}" for name in told) or "of another search, or an older one"
    say(f"supernet-pareto: {path} is replaced ({said}); --output FOLDER keeps both", console)


def _settings(known: Mapping[str, Any]) -> Mapping[str, Any]:
    found = known.get(SETTINGS)
    return found if isinstance(found, dict) else {}


def _json(text: str) -> Mapping[str, Any]:
    try:
        known = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}
