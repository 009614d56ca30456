"""Reads the command line of supernet-explore and composes its settings.

`explorer=`, `score=`, `discretiser=` and `seed=` take several values, and all combinations are tried. A setting of an
explorer stands under its name (`explorer.aging.population=10`); without the name (`explorer.population=10`) it is that
of all those asked for that have it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder

from .. import command_line
from ..recorded_words import write
from ..schema import plain
from ..workers import OWN

SEVERAL = ("explorer", "score", "discretiser")  # groups of which several options are tried
_WITHOUT_A_RUN = ("space", "resolution", "channels", "classes")  # a run has its own
_PLAIN = (
    "budget",
    "limits",
    "costs",
    "objectives",
    "truth",
    "sample",
    "table",
    *_WITHOUT_A_RUN,
)  # settings of conf/explore.yaml
_OF_THE_RUN = ("runtime",)  # of which a run that is explored may have others than it began with
_OF_WORKERS = tuple(f"runtime.{name}" for name in OWN)  # but these are this command's
_OWN = ("output", "seed")
_NAMED = ("budget", "limits", "costs")  # settings that have names
_FOLDER = ("--config-dir", "-cd")
_MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Args:
        run: the finished run; None: the tabular benchmark.
        options: the names asked for of each group of `SEVERAL`; empty where nothing was said.
        seeds: of the explorers.
        output: where the results go; None: where they usually go.
        settings: the composed settings of conf/explore.yaml.
        table: whether a table was asked for.
        for_the_run: words for the settings of the run: of its machine, and recorded ones that a person vouches for.
        folders: of settings of the user's own.
    """

    run: Path | None
    options: Mapping[str, Sequence[str]]
    seeds: tuple[int, ...]
    output: Path | None
    settings: Mapping[str, Any]
    table: bool
    for_the_run: tuple[str, ...]
    folders: tuple[Path, ...]


def asked(given: Sequence[str]) -> Asked:
    """Reads the words of the command line. Raises InputError at the first that cannot be."""
    plain_words, folders = _without_folders(given)
    run, words = _run_of(plain_words)
    options: dict[str, list[str]] = {group: [] for group in SEVERAL}
    rest, for_the_run = list[str](), list[str]()
    seeds: tuple[int, ...] = (0,)
    output: Path | None = None
    for word in words:
        key, _, value = word.partition("=")
        root = re.split("[.@]", key.lstrip("+"))[0]
        if key in SEVERAL:
            options[key] = _options(key, value, folders)
        elif key == "seed":
            seeds = _seeds(value)
        elif key == "output":
            output = _output(value)
        elif of_workers(word):
            rest.append(word)
        elif root in _OF_THE_RUN and run is None:
            raise InputError(f"{word}: is for the run that is explored, and there is none; leave it out")
        elif run is not None and root not in (*SEVERAL, *_PLAIN):
            for_the_run.append(command_line.readable(word))
        elif root in (*SEVERAL, *_PLAIN):
            rest.append(word)
        else:
            raise InputError(
                f"{word}: no such setting{command_line.nearest(root, [*SEVERAL, *_OWN, *_PLAIN, *_OF_THE_RUN])}; "
                "supernet-explore --help shows them"
            )
    for root in (word.partition("=")[0].split(".")[0] for word in rest if run is not None):
        if root in _WITHOUT_A_RUN:
            raise InputError(
                f"{root}=...: the run has its own; leave it out, or leave out the run for the tabular benchmark"
            )
    chosen = {**options, "explorer": options["explorer"] or ["random"]}
    chosen["score"] = options["score"] or (["table"] if run is None else ["supernet"])
    settings = _composed(chosen, rest, folders)
    table = any(word.startswith(("table=", "table.")) for word in rest)
    return Asked(run, options | chosen, seeds, output, settings, table, tuple(for_the_run), folders)


def composed_runtime(words: Sequence[str]) -> Mapping[str, Any]:
    """The settings of workers that words such as runtime.workers=8 ask for. Raises InputError where one cannot be."""
    made: Mapping[str, Any] = _composed(dict.fromkeys(SEVERAL, ()), words, ())["runtime"]
    return made


def of_workers(word: str) -> bool:
    """Whether a word of the command line is about workers."""
    return word.partition("=")[0] in _OF_WORKERS


def search_path(folders: Sequence[Path]) -> list[str]:
    """The override that makes Hydra look into folders of the user's own."""
    places = ",".join(write(f"file://{folder.absolute()}") for folder in folders)
    return [f"hydra.searchpath=[{places}]"] if folders else []


def _without_folders(given: Sequence[str]) -> tuple[list[str], tuple[Path, ...]]:
    words, folders = list[str](), list[Path]()
    left = iter(given)
    for word in left:
        flag, equals, value = word.partition("=")
        if flag in _FOLDER:
            value = value if equals else next(left, "")
            if not is_folder(value):
                raise InputError(f"{flag} {value}: no such folder")
            folders.append(Path(value))
        elif word.startswith("-"):
            raise InputError(f"{word}: no such flag; settings are written key=value, without dashes; see --help")
        else:
            words.append(word)
    return words, tuple(folders)


