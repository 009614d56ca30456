"""Inverted residual blocks (MobileNetV2, Sandler et al. 2018), plain ones and such whose sizes are open.

A block widens its input with a 1x1 convolution, filters each channel with a depthwise one, weighs the channels by
squeeze-and-excite where it has that (Hu et al. 2018), and narrows them with a 1x1 convolution without activation. Where
size and width stay, its input is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.space.architecture import Condition, Decision
from supernet.space.dropout import DropPath
from supernet.space.elastic import Kernel, Number, Size, first_of, fitted, identity_map, masked, norm_of_first

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
}


class Hardsigmoid(nn.Hardsigmoid):
    """relu6(x + 3) / 6, which can be differentiated twice; PyTorch's own cannot be, and that is what is exported.

    Example:
        >>> import torch
        >>> x = torch.tensor(1.0, requires_grad=True)
        >>> (slope,) = torch.autograd.grad(Hardsigmoid()(x) ** 2, x, create_graph=True)
        >>> torch.autograd.grad(slope, x)[0]  # 2 / 36
        tensor(0.0556)
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_exporting():
            return F.relu6(x + 3.0) / 6.0
        return F.hardsigmoid(x)


GATES: dict[str, Callable[[], nn.Module]] = {"sigmoid": nn.Sigmoid, "hardsigmoid": Hardsigmoid}


def rounded(count: float, divisor: int = 8) -> int:
    """Rounds a number of channels to a multiple of a divisor, and never down by more than a tenth (MobileNet's rule).

    Args:
        count: of channels.
        divisor: 1 or more.

    Returns:
        The multiple.

    Example:
        >>> rounded(88.08), rounded(12), rounded(18)
        (88, 16, 24)
    """
    made = max(divisor, int(count + divisor / 2) // divisor * divisor)
    return made + divisor if made < 0.9 * count else made


@dataclass(frozen=True)
class Style:
    """What all blocks of a network have in common.

    Args:
        norm_eps: is added to the variance in batch norms.
        norm_momentum: the share of the newest batch in their running statistics.
        squeeze_from: the squeeze has a quarter of the "expanded" channels, in eights (MobileNetV3), or of the "input"
            ones, rounded down (EfficientNet).
        squeeze_activation: between the two layers of squeeze-and-excite, such as "relu".
        gate: what makes weights of its output: "sigmoid" or "hardsigmoid".
        widens_always: a block of expansion 1 has its first 1x1 convolution, too (FBNet).
        kernel_transforms: nested kernels are learnt linear maps of larger ones (once-for-all).

    Raises:
        InputError: a word is none of those.
    """

    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    squeeze_from: Literal["expanded", "input"] = "expanded"
    squeeze_activation: str = "relu"
    gate: str = "hardsigmoid"
    widens_always: bool = False
    kernel_transforms: bool = False

    def __post_init__(self) -> None:
        allowed = {"squeeze_from": ("expanded", "input"), "squeeze_activation": ACTIVATIONS, "gate": GATES}
        for name, words in allowed.items():
            if (word := getattr(self, name)) not in words:
                raise InputError(f"{name}={word}: use one of {', '.join(words)}")
        if not (0.0 < self.norm_eps < 1.0 and 0.0 < self.norm_momentum <= 1.0):
            raise InputError(f"norm_eps={self.norm_eps}, norm_momentum={self.norm_momentum}: need to lie in (0, 1)")

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """A batch norm of this style."""
        return nn.BatchNorm2d(channels, eps=self.norm_eps, momentum=self.norm_momentum)

    def squeezed(self, channels_in: int, expanded: int) -> int:
        """The channels between the two layers of squeeze-and-excite."""
        return rounded(expanded // 4) if self.squeeze_from == "expanded" else max(1, channels_in // 4)


@dataclass(frozen=True)
class Form:
    """The sizes of one plain block.

    Args:
        channels_in: of what comes in.
        expanded: channels between the two 1x1 convolutions.
        channels_out: of what goes out.
        kernel: size of the depthwise convolution, odd.
        stride: by what height and width are divided.
        squeeze: the block has squeeze-and-excite.
        activation: after the first two convolutions.
        residual: the input is added; it has the size and the width of the output.
        groups: of both 1x1 convolutions; channels are shuffled between them (FBNet).
    """

    channels_in: int
    expanded: int
    channels_out: int
    kernel: int = 3
    stride: int = 1
    squeeze: bool = False
    activation: str = "relu"
    residual: bool = False
    groups: int = 1


class SqueezeExcite(nn.Module):
    """Weighs channels by what their means over the image say (Hu et al. 2018).

    Args:
        channels: of the input.
        squeezed: channels between its two layers.
        style: activation and gate.
    """

    def __init__(self, channels: int, squeezed: int, style: Style) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = ACTIVATIONS[style.squeeze_activation]()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = GATES[style.gate]()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.activation(self.reduce(x.mean(dim=(2, 3), keepdim=True)))))


