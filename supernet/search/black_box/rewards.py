"""Rewards: what a policy learns from, made of how good an architecture is and of what it costs.

Costs are those of the operations, which are added up, or a cost of the space by its name, such as "latency". To add a
reward, write a function or a frozen dataclass: (quality, architecture, decisions) -> a number, larger where better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, runtime_checkable

import torch

from supernet.estimation.limits import Limits
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision, matters

Reward = Callable[[float, Mapping[str, tuple[str, ...]], Mapping[str, Decision]], float]
"""(quality such as the accuracy, the options kept by decision, all decisions by name) -> reward."""


@runtime_checkable
class Costed(Protocol):
    """A reward that asks what the networks of a space cost."""

    def in_space(self, limits: Limits | None) -> Reward:
        """The same reward, which knows the costs of a space.

        Args:
            limits: with those costs, and the limits on them; None: nothing is known.

        Raises:
            InputError: a cost is named that is not known.
        """
        ...


@dataclass(frozen=True, eq=False)
class NamedCost:
    """A cost of the networks of a space.

    Args:
        costs: of the space.
        name: of the cost.
    """

    costs: SpaceCosts
    name: str

    def of(self, architecture: Mapping[str, tuple[str, ...]]) -> float:
        """What an architecture costs."""
        return self.costs.of(self.name, Architecture("", architecture))

    def mean(self, decisions: Mapping[str, Decision]) -> float:
        """The mean over architectures whose answers are drawn uniformly, each by itself."""
        even = {
            name: torch.tensor([float(option in d.answers) for option in d.options], dtype=torch.float64)
            for name, d in decisions.items()
            if d.role != "inputs"
        }
        uniform = {name: weight / weight.sum() for name, weight in even.items()}
        return float(self.costs.form(self.name)(uniform, decisions))


Costs = Mapping[str, float] | NamedCost | str
"""Operation -> its cost; or the name of a cost of the space, as it is given and as it is known."""

KILO_PARAMETERS: Mapping[str, float] = {
    **dict.fromkeys(("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "noise"), 0.0),
    "sep_conv_3x3": 0.8,
    "sep_conv_5x5": 1.312,
    "sep_conv_7x7": 2.08,
    "dil_conv_3x3": 0.4,
    "dil_conv_5x5": 0.656,
    "conv_7x1_1x7": 3.584,
    "nor_conv_1x1": 0.256,
    "nor_conv_3x3": 2.304,
}
"""Thousands of convolution weights that each operation has at 16 channels and stride 1."""


def quality(quality: float, architecture: Mapping[str, tuple[str, ...]], decisions: Mapping[str, Decision]) -> float:
    """Gives the quality itself, whatever an architecture costs (ENAS).

    Args:
        quality: such as the accuracy.
        architecture: the options kept, by decision.
        decisions: all of the space, by name.

    Returns:
        `quality`.

    Example:
        >>> quality(0.9, {}, {})
        0.9
    """
    return quality


@dataclass(frozen=True)
class AbsoluteReward:
    """quality + `weight` |cost / target - 1|: what costs more or less than the target is punished.

    Source: Bender, Liu, Chen, Chu, Cheng, Kindermans and Le 2020, "Can Weight Sharing Outperform Random Architecture
    Search? An Investigation With TuNAS" (CVPR), equation 3, with the weight of the authors' code. Their costs are
    latencies on a phone, their target is that of a known network.

    Args:
        costs: operation -> its cost in any unit, 0 or more; or the name of a cost of the space, such as "latency".
        target: the cost that is wanted, above 0; None: the limit on the cost, and where there is none, the mean cost of
            architectures drawn uniformly.
        weight: of the distance from the target, 0 or less.

    Raises:
        InputError: a number is out of its range; when it is called, an operation of an edge has no cost.

    Example:
        >>> edges = {name: Decision(name, ("a", "b")) for name in ("x", "y")}
        >>> reward = AbsoluteReward({"a": 1.0, "b": 3.0})
        >>> reward(0.9, {"x": ("a",), "y": ("b",)}, edges), reward(0.9, {"x": ("a",), "y": ("a",)}, edges)
        (0.9, 0.85)
    """

    costs: Costs = field(default_factory=lambda: KILO_PARAMETERS)
    target: float | None = None
    weight: float = -0.1

    def __post_init__(self) -> None:
        _check_costs(self.costs)
        if self.target is not None and not 0.0 < self.target < math.inf:
            raise InputError(f"target={self.target}: needs a cost above 0, or none for the mean of drawn architectures")
        if not -math.inf < self.weight <= 0.0:
            raise InputError(
                f"weight={self.weight}: needs 0 or less, such as -0.1; what costs more is to be worth less"
            )

    def __call__(
        self, quality: float, architecture: Mapping[str, tuple[str, ...]], decisions: Mapping[str, Decision]
    ) -> float:
        target = mean_cost(decisions, self.costs) if self.target is None else self.target
        if target <= 0.0:
            raise InputError(
                "target=None: all operations cost 0, so that no mean can be a target; give other costs, such as 'macs'"
            )
        return quality + self.weight * abs(cost_of(architecture, decisions, self.costs) / target - 1.0)

    def in_space(self, limits: Limits | None) -> Self:
        """The same reward, with the named cost of the space."""
        return replace(self, costs=_known(self.costs, limits), target=self.target or _limit(self.costs, limits))


@dataclass(frozen=True)
class PowerReward:
    """quality (reference / cost) ** `exponent` (ProxylessNAS-R).

    Source: Cai, Zhu and Han 2019, "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware" (ICLR),
    the authors' search/nas_manager.py, whose reward it is where a target hardware is given.

    Args:
        costs: operation -> its cost in any unit, 0 or more; or the name of a cost of the space, such as "latency".
        reference: the cost at which the reward is the quality, above 0; None: the limit on the cost.
        exponent: how much the cost counts, 0 or more.
        always: the cost of what every network has, such as the stem; above 0 where an operation costs nothing.

    Raises:
        InputError: a number is out of its range; when it is called, an operation of an edge has no cost.

    Example:
        >>> edge = {"x": Decision("x", ("a", "b"))}
        >>> reward = PowerReward({"a": 1.0, "b": 4.0}, reference=2.0, exponent=0.5)
        >>> reward(0.5, {"x": ("b",)}, edge) / reward(0.5, {"x": ("a",)}, edge)
        0.5
    """

    costs: Costs
    reference: float | None = None
    exponent: float = 0.1
    always: float = 0.0

    def __post_init__(self) -> None:
        _check_costs(self.costs)
        if self.reference is not None and not 0.0 < self.reference < math.inf:
            raise InputError(f"reference={self.reference}: needs a cost above 0")
        if not 0.0 <= self.exponent < math.inf:
            raise InputError(f"exponent={self.exponent}: needs 0 or more, such as 0.1")
        free = isinstance(self.costs, Mapping) and not min(self.costs.values(), default=0.0) > 0.0
        if not (math.ulp(0.0) if free else 0.0) <= self.always < math.inf:
            raise InputError(f"always={self.always}: needs a cost above 0, because an architecture could cost nothing")

    def __call__(
        self, quality: float, architecture: Mapping[str, tuple[str, ...]], decisions: Mapping[str, Decision]
    ) -> float:
        if self.reference is None:
            raise InputError("reference=None: needs a number, or a limit on this cost")
        cost = self.always + cost_of(architecture, decisions, self.costs)
        return float(quality * (self.reference / cost) ** self.exponent)

    def in_space(self, limits: Limits | None) -> Self:
        """The same reward, with the named cost of the space."""
        return replace(self, costs=_known(self.costs, limits), reference=self.reference or _limit(self.costs, limits))


def _known(costs: Costs, limits: Limits | None) -> Costs:
    if not isinstance(costs, str):
        return costs
    if limits is None:
        raise InputError(f"costs={costs}: nothing is known of costs here; give the strategy limits")
    try:
        return NamedCost(limits.costs, limits.costs.named(costs))
    except InputError as error:
        raise InputError(f"costs={error}") from None


def _limit(costs: Costs, limits: Limits | None) -> float | None:
    """The limit on a named cost; None where there is none."""
    return limits.most.get(limits.costs.named(costs)) if isinstance(costs, str) and limits is not None else None


def cost_of(architecture: Mapping[str, tuple[str, ...]], decisions: Mapping[str, Decision], costs: Costs) -> float:
    """Adds up the costs of the operations that an architecture keeps, or asks the cost of the space.

    Args:
        architecture: the options kept, by decision.
        decisions: all of the space, by name.
        costs: operation -> its cost; or a cost of the space.

    Returns:
        The sum over the edges that the architecture keeps, or what its network costs.

    Raises:
        InputError: an operation of an edge has no cost.

    Example:
        >>> cost_of({"x": ("b",)}, {"x": Decision("x", ("a", "b"))}, {"a": 1.0, "b": 4.0})
        4.0
    """
    if isinstance(costs, NamedCost):
        return costs.of(architecture)
    each = _of_operations(costs)
    edges = _edges(decisions, each)
    return float(
        sum(each[option] for d in edges if matters(d, architecture) for option in architecture.get(d.name, ()))
    )


def mean_cost(decisions: Mapping[str, Decision], costs: Costs) -> float:
    """Computes the mean cost of architectures that are drawn uniformly (`random_architecture`).

    Args:
        decisions: all of the space, by name.
        costs: operation -> its cost; or a cost of the space.

    Returns:
        The mean of `cost_of`, computed from probabilities.

    Example:
        >>> mean_cost({"x": Decision("x", ("none", "a", "b"))}, {"none": 0.0, "a": 1.0, "b": 4.0})
        2.5
    """

    def asked(decision: Decision) -> float:
        """How likely a decision matters; its conditions are independent of each other in the spaces there are."""
        there = [(decisions[name], options) for name, options in decision.when if name in decisions]
        return math.prod(asked(d) * min(1.0, d.keep * len(options) / len(d.answers)) for d, options in there)

    if isinstance(costs, NamedCost):
        return costs.mean(decisions)
    each = _of_operations(costs)
    edges = _edges(decisions, each)
    return sum(asked(d) * d.keep * sum(each[o] for o in d.answers) / len(d.answers) for d in edges)


def _of_operations(costs: Mapping[str, float] | str) -> Mapping[str, float]:
    if isinstance(costs, str):
        raise InputError(f"costs={costs}: nothing is known of costs here; give the strategy limits")
    return costs


def _edges(decisions: Mapping[str, Decision], costs: Mapping[str, float]) -> list[Decision]:
    """The decisions about operations, each of which has a cost."""
    edges = [decision for decision in decisions.values() if decision.role == "operation"]
    for decision in edges:
        if missing := [option for option in decision.options if option not in costs]:
            raise InputError(
                f"costs: none for {missing[0]!r}; give each of {', '.join(decision.options)} one, or name a cost of "
                "the space, such as 'macs'"
            )
    return edges


def _check_costs(costs: Costs) -> None:
    for name, cost in costs.items() if isinstance(costs, Mapping) else ():
        if not 0.0 <= cost < math.inf:
            raise InputError(f"costs.{name}={cost}: needs 0 or more")
