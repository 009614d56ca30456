"""Lists the parts of the networks of a space, by asking its ordinary builder with a chooser that records.

A part is a module that stands at one place of the network: a candidate of an edge or of a block, or a piece that every
network has, such as the stem. What it is depends on a few decisions at most, so that the costs of all networks follow
from the costs of some hundred parts (`forms`). No space carries code about costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from supernet.estimation.descriptions import described
from supernet.runtime.errors import InputError
from supernet.space.architecture import Condition, Decision
from supernet.space.choices import NumberChoice, Total
from supernet.space.choosers import NO_OPERATIONS
from supernet.space.elastic import Part as ElasticPart
from supernet.space.heads import Outputs
from supernet.space.mobile_parts import Resize
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
        inside: whether the skeleton holds it; one that may be absent or differ is left out there.
    """

    name: str
    decisions: tuple[str, ...]
    when: tuple[Condition, ...]
    variants: Mapping[tuple[str, ...], Variant]
    inside: bool = False


@dataclass(frozen=True, eq=False)
class Recorded:
    """All parts of the networks of a space.

    Args:
        space: its name.
        decisions: by name, as an architecture answers them.
        parts: in the order in which they run.
        skeleton: the network without its open parts, which give empty tensors of the right size in it.
        shape: of an image: channels, height, width.
        sizes: the decisions that change the size of the image, such as ("resolution",).
    """

    space: str
    decisions: Mapping[str, Decision]
    parts: tuple[Part, ...]
    skeleton: nn.Module
    shape: tuple[int, int, int]
    sizes: tuple[str, ...] = ()

    @cached_property
    def variants(self) -> dict[str, Variant]:
        """Each variant once, by its key: what a table of measurements needs a row for."""
        return {variant.key: variant for part in self.parts for variant in part.variants.values()}

    def around(self, count: Callable[[nn.Module, Tensor], float]) -> dict[tuple[str, ...], float]:
        """Counts something of the network around the open parts.

        Args:
            count: (skeleton, image) -> a number.

        Returns:
            Answers to the decisions of `sizes` -> the number.
        """
        return {answers: count(self.skeleton, image) for answers, image in self.sized()}

    def sized(self) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Runs through the answers to `sizes`, with the skeleton set to them, and an image on the meta device."""
        yield from _sized(self.skeleton, self.shape, self.sizes)


def record(
    space: Any, shape: tuple[int, int, int], outputs: Outputs, factories: Mapping[str, Operation] | None = None
) -> Recorded:
    """Asks the builder of a space for its final networks, and notes what can stand at each place.

    Args:
        space: in the size of the final network, such as `Darts(channels=36, cells=20)`.
        shape: of an image: channels, height, width.
        outputs: how many classes, or the head that makes something else of the maps.
        factories: what builds each operation, by name; None: the library's own.

    Returns:
        The parts, on torch's device "meta": no memory is taken for weights.

    Raises:
        InputError: an open part does not run once in each pass, or the space asks for an unknown operation.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201
        >>> recorded = record(NasBench201(channels=4, cells=1, stages=1, nodes=1), (3, 8, 8), outputs=10)
        >>> [(part.name, len(part.variants)) for part in recorded.parts]
        [('stem', 1), ('blocks.0.edges.0-1', 5), ('last', 1), ('classifier', 1)]
        >>> recorded.parts[1].variants["nor_conv_1x1",].key
        'Sequential(ReLU, Conv2d(4>4 1x1), BatchNorm2d(4)) @ 4x8x8'
    """
    with torch.device("meta"):
        skeleton = space.network(_Recorder(factories or OPERATIONS), shape, outputs).eval()
        numbers = [module for module in skeleton.modules() if isinstance(module, NumberChoice)]
        _open_elastic_parts(skeleton)
    sizes = _sizes(skeleton, numbers)
    runs = {answers: _runs(skeleton, image) for answers, image in _sized(skeleton, shape, sizes)}
    parts = []
    for place, (name, module, _) in enumerate(next(iter(runs.values()))):
        parts.append(_part(name, module, sizes, {answers: run[place] for answers, run in runs.items()}))
    for name in (n for n, module in skeleton.named_modules() if isinstance(module, _Open)):
        if sum(part.name == name for part in parts) != 1:
            raise InputError(f"space={space.name}: {name} has to run once in each pass, so that it can be counted")
    return Recorded(space.name, _decisions(skeleton), tuple(parts), skeleton, shape, sizes)


class _Open(nn.Module):
    """Stands at an open place of the network, and gives what any of its forms would give.

    These are no children of it, so that the network around them can be counted without them.

    Args:
        decisions: on whose answers the form depends.
        when: on what else it depends whether there is anything.
        forms: answers -> the module.
        channels: answers -> how many channels it is given; none: as many as come in.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        when: tuple[Condition, ...],
        forms: Mapping[tuple[str, ...], nn.Module],
        channels: Mapping[tuple[str, ...], int] | None = None,
    ) -> None:
        super().__init__()
        self.channels = dict(channels or {})
        self.decisions, self.when, self.forms = tuple(decisions), when, dict(forms)
        self._made: dict[Shape, Tensor] = {}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Gives the output of the last form, which has the most channels. From the second pass on no operation runs:
        what is counted then is the network around it."""
        given = tuple(inputs[0].shape)
        if given not in self._made:
            made: Tensor = list(self.forms.values())[-1](*inputs)
            self._made[given] = made
            return made
        return inputs[0].new_empty(self._made[given].shape)


class _Joined(Total):
    """Adds what comes over all edges of a node."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision


