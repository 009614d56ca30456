"""What a mobile network has besides its blocks: stem and head, stages of open depth, resized images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.space.architecture import Condition, Decision
from supernet.space.dropout import DropPath
from supernet.space.elastic import Number, Size, first_of, fitted, norm_of_first
from supernet.space.inverted_residual import ACTIVATIONS, Style


def convolution(
    channels_in: int, channels_out: int, kernel: int, stride: int, activation: str, style: Style
) -> nn.Sequential:
    """Convolution, batch norm, activation.

    Args:
        channels_in: of what comes in.
        channels_out: of what goes out.
        kernel: size of the convolution.
        stride: of the convolution.
        activation: after the norm.
        style: of the norm.

    Returns:
        The module.
    """
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        style.norm(channels_out),
        ACTIVATIONS[activation](),
    )


class Resize(nn.Module):
    """Resizes images to squares, of one side or of an open one.

    Sides are not mixed: of several with a weight, as when a supernet is validated as a whole, the largest counts.

    Args:
        side: of the square, in pixels.
        size: the (height, width) of the images that come in, which stay as they are where that is the square's.

    Example:
        >>> Resize(Number({"16": 16}), (8, 8))(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(self, side: Number, size: Sequence[int]) -> None:
        super().__init__()
        self.side, self._size = side, tuple(size)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to (batch, channels, side, side)."""
        side = self._now()
        if tuple(images.shape[2:]) == (side, side):
            return images
        return F.interpolate(images, (side, side), mode="bilinear", antialias=min(self._size) > side)

    def _now(self) -> int:
        choice = self.side.choice
        if choice is None:
            return int(next(iter(self.side.values.values())))
        learns = choice.weights is not None and choice.weights.requires_grad
        if not choice.single or learns:
            raise InputError(
                "resolutions: several cannot be mixed or learnt by gradients; use one, or a search that draws single "
                "paths, such as spos"
            )
        return max(int(side) for side, on in zip(self.side.values.values(), choice.on, strict=True) if on)


class MobileStage(nn.Module):
    """Blocks one after the other, as many as the depth says; a mixture of depths is that of what comes after each.

    Args:
        blocks: as many as the largest depth.
        depth: how many of them run.
        halves: the first block halves height and width.
    """

    def __init__(self, blocks: nn.ModuleList, depth: Number, halves: bool = False) -> None:
        super().__init__()
        self.blocks, self.depth, self.halves = blocks, depth, halves

    def forward(self, x: Tensor) -> Tensor:
        depth = self.depth.now()
        if depth is not None:
            for block in list(self.blocks)[: int(depth)]:
                x = block(x)
            return x
        shares = {int(value): share for share, value in self.depth.shares()}
        total: Tensor | None = None
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in shares:
                total = shares[number] * x if total is None else total + shares[number] * x
        assert total is not None
        return total


class ElasticHead(nn.Module):
    """A 1x1 convolution, batch norm and activation after a stage whose width is open. Weights are named as in a plain
    one.

    Args:
        given: the channels of what comes in.
        channels: of what goes out; 0: nothing is done but to bring the channels to their largest number.
        activation: after the norm.
        style: of the norm.
    """

    when: tuple[Condition, ...] = ()

    def __init__(self, given: Size, channels: int, activation: str, style: Style) -> None:
        super().__init__()
        if not channels:
            raise InputError("head=0: the width of the last stage is open, which needs a head; give it channels")
        self._given, self._settings = given, (channels, activation, style)
        made = convolution(given.largest, channels, 1, 1, activation, style)
        for name, module in made.named_children():
            self.add_module(name, module)
        self.decisions: tuple[Decision, ...] = tuple(choice.decision for choice in given.choices)

    def plain(self, answers: Mapping[str, str]) -> nn.Module:
        """Builds the plain module of this form, with new weights."""
        channels, activation, style = self._settings
        return convolution(self._given.of(answers), channels, 1, 1, activation, style)

    def channels_in(self, answers: Mapping[str, str]) -> int:
        """The channels that the plain module of this form is given."""
        return self._given.of(answers)

    def state(self, answers: Mapping[str, str]) -> dict[str, Tensor]:
        """The parameters and statistics that the plain module of this form has within this one."""
        with torch.device("meta"):
            plain = self.plain(answers)
        return first_of(self, plain)

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, activation = self.children()
        now = self._given.now()
        x = fitted(x, self._given.largest if now is None else now)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        made: Tensor = activation(norm_of_first(norm, F.conv2d(x, conv.weight[:, : x.shape[1]])))
        return made


def initialise(network: nn.Module) -> None:
    """Draws initial weights as MobileNet's authors do: normal, of a variance that keeps that of gradients.

    Args:
        network: its convolutions are drawn anew, its classifier from a narrow normal distribution.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and module.bias is not None and not module.weight.is_meta:
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)


def drop_deeper_blocks_more(blocks: Sequence[nn.Module]) -> None:
    """Lets the share of dropped blocks grow with depth, from 0 at the first one (Huang et al. 2016; EfficientNet).

    Args:
        blocks: of a network, from the first to the last; such as do nothing have been left out and do not count.
    """
    there = [block for block in blocks if not isinstance(block, nn.Identity)]
    for place, block in enumerate(there):
        for module in block.modules():
            if isinstance(module, DropPath):
                module.share = place / len(there)
