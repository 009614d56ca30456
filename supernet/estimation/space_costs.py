"""The costs of the networks of a space, by name: those that can be counted, and a person's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from supernet.estimation.costs import multiply_adds, parameters, stored_bytes
from supernet.estimation.forms import Cost, Form, form_of
from supernet.estimation.latency.table import LatencyTable
from supernet.estimation.memory import chained_peak, peak_memory
from supernet.estimation.parts import Recorded, Variant, record
from supernet.estimation.scores import Measured
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision
from supernet.space.choosers import Decided
from supernet.space.heads import Outputs
from supernet.space.operations import OPERATIONS, Operation

GivenCost = Form | Cost | LatencyTable
"""A person's own cost: a form, a function from an architecture to a number, or a table of measured times."""

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
        outputs: how many classes, or the head that makes something else of the maps.
        factories: what builds each operation, by name; None: the library's own.
        own: more costs by name: a `Form`, a function from an architecture to a number, or a table of measured times.
        made: more costs by name: functions that make a form of the recorded parts, such as a table of measured times.

    Raises:
        InputError: a cost is asked for that is not known, or a person's own is none of the three, or gives no number.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> costs = SpaceCosts(NasBench201(channels=8, cells=1, stages=1, nodes=2), (1, 8, 8), outputs=10)
        >>> cell = from_string("|nor_conv_1x1~0|+|none~0|skip_connect~1|")
        >>> costs.of("macs", cell), costs.of("parameters", cell)
        (8784.0, 274.0)
    """

    space: Any
    shape: tuple[int, int, int]
    outputs: Outputs
    factories: Mapping[str, Operation] | None = None
    own: Mapping[str, GivenCost] = field(default_factory=dict)
    made: Mapping[str, Callable[[Recorded], Form | Cost]] = field(default_factory=dict)
    _asked: dict[tuple[str, Architecture], float] = field(default_factory=dict, init=False, repr=False)
    _known: dict[str, Form | Cost] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, cost in self.own.items():
            if not isinstance(cost, Form | LatencyTable) and not callable(cost):
                raise InputError(
                    f"costs: {name!r} is {str(cost)[:60]}; needs a table (supernet.read_latencies(FILE)), a form, or a "
                    "function from an architecture to a number"
                )

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
            published = any(answered not in cost.decisions for answered in architecture)  # "normal/output", for example
            if not published or self.named(name) not in _COUNTS:
                return cost.of(architecture)
            cost = self._whole(self.named(name))
        if (name, architecture) not in self._asked:
            self._asked[name, architecture] = _number(name, cost(architecture))
        return self._asked[name, architecture]

    def __getitem__(self, name: str) -> Form | Cost:
        """The cost of this name, as a form where it is one, else as a function of an architecture."""
        name = self.named(name)
        own = self.own.get(name)
        if own is not None and not isinstance(own, LatencyTable):
            return own
        if name not in self._known:
            self._known[name] = self._made(name)
        return self._known[name]

    def _made(self, name: str) -> Form | Cost:
        if isinstance(table := self.own.get(name), LatencyTable):
            return table.form(self.recorded)
        if name in self.made:
            return self.made[name](self.recorded)
        return self._memory() if name == "memory" else self._added(name)

    def form(self, name: str) -> Form:
        """The cost of this name as a form.

        Raises:
            InputError: it is none: a person's function, or the memory of networks whose parts run side by side.
        """
        cost = self[name]
        if not isinstance(cost, Form):
            raise InputError(f"{name}: is known of whole networks alone, and has no gradient; use another cost here")
        return cost

    def counted(self, name: str) -> Form:
        """The form of what adds up and can be counted, "parameters" or "macs", whatever a person calls so."""
        if (key := f"counted {name}") not in self._known:
            self._known[key] = self._added(name)
        found = self._known[key]
        assert isinstance(found, Form)
        return found

    @property
    def footprint(self) -> Form:
        """The bytes of what goes in and comes out of all parts together: small where a network is small."""
        if "footprint" not in self._known:
            self._known["footprint"] = form_of(self.recorded, partial(_probed, peak_memory))
        found = self._known["footprint"]
        assert isinstance(found, Form)
        return found

    def knows(self, name: str) -> bool:
        """Whether there is a cost of this name."""
        return name in {*COUNTED, *self.own, *self.made}

    def named(self, name: str) -> str:
        """The proper name of a cost.

        Raises:
            InputError: there is none.
        """
        proper = name if self.knows(name) else _OTHER_NAMES.get(name, name)
        if self.knows(proper):
            return proper
        if proper == "latency":
            raise InputError("latency: needs a table of measured times; supernet-latency makes one for this device")
        known = ", ".join(sorted({*COUNTED, *self.own, *self.made}))
        raise InputError(f"{name}: no cost has this name; known: {known}")

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """The decisions of the space, by name."""
        return self.recorded.decisions

    @cached_property
    def recorded(self) -> Recorded:
        """The parts of the space's networks."""
        return record(self.space, self.shape, self.outputs, self.factories)

    def network(self, architecture: Architecture) -> nn.Module:
        """The network of an architecture, without memory for its weights."""
        with torch.device("meta"):
            chooser = Decided(architecture, self.factories or OPERATIONS)
            network: nn.Module = self.space.network(chooser, self.shape, self.outputs)
        return network.eval()

    def _added(self, name: str) -> Form:
        """The form of what adds up; what the network around the parts has of it is counted on the whole of that."""
        recorded, count = self.recorded, _COUNTS[name]
        rest = recorded.around(lambda skeleton, image: float(count(skeleton, image)))
        for part in recorded.parts:
            if part.inside:
                for sizes in rest:
                    answers = tuple(a for name, a in zip(recorded.sizes, sizes, strict=True) if name in part.decisions)
                    rest[sizes] -= _probed(count, part.variants[answers])
        return form_of(recorded, partial(_probed, count), outside=rest)

    def _memory(self) -> Form | Cost:
        around = self.recorded.around(lambda skeleton, image: chained_peak(skeleton, image) or math.nan)
        if any(math.isnan(peak) for peak in around.values()):
            return self._whole("memory")
        return form_of(self.recorded, partial(_probed, peak_memory), outside=around, combine="max")

    def _whole(self, name: str) -> Cost:
        """Counts the networks one by one."""
        image = torch.zeros(1, *self.shape, device="meta")
        return lambda architecture: float(_COUNTS[name](self.network(architecture), image))


