"""The costs of the networks of a space, by name: those that can be counted, and a person's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from supernet.estimation.costs import multiply_adds, parameters, stored_bytes
from supernet.estimation.forms import Cost, Form, form_of
from supernet.estimation.memory import chained_peak, peak_memory
from supernet.estimation.parts import Recorded, Variant, record
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision
from supernet.space.choosers import Decided
from supernet.space.operations import OPERATIONS, Operation

COUNTED = ("parameters", "macs", "memory", "bytes")
_OTHER_NAMES = {"params": "parameters"}


@dataclass(frozen=True, eq=False)
class SpaceCosts:
    """What the final networks of a space cost. Each cost is worked out when it is first asked for.

    Counted are "parameters", "macs" (multiply-adds for one image), "memory" (the peak of the activations, in bytes) and
    "bytes" (of the stored parameters and buffers). Others are given, such as a latency in milliseconds.

    Args:
        space: in the size of the final network, because that is what runs on the device.
        shape: of an image: channels, height, width.
        classes: how many.
        factories: what builds each operation, by name; None: the library's own.
        own: more costs by name: a `Form`, or a function from an architecture to a number.
        made: more costs by name: functions that make a form of the recorded parts, such as a table of measured times.

    Raises:
        InputError: a cost is asked for that is not known.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> costs = SpaceCosts(NasBench201(channels=8, cells=1, stages=1, nodes=2), (1, 8, 8), classes=10)
        >>> cell = from_string("|nor_conv_1x1~0|+|none~0|skip_connect~1|")
        >>> costs.of("macs", cell), costs.of("parameters", cell)
        (8784.0, 274.0)
    """

    space: Any
    shape: tuple[int, int, int]
    classes: int
    factories: Mapping[str, Operation] | None = None
    own: Mapping[str, Form | Cost] = field(default_factory=dict)
    made: Mapping[str, Callable[[Recorded], Form | Cost]] = field(default_factory=dict)
    _asked: dict[tuple[str, Architecture], float] = field(default_factory=dict, init=False, repr=False)
    _known: dict[str, Form | Cost] = field(default_factory=dict, init=False, repr=False)

    def of(self, name: str, architecture: Architecture) -> float:
        """What an architecture costs.

        Args:
            name: of the cost.
            architecture: of the space.

        Returns:
            The number.
        """
        cost = self[name]
        if isinstance(cost, Form):
            return cost.of(architecture)
        if (name, architecture) not in self._asked:
            self._asked[name, architecture] = float(cost(architecture))
        return self._asked[name, architecture]

    def __getitem__(self, name: str) -> Form | Cost:
        """The cost of this name, as a form where it is one, else as a function of an architecture."""
        name = self.named(name)
        if name in self.own:
            return self.own[name]
        if name not in self._known:
            self._known[name] = self.made[name](self.recorded) if name in self.made else _COUNTS[name](self)
        return self._known[name]

    def form(self, name: str) -> Form:
        """The cost of this name as a form.

        Raises:
            InputError: it is none: a person's function, or the memory of networks whose parts run side by side.
        """
        cost = self[name]
        if not isinstance(cost, Form):
            raise InputError(f"{name}: is known of whole networks alone, and has no gradient; use another cost here")
        return cost

    def named(self, name: str) -> str:
        """The proper name of a cost.

        Raises:
            InputError: there is none.
        """
        known = {*COUNTED, *self.own, *self.made}
        proper = name if name in known else _OTHER_NAMES.get(name, name)
        if proper == "latency" and proper not in known:
            raise InputError("latency: needs a table of measured times; supernet-latency makes one for this device")
        if proper not in known:
            raise InputError(f"{name}: no cost has this name; known: {', '.join(sorted(known))}")
        return proper

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """The decisions of the space, by name."""
        return self.recorded.decisions

    @cached_property
    def recorded(self) -> Recorded:
        """The parts of the space's networks."""
        return record(self.space, self.shape, self.classes, self.factories)

    def network(self, architecture: Architecture) -> nn.Module:
        """The network of an architecture, without memory for its weights."""
        with torch.device("meta"):
            chooser = Decided(architecture, self.factories or OPERATIONS)
            network: nn.Module = self.space.network(chooser, self.shape, self.classes)
        return network.eval()

    def _added(self, count: Callable[..., int]) -> Form:
        """The form of what adds up; what the network around the parts has of it is counted on the whole of that."""

        def probe(variant: Variant) -> float:
            return float(count(variant.module, *variant.inputs()))

        recorded = self.recorded
        rest = recorded.around(count)
        for part in recorded.parts:
            if not set(part.decisions) - set(recorded.sizes):
                for sizes in rest:
                    answers = tuple(a for name, a in zip(recorded.sizes, sizes, strict=True) if name in part.decisions)
                    rest[sizes] -= probe(part.variants[answers])
        return form_of(recorded, probe, outside=rest)

    def _memory(self) -> Form | Cost:
        around = self.recorded.around(lambda skeleton, image: chained_peak(skeleton, image) or math.nan)
        if any(math.isnan(peak) for peak in around.values()):
            image = torch.zeros(1, *self.shape, device="meta")
            return lambda architecture: float(peak_memory(self.network(architecture), image))
        return form_of(self.recorded, _peak, outside=around, combine="max")


def _peak(variant: Variant) -> float:
    return float(peak_memory(variant.module, *variant.inputs()))


_COUNTS: Mapping[str, Callable[[SpaceCosts], Form | Cost]] = {
    "parameters": lambda costs: costs._added(lambda module, *inputs: parameters(module)),
    "macs": lambda costs: costs._added(multiply_adds),
    "memory": lambda costs: costs._memory(),
    "bytes": lambda costs: costs._added(lambda module, *inputs: stored_bytes(module)),
}