@dataclass(frozen=True)
class _Recorder:
    """A chooser that keeps every option, and puts a module at each open place that knows all of its forms."""

    factories: Mapping[str, Operation]
    searching: bool = field(default=False, init=False)  # so that norms are those of the final network
    _built: dict[tuple[str, Site], nn.Module] = field(default_factory=dict)

    def operation(self, decision: Decision, site: Site, own: Mapping[str, Operation] = NO_OPERATIONS) -> nn.Module:
        forms: dict[tuple[str, ...], nn.Module] = {}
        for option in decision.answers:
            forms[option,] = self._operation(decision.name, option, site, own)
        return _Open((decision,), decision.when, forms)

    def inputs(self, decision: Decision) -> tuple[tuple[str, ...], nn.Module]:
        return decision.options, _Joined(decision)

    def number(self, decision: Decision) -> tuple[tuple[str, ...], NumberChoice | None]:
        choice = NumberChoice(decision, single=True)
        _set(choice, decision.options[-1])
        return decision.options, choice

    def _operation(self, name: str, option: str, site: Site, own: Mapping[str, Operation]) -> nn.Module:
        """A module; one that everybody can have serves at every place of its kind, because it holds no numbers."""
        if option in own:
            return own[option](site).eval()
        if option not in self.factories:
            raise InputError(f"operation {option!r} at {name} is unknown; known: {', '.join(self.factories)}")
        if (option, site) not in self._built:
            self._built[option, site] = self.factories[option](site).eval()
        return self._built[option, site]


def _set(choice: NumberChoice, option: str) -> None:
    """Lets the network compute one option of a number."""
    choice.on = [own == option for own in choice.decision.options]
    choice.weights = torch.tensor(choice.on, dtype=torch.float32, device="cpu")


def _open_elastic_parts(skeleton: nn.Module) -> None:
    """Puts an open place where a part is whose form depends on numbers, with every form that it can have."""
    for path, module in list(skeleton.named_modules()):
        if isinstance(module, ElasticPart):
            names = [decision.name for decision in module.decisions]
            forms, channels = dict[tuple[str, ...], nn.Module](), dict[tuple[str, ...], int]()
            for answers in product(*(decision.answers for decision in module.decisions)):
                named = dict(zip(names, answers, strict=True))
                forms[answers], channels[answers] = module.plain(named).eval(), module.channels_in(named)
            parent, _, name = path.rpartition(".")
            setattr(skeleton.get_submodule(parent), name, _Open(module.decisions, module.when, forms, channels))