_COUNTS: Mapping[str, Callable[..., int]] = {
    "parameters": lambda module, *inputs: parameters(module),
    "macs": multiply_adds,
    "memory": peak_memory,
    "bytes": lambda module, *inputs: stored_bytes(module),
}


def _number(name: str, cost: object) -> float:
    """What a person's function gave. Raises InputError where it is no number; a limit would let that pass."""
    try:
        number = float(cost)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise InputError(f"costs: {name!r} gives {str(cost)[:40]} for an architecture; it has to give a number")
    return number


def _probed(count: Callable[..., int], variant: Variant) -> float:
    return float(count(variant.module, *variant.inputs()))


@dataclass(frozen=True)
class CostScore:
    """Counts the network of an architecture: the baseline that every estimate of accuracy has to beat.

    Args:
        space: in the size that is counted.
        shape: the (channels, height, width) of an image.
        outputs: how many classes, or the head that makes something else of the maps.
        factories: what builds each operation, by name; None: the library's own.
        names: of the costs.
        costs: of the space, where they are known already, with more than can be counted; None: made of the rest.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> score = CostScore(NasBench201(channels=8, cells=1, stages=1, nodes=2), (1, 8, 8), 10)
        >>> dict(score(from_string("|none~0|+|none~0|none~1|")).values)
        {'parameters': 194.0, 'macs': 4688.0}
    """

    space: Any
    shape: tuple[int, int, int]
    outputs: Outputs
    factories: Mapping[str, Operation] | None = None
    names: tuple[str, ...] = ("parameters", "macs")
    costs: SpaceCosts | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = self.costs or SpaceCosts(self.space, self.shape, self.outputs, self.factories)
        object.__setattr__(self, "costs", known)

    def __call__(self, architecture: Architecture) -> Measured:
        """What the plain network costs, by the names of the costs."""
        assert self.costs is not None
        return Measured({name: self.costs.of(name, architecture) for name in self.names})
