"""Converts values from a yaml or a command line to the types that the parameters are annotated with."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union

from supernet.runtime.errors import InputError
from supernet.runtime.limits import INFINITE

_ENDLESS = ("inf", ".inf")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def leaves(node: Any, key: str = "", *, lists: bool = False) -> Iterator[tuple[str, Any]]:
    """The values of nested settings by their full names, in order.

    Args:
        node: mappings in mappings, as a yaml has them.
        key: what the names begin with.
        lists: whether lists are gone into, too; otherwise each is a value.

    Example:
        >>> dict(leaves({"search": {"epochs": 8, "betas": [0.5, 1]}}))
        {'search.epochs': 8, 'search.betas': [0.5, 1]}
        >>> dict(leaves({"betas": [0.5, 1]}, lists=True))
        {'betas.0': 0.5, 'betas.1': 1}
    """
    if isinstance(node, Mapping):
        items = [(str(name), value) for name, value in node.items()]
    elif isinstance(node, list) and lists:
        items = [(str(number), value) for number, value in enumerate(node)]
    else:
        yield key, node
        return
    for name, value in items:
        yield from leaves(value, f"{key}.{name}" if key else name, lists=lists)


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
    """Checks a value whose annotation is none of the plain kinds, such as a class; a yaml gives it by `_target_`."""
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
