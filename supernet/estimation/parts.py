"""Lists the parts of the networks of a space, by asking its ordinary builder with a chooser that records.

A part is a module that stands at one place of the network: a candidate of an edge or of a block, or a piece that every
network has, such as the stem. What it is depends on a few decisions at most, so that the costs of all networks follow
from the costs of some hundred parts (`forms`). No space carries code about costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.space.architecture import Condition, Decision
from supernet.space.choices import Total
from supernet.space.operations import OPERATIONS, Operation, Site

Shape = tuple[int, ...]
"""The size of a tensor without the batch: (channels, height, width), or (features,)."""


@dataclass(frozen=True, eq=False)
class Variant:
    """One form of a part: a plain module, and what it is given.

    Args:
        key: says in words what the module is and what it is given; equal variants have equal keys in every process.
        module: on torch's device "meta", in evaluation mode: it has sizes and no numbers.
        shapes: of its inputs, without the batch.
    """

    key: str
    module: nn.Module
    shapes: tuple[Shape, ...]

    def inputs(self, batch: int = 1, device: torch.device | str = "meta") -> tuple[Tensor, ...]:
        """Makes what the module can be called with.

        Args:
            batch: how many images.
            device: where the tensors are to be.

        Returns:
            Zeros, (batch, *shape) for each of the shapes.
        """
        return tuple(torch.zeros(batch, *shape, device=device) for shape in self.shapes)


@dataclass(frozen=True, eq=False)
class Part:
    """A place of the network, with every module that can stand there.

    Args:
        name: of the place, such as "cells.0.edges.0-2".
        decisions: the names of those on whose answers the module depends; () for what every network has.
        when: on what else it depends whether there is anything, such as ("normal/2", ("0",)) for an edge.
        variants: answers, in the order of `decisions` -> what then stands there; where an answer is missing, nothing.
    """

    name: str
    decisions: tuple[str, ...]
    when: tuple[Condition, ...]
    variants: Mapping[tuple[str, ...], Variant]


@dataclass(frozen=True, eq=False)
class Recorded:
    """All parts of the networks of a space.

    Args:
        space: its name.
        decisions: by name, as an architecture answers them.
        parts: in the order in which they run.
        skeleton: the network without its open parts, which give empty tensors of the right size in it.
        shape: of an image: channels, height, width.
    """

    space: str
    decisions: Mapping[str, Decision]
    parts: tuple[Part, ...]
    skeleton: nn.Module
    shape: tuple[int, int, int]

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """Each variant once, by its key: what a table of measurements needs a row for."""
        return {variant.key: variant for part in self.parts for variant in part.variants.values()}


def record(
    space: Any, shape: tuple[int, int, int], classes: int, factories: Mapping[str, Operation] | None = None
) -> Recorded:
    """Asks the builder of a space for its final networks, and notes what can stand at each place.

    Args:
        space: in the size of the final network, such as `Darts(channels=36, cells=20)`.
        shape: of an image: channels, height, width.
        classes: how many.
        factories: what builds each operation, by name; None: the library's own.

    Returns:
        The parts, on torch's device "meta": no memory is taken for weights.

    Raises:
        InputError: an open part runs twice in one pass, or the space asks for an unknown operation.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201
        >>> recorded = record(NasBench201(channels=4, cells=1, stages=1, nodes=1), (3, 8, 8), classes=10)
        >>> [(part.name, len(part.variants)) for part in recorded.parts]
        [('stem', 1), ('blocks.0.edges.0-1', 5), ('last', 1), ('classifier', 1)]
        >>> recorded.parts[1].variants["nor_conv_1x1",].key
        'Sequential(ReLU, Conv2d(4>4 1x1), BatchNorm2d(4)) @ 4x8x8'
    """
    with torch.device("meta"):
        skeleton = space.network(_Recorder(factories or OPERATIONS), shape, classes).eval()
    parts = []
    for name, module, shapes in _runs(skeleton, shape):
        if isinstance(module, _Open):
            parts.append(module.part(name, shapes))
        else:
            parts.append(Part(name, (), (), {(): _variant(module, shapes)}))
    for name in (n for n, module in skeleton.named_modules() if isinstance(module, _Open)):
        if sum(part.name == name for part in parts) != 1:
            raise InputError(f"space={space.name}: {name} has to run once in each pass, so that it can be counted")
    return Recorded(space.name, _decisions(skeleton), tuple(parts), skeleton, shape)


class _Open(nn.Module):
    """Stands at an open place of the network, and gives what any of its candidates would give.

    The candidates are no children of it, so that the network around them can be counted without them.
    """

    def __init__(self, decision: Decision, candidates: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.decision, self._candidates = decision, dict(candidates)
        self._made: Tensor | None = None

    def forward(self, *inputs: Tensor) -> Tensor:
        """Its second pass takes no operation: what is counted then is the network around it."""
        if self._made is None:
            made: Tensor = next(iter(self._candidates.values()))(*inputs)
            self._made = made
            return made
        return inputs[0].new_empty(self._made.shape)

    def part(self, name: str, shapes: tuple[Shape, ...]) -> Part:
        variants: dict[tuple[str, ...], Variant] = {}
        for option, module in self._candidates.items():
            variants[option,] = _variant(module, shapes)
        return Part(name, (self.decision.name,), self.decision.when, variants)


class _Joined(Total):
    """Adds what comes over all edges of a node."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


