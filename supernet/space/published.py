"""The literature's genotypes by name, and a reader for the text forms that people have.

Sources: the genotype files of the repositories quark0/darts (DARTS, NASNet-A, AmoebaNet-A), SNAS-Series,
chenxin061/pdarts, yuhuixu1993/PC-DARTS, xiangning-chen/DrNAS, xiangning-chen/SmoothDARTS (c10_s5_random and
c10_s5_pgd, here sdarts_rs and sdarts_adv) and ruocwang/darts-pt (darts_pt_s5_0 to _3).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, edge_name
from supernet.space.operations import OPERATIONS

Pairs = tuple[tuple[str, int], ...]
"""(operation, state it reads) in the original's order."""


@dataclass(frozen=True)
class OriginalGenotype:
    """A genotype as the original code writes it: for each cell the nodes' (operation, source) pairs.

    The order of the pairs is that of the operations in an original checkpoint, which an Architecture forgets.
    """

    normal: tuple[Pairs, ...]
    reduce: tuple[Pairs, ...]
    normal_concat: tuple[int, ...] = (2, 3, 4, 5)
    reduce_concat: tuple[int, ...] = (2, 3, 4, 5)

    def architecture(self) -> Architecture:
        """The same genotype as an Architecture of the DARTS space."""
        choices: dict[str, tuple[str, ...]] = {}
        for kind, nodes, concat in (
            ("normal", self.normal, self.normal_concat),
            ("reduce", self.reduce, self.reduce_concat),
        ):
            for number, pairs in enumerate(nodes, start=2):
                inputs = f"{kind}/{number}"
                sources = sorted({source for _, source in pairs})
                choices[inputs] = tuple(str(source) for source in sources)
                for source in sources:
                    choices[edge_name(inputs, str(source))] = tuple(o for o, s in pairs if s == source)
            choices[f"{kind}/output"] = tuple(str(node) for node in concat)
        return Architecture("darts", choices)


_SHORT = {
    "none": "none",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "7x1": "conv_7x1_1x7",
}


def _nodes(text: str) -> tuple[Pairs, ...]:
    rows = [node.split() for node in text.split("/")]
    return tuple(tuple((_SHORT[o], int(s)) for o, s in zip(row[::2], row[1::2], strict=True)) for row in rows)


def _cells(
    normal: str,
    reduce: str,
    normal_concat: tuple[int, ...] = (2, 3, 4, 5),
    reduce_concat: tuple[int, ...] = (2, 3, 4, 5),
) -> OriginalGenotype:
    return OriginalGenotype(_nodes(normal), _nodes(reduce), normal_concat, reduce_concat)


