"""Continues an interrupted run or sweep, and refuses to start in a directory that holds another run."""

from __future__ import annotations

import copy
import itertools
import math
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from supernet.runtime.errors import InputError
from supernet.runtime.files import check_directory, replacing
from supernet.runtime.reading import is_file
from supernet.runtime.text import quantity

from .recorded_words import check_words, parse, texts, values_of, write
from .records.summary import ENVIRONMENT, SUMMARY

_OVERRIDES, _SWEPT = Path(".hydra") / "overrides.yaml", "multirun.yaml"
_BEFORE = f"{_SWEPT}.previous"  # what the sweep's record was before Hydra wrote it again
AUTO = "resume=auto"
_LAUNCHER = ("hydra/launcher=", "hydra.launcher.")  # how jobs are run is no setting of theirs
_FOLDER = ("--config-dir", "-cd")  # Hydra's flag for a folder of the user's settings; it is not recorded in a run
_SWEEP = ("-m", "--multirun")
_ROOM = 10_000_000  # bytes that a disk needs to have free for a run to start
_MOST_JOBS = 10_000
_LONGEST_NAME = 255  # bytes of a folder's name, in most file systems
_MOST_TEXT = 1 << 18  # bytes of a record of settings
_FILES = ("supernet.log", "config.yaml", "hydra.yaml", "overrides.yaml")  # what Hydra writes to before the job begins
_LONGEST = 500  # characters of a pattern of folders' names
_JOB = ("hydra.job.num", "hydra.job.id", "hydra.job.name", "hydra.job.override_dirname")  # in a folder's name


@dataclass(frozen=True)
class Start:
    """How the command starts.

    `words` are for Hydra, `typed` are the person's own. `directory` is the run or sweep to go on with, if there is
    one, and `origin` the folder where it began: paths that are not whole are meant from there. `into` is the directory
    in which resume=auto begins.
    """

    words: list[str]
    typed: tuple[str, ...] = ()
    directory: Path | None = None
    origin: Path | None = None
    folders: list[Path] = field(default_factory=list)
    into: Path | None = None


def automatic(given: list[str]) -> tuple[list[str], Path | None]:
    """The words without resume=auto, which goes on with the run in the named directory, or begins it there.

    So one command line is right for the first start of a job and for each that a scheduler makes of it later. Where a
    kill came so early that there is no record and nothing was computed, the job begins anew.

    Returns:
        The words, and the directory where it begins; None where it goes on, or nothing is automatic.

    Raises:
        InputError: no directory is named.
    """
    if AUTO not in given:
        return given, None
    key = f"hydra.{'sweep' if any(word in _SWEEP for word in given) else 'run'}.dir"
    named = [word.partition("=")[2].strip("'\"") for word in given if word.lstrip("+").startswith(f"{key}=")]
    if not named or "$" in named[-1]:
        raise InputError(f"{AUTO}: needs the directory to begin in or to go on with; add {key}=DIRECTORY")
    directory = Path(named[-1])
    rest = [word for word in given if word != AUTO]
    there = (directory / "checkpoints", directory / SUMMARY)
    if _record(directory) is None and _sweep_record(directory) is None and not any(path.exists() for path in there):
        return rest, directory
    recorded = (f"{key}=", "hydra.sweep.subdir=")  # and so said already
    flags = [word for word in rest if word not in _SWEEP and not word.lstrip("+").startswith(recorded)]
    return [*flags, f"resume={directory}"], None


def start(given: list[str], into: Path | None = None) -> Start:
    """What the command line asks for. Raises InputError as `arguments` does.

    `into`: the directory in which resume=auto begins; it may hold what a kill has left of an earlier start.
    """
    words, directory = arguments(given, into), _asked(given)
    origin = None if directory is None else _origin(directory)
    typed = tuple(word for word in given if not word.startswith("resume="))
    return Start(words, typed, directory, origin, _folders(_split(given)[0]), into)


