"""Genotypes that were published in papers, by name: cells here, mobile networks in `supernet.space.published_mobile`.

Sources of the cells: the genotype files of the repositories quark0/darts (DARTS, NASNet-A, AmoebaNet-A), SNAS-Series,
chenxin061/pdarts, yuhuixu1993/PC-DARTS, xiangning-chen/DrNAS, xiangning-chen/SmoothDARTS (c10_s5_random and
c10_s5_pgd, here sdarts_rs and sdarts_adv) and ruocwang/darts-pt (darts_pt_s5_0 to _3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supernet.runtime.errors import InputError
from supernet.runtime.text import shortened
from supernet.space.architecture import Architecture, edge_name
from supernet.space.published_mobile import MOBILE

Pairs = tuple[tuple[str, int], ...]
"""The edges of one node, each (operation, number of the state that it reads), in the order of the original code."""


@dataclass(frozen=True)
class OriginalGenotype:
    """A genotype as the original DARTS code writes it.

    The order of the pairs is that of the operations in an original checkpoint. An `Architecture` does not keep it.

    Args:
        normal: for each node of the normal cell its (operation, source) pairs; sources 0 and 1 are the cell's inputs.
        reduce: the same for the reduction cell.
        normal_concat: the nodes whose states are the output of the normal cell; 2 is the first node.
        reduce_concat: the same for the reduction cell.

    Example:
        >>> PUBLISHED["darts_v2"].normal[0]
        (('sep_conv_3x3', 0), ('sep_conv_3x3', 1))
    """

    normal: tuple[Pairs, ...]
    reduce: tuple[Pairs, ...]
    normal_concat: tuple[int, ...] = (2, 3, 4, 5)
    reduce_concat: tuple[int, ...] = (2, 3, 4, 5)

    def architecture(self) -> Architecture:
        """Returns the same genotype as an Architecture of the DARTS space."""
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


# By their names; `published` returns one as an Architecture.
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

NAMES = (*PUBLISHED, *MOBILE)


def published(name: str, **settings: Any) -> Architecture:
    """Returns a genotype of the literature by its name.

    Args:
        name: one of `NAMES`, in upper or lower case: a cell, or a mobile network such as "mobilenet_v3_large".
        settings: those with which `spaces.of(name, ...)` was made, for a mobile network: `sharing`, `resolutions` and
            open widths put the answer in other words.

    Returns:
        The genotype: a cell of the DARTS space, or a mobile network, an answer in the space `spaces.of(name)`.

    Raises:
        InputError: the name is unknown; the message lists those that are known. Or a cell is given settings.

    Example:
        >>> cell = published("darts_v2")
        >>> cell.space, cell["normal/2"], cell["normal/2/0"]
        ('darts', ('0', '1'), ('sep_conv_3x3',))
        >>> network = published("mobilenet_v3_large")
        >>> network.space, network["stage2/1/expand"]
        ('mobile', ('4',))
        >>> published("mobilenet_v3_large", sharing="separate")["stage2/1"]
        ('k3_e4',)
    """
    if str(name).lower() not in NAMES:
        raise InputError(f"name={shortened(str(name))}: no published genotype; names: {', '.join(NAMES)}")
    known = name.lower()
    if known in MOBILE:
        return MOBILE[known].architecture(**settings)
    if settings:
        raise InputError(f"{next(iter(settings))}: {known} is a cell, which has no settings; mobile networks have some")
    return PUBLISHED[known].architecture()