PUBLISHED: dict[str, OriginalGenotype] = {
    "nasnet_a": _cells(
        "sep5 1 sep3 0 / sep5 0 sep3 0 / avg 1 skip 0 / avg 0 avg 0 / sep3 1 skip 1",
        "sep5 1 sep7 0 / max 1 sep7 0 / avg 1 sep5 0 / skip 3 avg 2 / sep3 2 max 1",
        (2, 3, 4, 5, 6),
        (4, 5, 6),
    ),
    "amoebanet_a": _cells(
        "avg 0 max 1 / sep3 0 sep5 2 / sep3 0 avg 3 / sep3 1 skip 1 / skip 0 avg 1",
        "avg 0 sep3 1 / max 0 sep7 2 / sep7 0 avg 1 / max 0 max 1 / 7x1 0 sep3 5",
        (4, 5, 6),
        (3, 4, 6),
    ),
    "darts_v1": _cells(
        "sep3 1 sep3 0 / skip 0 sep3 1 / skip 0 sep3 1 / sep3 0 skip 2",
        "max 0 max 1 / skip 2 max 0 / max 0 skip 2 / skip 2 avg 0",
    ),
    "darts_v2": _cells(
        "sep3 0 sep3 1 / sep3 0 sep3 1 / sep3 1 skip 0 / skip 0 dil3 2",
        "max 0 max 1 / skip 2 max 1 / max 0 skip 2 / skip 2 max 1",
    ),
    "snas_mild": _cells(
        "sep3 0 sep3 1 / skip 0 dil3 1 / skip 0 skip 1 / skip 0 sep3 1",
        "max 0 max 1 / max 1 skip 2 / max 1 skip 2 / max 0 dil5 2",
    ),
    "snas_moderate": _cells(
        "dil5 0 skip 1 / sep3 0 skip 1 / skip 0 skip 1 / sep3 0 dil5 1",
        "max 0 max 1 / sep5 0 dil5 1 / sep5 0 sep5 1 / sep5 0 sep5 1",
    ),
    "snas_aggressive": _cells(
        "sep5 0 skip 1 / skip 0 skip 1 / dil5 1 skip 0 / skip 0 dil5 1",
        "sep5 0 none 1 / sep5 0 none 1 / none 1 none 0 / none 1 none 0",
    ),
    "pdarts": _cells(
        "skip 0 dil3 1 / skip 0 sep3 1 / sep3 1 sep3 3 / sep3 0 dil5 4",
        "avg 0 sep5 1 / sep3 0 dil5 2 / max 0 dil3 1 / dil3 1 dil5 3",
    ),
    "pc_darts_cifar": _cells(
        "sep3 1 skip 0 / sep3 0 dil3 1 / sep5 0 sep3 1 / avg 0 dil3 1",
        "sep5 1 max 0 / sep5 1 sep5 2 / sep3 0 sep3 3 / sep3 1 sep3 2",
    ),
    "pc_darts_image": _cells(
        "skip 1 sep3 0 / sep3 0 skip 1 / sep3 1 sep3 3 / sep3 1 dil5 4",
        "sep3 0 skip 1 / dil5 2 max 1 / sep3 2 sep3 1 / sep5 0 sep3 3",
    ),
    "drnas_cifar10": _cells(
        "sep3 0 sep5 1 / sep3 1 sep3 2 / skip 0 sep3 1 / sep3 2 dil5 3",
        "max 0 sep5 1 / dil5 2 sep5 1 / sep5 1 dil5 3 / skip 4 sep5 1",
    ),
    "drnas_imagenet": _cells(
        "sep3 1 sep3 0 / sep3 0 sep3 1 / sep3 0 dil3 3 / skip 0 sep3 1",
        "max 0 sep3 1 / sep3 0 skip 2 / sep3 0 sep3 2 / sep3 3 sep3 1",
    ),
    "sdarts_rs": _cells(
        "sep3 1 sep3 0 / sep5 1 skip 0 / sep3 3 skip 1 / sep3 1 dil3 2",
        "max 0 sep3 1 / skip 2 max 0 / dil5 3 max 0 / sep3 2 sep5 3",
    ),
    "sdarts_adv": _cells(
        "sep3 0 sep3 1 / sep3 1 skip 0 / sep5 0 dil3 3 / dil3 4 skip 0",
        "max 0 sep5 1 / skip 2 max 0 / skip 3 skip 2 / skip 2 sep5 4",
    ),
    "darts_pt_0": _cells(
        "sep3 0 sep3 1 / sep5 0 dil3 1 / skip 0 skip 2 / skip 0 max 4",
        "sep3 0 avg 1 / dil5 1 dil3 2 / avg 0 max 2 / sep3 2 skip 4",
    ),
    "darts_pt_1": _cells(
        "sep3 0 sep3 1 / sep3 0 dil3 1 / max 0 skip 2 / skip 0 dil3 4",
        "dil5 0 avg 1 / max 0 sep5 2 / max 1 dil3 3 / sep5 0 sep3 4",
    ),
    "darts_pt_2": _cells(
        "skip 0 sep3 1 / sep3 0 dil3 1 / skip 2 dil3 3 / max 1 skip 2",
        "avg 0 max 1 / avg 0 sep3 1 / dil5 2 skip 3 / sep3 2 sep5 4",
    ),
    "darts_pt_3": _cells(
        "sep3 0 sep3 1 / sep3 0 sep3 1 / skip 0 skip 2 / sep3 1 skip 3",
        "avg 0 sep5 1 / max 1 skip 2 / dil5 1 max 3 / sep5 2 skip 3",
    ),
    # The best cell of RobustDARTS' space S4, where the only other operation is noise.
    "all_sep_conv_3x3": _cells(*2 * ("sep3 0 sep3 1 / sep3 0 sep3 1 / sep3 0 sep3 1 / sep3 0 sep3 1",)),
}


