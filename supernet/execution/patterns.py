"""Recognises from its modules how an operation is built, such as a separable convolution, for all executors.

Operations are not recognised by their names. A user's operation that is built like a separable convolution or like a
normalised pooling is recognised as one. Anything that differs, such as a subclass with its own `forward`, is not.
Widths play no part: a block that changes the number of channels is recognised like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from supernet.runtime.parameter_slots import hooks_of
from supernet.space.operations import FactorizedReduce, Zero


@dataclass(frozen=True)
class Nothing:
    """An operation that gives zeros, whatever comes in."""


@dataclass(frozen=True)
class Skip:
    """An operation that gives what comes in."""


@dataclass(frozen=True)
class Pooling:
    """A pooling, and after it a batch norm without scale and shift if there is one.

    Args:
        pool: the pooling, which is called as it is.
        norm: the batch norm; None where there is none.
        key: poolings of one key compute the same, so that one of them is enough for a state.

    Example:
        >>> plain, normed = nn.MaxPool2d(3), nn.Sequential(nn.MaxPool2d(3), nn.BatchNorm2d(8, affine=False))
        >>> recognise(plain).key == recognise(normed).key
        True
    """

    pool: nn.Module
    norm: nn.BatchNorm2d | None
    key: Hashable


@dataclass(frozen=True)
class Reduction:
    """A factorised reduction: ReLU, 1x1 convolutions of even and of odd pixels, batch norm.

    Args:
        module: the reduction itself.

    Example:
        >>> recognise(FactorizedReduce(8, 16)).norm.num_features
        16
    """

    module: FactorizedReduce

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch norm at its end."""
        return self.module.norm


@dataclass(frozen=True)
class Pointwise:
    """ReLU, 1x1 convolution of stride 1, batch norm.

    Args:
        convolution: without bias, and of all channels.
        norm: the batch norm.
    """

    convolution: nn.Conv2d
    norm: nn.BatchNorm2d


@dataclass(frozen=True)
class SeparableStep:
    """A depthwise convolution and a 1x1 convolution, after a batch norm and a ReLU or not.

    Args:
        norm: the batch norm before them, which a ReLU follows; None where there is neither.
        depthwise: without bias, padded by zeros.
        pointwise: of stride 1, without bias.
    """

    norm: nn.BatchNorm2d | None
    depthwise: nn.Conv2d
    pointwise: nn.Conv2d


@dataclass(frozen=True)
class Chain:
    """ReLU, then steps one after the other, then a batch norm.

    Args:
        steps: separable steps, and modules of any kind, which are called.
        norm: the batch norm at the end.

    Example:
        >>> from supernet.space.operations import OPERATIONS, Site
        >>> steps = recognise(OPERATIONS["sep_conv_3x3"](Site(8, 8))).steps
        >>> [step.norm is None for step in steps]  # the first reads the ReLU, the second the norm between the two
        [True, False]
    """

    steps: tuple[SeparableStep | nn.Module, ...]
    norm: nn.BatchNorm2d


@dataclass(frozen=True)
class Unknown:
    """Any other operation; executors call its module.

    Args:
        module: the operation.
    """

    module: nn.Module


Operation = Nothing | Skip | Pooling | Reduction | Pointwise | Chain | Unknown


def recognise(module: nn.Module) -> Operation:
    """Says what an operation is made of, so that an executor can compute it in a cheaper way than by calling it.

    Args:
        module: an operation of an edge, or what a cell does to one of its inputs.

    Returns:
        The structure, which holds the module's own parts. `Unknown` where it is none of those above.

    Example:
        >>> from supernet.space.operations import OPERATIONS, Site
        >>> separable = recognise(OPERATIONS["sep_conv_3x3"](Site(channels_in=8, channels_out=16)))
        >>> [step.pointwise.out_channels for step in separable.steps]
        [8, 16]
        >>> recognise(nn.Conv2d(8, 8, 3))
        Unknown(module=Conv2d(8, 8, kernel_size=(3, 3), stride=(1, 1)))
    """
    if type(module) is Zero:
        return Nothing()
    if type(module) is nn.Identity:
        return Skip()
    if type(module) is FactorizedReduce and _reduces(module):
        return Reduction(module)
    parts = list(module) if type(module) is nn.Sequential else [module]
    return _pooling(parts) or _chain(parts) or Unknown(module)