def _sizes(skeleton: nn.Module, numbers: Sequence[NumberChoice]) -> tuple[str, ...]:
    """The numbers on which no part's form or presence depends: those that change the size of the image."""
    parts = [module for module in skeleton.modules() if isinstance(module, _Open)]
    used = {decision.name for part in parts for decision in part.decisions}
    used |= {name for part in parts for name, _ in part.when}
    return tuple(dict.fromkeys(n.decision.name for n in numbers if n.decision.name not in used))


def _sized(
    skeleton: nn.Module, shape: tuple[int, int, int], sizes: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """For each combination of answers to `sizes`, with the skeleton set to them, an image on the meta device."""
    numbers = [module for module in skeleton.modules() if isinstance(module, NumberChoice)]
    known = {number.decision.name: number.decision for number in numbers}
    for answers in product(*(known[name].answers for name in sizes)):
        now = dict(zip(sizes, answers, strict=True))
        for number in (n for n in numbers if n.decision.name in now):
            _set(number, now[number.decision.name])
        yield answers, torch.zeros(1, *shape, device="meta")


def _decisions(skeleton: nn.Module) -> dict[str, Decision]:
    """The questions whose modules are a part of the network, in the order in which a supernet has them."""
    found: dict[str, Decision] = {}
    for module in skeleton.modules():
        asked: tuple[Decision, ...] = ()
        if isinstance(module, _Open):
            asked = tuple(decision for decision in module.decisions if decision.role == "operation")
        elif isinstance(module, _Joined | NumberChoice):
            asked = (module.decision,)
        for decision in asked:
            known = found.setdefault(decision.name, decision)
            if known != decision:
                raise InputError(f"{known.name!r} is asked twice with different options; give each its own name")
    return found


Call = tuple[str, nn.Module, tuple[Shape, ...]]
"""(name of a module, the module, the sizes of what it was given)."""


def _runs(skeleton: nn.Module, image: Tensor) -> list[Call]:
    """Runs the network once, and lists its parts: open places, and the largest modules that hold none of these.

    Modules that are given something else than tensors, and those that return what they are given, are no parts: a node
    that adds what its edges bring adds less in a final network. Resizing of images is none either: it has no weights.
    """
    calls: list[Call] = []
    handles = []
    for name, module in _closed("", skeleton):

        def note(own: nn.Module, given: Any, made: Any, name: str = name) -> None:
            plain = all(isinstance(x, Tensor) for x in given) and not any(made is x for x in given)
            if isinstance(own, _Open) or (plain and not isinstance(own, Resize)):
                calls.append((name, own, tuple(tuple(x.shape[1:]) for x in given)))

        handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad():
            skeleton(image)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _part(name: str, module: nn.Module, sizes: tuple[str, ...], calls: Mapping[tuple[str, ...], Call]) -> Part:
    """The part at one place, of the calls of its module for each answer to `sizes`; those count where they matter."""
    shapes = {answers: call[2] for answers, call in calls.items()}
    if len(set(shapes.values())) == 1:
        sizes, shapes = (), {(): next(iter(shapes.values()))}
    if not isinstance(module, _Open):
        return Part(name, sizes, (), {size: _variant(module, given) for size, given in shapes.items()}, inside=True)
    variants: dict[tuple[str, ...], Variant] = {}
    for answers, form in module.forms.items():
        for size, given in shapes.items():
            own = module.channels.get(answers)
            variants[*answers, *size] = _variant(form, given if own is None else ((own, *given[0][1:]),))
    return Part(name, (*(decision.name for decision in module.decisions), *sizes), module.when, variants)


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