class Shuffle(nn.Module):
    """Channel i of each group beside the others' (ShuffleNet, Zhang et al. 2018).

    Args:
        groups: how many.

    Example:
        >>> import torch
        >>> Shuffle(2)(torch.arange(4.0).view(1, 4, 1, 1)).flatten()
        tensor([0., 2., 1., 3.])
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


def _convolution(form: Form, style: Style, stage: str) -> nn.Sequential:
    """One of the three convolutions of a block, with its norm."""
    if stage == "expand":
        convolution = nn.Conv2d(form.channels_in, form.expanded, 1, groups=form.groups, bias=False)
    elif stage == "depthwise":
        settings = form.kernel, form.stride, form.kernel // 2
        convolution = nn.Conv2d(form.expanded, form.expanded, *settings, groups=form.expanded, bias=False)
    else:
        convolution = nn.Conv2d(form.expanded, form.channels_out, 1, groups=form.groups, bias=False)
    return nn.Sequential(convolution, style.norm(convolution.out_channels))


class InvertedResidual(nn.Module):
    """An inverted residual block of fixed sizes.

    Args:
        form: its sizes.
        style: what it has in common with the other blocks.
        depth: how deep in the network it is, in [0, 1]: it is skipped with this share of the drop path's probability.

    Example:
        >>> import torch
        >>> block = InvertedResidual(Form(8, 24, 16, kernel=5, stride=2, squeeze=True), Style())
        >>> block(torch.zeros(2, 8, 9, 9)).shape
        torch.Size([2, 16, 5, 5])
    """

    def __init__(self, form: Form, style: Style, depth: float = 1.0) -> None:
        super().__init__()
        self.form = form
        widens = style.widens_always or form.expanded != form.channels_in
        self.expand = _convolution(form, style, "expand") if widens else None
        self.shuffle = Shuffle(form.groups) if form.groups > 1 else None
        self.depthwise = _convolution(form, style, "depthwise")
        squeezed = style.squeezed(form.channels_in, form.expanded)
        self.squeeze = SqueezeExcite(form.expanded, squeezed, style) if form.squeeze else None
        self.project = _convolution(form, style, "project")
        self.activation = ACTIVATIONS[form.activation]()
        self.drop_path = DropPath(depth) if form.residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels_in, height, width) to (batch, channels_out, height / stride, width / stride)."""
        y = x if self.expand is None else self.activation(self.expand(x))
        y = y if self.shuffle is None else self.shuffle(y)
        y = self.activation(self.depthwise(y))
        y = self.project(y if self.squeeze is None else self.squeeze(y))
        return y if self.drop_path is None else x + self.drop_path(y)


