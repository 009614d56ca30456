"""From composed configuration to objects: types are checked against the constructors' own signatures.

A yaml names a class or function (`_target_`) and its arguments. Before anything is made, each argument is held
against the annotation of the parameter it is for, so that a mistake is one line with its full key, for our own
classes and for anybody's.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from supernet.runtime.errors import InputError
from supernet.runtime.limits import INFINITE


@dataclass
class Baseline:
    """What the found cell is compared with."""

    random: int = 1


@dataclass
class Runtime:
    """Where and how the job runs."""

    device: str = "auto"
    engine: str = "fused"
    checkpoint_cells: bool = False
    threads: int | None = None
    deterministic: bool = True
    precision: str = "float32"
    graphs: bool = False
    save_seconds: float = 60.0
    progress: bool = True


@dataclass
class Config:
    """The root of the configuration. Groups whose options are classes of their own are typed by those classes."""

    name: str = MISSING
    seed: int = 0
    genotype: str | None = None
    retrain_valid: float = 0.1
    baseline: dict[str, Any] = field(default_factory=dict)  # a Baseline and
    runtime: dict[str, Any] = field(default_factory=dict)  # a Runtime: `checked` is stricter than OmegaConf's types
    operations: dict[str, Any] = field(default_factory=dict)
    data: Any = MISSING
    space: Any = MISSING
    chooser: Any = MISSING
    strategy: Any = MISSING
    relaxation: Any = MISSING
    inputs: Any = None
    architect: Any = MISSING
    optimizer: Any = MISSING
    objective: Any = field(default_factory=dict)
    discretiser: Any = MISSING
    search: Any = MISSING
    doctor: Any = MISSING
    retrain: Any = MISSING
    table: Any = None
    stages: list[Any] = field(default_factory=list)


ConfigStore.instance().store(group="schema", name="config", node=Config)

GROUPS = (
    "experiment",
    "method",
    "protocol",
    "candidates",
    "runtime",
    *(f.name for f in fields(Config) if f.type == "Any"),
)

_SEVERAL = ("objective", "experiment")  # groups of which more than one option can be taken


def check_options(words: Sequence[str]) -> None:
    """Raises InputError where a group of the command line is given what names no option; Hydra shows a traceback."""
    for word in words:
        group, _, value = word.lstrip("+").partition("=")
        if group not in GROUPS:
            continue
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException:
            continue  # Hydra says so in its own words
        asked = override.value()
        if override.is_sweep_override() or (asked is None and group == "method"):
            continue
        if not isinstance(asked, str | list) or (isinstance(asked, list) and group not in _SEVERAL):
            raise InputError(f"{group}={value}: needs the name of an option; supernet --help shows them")
        known = _options(group, words)
        if unknown := [name for name in (asked if isinstance(asked, list) else [asked]) if name not in known]:
            raise InputError(f"{group}={unknown[0]}: no such option; known: {', '.join(known)}")


def _options(group: str, words: Sequence[str]) -> list[str]:
    """The options of a group: the package's, and those of a folder given with --config-dir."""
    places: list[Path | Traversable] = [files("supernet.conf")]
    for number, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            places.append(Path(value or "".join(words[number + 1 : number + 2])))
    folders = [folder for place in places if (folder := place.joinpath(group)).is_dir()]
    return sorted({path.name[:-5] for folder in folders for path in folder.iterdir() if path.name.endswith(".yaml")})


