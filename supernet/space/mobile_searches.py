"""The spaces of ProxylessNAS, FBNet, Single-Path NAS and once-for-all.

`mobile_sizes` says what their settings have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from supernet.runtime.errors import InputError
from supernet.space.inverted_residual import Style
from supernet.space.mobile import Mobile
from supernet.space.mobile_sizes import MobileSize, Sharing
from supernet.space.mobile_stages import Stage

_PROXYLESS: dict[str, tuple[int, tuple[int, ...], int]] = {  # stem, stages, head
    "mobile": (32, (16, 32, 40, 80, 96, 192, 320), 1280),
    "mobile14": (48, (24, 40, 56, 112, 136, 256, 448), 1792),
    "cpu": (40, (24, 32, 48, 88, 104, 216, 360), 1432),
    "gpu": (40, (24, 32, 56, 112, 128, 256, 432), 1728),
}


def proxyless(
    network: Literal["mobile", "mobile14", "cpu", "gpu"] = "mobile",
    *,
    width: float = 1.0,
    sharing: Sharing = "separate",
    image_size: int | None = None,
    resolutions: Sequence[int] = (),
) -> Mobile:
    """The space of ProxylessNAS with the widths of one of its networks: 21 blocks, kernels 3, 5, 7, expansions 3, 6.

    A block can be left out where its input can pass: 6^6 * 7^15 = 2.2e17 networks. `published("proxyless_mobile")` and
    the others answer the space of their name. Source: Cai, Zhu and Han 2019, "ProxylessNAS: Direct Neural Architecture
    Search on Target Task and Hardware" (ICLR), section 4.2, and the settings in its code.

    Args:
        network: whose widths: "mobile", "mobile14" (1.4 times as wide), "cpu" or "gpu".
        width: multiplies all channels; those of the head only where it is above 1.
        sharing: "separate" or "nested".
        image_size: side of the images for which the strides are meant; None: the smallest of `resolutions`, or 224.
        resolutions: sides to which images are resized; (): images stay as they are.

    Returns:
        The space.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> from supernet.space.survey import candidates_of
        >>> candidates_of(proxyless()).count == 6**6 * 7**15
        True
    """
    if network not in _PROXYLESS:
        raise InputError(f"network={network}: use one of {', '.join(_PROXYLESS)}")
    size = MobileSize(width, sharing, image_size, resolutions)
    stem, (first, *between, last), head = _PROXYLESS[network]
    kinds: dict[str, Any] = {"kernels": (3, 5, 7), "expansions": (3, 6), "activations": ("relu6",)}
    stages = [
        Stage((first,), expansions=(1,), activations=("relu6",)),
        *(Stage((c,), (1, 2, 3, 4), s, **kinds) for c, s in zip(between, (2, 2, 2, 1, 2), strict=True)),
        Stage((last,), **kinds),
    ]
    return size.space(
        stages,
        stem=stem,
        stem_activation="relu6",
        head=size.head(head),
        head_activation="relu6",
        dropout=0.0,
        style=Style(norm_eps=1e-3),
    )


def fbnet(
    *,
    head: int = 1984,
    width: float = 1.0,
    widens_always: bool = True,
    sharing: Sharing = "separate",
    image_size: int | None = None,
    resolutions: Sequence[int] = (),
) -> Mobile:
    """The space of FBNet: 22 blocks, kernels 3 and 5, expansions 1, 1 in two groups, 3, 6, or left out.

    A block can be left out where its input can pass (the paper's 9^22 counts that everywhere; here they are
    9^16 * 8^6). `published("fbnet_c")` answers it. Source: Wu et al. 2019, "FBNet: Hardware-Aware Efficient ConvNet
    Design via Differentiable Neural Architecture Search" (CVPR), tables 1 and 2.

    Args:
        head: channels after the last stage: 1984 (FBNet-B and C) or 1504 (FBNet-A).
        width: multiplies all channels; those of the head only where it is above 1.
        widens_always: a block of expansion 1 has its first 1x1 convolution, too (the paper's figure 3); False: it has
            none, as in the authors' later code and in other mobile networks.
        sharing: "separate" or "nested"; nested weights have neither groups nor blocks to leave out, but depths.
        image_size: side of the images for which the strides are meant; None: the smallest of `resolutions`, or 224.
        resolutions: sides to which images are resized; (): images stay as they are.

    Returns:
        The space.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> from supernet.space.survey import candidates_of
        >>> candidates_of(fbnet()).count == 9**16 * 8**6
        True
    """
    size = MobileSize(width, sharing, image_size, resolutions)
    kinds: dict[str, Any] = {"kernels": (3, 5), "expansions": (1, 3, 6), "skip": True, "grouped": True}
    stages = [
        Stage((16,), **kinds),
        *(Stage((c,), (1, 2, 3, 4), s, **kinds) for c, s in ((24, 2), (32, 2), (64, 2), (112, 1), (184, 2))),
        Stage((352,), **kinds),
    ]
    return size.space(stages, stem=16, head=size.head(head), style=Style(widens_always=widens_always))


def single_path_nas(
    *,
    width: float = 1.0,
    sharing: Sharing = "nested",
    image_size: int | None = None,
    resolutions: Sequence[int] = (),
) -> Mobile:
    """The space of Single-Path NAS: the widths of MnasNet-B1, kernels 3 and 5, expansions 3 and 6, up to four blocks.

    `published("single_path_nas")` answers it. Source: Stamoulis et al. 2019, "Single-Path NAS: Designing
    Hardware-Efficient ConvNets in less than 4 Hours" (ECML-PKDD), section 3.

    Args:
        width: multiplies all channels; those of the head only where it is above 1.
        sharing: "nested", as published, or "separate".
        image_size: side of the images for which the strides are meant; None: the smallest of `resolutions`, or 224.
        resolutions: sides to which images are resized; (): images stay as they are.

    Returns:
        The space.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> [stage.depths for stage in single_path_nas().stages][:3]
        [(1,), (1, 2, 3, 4), (1, 2, 3, 4)]
    """
    size = MobileSize(width, sharing, image_size, resolutions)
    kinds: dict[str, Any] = {"kernels": (3, 5), "expansions": (3, 6)}
    stages = [
        Stage((16,), expansions=(1,)),
        *(Stage((c,), (1, 2, 3, 4), s, **kinds) for c, s in ((24, 2), (40, 2), (80, 2), (96, 1), (192, 2))),
        Stage((320,), **kinds),
    ]
    return size.space(stages, stem=32, head=size.head(1280))


def ofa_mbv3(
    *,
    width: float = 1.0,
    sharing: Sharing = "nested",
    image_size: int | None = None,
    resolutions: Sequence[int] = (),
) -> Mobile:
    """The space of once-for-all around MobileNetV3-Large: kernels 3, 5, 7, expansions 3, 4, 6, two to four blocks.

    Smaller kernels are learnt linear maps of the middle of larger ones: (9^2 + 9^3 + 9^4)^5 = 2.2e19 networks of each
    resolution. `published("ofa_k3_e3_d2")`, `published("ofa_k5_e4_d3")` and `published("ofa_k7_e6_d4")` answer it.
    Source: Cai et al. 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment" (ICLR),
    section 4, and the settings in its code.

    Args:
        width: multiplies all channels; the authors have networks of 1.0 and 1.2.
        sharing: "nested" or "separate".
        image_size: side of the images for which the strides are meant; None: the smallest of `resolutions`, or 224.
        resolutions: sides to which images are resized, in the paper 128 to 224 by fours; (): images stay as they are.

    Returns:
        The space.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> from supernet.space.survey import candidates_of
        >>> candidates_of(ofa_mbv3()).count == (9**2 + 9**3 + 9**4) ** 5
        True
    """
    size = MobileSize(width, sharing, image_size, resolutions)
    published = [
        (24, 2, False, "relu"),
        (40, 2, True, "relu"),
        (80, 2, False, "hardswish"),
        (112, 1, True, "hardswish"),
        (160, 2, True, "hardswish"),
    ]
    stages = [
        Stage((16,), expansions=(1,)),
        *(Stage((c,), (2, 3, 4), s, (3, 5, 7), (3, 4, 6), (squeeze,), (word,)) for c, s, squeeze, word in published),
    ]
    return size.space(
        stages,
        stem=16,
        stem_activation="hardswish",
        head=size.channels(960),
        hidden=size.channels(1280),
        hidden_bias=False,
        head_activation="hardswish",
        dropout=0.1,
        style=Style(kernel_transforms=True),
    )
