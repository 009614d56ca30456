"""Several scores as one."""

from __future__ import annotations

from dataclasses import dataclass

from supernet.estimation.scores import Measured, Score
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
