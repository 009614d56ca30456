"""Checks the words of the command line before Hydra reads them: flags, unknown names, values that need quotes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder, why_no_file

from .recorded_words import parse
from .schema import GROUPS, Config

# Hydra's flags: those with a value, those without, and those after which our names are not the ones that count.
_FOLDER = ("--config-dir", "-cd")
_ELSEWHERE = ("--shell-completion", "-sc", "--hydra-help", "--config-path", "-cp", "--config-name", "-cn")
_TAKES = (*_FOLDER, *_ELSEWHERE[3:], "--cfg", "-c", "--package", "-p", "--experimental-rerun", "--info", "-i")
_BARE = (*_ELSEWHERE[:3], "--help", "-h", "--version", "--resolve", "--run", "-r", "--multirun", "-m")
_ONE_OF = (("--run", "-r"), ("--multirun", "-m"), ("--cfg", "-c"), ("--info", "-i"), ("--shell-completion", "-sc"))
_DIRECTORIES = ("hydra.run.dir", "hydra.sweep.dir")
AS_THEY_ARE = (
    *("data.path", "data.root", "data.source", "data.groups", "data.train", "data.valid"),
    *("data.test", "table.path", "init.path", "genotype", "name"),
    *_DIRECTORIES,
)
_FOREIGN = re.compile(r"[^,\[\]{}:'\"()]*[^\x00-\x7f,\[\]{}:'\"()][^,\[\]{}:'\"()]*")  # between brackets and commas
LAPTOP = "experiment=laptop"
_NO_SUCH = re.compile(r"Could not override '([^']+)'\.: Key '([^']*)' (?:is )?not in ")
_SETTINGS = {f.name for f in fields(Config)}
LAUNCHER = "hydra/launcher"
_NO_LAUNCHER = re.compile(f"In '[^']*': Could not find '{LAUNCHER}/([^']*)'")
_PLUGINS = {  # what runs a sweep's jobs -> the name of Hydra's plugin for it, and its package
    "processes": ("joblib", "hydra_joblib_launcher"),
    "slurm": ("submitit_slurm", "hydra_submitit_launcher"),
    "slurm_local": ("submitit_local", "hydra_submitit_launcher"),
}
_SEVERAL = ("objective", "experiment")  # groups of which more than one option can be taken
_FOLLOWED = ("space", "optimizer", "method", "candidates", "protocol")  # those that conf/config.yaml refers to


def prepared(given: Sequence[str]) -> list[str]:
    """Returns the words so that Hydra can read them. Raises InputError at an unknown flag or name, with the nearest."""
    if list(given) in (["help"], ["--help"], ["-h"]):
        return ["--help"]
    _check_together(given)
    plain, made, folders = [], [], []
    sweeping = any(word in ("-m", "--multirun") for word in given)
    words = iter(given)
    for word in words:
        if word.startswith("-"):
            _check_flag(word)
            made.append(word)
            flag, equals, value = word.partition("=")
            if flag in _TAKES and not equals and (value := next(words, "")):
                made.append(value)
            if flag in _FOLDER:
                if not is_folder(value):
                    raise InputError(f"{flag} {value}: no such folder")
                folders.append(Path(value))
        else:
            if word.lstrip("+~").startswith("hydra/"):
                _check_hydras_group(word)
            word = _launcher_named(word) if word.startswith(f"{LAUNCHER}=") else word
            meant = [word] if word.startswith("resume=") else _model_named(word, sweeping, tuple(folders))
            plain += [each if each.startswith("resume=") else readable(each, sweeping) for each in meant]
            made += plain[len(plain) - len(meant) :]
    if not sweeping and not any(word.startswith("resume=") for word in plain):
        _refuse_sweep(plain)
    if _wants_laptop(plain):
        made.append(LAPTOP)
        plain.append(LAPTOP)
    resumed = any(word.startswith("resume=") for word in plain)  # of another run's settings: `resume` checks them
    elsewhere = any(word.partition("=")[0] in _ELSEWHERE for word in made) or "hydra.searchpath" in " ".join(plain)
    if not resumed and not elsewhere:
        check_names(plain, tuple(folders))
    return made


def _check_together(words: Sequence[str]) -> None:
    """Refuses flags of which Hydra does one thing or the other."""
    flags = {word.partition("=")[0] for word in words if word.startswith("-")}
    asked = [next(flag for flag in names if flag in flags) for names in _ONE_OF if flags & {*names}]
    if len(asked) > 1:
        raise InputError(f"{asked[0]} and {asked[1]}: only one of them at a time")


def _check_hydras_group(word: str) -> None:
    """Refuses a group of Hydra's own without the name of an option."""
    override = parse(word)
    if override is None or word.startswith("~") or override.is_sweep_override():
        return  # Hydra says so in its own words
    if not isinstance(override.value(), str | list):
        raise InputError(f"{word}: needs the name of an option")