_OPTIONAL = ("inputs", "table", "retrain")  # groups that may be null


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with the values of `runtime` and `baseline` as their annotations want them.

    Raises InputError where a setting is of another kind or out of its range, or says what another one forbids.
    """
    settings = {**settings, **{name: _arguments(kind, settings[name], name, True) for name, kind in _PLAIN.items()}}
    for group in ("data", "space", "chooser", "strategy", "search", "doctor", *_OPTIONAL):
        node = settings[group]
        if not isinstance(node, dict) and not (node is None and group in _OPTIONAL):
            raise InputError(f"{group}={node}: needs an object; {group}=NAME takes one of supernet --help")
    if not 0 <= settings["retrain_valid"] < 1:
        raise InputError(f"retrain_valid={settings['retrain_valid']}: needs a share below 1, such as 0.1, or 0")
    if settings["baseline"]["random"] < 0:
        raise InputError(f"baseline.random={settings['baseline']['random']}: needs 0 or more random cells")
    name = settings["name"]
    if not name or not name.isprintable() or ".." in Path(name).parts or Path(name).is_absolute():
        raise InputError(f"name={name}: runs lie in runs/NAME; use letters and digits")
    if settings["genotype"] == "":
        raise InputError("genotype=: an empty text; give the name of a cell, or null for a search")
    if settings["retrain"] is not None and "_target_" not in settings["retrain"]:
        raise InputError("retrain: has settings and no recipe; leave out retrain=none or what sets retrain.*")
    if settings["retrain"] is None and settings["genotype"]:
        raise InputError(f"retrain=none: with genotype={settings['genotype']} nothing is left to do; leave out one")
    return settings


_PLAIN: dict[str, Callable[..., Any]] = {"baseline": Baseline, "runtime": Runtime}
_RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_")


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, interpolations resolved. Raises InputError where that cannot be."""
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from None
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def build(node: Any, key: str) -> Any:
    """Makes what a node describes, and what its children do. Raises InputError with the full key of what is wrong."""
    if isinstance(node, list):
        return [build(item, f"{key}[{number}]") for number, item in enumerate(node)]
    if node == "???":
        raise InputError(f"{key}: needs a value; give one with {key}=...")
    if not isinstance(node, dict):
        return node
    children = {name: build(value, f"{key}.{name}") for name, value in node.items() if name not in _RESERVED}
    if "_target_" not in node:
        return children
    whole = not _convert_scalar(node.get("_partial_", False), bool, f"{key}._partial_")
    target = _locate(str(node["_target_"]), key)
    arguments = _arguments(target, children, key, whole)
    try:
        return target(**arguments) if whole else partial(target, **arguments)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{key}: {error}") from error


def _locate(name: str, key: str) -> Callable[..., Any]:
    """The object a `_target_` names, found by Hydra, with the checks that Hydra makes."""
    try:
        deferred = instantiate({"_target_": name, "_partial_": True})
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"{key}._target_={name}: cannot be used ({reason})") from None
    function: Callable[..., Any] = deferred.func
    return function


def _arguments(target: Callable[..., Any], given: Mapping[str, Any], key: str, whole: bool) -> dict[str, Any]:
    """`given`, each converted to what the target's signature says."""
    try:
        signature = inspect.signature(target)
    except (ValueError, TypeError):
        name = getattr(target, "__qualname__", target)
        raise InputError(f"{key}._target_: {name} does not say which settings it takes; name another one") from None
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    taken = {n: p for n, p in signature.parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name in given:
        if name not in taken and not open_ended:
            raise InputError(f"{key}.{name}: unknown setting; known: {', '.join(taken) or 'none'}")
    if whole:
        for name, parameter in taken.items():
            if parameter.default is parameter.empty and name not in given:
                raise InputError(f"{key}.{name}: needs a value; give one with +{key}.{name}=...")
    hints = _hints(target)

    def free(name: str) -> bool:
        """Whether null stands for the parameter's own default, whatever its annotation says."""
        return given[name] is None and name in taken and taken[name].default is None

    wanted = {name: Any if free(name) else hints.get(name, Any) for name in given}
    return {name: convert(value, wanted[name], f"{key}.{name}") for name, value in given.items()}


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target  # type: ignore[misc]
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}  # nothing to check against


