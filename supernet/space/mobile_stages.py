"""The stages of a mobile space: which sizes their blocks can have, and what a block is called."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from supernet.runtime.errors import InputError
from supernet.space.choices import SKIP
from supernet.space.inverted_residual import ACTIVATIONS

LARGEST = {"channels": 1 << 14, "depths": 64, "kernels": 31}
SQUEEZE = {False: "plain", True: "se"}


@dataclass(frozen=True)
class Stage:
    """Some blocks of one width. A setting of several values is open.

    Args:
        channels: widths, from small to large.
        depths: numbers of blocks, from small to large.
        stride: of the first block, 1 or 2.
        kernels: sizes of depthwise convolutions, odd, from small to large.
        expansions: how many times as many channels as its input a block has inside, rounded to eights, from small to
            large.
        squeeze: whether blocks have squeeze-and-excite.
        activations: of the blocks, such as "relu".
        skip: a block can be left out where its input can pass (separate sharing).
        grouped: blocks of expansion 1 with 1x1 convolutions in two groups are candidates, too (FBNet, separate
            sharing).

    Raises:
        InputError: a value is out of its range.

    Example:
        >>> Stage(channels=(24,), depths=(2, 3, 4), stride=2, kernels=(3, 5)).expansions
        (6.0,)
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...] = (1,)
    stride: int = 1
    kernels: tuple[int, ...] = (3,)
    expansions: tuple[float, ...] = (6.0,)
    squeeze: tuple[bool, ...] = (False,)
    activations: tuple[str, ...] = ("relu",)
    skip: bool = False
    grouped: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "depths", "kernels", "expansions", "squeeze", "activations"):
            given: Any = getattr(self, name)  # a settings file may give a list, or one value alone
            values = tuple(given) if isinstance(given, list | tuple) else (given,)
            object.__setattr__(self, name, values)
            if not values or len(set(values)) != len(values):
                raise InputError(f"{name}={list(values)}: needs one value or more, all different")
            if name in LARGEST and not all(type(value) is int and 1 <= value <= LARGEST[name] for value in values):
                raise InputError(f"{name}={list(values)}: needs whole numbers from 1 to {LARGEST[name]:,}")
        self._check_values()
        for name in ("channels", "depths", "kernels", "expansions"):
            if list(values := getattr(self, name)) != sorted(values):
                raise InputError(f"{name}={list(values)}: needs its values from small to large")

    def _check_values(self) -> None:
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise InputError(f"kernels={even[0]}: needs odd sizes, such as 3 or 5")
        if strange := [e for e in self.expansions if not (isinstance(e, int | float) and 1.0 <= e <= 32.0)]:
            raise InputError(f"expansions={strange[0]}: needs numbers from 1 to 32")
        if unknown := [word for word in self.activations if word not in ACTIVATIONS]:
            raise InputError(f"activations={unknown[0]}: use one of {', '.join(ACTIVATIONS)}")
        if any(type(value) is not bool for value in self.squeeze):
            raise InputError(f"squeeze={list(self.squeeze)}: needs True, False or both")
        if self.stride not in (1, 2):
            raise InputError(f"stride={self.stride}: use 1 or 2")


@dataclass(frozen=True)
class Block:
    """What a published network, or a person, says of one block.

    Args:
        kernel: size of the depthwise convolution.
        expansion: how many times as many channels as its input it has inside.
        squeeze: whether it has squeeze-and-excite; None: what its stage has.
        activation: None: what its stage has.
        groups: of its 1x1 convolutions.
    """

    kernel: int = 3
    expansion: float = 6.0
    squeeze: bool | None = None
    activation: str | None = None
    groups: int = 1


Candidate = tuple[int, float, bool, str, int]  # kernel, expansion, squeeze, activation, groups


def candidates_of_block(stage: Stage) -> dict[str, Candidate | None]:
    """The candidates of a block with separate weights, by name; None for the one that leaves it out."""
    made: dict[str, Candidate | None] = {SKIP: None} if stage.skip else {}
    for kernel, squeeze, activation in itertools.product(stage.kernels, stage.squeeze, stage.activations):
        ending = ("_se" if squeeze else "") + (f"_{activation}" if len(stage.activations) > 1 else "")
        if stage.grouped:
            made[f"k{kernel}_e1_g2{ending}"] = (kernel, 1.0, squeeze, activation, 2)
        for expansion in stage.expansions:
            ratio = f"{expansion:g}".replace(".", "_")  # a module's name has no dot: k3_e2_5 widens 2.5 times
            made[f"k{kernel}_e{ratio}{ending}"] = (kernel, expansion, squeeze, activation, 1)
    return made