def _run_of(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The run, which is the word without "=" or a folder, and all other words."""
    runs = [word for word in words if "=" not in word or (is_folder(word) and not word.startswith(SEVERAL))]
    if len(runs) > 1:
        raise InputError(f"{runs[1]}: one run at a time, and {runs[0]} is one; settings are written key=value")
    if runs and not is_folder(runs[0]):
        near = command_line.nearest(runs[0], [*SEVERAL, *_OWN, *_PLAIN])
        raise InputError(f"{runs[0]}: no such folder{near}; give the folder of a finished run, or key=value")
    return (Path(runs[0]) if runs else None), [word for word in words if word not in runs]


def _options(group: str, value: str, folders: tuple[Path, ...]) -> list[str]:
    names = [name.strip() for name in value.strip("[]").split(",")]
    known = sorted(command_line.options(group, folders))
    for name in names:
        if name not in known:
            near = command_line.nearest(name, known)
            raise InputError(f"{group}={name}: no such option{near}; known: {', '.join(known)}")
    return list(dict.fromkeys(names))


def _seeds(value: str) -> tuple[int, ...]:
    """Several numbers: `0`, `0,1,2`, `range(500)` or `range(5,10)`."""
    text = value.strip("'\"[] ")
    ranged = re.fullmatch(r"range\(\s*(\d{1,9})\s*(?:,\s*(\d{1,9})\s*)?\)", text)
    if ranged:
        start, stop = (0, int(ranged[1])) if ranged[2] is None else (int(ranged[1]), int(ranged[2]))
        seeds: Sequence[int] = range(start, stop)
    elif re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)*", text):
        seeds = [int(word) for word in text.split(",")]
    else:
        raise InputError(f"seed={value}: needs whole numbers, such as seed=0, seed=0,1,2 or 'seed=range(500)'")
    if not 0 < len(seeds) <= _MOST_SEEDS or len(set(seeds)) < len(seeds):
        raise InputError(f"seed={value}: needs 1 to {_MOST_SEEDS:,} different seeds")
    return tuple(seeds)


def _output(value: str) -> Path:
    text = value.strip("'\"")
    if not text:
        raise InputError("output=: needs a folder")
    return Path(text)


def _composed(
    options: Mapping[str, Sequence[str]], words: Sequence[str], folders: tuple[Path, ...]
) -> Mapping[str, Any]:
    groups = [f"+{group}@{group}.{name}={name}" for group in SEVERAL for name in options[group]]
    settings: list[str] = []
    for word in words:
        settings += _addressed(command_line.readable(word), options, folders)
        _check_name(settings[-1])
    try:
        with initialize_config_module("supernet.conf", version_base="1.3"):
            composed = compose("explore", overrides=[*groups, *settings, *search_path(folders)])
            made = {"space": None, **plain(composed)}
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(command_line.told(error)) from None
    if not isinstance(made["objectives"], list):
        raise InputError(f"objectives={made['objectives']}: needs a list, such as objectives=[accuracy,-parameters]")
    return made


def _check_name(word: str) -> None:
    """Refuses a limit, a cost or a budget of another name, and one value for all of them."""
    key = word.lstrip("+~").partition("=")[0]
    root, dot, rest = key.partition(".")
    if root not in _NAMED:
        return
    known = command_line.settings_of("explore")[root]
    command_line.check_mapping(word, key, None if dot else known)
    if dot and not word.startswith("+") and rest.split(".")[0] not in known:
        own = "" if root == "budget" else f"; +{key}=... is for a cost of your own"
        raise InputError(f"{word}: no such setting; known: {', '.join(f'{root}.{name}' for name in known)}{own}")


def _addressed(word: str, options: Mapping[str, Sequence[str]], folders: tuple[Path, ...]) -> list[str]:
    """A setting of an explorer, score or discretiser under the name of each that has it; other words as they are."""
    key, equals, value = word.partition("=")
    plus = key[: len(key) - len(key.lstrip("+"))]
    group, _, rest = key.lstrip("+").partition(".")
    if group not in SEVERAL:
        return [word]
    first = rest.split(".")[0]
    if first in options[group]:
        return [word]
    trees = {name: command_line.options(group, folders)[name] for name in options[group]}
    having = [name for name, tree in trees.items() if command_line.has(tree, rest)]
    if not having:
        known = sorted({f"{group}.{n}.{k}" for n, tree in trees.items() for k in tree or () if not k.startswith("_")})
        near = command_line.nearest(key, known)
        of = f"{group}={','.join(options[group])}" if options[group] else f"{group}=..."
        raise InputError(f"{word}: {of} has no {rest}{near}; known: {', '.join(known) or 'none'}")
    return [f"{plus}{group}.{name}.{rest}{equals}{value}" for name in having]
