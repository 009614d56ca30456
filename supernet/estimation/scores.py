"""Performance estimation: a score measures how good an architecture is, and what the measurement cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from supernet.space.architecture import Architecture


@dataclass(frozen=True)
class Measured:
    """The measured values of one architecture, and what the measurement cost.

    Args:
        values: numbers by name, such as "accuracy" in [0, 1] or a table's columns; NaN where a number is not known.
        cost: what it took, by name, such as "images" that a network looked at; empty for what was only looked up.

    Example:
        >>> Measured({"accuracy": 0.5}, {"images": 128}).values["accuracy"]
        0.5
    """

    values: Mapping[str, float]
    cost: Mapping[str, float] = field(default_factory=dict)


Score = Callable[[Architecture], Measured]
"""Architecture -> what is known of it: a table, the supernet, the supernet with its norms recalibrated."""
