"""Going on with an interrupted run, and refusing to start into a directory that holds another."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from supernet.runtime.errors import InputError

SUMMARY = "summary.json"
_FOLDER = ("--config-dir", "-cd")  # Hydra's flag for a folder of one's own settings; it is not recorded in a run
_SWEEP = ("-m", "--multirun")


def arguments(given: list[str]) -> list[str]:
    """The command line for Hydra, flags first. Where it holds resume=RUN_DIR, the run's own overrides join it.

    Raises InputError where there is nothing to go on with, where the overrides are changed, and where a run would
    start into a used directory or none.
    """
    resumes = [word.removeprefix("resume=") for word in given if word.startswith("resume=")]
    folder, rest = _split([word for word in given if not word.startswith("resume=")])
    if not resumes:
        _refuse_directory(given)
        flags = [word for word in rest if word in _SWEEP]  # behind an override Hydra does not understand them
        return [*folder, *flags, *(word for word in rest if word not in _SWEEP)]
    directory = Path(resumes[-1].strip("'\""))
    recorded = _recorded(directory, rest)
    changes = [word for word in rest if word not in recorded]
    for word in changes:
        if not word.startswith("runtime."):
            raise InputError(f"resume={directory}: goes on with the run's own settings; leave out {word}")
    return [*folder, *recorded, *changes, f"hydra.run.dir={_quoted(directory)}"]


def command(directory: Path, given: list[str]) -> str:
    """What to type to go on with the run in `directory` that was started, or resumed, with the arguments `given`."""
    folder, overrides = _split(given)
    words = [w for w in overrides if not _harmless(w) and not w.lstrip("+~").startswith(("resume=", "hydra", "-"))]
    return shlex.join(["supernet", *folder, f"resume={directory}", *words])


def finished(given: list[str]) -> Path | None:
    """The run to be resumed, if it is finished already."""
    for word in given:
        directory = Path(word.removeprefix("resume=").strip("'\""))
        if word.startswith("resume=") and (directory / SUMMARY).exists():
            return directory
    return None


def _split(given: list[str]) -> tuple[list[str], list[str]]:
    """The flag for a folder of one's own settings, with its value, and all other words."""
    folder: list[str] = []
    rest: list[str] = []
    words = iter(given)
    for word in words:
        if word in _FOLDER:
            folder += [word, *(value for value in [next(words, None)] if value is not None)]
        else:
            (folder if word.startswith(tuple(f"{flag}=" for flag in _FOLDER)) else rest).append(word)
    return folder, rest


def _recorded(directory: Path, typed: Collection[str]) -> list[str]:
    """The overrides of the run in `directory`.

    It may come from anywhere, so it must not name code or folders that the person has not `typed` too.
    """
    path = directory / ".hydra" / "overrides.yaml"
    if not path.is_file():
        raise InputError(f"resume={directory}: no run there; a run's directory has .hydra/overrides.yaml in it")
    try:
        overrides = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        overrides = None
    if not isinstance(overrides, list) or not all(isinstance(word, str) for word in overrides):
        raise InputError(f"resume={directory}: .hydra/overrides.yaml is not a list of overrides")
    for word in overrides:
        if word not in typed and not _harmless(word):
            raise InputError(
                f"resume={directory}: its recorded override {word!r} could run code; if you trust it, give it again"
            )
    return list(overrides)


_VALUES = ("name", "seed", "genotype", "retrain_valid", "stages")  # the settings at the root that are no groups


def _harmless(word: str) -> bool:
    """Whether a recorded override sets a value or picks one of the options of a group, and does nothing else.

    Flags, paths to configuration files outside the groups, hydra's own settings and targets could each run code.
    """
    if "_target_" in word or "${" in word:
        return False
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    key = override.key_or_group
    if override.package is not None or re.split("[./]", key)[0] in ("hydra", "schema"):
        return False
    if "." in key or key in _VALUES or (override.value() is None and not override.is_delete()):
        return True
    return isinstance(override.value(), str) and re.fullmatch(r"\w[\w-]*", str(override.value())) is not None


def _refuse_directory(given: list[str]) -> None:
    for word in given:
        key, _, value = word.lstrip("+").partition("=")
        if key in ("hydra.run.dir", "hydra.sweep.dir"):
            directory = Path(value.strip("'\""))
            above = next(path for path in (directory, *directory.absolute().parents) if path.exists())
            if not above.is_dir() or not os.access(above, os.W_OK):
                raise InputError(f"{key}={directory}: {above} is no folder that can be written to")
            if (directory / ".hydra").exists() or (directory / "multirun.yaml").exists():
                raise InputError(f"{key}={directory}: holds a run already; use resume={directory} or another directory")


def _quoted(directory: Path) -> str:
    escaped = str(directory).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