@dataclass(frozen=True)
class OpenForm:
    """The sizes of a block, some of them open.

    Args:
        channels_in: of what comes in.
        expanded: channels between the two 1x1 convolutions.
        channels_out: of what goes out.
        kernel: size of the depthwise convolution.
        squeeze: whether it has squeeze-and-excite.
        activation: after the first two convolutions.
        stride: by what height and width are divided.
        residual: the input is added.
    """

    channels_in: Size
    expanded: Size
    channels_out: Size
    kernel: Number
    squeeze: Number
    activation: Number
    stride: int
    residual: bool

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All on which the block depends."""
        sizes = [
            choice.decision for size in (self.channels_in, self.expanded, self.channels_out) for choice in size.choices
        ]
        numbers = [d for number in (self.kernel, self.squeeze, self.activation) for d in number.decisions]
        return tuple({decision.name: decision for decision in (*sizes, *numbers)}.values())

    def of(self, answers: Mapping[str, str]) -> Form:
        """The sizes under these answers."""
        return Form(
            self.channels_in.of(answers),
            self.expanded.of(answers),
            self.channels_out.of(answers),
            int(self.kernel.of(answers)),
            self.stride,
            bool(self.squeeze.of(answers)),
            str(self.activation.of(answers)),
            self.residual,
        )

    def largest(self) -> Form:
        """The sizes of the weights: all others are parts of them."""
        sizes = self.channels_in.largest, self.expanded.largest, self.channels_out.largest
        kernel = max(int(value) for value in self.kernel.values.values())
        activation = str(next(iter(self.activation.values.values())))
        return Form(*sizes, kernel, self.stride, any(self.squeeze.values.values()), activation, self.residual)


class ElasticInvertedResidual(nn.Module):
    """An inverted residual block of open sizes, whose smaller forms are parts of the largest (`elastic`).

    Its weights have the names of the plain block's.

    Args:
        form: its sizes.
        style: what it has in common with the other blocks.
        depth: how deep in the network it is, in [0, 1], as in `InvertedResidual`.
        when: the conditions under which it is there.

    Raises:
        InputError: a form has no first convolution and another has one.
    """

    def __init__(self, form: OpenForm, style: Style, depth: float = 1.0, when: tuple[Condition, ...] = ()) -> None:
        super().__init__()
        self.form, self.style, self.depth, self.when, self.decisions = form, style, depth, when, form.decisions
        largest, expanded, given = form.largest(), form.expanded, form.channels_in
        widths = expanded.combined(given, lambda wide, narrow: int(wide != narrow))
        if widths.open and not style.widens_always:
            raise InputError(
                "expansions: 1 and others cannot be nested, as 1 has no convolution; use sharing='separate'"
            )
        widens = style.widens_always or bool(widths.largest)
        self.expand = _convolution(largest, style, "expand") if widens else None
        self.depthwise = _convolution(largest, style, "depthwise")
        self._squeezed = given.combined(expanded, style.squeezed)
        self.squeeze = SqueezeExcite(expanded.largest, self._squeezed.largest, style) if largest.squeeze else None
        self.project = _convolution(largest, style, "project")
        sizes = [int(value) for value in form.kernel.values.values()][:-1] if style.kernel_transforms else []
        self.transforms = nn.ModuleDict({str(size): identity_map(size) for size in sizes})
        self._kernel = Kernel(form.kernel, dict(self.transforms.items()))
        self._activations = {str(word): ACTIVATIONS[str(word)]() for word in form.activation.values.values()}
        self.drop_path = DropPath(depth) if form.residual else None

    def plain(self, answers: Mapping[str, str]) -> InvertedResidual:
        """Builds the plain block of this form, with new weights."""
        return InvertedResidual(self.form.of(answers), self.style, self.depth)

    def channels_in(self, answers: Mapping[str, str]) -> int:
        """The channels that the plain block of this form is given."""
        return self.form.channels_in.of(answers)

    @torch.no_grad()
    def state(self, answers: Mapping[str, str]) -> dict[str, Tensor]:
        """The parameters and statistics that the plain block of this form has within this one."""
        with torch.device("meta"):
            plain = self.plain(answers)
        kernel = self._kernel.of(_layers(self.depthwise)[0].weight, answers)
        return first_of(self, plain, depthwise_0_weight=kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels_in, height, width) to (batch, channels_out, height / stride, width / stride)."""
        form = self.form
        now = form.channels_in.now(), form.expanded.now(), form.channels_out.now(), self._squeezed.now()
        one_form = None not in now and None not in (form.kernel.now(), form.squeeze.now(), form.activation.now())
        largest = form.channels_in.largest, form.expanded.largest, form.channels_out.largest, self._squeezed.largest
        given, wide, out, squeezed = (count or 0 for count in (now if one_form else largest))
        x = fitted(x, given)
        y = x
        if self.expand is not None:
            y = self._activated(_pointwise(self.expand, y, wide))
        convolution, norm = _layers(self.depthwise)
        kernel = self._kernel.now(convolution.weight[:wide])
        y = F.conv2d(y, kernel, None, convolution.stride, kernel.shape[-1] // 2, 1, wide)
        y = self._activated(norm_of_first(norm, y))
        y = y if one_form else masked(y, form.expanded)
        y = self._excited(y, wide, squeezed, one_form)
        y = _pointwise(self.project, y, out)
        y = y if one_form else masked(y, form.channels_out)
        return y if self.drop_path is None else x + self.drop_path(y)

    def _activated(self, x: Tensor) -> Tensor:
        if (word := self.form.activation.now()) is not None:
            made: Tensor = self._activations[str(word)](x)
            return made
        terms = [share * self._activations[str(word)](x) for share, word in self.form.activation.shares()]
        return sum(terms[1:], terms[0])

    def _excited(self, x: Tensor, wide: int, squeezed: int, one_form: bool) -> Tensor:
        has = self.form.squeeze.now()
        if self.squeeze is None or has is False:
            return x
        first, last = self.squeeze.reduce, self.squeeze.expand
        assert first.bias is not None
        assert last.bias is not None
        y = F.conv2d(x.mean(dim=(2, 3), keepdim=True), first.weight[:squeezed, :wide], first.bias[:squeezed])
        y = self.squeeze.activation(y)
        y = y if one_form else masked(y, self._squeezed)
        gate = self.squeeze.gate(F.conv2d(y, last.weight[:wide, :squeezed], last.bias[:wide]))
        if has is None:
            gate = sum((share * (gate if with_gate else 1.0) for share, with_gate in self.form.squeeze.shares()), 0.0)
        return x * gate


def _layers(layer: nn.Sequential) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution, norm = layer
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return convolution, norm


def _pointwise(layer: nn.Sequential, x: Tensor, out: int) -> Tensor:
    """The first `out` channels of a 1x1 convolution of all channels of `x`, which may be its first ones, normalised."""
    convolution, norm = _layers(layer)
    return norm_of_first(norm, F.conv2d(x, convolution.weight[:out, : x.shape[1]]))