def arguments(given: list[str], into: Path | None = None) -> list[str]:
    """The command line for Hydra, flags first. Where it holds resume=DIRECTORY, the run's own overrides join it.

    Raises InputError where there is nothing to go on with, where the directory could do harm, where the overrides are
    changed, and where a run would start into a used directory or none.
    """
    directory = _asked(given)
    folder, rest = _split([word for word in given if not word.startswith("resume=")])
    if directory is None:
        _refuse_directory(rest, into)
        flags = [word for word in rest if word in _SWEEP]  # behind an override Hydra does not understand them
        return [*folder, *flags, *(word for word in rest if word not in _SWEEP)]
    if "${" in str(directory):
        raise InputError(f"resume={directory}: Hydra would take ${{...}} for a setting; rename the folder")
    if not is_file(directory / _OVERRIDES) and not is_file(directory / _SWEPT):
        raise InputError(
            f"resume={directory}: no run there; a run's directory has {_OVERRIDES} in it, that of a sweep {_SWEPT}"
        )
    check_directory(directory, files=_FILES, folders=(".hydra",))
    sweep = not (directory / _OVERRIDES).is_file()
    rest = [word for word in rest if not (sweep and word in _SWEEP)]
    raw, own = _sweep(directory, rest) if sweep else (_recorded(directory), [])
    recorded = check_words(raw, rest, f"resume={directory}", swept=sweep, folders=_folders(folder))
    if sweep:
        own.append(f"hydra.sweep.subdir={write(_subfolder(directory, recorded))}")
    changes = [word for word in rest if word not in (*raw, *own)]
    free = ("runtime.", "data.download=", *(_LAUNCHER if sweep else ()))
    for word in changes:
        if not word.startswith(free):
            raise InputError(f"resume={directory}: goes on with the run's own settings; leave out {word}")
    where = f"hydra.{'sweep' if sweep else 'run'}.dir={write(str(directory))}"
    return [*folder, *(["-m"] if sweep else []), *recorded, *changes, *own, where]


def command(directory: Path, given: list[str]) -> str:
    """Returns the command that continues the run in `directory`, started with arguments `given`, from any folder."""
    flags, overrides = _split(given)
    folder = [flag if flag in _FOLDER else _whole(flag) for flag in flags]
    words = [w for w in overrides if not w.lstrip("+~").startswith(("resume=", "hydra", "-"))]
    swept = any(word in _SWEEP for word in given)
    again = [word for word in words if not _passes(word, swept)]
    launcher = [word for word in overrides if swept and word.startswith(_LAUNCHER)]
    return shlex.join(["supernet", *folder, f"resume={directory}", *again, *launcher])


def launched_by(directory: Path) -> list[str]:
    """The words that said how the jobs of the sweep in `directory` were run; none where nothing did."""
    own = _within(_sweep_record(directory), "hydra", "overrides", "hydra")
    return [word for word in own if word.startswith(_LAUNCHER)] if isinstance(own, list) else []


def finished(given: list[str]) -> Path | None:
    """Returns the run to be resumed if it is finished already, otherwise None."""
    directory = _asked(given)
    return directory if directory is not None and is_file(directory / SUMMARY) else None


_PATHS = (
    *(("data", name) for name in ("path", "root", "source", "train", "valid", "test")),
    *(("table", "path"), ("costs", "latency")),
)


def for_the_parts(settings: Mapping[str, Any], began: Start) -> dict[str, Any]:
    """The settings as the job's parts get them.

    Paths that are not whole are meant from where the run began. A run that goes on fetches nothing: its directory
    could have come from anywhere, with a folder to write to in it.
    """
    made = copy.deepcopy(dict(settings))
    fetch = began.directory is None or any(word.startswith("data.download=") for word in began.typed)
    if not fetch and isinstance(made.get("data"), dict) and "download" in made["data"]:
        made["data"]["download"] = False
    if began.origin is None:
        return made
    for group, name in _PATHS:
        node = made.get(group)
        if isinstance(node, dict) and isinstance(node.get(name), str) and node[name] != "???":
            node[name] = os.path.join(began.origin, node[name])
    node = made.get("init")
    donor = node.get("path") if isinstance(node, dict) else None
    if donor and os.path.exists(os.path.join(began.origin, donor)):  # otherwise it is the name of a model
        made["init"] = {**made["init"], "path": os.path.join(began.origin, donor)}
    genotype = made.get("genotype")
    if genotype and os.path.exists(os.path.join(began.origin, genotype.rpartition(":")[0] or genotype)):
        made["genotype"] = os.path.join(began.origin, genotype)
    return made