def published(name: str) -> Architecture:
    """The genotype of that name, such as "darts_v2". Raises InputError with the known names."""
    if name.lower() not in PUBLISHED:
        raise InputError(f"genotype={name}: neither a file nor a published name; names: {', '.join(PUBLISHED)}")
    return PUBLISHED[name.lower()].architecture()


def read_genotype(text: str) -> OriginalGenotype:
    """Reads `Genotype(normal=[...], normal_concat=..., reduce=[...], reduce_concat=...)`, a name before it or not.

    The lists hold (operation, source) pairs, flat with two a node (the original) or one list a node (pt.darts).
    The text is parsed, never run. Raises InputError where it is anything else.
    """
    call = _genotype_call(text)
    fields = dict(zip(("normal", "normal_concat", "reduce", "reduce_concat"), call.args, strict=False))
    fields |= {keyword.arg or "**": keyword.value for keyword in call.keywords}
    if missing := [name for name in ("normal", "reduce") if name not in fields]:
        raise InputError(f"genotype text: no {missing[0]!r}; expected Genotype(normal=[...], reduce=[...])")
    if extra := sorted(set(fields) - {"normal", "normal_concat", "reduce", "reduce_concat"}):
        raise InputError(f"genotype text: unknown field {extra[0]!r}")
    normal, reduce = (_read_nodes(name, fields[name]) for name in ("normal", "reduce"))
    concats = {
        kind: _read_concat(fields.get(f"{kind}_concat"), len(nodes))
        for kind, nodes in (("normal", normal), ("reduce", reduce))
    }
    return OriginalGenotype(normal, reduce, concats["normal"], concats["reduce"])


def _genotype_call(text: str) -> ast.Call:
    try:
        body = ast.parse(text.strip()).body
    except (SyntaxError, ValueError) as error:
        raise InputError(
            f"genotype text: not readable ({error}); expected Genotype(normal=[...], reduce=[...])"
        ) from None
    node = body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr | ast.Assign) else None
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Genotype"):
        raise InputError("genotype text: expected Genotype(normal=[...], reduce=[...]) and nothing else")
    return node


def _literal(name: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        raise InputError(f"genotype text: {name} holds more than lists, names and numbers") from None


def _read_nodes(name: str, field: ast.expr) -> tuple[Pairs, ...]:
    value = _literal(name, field)
    flat = isinstance(value, list | tuple) and all(_is_pair(item) for item in value)
    nodes = [value[i : i + 2] for i in range(0, len(value), 2)] if flat else value
    nested = isinstance(nodes, list | tuple) and all(isinstance(n, list | tuple) and n for n in nodes)
    if not (nodes and nested and all(_is_pair(pair) for node in nodes for pair in node)):
        raise InputError(f"genotype text: {name} must be a list of (operation, source) pairs")
    for number, node in enumerate(nodes, start=2):
        for operation, source in node:
            if operation not in OPERATIONS:
                raise InputError(f"genotype text: operation {operation!r} is unknown; known: {', '.join(OPERATIONS)}")
            if not 0 <= source < number:
                raise InputError(
                    f"genotype text: node {number} of {name} reads state {source}; it can read 0 to {number - 1}"
                )
    return tuple(tuple((str(o), int(s)) for o, s in node) for node in nodes)


def _is_pair(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], int)


def _read_concat(field: ast.expr | None, nodes: int) -> tuple[int, ...]:
    last = 2 + nodes
    if field is None:
        return tuple(range(2, last))
    if isinstance(field, ast.Call) and isinstance(field.func, ast.Name) and field.func.id == "range":
        bounds = [_literal("concat", argument) for argument in field.args]
        value: Iterable[Any] = range(*bounds) if bounds and all(isinstance(b, int) for b in bounds) else ()
    else:
        value = _literal("concat", field)
    concat = tuple(value) if isinstance(value, list | tuple | range) else ()
    if not concat or not all(isinstance(node, int) and 2 <= node < last for node in concat):
        raise InputError(f"genotype text: concat must name nodes 2 to {last - 1}")
    return concat
