"""Everything that says how good an architecture is, in one place: `supernet.scores`.

A score is a function from an architecture to what was measured (`Measured`). A table is one (`supernet.tables`), and so
is any function of your own.
"""

from supernet.estimation.benchmark_tables import NasBench201Seconds, TableScore
from supernet.estimation.scores import Measured, Score
from supernet.estimation.short_training import Fidelity, ShortTrainingScore
from supernet.estimation.space_costs import CostScore, SpaceCosts
from supernet.estimation.supernet_accuracy import RecalibratedScore, SupernetScore
from supernet.estimation.zero_cost.score import ZeroCostScore

__all__ = [
    "CostScore",
    "Fidelity",
    "Measured",
    "NasBench201Seconds",
    "RecalibratedScore",
    "Score",
    "ShortTrainingScore",
    "SpaceCosts",
    "SupernetScore",
    "TableScore",
    "ZeroCostScore",
]


def __dir__() -> list[str]:
    """What the tab key offers."""
    return __all__