def _asked(given: Sequence[str]) -> Path | None:
    asked = [word.removeprefix("resume=") for word in given if word.startswith("resume=")]
    return Path(asked[-1].strip("'\"")) if asked else None


def _passes(word: str, swept: bool) -> bool:
    try:
        check_words([word], (), "", swept=swept)
    except InputError:
        return False
    return True


def _whole(flag: str) -> str:
    name, equals, value = flag.rpartition("=")
    return f"{name}{equals}{Path(value).absolute()}"


def _split(given: list[str]) -> tuple[list[str], list[str]]:
    """Separates the flag for a folder of the user's own settings, with its value, from all other words."""
    folder: list[str] = []
    rest: list[str] = []
    words = iter(given)
    for word in words:
        if word in _FOLDER:
            folder += [word, *(value for value in [next(words, None)] if value is not None)]
        else:
            (folder if word.startswith(tuple(f"{flag}=" for flag in _FOLDER)) else rest).append(word)
    return folder, rest


def _folders(flags: Sequence[str]) -> list[Path]:
    """The folders of the user's own settings that such flags name."""
    values = itertools.chain.from_iterable(flag.partition("=")[::2] if "=" in flag else [flag] for flag in flags)
    return [Path(value) for value in values if value not in _FOLDER]


def _recorded(directory: Path) -> list[str]:
    """The overrides of the run in `directory`, as they are."""
    overrides = _record(directory)
    if overrides is None:
        raise InputError(f"resume={directory}: {_OVERRIDES} is not a list of overrides")
    return overrides


def _record(directory: Path) -> list[str] | None:
    """The recorded words of a run. A kill while Hydra writes them anew leaves an empty file, beside a second record."""
    path = directory / _OVERRIDES
    words = _read(path)
    if words is None and is_file(path) and path.stat().st_size == 0:
        words = _within(_read(path.with_name("hydra.yaml")), "hydra", "overrides", "task")
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _sweep_record(directory: Path) -> Any:
    """The settings of a sweep; those that were kept, where a kill has cut short the ones that Hydra wrote anew."""
    for name in (_SWEPT, _BEFORE):
        recorded = _read(directory / name)
        if isinstance(_within(recorded, "hydra", "overrides", "task"), list):
            return recorded
    return None


def keep_record(directory: Path) -> None:
    """Keeps the record of the sweep in `directory`, which Hydra is about to write anew, and not at one stroke."""
    path = directory / _SWEPT
    if is_file(path) and isinstance(_within(_read(path), "hydra", "overrides", "task"), list):
        with replacing(directory / _BEFORE) as file:
            file.write(path.read_bytes())