def _pooling(parts: Sequence[nn.Module]) -> Pooling | None:
    if not 1 <= len(parts) <= 2 or type(parts[0]) not in (nn.MaxPool2d, nn.AvgPool2d):
        return None
    settings = {k: v for k, v in vars(parts[0]).items() if not k.startswith("_") and k != "training"}
    norm = _norm(parts[-1])
    if settings.get("return_indices") or (len(parts) == 2 and (norm is None or norm.affine)):
        return None
    # Not `repr`: that of an average pooling leaves out how it counts the padding.
    return Pooling(parts[0], norm, (type(parts[0]), *sorted((k, str(v)) for k, v in settings.items())))


def _chain(parts: Sequence[nn.Module]) -> Pointwise | Chain | None:
    # A ReLU in place would overwrite the state, which other edges read, too.
    if len(parts) < 2 or type(parts[0]) is not nn.ReLU or parts[0].inplace or (norm := _norm(parts[-1])) is None:
        return None
    if len(parts) == 3 and (convolution := _one_by_one(parts[1], stride=1)):
        return Pointwise(convolution, norm)
    return Chain(_steps(parts[1:-1]), norm)


def _steps(modules: Sequence[nn.Module]) -> tuple[SeparableStep | nn.Module, ...]:
    steps: list[SeparableStep | nn.Module] = []
    left = list(modules)
    while left:
        norm = _norm(left[0])
        if pair := _separable(left[:2]):
            steps.append(SeparableStep(None, *pair))
            left = left[2:]
        elif norm and [type(module) for module in left[1:2]] == [nn.ReLU] and (pair := _separable(left[2:4])):
            steps.append(SeparableStep(norm, *pair))
            left = left[4:]
        else:
            steps.append(left.pop(0))
    return tuple(steps)


def _separable(modules: Sequence[nn.Module]) -> tuple[nn.Conv2d, nn.Conv2d] | None:
    """These two, where they are a depthwise convolution and a 1x1 convolution, both without bias."""
    if len(modules) != 2 or type(modules[0]) is not nn.Conv2d or not (second := _one_by_one(modules[1], stride=1)):
        return None
    first = modules[0]
    depthwise = first.groups == first.in_channels == first.out_channels and first.padding_mode == "zeros"
    return (first, second) if depthwise and first.bias is None and not isinstance(first.padding, str) else None


def _one_by_one(module: nn.Module, stride: int) -> nn.Conv2d | None:
    """`module` if it is a 1x1 convolution of all channels, without bias."""
    if type(module) is not nn.Conv2d or module.bias is not None:
        return None
    plain = module.kernel_size == (1, 1) and module.padding == (0, 0) and module.groups == 1
    return module if plain and module.stride == (stride, stride) else None


def _reduces(module: FactorizedReduce) -> bool:
    convolutions = _one_by_one(module.even, stride=2) and _one_by_one(module.odd, stride=2)
    plain = type(module.relu) is nn.ReLU and not module.relu.inplace and _norm(module.norm) is not None
    return convolutions is not None and plain


def _norm(module: nn.Module) -> nn.BatchNorm2d | None:
    """`module` if it is a batch norm that averages its statistics exponentially."""
    return module if type(module) is nn.BatchNorm2d and module.momentum is not None else None


