"""Scores made of others: several as one, and what an architecture costs as a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supernet.estimation.scores import Measured, Score
from supernet.estimation.space_costs import SpaceCosts
from supernet.space.architecture import Architecture


@dataclass(frozen=True)
class Joined:
    """Several scores as one, which gives the values of all: for objectives such as accuracy and latency.

    Args:
        scores: each measures an architecture; where two give a value of one name the first counts.

    Example:
        >>> joined = Joined((lambda _: Measured({"accuracy": 0.5}), lambda _: Measured({"macs": 3.0})))
        >>> dict(joined(Architecture("mine", {})).values)
        {'accuracy': 0.5, 'macs': 3.0}
    """

    scores: tuple[Score, ...]

    def __call__(self, architecture: Architecture) -> Measured:
        """All values, and what each of them cost."""
        values, costs = dict[str, float](), dict[str, float]()
        for measured in (score(architecture) for score in self.scores):
            values |= {name: value for name, value in measured.values.items() if name not in values}
            for name, cost in measured.cost.items():
                costs[name] = costs.get(name, 0.0) + cost
        return Measured(values, costs)


@dataclass(frozen=True)
class CostsOf:
    """What an architecture costs, as a score.

    Args:
        costs: of the final networks of the space.
        names: of the costs, such as "macs" and "latency".

    Raises:
        InputError: a cost is not known.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> costs = SpaceCosts(NasBench201(channels=8, cells=1, stages=1, nodes=2), (1, 8, 8), classes=10)
        >>> dict(CostsOf(costs, ("macs",))(from_string("|nor_conv_1x1~0|+|none~0|skip_connect~1|")).values)
        {'macs': 8784.0}
    """

    costs: SpaceCosts
    names: Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(self.costs.named, self.names)))

    def __call__(self, architecture: Architecture) -> Measured:
        """The costs by name."""
        return Measured({name: self.costs.of(name, architecture) for name in self.names})