def _launcher_named(word: str) -> str:
    """The word for a launcher by our own name, also where that of the plugin is given.

    Raises:
        InputError: the plugin is not installed.
    """
    name = word.partition("=")[2]
    for own, (plugin, package) in _PLUGINS.items():
        if name in (own, plugin):
            if find_spec(f"hydra_plugins.{package}") is None:
                raise InputError(f'{word}: its plugin is not installed; pip install "supernet[cluster]" brings it')
            return f"{LAUNCHER}={own}"
    return word


def _model_named(word: str, sweeping: bool, folders: tuple[Path, ...]) -> list[str]:
    """The words that a word means: init=RUN is the option of a model, with its path."""
    key, _, value = word.partition("=")
    known = (*options("init", folders), "null", "") if key == "init" else ()
    names = [name.strip() for name in value.split(",")] if sweeping else [value]
    if key != "init" or set(names) <= set(known):
        return [word]
    if both := sorted({*names} & {*known}):
        raise InputError(f"{word}: {both[0]} beside models cannot be one sweep; run it by itself")
    return ["init=model", f"init.path={value}"]


def _wants_laptop(words: Sequence[str]) -> bool:
    """Whether images are chosen and no experiment: the default's network, of one small cell, is made for the digits."""
    keys = [word.lstrip("+").partition("=")[0] for word in words]
    chosen = [word.partition("=")[2] for word in words if word.startswith("data=")]
    return bool(chosen) and chosen[-1] != "digits" and not {"experiment", "space", "resume"} & set(keys)


def only_looks(words: Sequence[str]) -> bool:
    """Whether nothing is run: help or settings are shown."""
    return any(word.split("=")[0] in ("--cfg", "-c", "--info", "-i", "--help", "-h", *_ELSEWHERE[:3]) for word in words)


def readable(word: str, sweeping: bool = False) -> str:
    """Returns a word so that Hydra can read it: values that its grammar would refuse are quoted.

    Paths, genotypes and names (`AS_THEY_ARE`) are taken letter by letter. In a sweep their commas part several values,
    unless the whole is a file that is there; quotes around a value keep it together, too.

    Raises:
        InputError: it is no setting at all, or has brackets or quotes that do not close.
    """
    key, equals, value = word.partition("=")
    if not equals and not key.startswith("~"):
        near = nearest(key, [*_SETTINGS, *GROUPS, "help"])
        raise InputError(f"{word}: settings are written key=value{near}; supernet --help shows them")
    override = parse(word)
    if key.lstrip("+") in AS_THEY_ARE:
        if override is None or not _as_it_stands(override, value, sweeping):
            return _quoted(key, value, word)
    elif override is None:
        foreign = _FOREIGN.sub(lambda match: _quotes(match[0].strip()), value)
        if parse(f"{key}={foreign}") is not None:
            return f"{key}={foreign}"
        return _quoted(key, value, word) if value[:1] not in tuple("[{'\"") else _refuse(word)
    return word


def _refuse_sweep(words: Sequence[str]) -> None:
    for word in words:
        if (override := parse(word)) is not None and override.is_sweep_override():
            example = f"{override.key_or_group}=[...]"
            raise InputError(f"{word}: several values are a sweep, which needs -m; one list has brackets: '{example}'")


def told(error: HydraException | OmegaConfBaseException) -> str:
    """Makes one line of an error of Hydra or OmegaConf: the first line of the error, and that of its cause.

    A setting of a group that has none as it is chosen, such as retrain.epochs beside retrain=none, has a line of its
    own, with the options that do have it.
    """
    lines = [str(each).strip().partition("\n")[0] for each in (error, error.__cause__) if each is not None]
    line = ": ".join(dict.fromkeys(lines))
    if launcher := _NO_LAUNCHER.match(line):
        return f"{LAUNCHER}={launcher[1]}: no such option; known: basic, {', '.join(_PLUGINS)}"
    unknown = _NO_SUCH.match(line)
    if unknown is None:
        return line
    key, missing = unknown.groups()
    return _without(key if missing in key.split(".") else f"{key}.{missing}")  # the second: of a value {missing: ...}


def _without(key: str) -> str:
    group, _, rest = key.partition(".")
    trees = options(group, ()) if group in GROUPS else {}
    have = [option for option, tree in trees.items() if option != "none" and has(tree, rest)]
    if not have:
        return f"{key}: no such setting; supernet --cfg job shows them"
    choices = f"{group}=RUN" if group == "init" else f"{group}=" + f" or {group}=".join(have)
    return f"{key}: there is none, as {group} is chosen; add {choices}, or leave it out"


