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
from typing import Any, Literal, Union

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from supernet.runtime.errors import InputError


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
    baseline: Baseline = field(default_factory=Baseline)
    runtime: Runtime = field(default_factory=Runtime)
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
        if not isinstance(asked, str | list):
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


def check_values(settings: Mapping[str, Any]) -> None:
    """Raises InputError where a setting at the root is out of its range or says what another one forbids."""
    if not 0 <= settings["retrain_valid"] < 1:
        raise InputError(f"retrain_valid={settings['retrain_valid']}: needs a share below 1, such as 0.1, or 0")
    if settings["baseline"]["random"] < 0:
        raise InputError(f"baseline.random={settings['baseline']['random']}: needs 0 or more random cells")
    if settings["retrain"] is not None and "_target_" not in settings["retrain"]:
        raise InputError("retrain: has settings and no recipe; leave out retrain=none or what sets retrain.*")
    if settings["retrain"] is None and settings["genotype"]:
        raise InputError(f"retrain=none: with genotype={settings['genotype']} nothing is left to do; leave out one")


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
    whole = not node.get("_partial_", False)
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
    signature = inspect.signature(target)
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
    return {name: convert(value, hints.get(name, Any), f"{key}.{name}") for name, value in given.items()}


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target  # type: ignore[misc]
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}  # nothing to check against


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def convert(value: Any, hint: Any, key: str) -> Any:
    """`value` as the annotation `hint` wants it: numbers, truth, text, None, literals, tuples and sequences of them.

    Other annotations take what comes. Raises InputError with the key, the value and what is allowed.
    """
    if hint is Any:
        return value
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, inner, key)
    if origin is Literal:
        if value not in inner:
            raise InputError(f"{key}={value}: use one of {', '.join(map(str, inner))}")
        return value
    if origin in (tuple, list, Sequence) and (origin is not tuple or (len(inner) == 2 and inner[1] is Ellipsis)):
        if not isinstance(value, list | tuple):
            raise InputError(f"{key}={value}: needs a list, such as [a,b]")
        items = [convert(item, inner[0] if inner else Any, f"{key}[{number}]") for number, item in enumerate(value)]
        return items if origin is list else tuple(items)
    if origin in (dict, Mapping) and isinstance(value, dict) and len(inner) == 2:
        return {name: convert(item, inner[1], f"{key}.{name}") for name, item in value.items()}
    if hint in _WORDS:
        return _convert_scalar(value, hint, key)
    wanted = origin or hint
    if type(value) in _WORDS and wanted in (tuple, list):
        raise InputError(f"{key}={value}: needs a list, such as [a,b]")
    if type(value) in _WORDS and inspect.isclass(wanted) and not _is_a(value, wanted):
        raise InputError(f"{key}={value}: needs an object, such as {{_target_: package.{wanted.__name__}}}")
    return tuple(value) if isinstance(value, list) and hint is tuple else value


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
        return kind(value)
    if kind is float and value in ("inf", ".inf"):
        return math.inf
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # a class called 7, a folder called 2026
    raise InputError(f"{key}={value}: needs {_WORDS[kind]}")
