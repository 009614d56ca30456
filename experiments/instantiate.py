"""Makes objects from the composed configuration; types are checked against the constructors' signatures.

A yaml names a class or function (`_target_`) and its arguments. Before anything is made, each argument is held
against the annotation of the parameter it is for, so that a mistake is one line with its full key, for our own
classes and for anybody's.

The library does not know the yaml: its messages name the parameters of its own classes and functions (`epochs=0: needs
at least 1`). Where the job calls a part of it, `named` puts the key of the part before the message
(`search.epochs=0: needs at least 1`). What a yaml makes with `_partial_` does so by itself whenever it is called.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from hydra.utils import instantiate

from supernet.runtime.errors import InputError

from .conversion import convert

_RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_")
_PARAMETER = re.compile(r"(\w+)(\[\d+\]|\.[\w/]+)*[=:]")  # "epochs=0: ...", "costs.none=-1: ...", "path: ..."
UNFIT = (InputError, TypeError, ValueError)  # how a class says that it cannot be made of what it was given


class NamedError(InputError):
    """A mistake whose message says the full key already."""


@contextmanager
def named(
    parts: Mapping[str, Any], kinds: tuple[type[Exception], ...] = (InputError,), *, way_out: str = ""
) -> Iterator[None]:
    """Within it the job calls `parts` of it, and what they find wrong reaches the person with its full key.

    A message that begins with a parameter of a part continues the key of that part. Any other message is put after the
    last key and a colon. A message that has its key already keeps it.

    Args:
        parts: by their keys: classes, functions, or objects made of them; None where the key says all. What stands at
            an empty key calls its parameters as the person does, and a message that names no parameter stays as it is.
        kinds: the errors that are mistakes of the person; `UNFIT` where something is made. Others pass as they are.
        way_out: what a person at the command line can do, put after the message.

    Raises:
        NamedError: in place of an error of these kinds.

    Example:
        >>> from supernet.runtime.errors import InputError
        >>> from supernet.training.schedules import Cosine
        >>> try:
        ...     with named({"search.schedule": Cosine}):
        ...         Cosine(-1.0)
        ... except InputError as error:
        ...     print(error)
        search.schedule.start=-1.0: needs to be positive and finite, such as 0.025
    """
    try:
        yield
    except NamedError:
        raise
    except kinds as error:
        key = _key_of(str(error), parts)
        if key is None:
            raise
        raise NamedError(f"{key}{error}{way_out}") from error


def _key_of(message: str, parts: Mapping[str, Any]) -> str | None:
    """Returns the key to write before a message: that of the part whose parameter it begins with, or the last key."""
    begins = _PARAMETER.match(message)
    for key, part in parts.items():
        if begins and begins[1] in _parameters(part):
            return f"{key}." if key else ""
    return None if "" in parts else f"{list(parts)[-1]}: "


def _parameters(part: Any) -> Collection[str]:
    """The names of what a class or function takes; of an object: its class."""
    if isinstance(part, partial):
        part = part.func
    try:
        return inspect.signature(part if inspect.isclass(part) or inspect.isroutine(part) else type(part)).parameters
    except (ValueError, TypeError):
        return ()


class NamedPartial(partial[Any]):
    """What a yaml makes with `_partial_`: its later calls put its key before what they find wrong.

    A class is made by such a call, and all that it does not take is a mistake of the person. A function may fail for
    other reasons: of it only what it says itself is one.
    """

    key: str

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        with named({self.key: self}, UNFIT if inspect.isclass(self.func) else (InputError,)):
            return super().__call__(*args, **keywords)


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
    if whole:
        with named({key: target}, UNFIT):
            return target(**arguments)
    later = NamedPartial(target, **arguments)
    later.key = key
    return later


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
