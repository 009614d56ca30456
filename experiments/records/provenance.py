"""The entries of summary.json that describe a job and not its networks; runs can be compared by them alone."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supernet.runtime.errors import InputError

from .summary import write_json

_IMPLIED = {"_target_": "supernet.training.tasks.implied", "_partial_": True}
_ELSEWHERE = ("name", "seed", "runtime", "baseline", "table", "genotype", "clinical", "imbalance")  # the last: in task
_CLOCK = "seconds.json"


@dataclass(frozen=True)
class Invocation:
    """The choices of the user: the option of each group ("method" -> "gdas"), and the words of the command line."""

    choices: Mapping[str, str | None] = field(default_factory=dict)
    overrides: Sequence[str] = ()

    def choice(self, group: str) -> str:
        """Returns the option of a group; "" where none was named."""
        option = self.choices.get(group)
        return "" if option in (None, "none") else str(option)


@contextmanager
def timed(directory: Path, stage: str) -> Iterator[None]:
    """Adds the seconds of a stage to what earlier, interrupted attempts at it took."""
    began = time.monotonic()
    try:
        yield
    finally:
        add_seconds(directory, stage, time.monotonic() - began)


def add_seconds(directory: Path, stage: str, seconds: float) -> None:
    """Adds seconds to what a stage has taken so far."""
    known = recorded_seconds(directory)
    write_json(directory / _CLOCK, {**known, stage: known.get(stage, 0.0) + seconds})


def settings_hash(settings: Mapping[str, Any], genotype: str) -> str:
    """Hashes all settings but the seed and those that do not change the result: names, threads, baselines, a table."""
    kept = {k: v for k, v in settings.items() if k not in _ELSEWHERE}
    for name in ("limits", "costs"):  # a run from before there were limits is of the same settings as one without
        if all(value is None for value in settings.get(name, {}).values()):
            kept.pop(name, None)
    if _implied(settings):  # as runs had it before there were tasks
        kept.pop("task", None)
    kept |= {name: _recipe(settings[name]) for name in ("search", "retrain") if settings.get(name)}
    if settings.get("init") is None:
        kept.pop("init", None)
    given = genotype if settings["genotype"] else None  # the cell itself, under whatever name it was given
    return short_hash({**kept, "precision": settings["runtime"]["precision"], "genotype": given})


def training_hash(settings: Mapping[str, Any], space: str) -> str:
    """Hashes the settings besides the seed on which the training of a cell depends; `space` is the space's name."""
    recipe = _recipe(settings["retrain"] or {})
    changes = (recipe.pop("network", None) or {}).get(space, {})
    names = ("data", "operations", "retrain_valid")
    kept = {name: settings[name] for name in names} | ({} if _implied(settings) else {"task": settings["task"]})
    kept |= {} if settings.get("init") is None else {"init": settings["init"]}
    precision = settings["runtime"]["precision"]
    return short_hash({**kept, "precision": precision, "recipe": recipe, "space": {**settings["space"], **changes}})


def _recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's settings without those that change nothing, which older runs had not."""
    return {name: value for name, value in settings.items() if name not in ("average", "balanced") or value}


def _implied(settings: Mapping[str, Any]) -> bool:
    """Whether the task was left to the data."""
    return {name: value for name, value in settings.get("task", _IMPLIED).items() if value is not None} == _IMPLIED


def recorded_seconds(directory: Path) -> dict[str, float]:
    path = directory / _CLOCK
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {str(stage): float(value) for stage, value in known.items()}
    except (ValueError, TypeError, AttributeError):
        raise InputError(f"{path}: is not what this run wrote; remove it, and only times are lost") from None


def short_hash(content: Any) -> str:
    text = content if isinstance(content, str) else json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