_POOLED = ("kernel_size", "stride", "padding", "ceil_mode")
_READ: dict[type[nn.Module], Callable[[dict[str, Any]], Any]] = {
    nn.Conv2d: itemgetter(
        *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    ),
    nn.BatchNorm2d: itemgetter("num_features", "eps", "affine"),
    nn.ReLU: itemgetter("inplace"),
    nn.MaxPool2d: itemgetter(*_POOLED, "dilation", "return_indices"),
    nn.AvgPool2d: itemgetter(*_POOLED, "count_include_pad", "divisor_override"),
}
"""The settings that recognition depends on. Executors read all others (training, momentum) anew in every pass."""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Structure:
    """What a module is built of: whether it still is so, and whether anyone listens to its parts.

    What was recognised of a module is right only as long as nobody puts a part in place of another, or changes a
    setting of one. Reading all that again takes less time than recognising it again.

    Args:
        module: what is looked at now, all its parts included; the module itself is not kept.

    Example:
        >>> module = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
        >>> structure = Structure(module)
        >>> module[0].stride = (2, 2)
        >>> structure.unchanged()
        False
    """

    def __init__(self, module: nn.Module) -> None:
        # Without the module itself: what a weak dictionary keeps for a key must not keep the key alive.
        self._modules = list(module.modules())[1:]
        self._types = list(map(type, self._modules))
        holders = [m for m in self._modules if m._modules or isinstance(m, _CONTAINERS)]
        self._children = [(m._modules, tuple(m._modules.values())) for m in (module, *holders)]
        self._places = [(vars(m), _READ[type(m)]) for m in self._modules if type(m) in _READ]
        self._settings = [get(place) for place, get in self._places]
        # Of these, `None` means something: no bias, or another average of the statistics.
        self._unbiased = [vars(m) for m in self._modules if type(m) is nn.Conv2d and m.bias is None]
        self._exponential = [vars(m) for m in self._modules if _norm(m)]
        self._hooks = [hooks for m in self._modules for hooks in hooks_of(m)]

    def unchanged(self) -> bool:
        """Whether the module still consists of the same parts with the same settings."""
        return (
            list(map(type, self._modules)) == self._types  # a parametrised module changes its class
            and all(tuple(now.values()) == then for now, then in self._children)
            and [get(place) for place, get in self._places] == self._settings
            and all(place["_parameters"]["bias"] is None for place in self._unbiased)
            and all(place["momentum"] is not None for place in self._exponential)
        )

    def hooked(self) -> list[nn.Module]:
        """The parts that have hooks, which only fire where the part itself is called."""
        return [m for m in self._modules if any(hooks_of(m))] if any(self._hooks) else []


class Recognised:
    """The operations of one module, such as a cell, each recognised when it is asked for first.

    Args:
        module: the whole, whose structure is that of now.

    Example:
        >>> edges = nn.ModuleList([nn.Identity(), nn.Tanh()])
        >>> known = Recognised.of(edges)
        >>> [known.operation(edge) for edge in edges]
        [Skip(), Unknown(module=Tanh())]
    """

    def __init__(self, module: nn.Module) -> None:
        self.structure = Structure(module)
        self._operations: dict[nn.Module, Operation] = {}
        self._hooked: list[nn.Module] = []

    @classmethod
    def of(cls, module: nn.Module) -> Recognised:
        """Finds what is known of a module, for one pass.

        Args:
            module: such as a cell.

        Returns:
            What an earlier pass recognised, or a new one where the module has changed since.
        """
        known = _KNOWN.get(module)
        if known is None or not known.structure.unchanged():
            known = _KNOWN[module] = cls(module)
        known._hooked = known.structure.hooked()
        return known

    def operation(self, part: nn.Module) -> Operation:
        """Says what a part is made of.

        Args:
            part: an operation within the module.

        Returns:
            Its structure; `Unknown` where it has hooks, so that it is called.
        """
        if self._hooked and any(module in self._hooked for module in part.modules()):
            return Unknown(part)
        if part not in self._operations:
            self._operations[part] = recognise(part)
        return self._operations[part]


_KNOWN: WeakKeyDictionary[nn.Module, Recognised] = WeakKeyDictionary()
