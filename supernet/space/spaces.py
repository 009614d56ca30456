"""The search spaces of the literature with their published settings, and one small enough to train completely.

A space is a frozen dataclass: `space.resized(channels=8)` is the same space in another size, and
`dataclasses.replace(space, operations=...)` one with other operations.
"""

from __future__ import annotations

from supernet.space.darts import Darts
from supernet.space.mobile import Mobile
from supernet.space.mobile_searches import fbnet, ofa_mbv3, proxyless, single_path_nas
from supernet.space.mobile_stages import Stage
from supernet.space.mobilenets import efficientnet, mnasnet, mobilenet_v2, mobilenet_v3
from supernet.space.nasbench201 import NasBench201
from supernet.space.published_mobile import of

__all__ = [
    "darts",
    "efficientnet",
    "fbnet",
    "micro",
    "micro_mobile",
    "mnasnet",
    "mobilenet_v2",
    "mobilenet_v3",
    "nasbench201",
    "of",
    "ofa_mbv3",
    "proxyless",
    "s1",
    "s2",
    "s3",
    "s4",
    "single_path_nas",
]


def __dir__() -> list[str]:
    """What the tab key offers."""
    return __all__


def darts() -> Darts:
    """The space of DARTS in the sizes of its search on CIFAR-10: eight operations, four nodes, eight cells.

    Source: Liu, Simonyan and Yang 2019, "DARTS: Differentiable Architecture Search" (ICLR), sections 2.1 and 3.1.

    Example:
        >>> darts().resized(channels=8, cells=3).channels
        8
    """
    return Darts()


def s1() -> Darts:
    """RobustDARTS' space S1: two operations for each edge, those that were strongest in a DARTS search.

    Source: Zela, Elsken, Saikia, Marrakchi, Brox and Hutter 2020, "Understanding and Robustifying Differentiable
    Architecture Search" (ICLR), section 3; the list is that of the authors' code.

    Example:
        >>> s1().operations_of("normal/2/0")
        ('skip_connect', 'dil_conv_3x3')
    """
    return Darts(table=_S1)


def s2() -> Darts:
    """RobustDARTS' space S2: a skip connection or a separable convolution on each edge.

    Source: Zela et al. 2020, section 3.

    Example:
        >>> s2().operations
        ('skip_connect', 'sep_conv_3x3')
    """
    return Darts(operations=("skip_connect", "sep_conv_3x3"))


def s3() -> Darts:
    """RobustDARTS' space S3: S2 and "none", which takes part in the search only.

    Source: Zela et al. 2020, section 3.

    Example:
        >>> s3().operations
        ('none', 'skip_connect', 'sep_conv_3x3')
    """
    return Darts(operations=("none", "skip_connect", "sep_conv_3x3"))


def s4() -> Darts:
    """RobustDARTS' space S4: noise or a separable convolution on each edge, so that the right answer is known.

    Source: Zela et al. 2020, section 3.

    Example:
        >>> s4().operations
        ('noise', 'sep_conv_3x3')
    """
    return Darts(operations=("noise", "sep_conv_3x3"))


def nasbench201() -> NasBench201:
    """NAS-Bench-201: 15,625 cells in the network of the benchmark.

    Source: Dong and Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search" (ICLR).

    Example:
        >>> sum(1 for _ in nasbench201().architectures())
        15625
    """
    return NasBench201()


def micro() -> NasBench201:
    """A space of 125 cells, each of which was trained three times on the handwritten digits (`supernet.tables.micro`).

    Example:
        >>> sum(1 for _ in micro().architectures())
        125
    """
    return NasBench201(channels=8, cells=1, stages=1, nodes=2)


def micro_mobile() -> Mobile:
    """A mobile space of 160 networks for images of 8 x 8 pixels, with nested weights.

    The kernel, the expansion and the squeeze-and-excite of the first block are open, and of the second stage the depth
    and each block's kernel and expansion. It is as narrow as that because wider networks read nearly all digits, and
    then networks do not differ. Each was trained on the digits with three seeds (`supernet.tables.micro_mobile`).

    On the digits depth, expansions and kernels matter, by 3.1, 1.2 to 1.6 and 0.7 to 0.9 points in the mean; the
    squeeze-and-excite costs parameters and gains 0.1, no more than noise.

    Example:
        >>> from supernet.space.survey import candidates_of
        >>> candidates_of(micro_mobile()).count
        160
    """
    first = Stage((4,), kernels=(3, 5), expansions=(2, 6), squeeze=(False, True))
    second = Stage((8,), depths=(1, 2), stride=2, kernels=(3, 5), expansions=(2, 6))
    return Mobile((first, second), stem=4, stem_stride=1, head=0, dropout=0.0)


_S1 = {
    "normal/2/0": ("skip_connect", "dil_conv_3x3"),
    "normal/2/1": ("skip_connect", "dil_conv_5x5"),
    "normal/3/0": ("skip_connect", "dil_conv_5x5"),
    "normal/3/1": ("skip_connect", "sep_conv_3x3"),
    "normal/3/2": ("skip_connect", "dil_conv_3x3"),
    "normal/4/0": ("max_pool_3x3", "skip_connect"),
    "normal/4/1": ("skip_connect", "sep_conv_3x3"),
    "normal/4/2": ("skip_connect", "sep_conv_3x3"),
    "normal/4/3": ("skip_connect", "dil_conv_3x3"),
    "normal/5/0": ("skip_connect", "sep_conv_3x3"),
    "normal/5/1": ("max_pool_3x3", "skip_connect"),
    "normal/5/2": ("skip_connect", "dil_conv_3x3"),
    "normal/5/3": ("dil_conv_3x3", "dil_conv_5x5"),
    "normal/5/4": ("dil_conv_3x3", "dil_conv_5x5"),
    "reduce/2/0": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/2/1": ("max_pool_3x3", "dil_conv_3x3"),
    "reduce/3/0": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/3/1": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/3/2": ("skip_connect", "dil_conv_5x5"),
    "reduce/4/0": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/4/1": ("max_pool_3x3", "sep_conv_3x3"),
    "reduce/4/2": ("skip_connect", "dil_conv_3x3"),
    "reduce/4/3": ("skip_connect", "dil_conv_5x5"),
    "reduce/5/0": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/5/1": ("max_pool_3x3", "avg_pool_3x3"),
    "reduce/5/2": ("skip_connect", "dil_conv_5x5"),
    "reduce/5/3": ("skip_connect", "dil_conv_5x5"),
    "reduce/5/4": ("skip_connect", "dil_conv_5x5"),
}
