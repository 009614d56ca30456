"""From composed configuration to objects: types are checked against the constructors' own signatures.

A yaml names a class or function (`_target_`) and its arguments. Before anything is made, each argument is held
against the annotation of the parameter it is for, so that a mistake is one line with its full key, for our own
classes and for anybody's.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hydra.utils import instantiate

from supernet.runtime.errors import InputError

from .conversion import convert

_RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_")


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
    arguments = checked_arguments(target, children, key, whole)
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


def checked_arguments(target: Callable[..., Any], given: Mapping[str, Any], key: str, whole: bool) -> dict[str, Any]:
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