def check_options(words: Sequence[str], folders: Sequence[Path] = ()) -> None:
    """Raises InputError where a word names no option of its group; Hydra would show a traceback or several lines.

    `folders`: those given with --config-dir, whose options count, too.
    """
    for word in words:
        group, _, value = word.lstrip("+~").partition("=")
        if group not in GROUPS:
            continue
        if word.startswith("~") and group in _FOLLOWED:
            instead = "method=null" if group == "method" else f"{group}=NAME"
            raise InputError(f"{word}: other settings follow from it; use {instead}")
        override = None if word.startswith("~") else parse(word)
        if override is None:
            continue  # Hydra says so in its own words
        asked = override.value()
        if override.is_sweep_override() or (asked is None and group == "method"):
            continue
        if not isinstance(asked, str | list) or (isinstance(asked, list) and group not in _SEVERAL):
            raise InputError(f"{group}={value}: needs the name of an option; supernet --help shows them")
        known = sorted(options(group, tuple(folders)))
        if unknown := [name for name in (asked if isinstance(asked, list) else [asked]) if name not in known]:
            raise InputError(f"{group}={unknown[0]}: no such option; known: {', '.join(known)}")


def _as_it_stands(override: Override, value: str, sweeping: bool) -> bool:
    """Whether Hydra reads this value as it is written, or as a person means it who has quoted it."""
    if override.is_sweep_override():
        return sweeping and why_no_file(value) == "no such file"
    got = override.value()
    quoted = isinstance(override._value, QuotedString) and value[:1] in "'\""
    return quoted or got == value or got is None


def _quoted(key: str, value: str, word: str) -> str:
    made = f"{key}={_quotes(value)}"
    again = parse(made)
    return made if again is not None and again.value() == value else _refuse(word)


