"""Reads Genotype(...) from the texts that people have: the line itself, a log of a search, a genotypes.py.

It knows the forms of these repositories: quark0/darts and its forks (flat pairs), khanrc/pt.darts and
D-X-Y/AutoDL-Projects (one list for each node; GDAS' connectN and connects), xiaomi-automl/FairDARTS (triples). Nothing
is run. The text is read by a grammar that knows only lists, names and numbers, so that neither its size nor its depth
can do harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from supernet.genotypes.literals import EXPECTED, read_call
from supernet.genotypes.literature import OriginalGenotype, Pairs
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.operations import OPERATIONS

_START = re.compile(r"(?<!\w)Genotype\s*\(")
_DEFINED = re.compile(r"\b(?:class|def)\s+$")
_ASSIGNED = re.compile(r"(\w+)\s*[=:]\s*(?:\w+\.)*$")
_ALIAS = re.compile(r"^(\w+)[ \t]*=[ \t]*(\w+)[ \t]*(?:#.*)?$", re.MULTILINE)
_LONGEST = 1 << 16  # characters of one Genotype(...): some thirty times what the largest published ones take
_MOST_NODES = 64
_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_IGNORED = ("connectN", "connects")  # GDAS': always None in its genotypes


@dataclass(frozen=True)
class Place:
    """Where a text has a Genotype(...).

    Args:
        name: the name that it is given there, or "".
        line: its line, from 1.
        at: the place of its first character, from 0.
    """

    name: str
    line: int
    at: int


def read_genotype(text: str, name: str | None = None) -> OriginalGenotype:
    """Reads the `Genotype(normal=[...], normal_concat=..., reduce=[...], reduce_concat=...)` in a text.

    The lists hold (operation, source) pairs, flat with two a node (the original) or one list a node (pt.darts);
    (operation, source, weight), whose weight is left out; or (operation, node, source) (FairDARTS). The cells are
    compared with their concat, because a lost pair would move all later ones to other nodes.

    Args:
        text: the genotype, with anything around it, such as a log. It is parsed, never run.
        name: which of several to take, where the text gives them names (a genotypes.py).

    Returns:
        The one of that name; without a name the only one, or the last of those that all have the same name (a log).

    Raises:
        InputError: there is none, the name is not there, a name is needed, or it is malformed, in one line.

    Example:
        >>> nodes = "('skip_connect', 0), ('sep_conv_3x3', 1)"
        >>> found = read_genotype(f"epoch 50 Genotype(normal=[{nodes}], reduce=[{nodes}])")
        >>> found.normal
        ((('skip_connect', 0), ('sep_conv_3x3', 1)),)
    """
    return read_at(text, find_place(text, name))


def find_place(text: str, name: str | None = None) -> Place:
    """Finds the Genotype(...) that `read_genotype` reads, so that a caller can name its line before it is read.

    Args:
        text: any text with a Genotype(...) in it, such as a log.
        name: which of several to take, where the text gives them names; an alias (`DARTS = DARTS_V2`) is followed.

    Returns:
        The place of the one of that name; without a name the only one, or the last of those that share one name.

    Raises:
        InputError: there is none, the name is not there, or a name is needed, in one line.

    Example:
        >>> find_place("epoch 1, best = Genotype(normal=[], reduce=[])")
        Place(name='best', line=1, at=16)
    """
    places = list(_places(text))
    if not places:
        raise InputError(f"genotype text: {EXPECTED}; there is no Genotype(...) in it")
    names = list(dict.fromkeys(place.name for place in places if place.name))
    if name is None:
        if len(names) > 1:
            shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
            raise InputError(
                f"genotype text: holds {quantity(len(names), 'genotype')}; name one as FILE:NAME; names: {shown}"
            )
        return places[-1]
    aliases = dict(_ALIAS.findall(text))
    wanted, seen = name, {name}
    while wanted not in names and wanted in aliases and aliases[wanted] not in seen:
        wanted = aliases[wanted]
        seen.add(wanted)
    if wanted not in names:
        shown = ", ".join(names[:40]) or "none has a name"
        raise InputError(f"genotype text: no genotype {name[:80]!r} in it; names: {shown}")
    return [place for place in places if place.name == wanted][-1]


def count_genotypes(text: str) -> int:
    """Counts the Genotype(...) of a text, so that a reader can say when it takes one of several.

    Args:
        text: any.

    Returns:
        How many there are. A class or function of that name is not counted.

    Example:
        >>> count_genotypes("class Genotype(tuple): ...; A = Genotype(normal=[], reduce=[])")
        1
    """
    return sum(1 for _ in _places(text))


def _places(text: str) -> Iterator[Place]:
    line, counted = 1, 0
    for match in _START.finditer(text):
        before = text[max(0, match.start() - 200) : match.start()]
        if _DEFINED.search(before):
            continue
        line += text.count("\n", counted, match.start())
        counted = match.start()
        assigned = _ASSIGNED.search(before)
        yield Place(assigned[1] if assigned else "", line, match.start())


def read_at(text: str, place: Place) -> OriginalGenotype:
    """Reads the Genotype(...) that begins at a place of a text, in any of the forms that `read_genotype` knows.

    Args:
        text: the whole text.
        place: where the Genotype(...) begins, as `find_place` found it.

    Returns:
        The genotype.

    Raises:
        InputError: the Genotype(...) is malformed, in one line.

    Example:
        >>> text = "A = Genotype(normal=[('none', 0), ('none', 1)], reduce=[('none', 0), ('none', 1)])"
        >>> read_at(text, find_place(text)).normal_concat
        (2,)
    """
    call = read_call(text[place.at : place.at + _LONGEST])
    fields: dict[str, Any] = {}
    if len(call.positional) > len(_FIELDS):
        raise InputError(f"genotype text: {quantity(len(call.positional), 'field')}; {EXPECTED}")
    for key, value in (*zip(_FIELDS, call.positional, strict=False), *call.named):
        if key in fields:
            raise InputError(f"genotype text: {key} is there twice")
        fields[key] = value
    if extra := [key for key in fields if key not in (*_FIELDS, *_IGNORED)]:
        raise InputError(f"genotype text: unknown field {extra[0][:80]!r}; known: {', '.join(_FIELDS)}")
    if used := [key for key in _IGNORED if fields.get(key) is not None]:
        raise InputError(f"genotype text: {used[0]} is not None; only cells without {', '.join(_IGNORED)} can be built")
    if missing := [key for key in ("normal", "reduce") if key not in fields]:
        raise InputError(f"genotype text: no {missing[0]!r}; {EXPECTED}")
    concats = {kind: _concat(f"{kind}_concat", fields.get(f"{kind}_concat")) for kind in ("normal", "reduce")}
    normal, reduce = (_nodes(kind, fields[kind], concats[kind]) for kind in ("normal", "reduce"))
    if len(normal) != len(reduce):
        raise InputError(
            f"genotype text: normal has {quantity(len(normal), 'node')}, reduce {len(reduce)}; they need as many"
        )
    every = tuple(range(2, 2 + len(normal)))
    return OriginalGenotype(normal, reduce, concats["normal"] or every, concats["reduce"] or every)


def _concat(field: str, value: Any) -> tuple[int, ...] | None:
    """The nodes whose states leave the cell, or None (all of them) where the text does not say."""
    if value is None:
        return None
    nodes = tuple(value) if isinstance(value, list | range) and len(value) <= _MOST_NODES else ()
    if not nodes or not all(type(node) is int and 2 <= node < 2 + _MOST_NODES for node in nodes):
        raise InputError(f"genotype text: {field} must list nodes, 2 the first and {_MOST_NODES + 1} the last possible")
    if len(set(nodes)) != len(nodes):
        raise InputError(f"genotype text: {field} names a node twice: {', '.join(map(str, nodes))}")
    return nodes


def _nodes(kind: str, value: Any, concat: Sequence[int] | None) -> tuple[Pairs, ...]:
    """The pairs of each node from one of the three forms, compared with the concat."""
    wrong = InputError(f"genotype text: {kind} must be a list of (operation, source) pairs")
    if not isinstance(value, list) or not value:
        raise wrong
    if _are_edges(value):
        nodes = _by_node(kind, value) if _names_nodes(value) else _by_twos(kind, _pairs(value), concat)
    elif all(_are_edges(node) and not _names_nodes(node) for node in value):
        nodes = [_pairs(node) for node in value]
    else:
        raise wrong
    if len(nodes) > _MOST_NODES:
        raise InputError(f"genotype text: {kind} has {quantity(len(nodes), 'node')}; at most {_MOST_NODES} are read")
    if concat is not None and max(concat) != len(nodes) + 1:
        raise InputError(
            f"genotype text: {kind} has {quantity(len(nodes), 'node')} (2 to {len(nodes) + 1}), but {kind}_concat ends "
            f"with node {max(concat)}; is an operation or a node lost?"
        )
    for number, node in enumerate(nodes, start=2):
        _check_node(kind, number, node)
    return tuple(nodes)


def _check_node(kind: str, number: int, node: Pairs) -> None:
    if not node:
        raise InputError(f"genotype text: node {number} of {kind} has no operation; each node needs one or more")
    for operation, source in node:
        if operation not in OPERATIONS:
            raise InputError(f"genotype text: operation {operation[:80]!r} is unknown; known: {', '.join(OPERATIONS)}")
        if not 0 <= source < number:
            raise InputError(
                f"genotype text: node {number} of {kind} reads state {source}; it can read 0 to {number - 1}"
            )


def _are_edges(items: Any) -> bool:
    """Whether all are (operation, source), all (operation, source, weight) or all (operation, node, source)."""
    return (
        isinstance(items, list)
        and bool(items)
        and all(isinstance(item, list) and len(item) in (2, 3) for item in items)
        and len({len(item) for item in items}) == 1
        and all(isinstance(item[0], str) and type(item[1]) is int for item in items)
        and all(type(item[2]) in (int, float) for item in items if len(item) == 3)
    )


def _names_nodes(edges: Sequence[Any]) -> bool:
    """Whether they are (operation, node, source): weights are not all whole numbers."""
    return all(len(edge) == 3 and type(edge[2]) is int for edge in edges)


def _pairs(edges: Sequence[Any]) -> Pairs:
    return tuple((str(edge[0]), int(edge[1])) for edge in edges)


def _by_node(kind: str, edges: Sequence[Any]) -> list[Pairs]:
    last = max(edge[1] for edge in edges)
    if min(edge[1] for edge in edges) < 2 or last > 1 + _MOST_NODES:
        raise InputError(f"genotype text: {kind} has triples (operation, node, source) whose node is not 2 or more")
    return [tuple((o, s) for o, node, s in edges if node == number) for number in range(2, last + 1)]


def _by_twos(kind: str, pairs: Pairs, concat: Sequence[int] | None) -> list[Pairs]:
    count = max(concat) - 1 if concat is not None else -(-len(pairs) // 2)
    if len(pairs) != 2 * count:
        said = "two for each node are needed" if concat is None else f"{kind}_concat names nodes up to {max(concat)}"
        raise InputError(
            f"genotype text: {kind} has {quantity(len(pairs), '(operation, source) pair')}, but {said}: {2 * count} "
            "pairs, two for each of its nodes from 2; is one lost or doubled?"
        )
    return [pairs[at : at + 2] for at in range(0, len(pairs), 2)]