_ENDLESS = ("inf", ".inf")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def convert(value: Any, hint: Any, key: str) -> Any:
    """`value` as the annotation `hint` wants it: numbers, truth, text, None, literals, tuples and sequences of them.

    Other annotations take what comes. Raises InputError with the key, the value and what is allowed.
    """
    if hint is Any:
        return value
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        endless = INFINITE in inner and value in (*_ENDLESS, math.inf)
        return math.inf if endless else convert(value, inner[0], key)
    if origin in (Union, types.UnionType):
        return _convert_union(value, inner, key)
    if origin is Literal:
        if value not in inner:
            raise InputError(f"{key}={value}: use one of {', '.join(map(str, inner))}")
        return value
    if origin in (tuple, list, Sequence) and (inner or not isinstance(value, list)):
        return _convert_list(value, origin, inner, key)
    if origin in (dict, Mapping) and isinstance(value, dict) and len(inner) == 2:
        return {name: convert(item, inner[1], f"{key}.{name}") for name, item in value.items()}
    if hint in _WORDS:
        return _convert_scalar(value, hint, key)
    return _convert_object(value, origin or hint, key)


def _convert_list(value: Any, origin: Any, inner: tuple[Any, ...], key: str) -> list[Any] | tuple[Any, ...]:
    """A list of as many items as there are annotations, or of any number of one kind."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{key}={value}: needs a list, such as [a,b]")
    fixed = origin is tuple and Ellipsis not in inner
    if fixed and len(value) != len(inner):
        raise InputError(f"{key}={value}: needs a list of {len(inner)}")
    kinds = inner if fixed else inner[:1] * len(value)
    items = [convert(item, kind, f"{key}[{n}]") for n, (item, kind) in enumerate(zip(value, kinds, strict=True))]
    if "" in items:
        raise InputError(f"{key}={value}: an empty text in it; leave it out or give it a name")
    return items if origin is list else tuple(items)


def _convert_object(value: Any, wanted: Any, key: str) -> Any:
    """What no text, number, list or mapping of a yaml can stand for."""
    if type(value) in _WORDS and wanted in (tuple, list):
        raise InputError(f"{key}={value}: needs a list, such as [a,b]")
    if wanted in (dict, Mapping) and not isinstance(value, Mapping):
        raise InputError(f"{key}={value}: needs names and values, such as {{name: 1}}")
    if isinstance(value, list) and wanted in (tuple, set, frozenset):
        return wanted(value)
    if type(value) in (*_WORDS, list, dict, type(None)) and inspect.isclass(wanted) and not _is_a(value, wanted):
        raise InputError(f"{key}={value}: needs an object, such as {{_target_: package.{wanted.__name__}}}")
    return value


def _is_a(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be asked: no number or text is one
        return False


def _convert_union(value: Any, options: tuple[Any, ...], key: str) -> Any:
    if value is None and type(None) in options:
        return None
    problems = []
    checked = [option for option in options if option in _WORDS or typing.get_origin(option) is not None]
    scalar = isinstance(value, str | int | float)  # no other class can be written in a yaml
    if value in (*_ENDLESS, math.inf) and any(INFINITE in typing.get_args(option) for option in options):
        return math.inf
    for option in checked if scalar and checked else options:
        if option is type(None):
            continue
        try:
            return convert(value, option, key)
        except InputError as error:
            problems.append(error)
    raise problems[0]


def _convert_scalar(value: Any, kind: type, key: str) -> Any:
    fits = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
    if fits or (kind is float and isinstance(value, int) and not isinstance(value, bool)):
        return _finite(kind(_finite(value, key)), key)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(_finite(value, key))  # a class called 7, a folder called 2026
    raise InputError(f"{key}={value}: needs {_WORDS[kind]}")


def _finite(value: Any, key: str) -> Any:
    """Text and truth as they are; of numbers those that a network can be given."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{key}={value}: needs a finite number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise InputError(f"{key}={value}: needs a whole number below 2^63")
    return value
