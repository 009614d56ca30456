"""The spaces around MobileNetV2, MobileNetV3, MnasNet and EfficientNet-B0, all of Google.

`mobile_sizes` says what their settings have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from supernet.runtime.errors import InputError
from supernet.space.inverted_residual import Style
from supernet.space.mobile import Mobile
from supernet.space.mobile_sizes import MobileSize, Sharing, around
from supernet.space.mobile_stages import Stage

_EFFICIENT = Style(squeeze_from="input", squeeze_activation="silu", gate="sigmoid")


def mobilenet_v2(
    *,
    width: float = 1.0,
    kernels: Sequence[int] = (3, 5, 7),
    sharing: Sharing = "nested",
    image_size: int | None = None,
    resolutions: Sequence[int] = (),
) -> Mobile:
    """The space around MobileNetV2: kernels, expansions 3 and 6, a block more or less in each stage.

    `published("mobilenet_v2")` answers it. Source: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear
    Bottlenecks" (CVPR), table 2; expansions as in ProxylessNAS, depths as in MnasNet.

    Args:
        width: multiplies all channels.
        kernels: sizes of depthwise convolutions.
        sharing: "nested" or "separate".
        image_size: side of the images for which the strides are meant; None: the smallest of `resolutions`, or 224.
        resolutions: sides to which images are resized; (): images stay as they are.

    Returns:
        The space.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> [stage.channels for stage in mobilenet_v2(width=0.5).stages]
        [(8,), (16,), (16,), (32,), (48,), (80,), (160,)]
    """
    size = MobileSize(width, sharing, image_size, resolutions)
    kinds: dict[str, Any] = {"kernels": tuple(kernels), "expansions": (3, 6), "activations": ("relu6",)}
    published = [(24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2)]
    stages = [
        Stage((16,), expansions=(1,), activations=("relu6",)),
        *(Stage((channels,), around(depth), stride, **kinds) for channels, depth, stride in published),
        Stage((320,), **kinds),
    ]
    return size.space(stages, stem=32, stem_activation="relu6", head_activation="relu6", head=size.head(1280))


def mobilenet_v3(
    size: Literal["large", "small"] = "large",
    *,
    width: float = 1.0,
    kernels: Sequence[int] = (3, 5, 7),
    open_squeeze: bool = True,
    norm_momentum: float = 0.1,
    sharing: Sharing = "nested",
    image_size: int | None = None,
    resolutions: Sequence[int] = (),
) -> Mobile:
    """The space around MobileNetV3: kernels, expansions, squeeze-and-excite, a block more or less in each stage.

    `published("mobilenet_v3_large")` and `published("mobilenet_v3_small")` answer it, in any width. Source: Howard et
    al. 2019, "Searching for MobileNetV3" (ICCV), tables 1 and 2. Where squeeze-and-excite stands is open as in TuNAS
    (Bender et al. 2020), depths as in MnasNet.

    Args:
        size: "large" or "small".
        width: multiplies all channels. Expansions are multiples of them, where torchvision multiplies the expanded
            channels themselves: blocks of another width than 1 differ by up to 32 channels inside, and the networks at
            0.75 have 10 % more multiply-adds than torchvision's.
        kernels: sizes of depthwise convolutions.
        open_squeeze: each block has squeeze-and-excite or not; False: where the published network has it.
        norm_momentum: the share of the newest batch in the running statistics of batch norms. `spaces.of` has the
            published network's, 0.01, which is for long trainings.
        sharing: "nested" or "separate".
        image_size: side of the images for which the strides are meant; None: the smallest of `resolutions`, or 224.
        resolutions: sides to which images are resized; (): images stay as they are.

    Returns:
        The space.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> space = mobilenet_v3(width=0.5, image_size=32)
        >>> space.stem_stride, [stage.stride for stage in space.stages]
        (1, [1, 1, 2, 2, 1, 2])
    """
    if size not in ("large", "small"):
        raise InputError(f"size={size}: use large or small")
    sized = MobileSize(width, sharing, image_size, resolutions)

    def stage(
        channels: int, depth: int, stride: int, expansions: Sequence[float], squeeze: bool, activation: str
    ) -> Stage:
        has = (False, True) if open_squeeze else (squeeze,)
        return Stage((channels,), around(depth), stride, tuple(kernels), tuple(expansions), has, (activation,))

    if size == "large":
        stages = [
            Stage((16,), expansions=(1,)),
            stage(24, 2, 2, (3, 4, 6), False, "relu"),
            stage(40, 3, 2, (3, 4, 6), True, "relu"),
            stage(80, 4, 2, (2.3, 2.5, 3, 4, 6), False, "hardswish"),
            stage(112, 2, 1, (3, 4, 6), True, "hardswish"),
            stage(160, 3, 2, (3, 4, 6), True, "hardswish"),
        ]
    else:
        stages = [
            Stage((16,), stride=2, expansions=(1,), squeeze=(True,)),
            stage(24, 2, 2, (3, 3.67, 4.5, 6), False, "relu"),
            stage(40, 3, 2, (3, 4, 6), True, "hardswish"),
            stage(48, 2, 1, (3, 4, 6), True, "hardswish"),
            stage(96, 3, 2, (3, 4, 6), True, "hardswish"),
        ]
    return sized.space(
        stages,
        stem=16,
        stem_activation="hardswish",
        head=6 * sized.channels(160 if size == "large" else 96),
        hidden=sized.channels(1280 if size == "large" else 1024),
        head_activation="hardswish",
        style=Style(norm_eps=1e-3, norm_momentum=norm_momentum),
    )


def mnasnet(
    network: Literal["b1", "a1"] = "b1",
    *,
    width: float = 1.0,
    norm_momentum: float = 0.1,
    sharing: Sharing = "nested",
    image_size: int | None = None,
    resolutions: Sequence[int] = (),
) -> Mobile:
    """The space of MnasNet, with the widths of one of its networks: kernels, expansions, squeeze-and-excite, depths.

    MnasNet decides for all blocks of a stage at once; here each block is decided. `published("mnasnet_b1")` and
    `published("mnasnet_a1")` answer it. Source: Tan et al. 2019, "MnasNet: Platform-Aware Neural Architecture Search
    for Mobile" (CVPR), section 4.1 and figure 7.

    Args:
        network: whose widths: "b1", which has no squeeze-and-excite, or "a1".
        width: multiplies all channels but those of the head.
        norm_momentum: the share of the newest batch in the running statistics of batch norms. `spaces.of` has the
            published networks', 0.0003, which is for very long trainings.
        sharing: "nested" or "separate".
        image_size: side of the images for which the strides are meant; None: the smallest of `resolutions`, or 224.
        resolutions: sides to which images are resized; (): images stay as they are.

    Returns:
        The space.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> [stage.channels[0] for stage in mnasnet("a1").stages]
        [16, 24, 40, 80, 112, 160, 320]
    """
    published = {
        "b1": [(24, 3, 2), (40, 3, 2), (80, 3, 2), (96, 2, 1), (192, 4, 2)],
        "a1": [(24, 2, 2), (40, 3, 2), (80, 4, 2), (112, 2, 1), (160, 3, 2)],
    }
    if network not in published:
        raise InputError(f"network={network}: use {' or '.join(published)}")
    size = MobileSize(width, sharing, image_size, resolutions)
    kinds: dict[str, Any] = {"kernels": (3, 5), "expansions": (3, 6), "squeeze": (False, True)}
    stages = [
        Stage((16,), expansions=(1,)),
        *(Stage((channels,), around(depth), stride, **kinds) for channels, depth, stride in published[network]),
        Stage((320,), **kinds),
    ]
    style = Style(squeeze_from="input", gate="sigmoid", norm_momentum=norm_momentum)
    return size.space(stages, stem=32, head=1280, style=style)


def efficientnet(
    *,
    width: float = 1.0,
    kernels: Sequence[int] = (3, 5),
    open_widths: bool = True,
    sharing: Sharing = "nested",
    image_size: int | None = None,
    resolutions: Sequence[int] = (),
) -> Mobile:
    """The space around EfficientNet-B0: kernels, expansions 4 to 6, depths, and with nested weights narrower stages.

    `published("efficientnet_b0")` answers it; it has the largest widths. Source: Tan and Le 2019, "EfficientNet:
    Rethinking Model Scaling for Convolutional Neural Networks" (ICML), table 1; the options follow BigNAS (Yu et al.
    2020) and AttentiveNAS (Wang et al. 2021), whose spaces lie around it.

    Args:
        width: multiplies all channels.
        kernels: sizes of depthwise convolutions.
        open_widths: stages may be narrower by 8 or 16 channels or by more in the deep ones; False: as published.
        sharing: "nested" or "separate"; separate weights leave the widths as published.
        image_size: side of the images for which the strides are meant; None: the smallest of `resolutions`, or 224.
        resolutions: sides to which images are resized; (): images stay as they are.

    Returns:
        The space.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> efficientnet(resolutions=(192, 224)).stages[3].channels
        (64, 72, 80)
    """
    size = MobileSize(width, sharing, image_size, resolutions)
    kinds: dict[str, Any] = {
        "kernels": tuple(kernels),
        "expansions": (4, 5, 6),
        "squeeze": (True,),
        "activations": ("silu",),
    }
    published = [
        ((16, 24), 2, 2),
        ((32, 40), 2, 2),
        ((64, 72, 80), 3, 2),
        ((96, 104, 112), 3, 1),
        ((160, 176, 192), 4, 2),
    ]
    stages = [
        Stage((16,), expansions=(1,), squeeze=(True,), activations=("silu",)),
        *(Stage(c if open_widths else c[-1:], around(depth), stride, **kinds) for c, depth, stride in published),
        Stage((320,), **kinds),
    ]
    return size.space(
        stages,
        stem=32,
        stem_activation="silu",
        head=size.channels(1280),
        head_activation="silu",
        style=_EFFICIENT,
    )