def _sweep(directory: Path, typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of the sweep in `directory`, as they are, and those of Hydra's own settings, which are `typed`."""
    recorded = _within(_sweep_record(directory), "hydra", "overrides")
    task, hydra = _within(recorded, "task"), _within(recorded, "hydra") or []
    if not all(isinstance(words, list) and all(isinstance(word, str) for word in words) for words in (task, hydra)):
        raise InputError(f"resume={directory}: {_SWEPT} has no list of overrides in hydra.overrides.task")
    left_out = ("hydra.mode=", "hydra.sweep.dir=", "hydra.sweep.subdir=", *_LAUNCHER)  # the last: as typed now
    own = [w for w in hydra if not w.startswith(left_out)]
    for word in own:
        if word not in typed:
            raise InputError(f"resume={directory}: its recorded override {word!r} could run code; give it again")
    overrides = [override for override in map(parse, task) if override is not None]
    jobs = math.prod(len(list(values_of(override))) for override in overrides)
    if jobs > _MOST_JOBS:
        raise InputError(f"resume={directory}: a sweep of {jobs:,} jobs, up to {_MOST_JOBS:,} can be gone on with")
    return task, own


def _subfolder(directory: Path, words: Sequence[str]) -> str:
    """How the folders of the sweep's jobs are named. Raises InputError where one of them could lie somewhere else."""
    pattern = _within(_sweep_record(directory), "hydra", "sweep", "subdir") or "${hydra.job.num}"
    keys = set(re.findall(r"\$\{([A-Za-z][\w.]*)\}", str(pattern)[:_LONGEST], re.ASCII))
    rest = re.sub(r"\$\{[A-Za-z][\w.]*\}", "x", str(pattern)[:_LONGEST], flags=re.ASCII)
    given = [(o.key_or_group, list(texts(list(values_of(o))))) for o in map(parse, words) if o is not None]
    known = {*_JOB, "name", "seed", *(key for key, _ in given)}
    sound = all(key in known or key.startswith("hydra.runtime.choices.") for key in keys)
    sound = sound and len(str(pattern)) < _LONGEST and re.fullmatch(r"[\w.,=/-]+", rest, re.ASCII) is not None
    roots = {key.split(".")[0] for key in keys}  # whatever sets them, above or below
    whole = [text for key, found in given for text in found if key.split(".")[0] in roots]  # may begin at the root
    within = [text for _, found in given for text in found] if _JOB[-1] in keys else whole
    if (
        not sound
        or any(text.startswith("/") for text in (rest, *whole))
        or any(".." in text for text in (rest, *within))
    ):
        raise InputError(f"resume={directory}: jobs in {pattern} could lie outside it; resume them one by one")
    return str(pattern)


def _origin(directory: Path) -> Path | None:
    """The folder where the run or sweep in `directory` began, if that is another one than this."""
    for path, keys in (
        *((path, ("folder",)) for path in (directory / ENVIRONMENT, *sorted(directory.rglob(ENVIRONMENT)))),
        (directory / ".hydra" / "hydra.yaml", ("hydra", "runtime", "cwd")),
        (directory / _SWEPT, ("hydra", "runtime", "cwd")),
    ):
        folder = _within(_read(path), *keys)
        if isinstance(folder, str) and Path(folder).is_absolute():
            return None if Path(folder) == Path.cwd() else Path(folder)
    return None


class _Loader(yaml.SafeLoader):
    """Reads plain yaml without aliases, which Hydra never writes: a few of them can stand for any number of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def _read(path: Path) -> Any:
    """Returns the content of a small yaml or JSON file; None where it cannot be read."""
    try:
        if path.stat().st_size > _MOST_TEXT:
            return None
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError):
        return None


def _within(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _refuse_directory(given: list[str], into: Path | None = None) -> None:
    for key, _, value in (word.lstrip("+").partition("=") for word in given):
        names = value.strip("'\"").split("/") if key in ("name", "hydra.run.dir", "hydra.sweep.dir") else ()
        if any(len(os.fsencode(name)) > _LONGEST_NAME for name in names):
            raise InputError(f"{key}={value[:40]}...: a folder's name has {_LONGEST_NAME} bytes at most")
    asked = filter(
        None, map(parse, (w for w in given if w.lstrip("+").startswith(("hydra.run.dir", "hydra.sweep.dir"))))
    )
    typed = [(override.key_or_group, str(override.value())) for override in asked]
    for key, value in typed or [("hydra.run.dir", "runs")]:
        directory = Path(value)
        above = next(path for path in (directory, *directory.absolute().parents) if os.path.exists(path))
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise InputError(f"{key}={directory}: {above} is no folder that can be written to")
        if (free := shutil.disk_usage(above).free) < _ROOM:
            room = quantity(free, "byte is free", "bytes are free")
            raise InputError(f"{key}={directory}: {room} there; a run needs {_ROOM:,} to start")
        if typed and directory != into and ((directory / ".hydra").exists() or (directory / _SWEPT).exists()):
            raise InputError(f"{key}={directory}: holds a run already; use resume={directory} or another directory")
