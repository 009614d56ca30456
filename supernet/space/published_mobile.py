"""Mobile networks of the literature, each an answer in one of the spaces of `spaces`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.mobile import Mobile
from supernet.space.mobile_searches import fbnet, ofa_mbv3, proxyless, single_path_nas
from supernet.space.mobile_stages import Block
from supernet.space.mobilenets import efficientnet, mnasnet, mobilenet_v2, mobilenet_v3

_BLOCK = re.compile(r"k(\d+)e([\d.]+)(s?)(?:\*(\d+))?")


@dataclass(frozen=True)
class MobileGenotype:
    """A published network, block by block, and the space that it is an answer in.

    Args:
        space: makes the space, and takes its settings, such as `width` and `image_size`.
        stages: the blocks of each stage; None for one that is left out.

    Example:
        >>> MOBILE["mobilenet_v2"].space(width=0.5).stem
        16
        >>> MOBILE["mobilenet_v2"].architecture()["stage2/1/expand"]
        ('6',)
    """

    space: Callable[..., Mobile]
    stages: tuple[tuple[Block | None, ...], ...]

    def architecture(self, **settings: Any) -> Architecture:
        """The network as an answer in its space.

        Args:
            settings: of the space. `sharing` changes how the answer is put, and `width` the names of open widths.

        Returns:
            The genotype.
        """
        return self.made(settings).architecture(self.stages)

    def made(self, settings: Mapping[str, Any]) -> Mobile:
        """The space with these settings. Raises InputError where it has no such setting."""
        known = inspect.signature(self.space).parameters
        if unknown := next((name for name in settings if name not in known), None):
            raise InputError(f"{unknown}: no setting of this space; it has {', '.join(known)}")
        return self.space(**settings)


def _stages(text: str) -> tuple[tuple[Block | None, ...], ...]:
    """Blocks such as "k5e3s*2" (kernel 5, expansion 3, squeeze-and-excite, twice), "-" for one that is left out;
    stages are separated by bars."""
    return tuple(tuple(block for word in stage.split() for block in _blocks(word)) for stage in text.split("|"))


def _blocks(word: str) -> list[Block | None]:
    if word == "-":
        return [None]
    match = _BLOCK.fullmatch(word)
    assert match is not None, word
    return [Block(int(match[1]), float(match[2]), bool(match[3]))] * int(match[4] or 1)


_PROXYLESS_MOBILE = _stages(
    "k3e1 | k5e3 k3e3 - - | k7e3 k3e3 k5e3*2 | k7e6 k5e3*3 | k5e6 k5e3*3 | k7e6*2 k7e3*2 | k7e6",
)

MOBILE: dict[str, MobileGenotype] = {
    # Sandler et al. 2018, table 2.
    "mobilenet_v2": MobileGenotype(mobilenet_v2, _stages("k3e1 | k3e6*2 | k3e6*3 | k3e6*4 | k3e6*3 | k3e6*3 | k3e6")),
    # Howard et al. 2019, tables 1 and 2.
    "mobilenet_v3_large": MobileGenotype(
        partial(mobilenet_v3, norm_momentum=0.01),
        _stages("k3e1 | k3e4 k3e3 | k5e3s*3 | k3e6 k3e2.5 k3e2.3*2 | k3e6s*2 | k5e6s*3"),
    ),
    "mobilenet_v3_small": MobileGenotype(
        partial(mobilenet_v3, "small", norm_momentum=0.01),
        _stages("k3e1s | k3e4.5 k3e3.67 | k5e4s k5e6s*2 | k5e3s*2 | k5e6s*3"),
    ),
    # Tan et al. 2019, figure 7.
    "mnasnet_b1": MobileGenotype(
        partial(mnasnet, norm_momentum=3e-4), _stages("k3e1 | k3e3*3 | k5e3*3 | k5e6*3 | k3e6*2 | k5e6*4 | k3e6")
    ),
    "mnasnet_a1": MobileGenotype(
        partial(mnasnet, "a1", norm_momentum=3e-4),
        _stages("k3e1 | k3e6*2 | k5e3s*3 | k3e6*4 | k3e6s*2 | k5e6s*3 | k3e6"),
    ),
    # Tan and Le 2019, table 1.
    "efficientnet_b0": MobileGenotype(
        efficientnet, _stages("k3e1s | k3e6s*2 | k5e6s*2 | k3e6s*3 | k5e6s*3 | k5e6s*4 | k3e6s")
    ),
    # Cai et al. 2019: the configurations of the authors' models (mit-han-lab/ProxylessNAS).
    "proxyless_mobile": MobileGenotype(proxyless, _PROXYLESS_MOBILE),
    "proxyless_mobile14": MobileGenotype(partial(proxyless, "mobile14"), _PROXYLESS_MOBILE),
    "proxyless_cpu": MobileGenotype(
        partial(proxyless, "cpu"),
        _stages(
            "k3e1 | k3e6 k3e3*3 | k3e6 k3e3*2 k5e3 | k3e6 - - k3e3 | k5e6 k3e3*3 | k5e6 k5e3*2 k3e3 | k5e6",
        ),
    ),
    "proxyless_gpu": MobileGenotype(
        partial(proxyless, "gpu"),
        _stages("k3e1 | k5e3 - - - | k7e3 - - k3e3 | k7e6 - - k5e3 | k5e6 - k3e3 k5e3 | k7e6*3 k5e6 | k7e6"),
    ),
    # Wu et al. 2019, figure 4; expansion 1 without its first convolution, as in facebookresearch/mobile-vision.
    "fbnet_c": MobileGenotype(
        partial(fbnet, widens_always=False),
        _stages(
            "k3e1 | k3e6 - k3e1*2 | k5e6 k5e3 k5e6 k3e6 | k5e6 k5e3 k5e6*2 | k5e6*3 k5e3 | k5e6*4 | k3e6",
        ),
    ),
    # Stamoulis et al. 2019: the network for the Pixel 1.
    "single_path_nas": MobileGenotype(
        single_path_nas,
        _stages("k3e1 | k3e3*3 | k5e6 k3e3*3 | k5e6 k3e3*3 | k5e6 k5e3*3 | k5e6*4 | k3e6"),
    ),
    # Cai et al. 2020: the smallest, a middle and the largest network of the space.
    "ofa_k3_e3_d2": MobileGenotype(ofa_mbv3, _stages("k3e1 | k3e3*2 | k3e3s*2 | k3e3*2 | k3e3s*2 | k3e3s*2")),
    "ofa_k5_e4_d3": MobileGenotype(ofa_mbv3, _stages("k3e1 | k5e4*3 | k5e4s*3 | k5e4*3 | k5e4s*3 | k5e4s*3")),
    "ofa_k7_e6_d4": MobileGenotype(ofa_mbv3, _stages("k3e1 | k7e6*4 | k7e6s*4 | k7e6*4 | k7e6s*4 | k7e6s*4")),
}
"""The networks by name."""


def of(name: str, **settings: Any) -> Mobile:
    """The space in which a published mobile network is an answer: `supernet.published(name)` is the answer.

    Args:
        name: of the network, in upper or lower case, such as "mobilenet_v3_large".
        settings: of the space: `width`, `image_size`, `sharing`, `resolutions`; give them to `published`, too.

    Returns:
        The space.

    Raises:
        InputError: the name is unknown, or a setting is out of its range.

    Example:
        >>> import supernet
        >>> space = supernet.spaces.of("mobilenet_v3_small", image_size=32)
        >>> network = space.network(supernet.Decided(supernet.published("mobilenet_v3_small")), (3, 32, 32), outputs=10)
        >>> sum(weight.numel() for weight in network.parameters())
        1528106
    """
    if str(name).lower() not in MOBILE:
        raise InputError(f"name={str(name)[:80]}: no published mobile network; names: {', '.join(MOBILE)}")
    return MOBILE[name.lower()].made(settings)
