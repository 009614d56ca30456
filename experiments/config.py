"""From composed configuration to objects: types are checked against the constructors' own signatures.

A yaml names a class or function (`_target_`) and its arguments. Before anything is made, each argument is held
against the annotation of the parameter it is for, so that a mistake is one line with its full key, for our own
classes and for anybody's.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from supernet.runtime.errors import InputError

from .conversion import convert


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
    whole = not convert(node.get("_partial_", False), bool, f"{key}._partial_")
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