@dataclass(frozen=True)
class _Recorder:
    """A chooser that keeps every option, and puts a module at each open place that knows all of its candidates."""

    factories: Mapping[str, Operation]
    searching: bool = field(default=False, init=False)  # so that norms are those of the final network
    _built: dict[tuple[str, Site], nn.Module] = field(default_factory=dict)

    def operation(self, decision: Decision, site: Site) -> nn.Module:
        return _Open(decision, {option: self._operation(decision.name, option, site) for option in decision.answers})

    def inputs(self, decision: Decision) -> tuple[tuple[str, ...], nn.Module]:
        return decision.options, _Joined(decision)

    def _operation(self, name: str, option: str, site: Site) -> nn.Module:
        """A module that serves at every place of its kind, because it holds no numbers."""
        if option not in self.factories:
            raise InputError(f"operation {option!r} at {name} is unknown; known: {', '.join(self.factories)}")
        if (option, site) not in self._built:
            self._built[option, site] = self.factories[option](site).eval()
        return self._built[option, site]


def _decisions(skeleton: nn.Module) -> dict[str, Decision]:
    """The questions whose modules are a part of the network, in the order in which a supernet has them."""
    found: dict[str, Decision] = {}
    for module in skeleton.modules():
        if isinstance(module, _Open | _Joined):
            known = found.setdefault(module.decision.name, module.decision)
            if known != module.decision:
                raise InputError(f"{known.name!r} is asked twice with different options; give each its own name")
    return found


Call = tuple[str, nn.Module, tuple[Shape, ...]]
"""(name of a module, the module, the sizes of what it was given)."""


def _runs(skeleton: nn.Module, shape: tuple[int, int, int]) -> list[Call]:
    """Runs the network once, and lists its parts: open places, and the largest modules that hold none of these.

    Modules that are given something else than tensors, and those that return what they are given, are no parts: a node
    that adds what its edges bring adds less in a final network.
    """
    calls: list[Call] = []
    handles = []
    for name, module in _closed("", skeleton):

        def note(own: nn.Module, given: Any, made: Any, name: str = name) -> None:
            plain = all(isinstance(x, Tensor) for x in given) and not any(made is x for x in given)
            if plain or isinstance(own, _Open):
                calls.append((name, own, tuple(tuple(x.shape[1:]) for x in given)))

        handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad():
            skeleton(torch.zeros(1, *shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _closed(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The open places, and the largest modules with a forward pass of their own in which there is none."""
    is_list = isinstance(module, nn.ModuleList | nn.ModuleDict)
    if isinstance(module, _Open) or not (is_list or any(isinstance(m, _Open) for m in module.modules())):
        yield name, module
        return
    for child, inner in module.named_children():
        yield from _closed(f"{name}.{child}" if name else child, inner)


def _variant(module: nn.Module, shapes: tuple[Shape, ...]) -> Variant:
    given = " + ".join("x".join(map(str, shape)) for shape in shapes)
    return Variant(f"{described(module)} @ {given}", module, shapes)


def described(module: nn.Module) -> str:
    """Says in one line what a module is made of. Modules that compute the same with other numbers have equal lines.

    Args:
        module: any module.

    Returns:
        The class names, sizes and settings of the module and all that is in it.

    Example:
        >>> described(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.ReLU()))
        'Sequential(Conv2d(8>8 3x3 pad1 groups8), ReLU)'
    """
    kind = type(module).__name__
    if isinstance(module, nn.Conv2d):
        return f"{kind}({_convolution(module)})"
    if isinstance(module, nn.Linear):
        return f"{kind}({module.in_features}>{module.out_features}{'' if module.bias is None else ' bias'})"
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return f"{kind}({module.num_features}{'' if module.affine else ' fixed'})"
    own = [module.extra_repr()] if module.extra_repr() else []
    if not type(module).__module__.startswith("torch."):
        own += [f"{name}={value}" for name, value in vars(module).items() if _is_setting(name, value)]
    inside = [described(child) for child in module.children()]
    return f"{kind}({', '.join(own + inside)})" if own or inside else kind


def _is_setting(name: str, value: Any) -> bool:
    plain = isinstance(value, bool | int | float | str | tuple)
    return plain and not name.startswith("_") and name not in ("training", "call_super_init", "dump_patches")


def _convolution(conv: nn.Conv2d) -> str:
    """Its channels and kernel, and what is not usual: 8>16 3x3 stride2 pad1."""

    def sides(name: str, value: Any, usual: int) -> list[str]:
        height, width = value if isinstance(value, tuple) else (value, value)
        if height == width == usual:
            return []
        return [f"{name}{height}" if height == width else f"{name}{height}x{width}"]

    words = [f"{conv.in_channels}>{conv.out_channels}", "x".join(map(str, conv.kernel_size))]
    words += [*sides("stride", conv.stride, 1), *sides("pad", conv.padding, 0), *sides("dilation", conv.dilation, 1)]
    words += [] if conv.groups == 1 else [f"groups{conv.groups}"]
    return " ".join([*words, *([] if conv.bias is None else ["bias"])])