def _quotes(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


def _refuse(word: str) -> str:
    key = word.partition("=")[0]
    if parse(f"{key}=0") is None:
        raise InputError(f"{word}: {key!r} is no name of a setting; settings are written key=value")
    raise InputError(
        f"{word}: cannot be read; brackets and quotes need to close, and a text with such characters needs quotes "
        f"that reach the program: '{key}=\"...\"'"
    )


def _check_flag(word: str) -> None:
    flag, _, value = word.partition("=")
    known = (*_TAKES, *_BARE)
    if any(name.startswith(flag) if flag.startswith("--") else flag.startswith(name) for name in known):
        return
    name = flag.lstrip("-")
    if name in _SETTINGS or name in GROUPS or "." in name:
        raise InputError(f"{word}: settings have no dashes; write {name}={value or '...'}")
    raise InputError(
        f"{word}: no such flag{nearest(flag, [n for n in known if n.startswith('--')])}; settings are "
        "written key=value, without dashes"
    )


def check_names(words: Sequence[str], folders: tuple[Path, ...]) -> None:
    """Raises InputError where a word names no setting, or gives one value to settings that have names of their own.

    `folders`: those given with --config-dir.
    """
    composed: Mapping[str, Any] | None = None
    for word in words:
        name = word.partition("=")[0]
        key = name.lstrip("+~")
        parts = re.split("[./@]", key)
        if parts[0] in ("hydra", "schema", "") or any((folder / parts[0]).is_dir() for folder in folders):
            continue
        if parts[0] not in _SETTINGS and parts[0] not in GROUPS:
            raise InputError(f"{word}: no such setting{nearest(key, _every_name(folders))}; supernet --help shows them")
        if parts[0] not in _SETTINGS and key.startswith(f"{parts[0]}."):
            sets = f"supernet --cfg job shows those that {parts[0]}=NAME sets"
            raise InputError(f"{word}: {parts[0]} has no settings of its own; {sets}")
        if key not in GROUPS:
            check_mapping(word, key, settings_of("config").get(key))
        if name.startswith("+") or "." not in key or parts[0] == "operations" or _surely(key, words, folders):
            continue
        composed = composed or _composed(words, folders)
        _check_key(word, key, composed, folders)


@cache
def settings_of(name: str) -> dict[str, Any]:
    """What a yaml file of the package says by itself, such as conf/explore.yaml."""
    known = yaml.safe_load(files("supernet.conf").joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(known, dict)
    return known


def check_mapping(word: str, key: str, known: Any) -> None:
    """Raises InputError where a word gives one value to settings that have names. `known`: what stands at its key."""
    override = parse(word)
    if not isinstance(known, dict) or override is None or word.startswith("~") or override.is_sweep_override():
        return
    if not isinstance(override.value(), dict):
        names = f"such as {' or '.join(f'{key}.{name}' for name in list(known)[:2])}" if known else f"as {key}.NAME=..."
        raise InputError(f"{word}: has settings with names, and no value of its own; give one of those, {names}")


def _check_key(word: str, key: str, composed: Mapping[str, Any], folders: tuple[Path, ...]) -> None:
    node: Any = composed.get("settings")
    for part in key.split("."):
        if not isinstance(node, Mapping):
            return  # a list, or what another setting says: Hydra knows more about it
        if part not in node:
            break
        node = node[part]
    else:
        return
    group, _, rest = key.partition(".")
    have = [option for option, tree in options(group, folders).items() if has(tree, rest)]
    if have:
        chosen, choices = composed["choices"].get(group), f" or {group}=".join(have)
        raise InputError(f"{word}: {group}={chosen} has no {rest}; add {group}={choices}")
    names = [name for name in _dotted(composed["settings"]) if "_target_" not in name]
    raise InputError(f"{word}: no such setting{nearest(key, names)}; supernet --cfg job shows them")


def _composed(words: Sequence[str], folders: tuple[Path, ...]) -> dict[str, Any]:
    """The settings that the options of `words` make; empty where Hydra will complain of them itself."""
    chosen = [word for word in words if re.split("[=@]", word.lstrip("+~"))[0] in GROUPS]
    search = ",".join(_quotes(f"file://{folder.absolute()}") for folder in folders)
    try:
        with initialize_config_module("supernet.conf", version_base="1.3"):
            more = [f"hydra.searchpath=[{search}]"] if folders else []
            made = compose("config", overrides=[*chosen, *more], return_hydra_config=True)
            choices = dict(made.hydra.runtime.choices)
            settings = OmegaConf.to_container(made, resolve=False)
    except Exception:  # whatever is wrong there, Hydra says it in a moment
        return {"settings": None, "choices": {}}
    return {"settings": settings, "choices": choices}


def _surely(key: str, words: Sequence[str], folders: tuple[Path, ...]) -> bool:
    """Whether a key exists for every choice of options, so that the settings need not be composed to find out."""
    group, _, rest = key.partition(".")
    known = options(group, folders)
    asked = [word.partition("=")[2] for word in words if word.startswith(f"{group}=")]
    trees = [known.get(asked[-1], {})] if asked else [tree for option, tree in known.items() if option != "none"]
    return bool(trees) and all(has(tree, rest) for tree in trees)


@cache
def options(group: str, folders: tuple[Path, ...]) -> dict[str, Any]:
    """The options of a group, each with what its own file says."""
    places: list[Path | Traversable] = [files("supernet.conf"), *folders]
    found: dict[str, Any] = {}
    for folder in [place.joinpath(group) for place in places if place.joinpath(group).is_dir()]:
        for path in sorted(folder.iterdir(), key=lambda path: path.name):
            if path.name.endswith(".yaml"):
                try:
                    found[path.name[:-5]] = yaml.safe_load(path.read_text(encoding="utf-8"))
                except (yaml.YAMLError, UnicodeDecodeError):
                    found[path.name[:-5]] = None
    return found


def has(tree: Any, key: str) -> bool:
    """Whether nested settings have a key, such as "schedule.start"."""
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _dotted(node: Any, prefix: str = "") -> Iterator[str]:
    for name, value in node.items() if isinstance(node, Mapping) else ():
        yield f"{prefix}{name}"
        yield from _dotted(value, f"{prefix}{name}.")


def _every_name(folders: tuple[Path, ...]) -> list[str]:
    groups = [group for group in GROUPS if group in _SETTINGS]  # the others set what lies elsewhere
    names = {f"{g}.{name}" for g in groups for tree in options(g, folders).values() for name in _dotted(tree)}
    own = sorted((name for name in names if "_target_" not in name), key=lambda name: (name.count("."), name))
    return [*_SETTINGS, *GROUPS, *own]


def nearest(name: str, names: Sequence[str]) -> str:
    """The nearest of some names, in words; where `name` has no dots, by the last parts of dotted ones, too."""
    close = difflib.get_close_matches(name, names, 3)
    if "." not in name:
        last = {known.rpartition(".")[2] for known in names}
        match = difflib.get_close_matches(name, sorted(last), 1)
        if match and match[0] not in close:
            close = [*(known for known in names if known.rpartition(".")[2] == match[0]), *close]
    return f"; did you mean {', '.join(dict.fromkeys(close[:4]))}?" if close else ""
