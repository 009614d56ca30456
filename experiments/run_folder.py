"""Takes back what a run that ended at its settings put into its folder: the next try finds it as it was."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from supernet.runtime.files import LOCK

from . import launching
from .records.summary import ENVIRONMENT

# The folder of Hydra, and all that it writes there.
_SETTINGS = {".hydra": ("config.yaml", "hydra.yaml", "overrides.yaml")}
_FILES = ("supernet.log", ENVIRONMENT, LOCK, launching.LOCK, launching.FAULT)


@dataclass(frozen=True)
class _Before:
    """A folder before the run that is to lie in it: what it held, and which folders on the way to it were missing."""

    directory: Path
    held: frozenset[str]
    missing: tuple[Path, ...]


_BEFORE: ContextVar[_Before | None] = ContextVar("before", default=None)


class RunFolder(Callback):
    """Looks at the folder of a run before Hydra writes into it (a Hydra callback)."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra before a run, and not before a sweep."""
        _BEFORE.set(None)
        with suppress(OSError, OmegaConfBaseException):  # then nothing is taken back
            directory = Path(os.path.abspath(config.hydra.run.dir))
            held = frozenset(os.listdir(directory)) if os.path.lexists(directory) else frozenset()
            missing = [path for path in (directory, *directory.parents) if not os.path.lexists(path)]
            _BEFORE.set(_Before(directory, held, tuple(missing)))


def take_back(directory: Path) -> None:
    """Removes what this run wrote before it computed anything, and the folders that it made for that.

    What was there before stays, and all stays where something else has come since: a checkpoint, a table, a file of a
    person. Call it while the folder is locked by this run.

    Args:
        directory: of the run, absolute; for one that goes on this must not be called.
    """
    before = _BEFORE.get()
    if before is None or before.directory != directory:
        return
    with suppress(OSError):
        new = sorted(set(os.listdir(directory)) - before.held, key=lambda name: name == LOCK)  # the lock at last
        if not all(_is_own(directory / name) for name in new):
            return
        for name in new:
            _remove(directory / name, _SETTINGS.get(name))
        for path in before.missing:
            path.rmdir()  # fails where it holds something


def _is_own(path: Path) -> bool:
    if path.is_symlink():
        return False
    if path.name in _SETTINGS:
        return path.is_dir() and set(os.listdir(path)) <= set(_SETTINGS[path.name])
    return path.name in _FILES and path.is_file()


def _remove(path: Path, inner: Collection[str] | None) -> None:
    if inner is None:
        path.unlink()
        return
    for name in inner:
        (path / name).unlink(missing_ok=True)
    path.rmdir()
