"""Everything that proposes architectures, in one place: `supernet.explorers`.

An explorer is handed over as its class, or with other settings by `functools.partial`:

    supernet.explore(space, score, explorer=supernet.explorers.LocalSearch, evaluations=100)
    supernet.explore(space, score, explorer=partial(supernet.explorers.AgingEvolution, population=10, sample=3), ...)
"""

from supernet.search.black_box.bananas import Bananas
from supernet.search.black_box.evolution import AgingEvolution, SposEvolution
from supernet.search.black_box.explorers import Explorer, RandomExplorer
from supernet.search.black_box.halving import Asha, Hyperband, SuccessiveHalving, halving
from supernet.search.black_box.local_search import LocalSearch
from supernet.search.black_box.pareto import Nsga2
from supernet.search.black_box.policy import ControllerExplorer, PolicyExplorer
from supernet.search.black_box.rungs import Ladder

__all__ = [
    "AgingEvolution",
    "Asha",
    "Bananas",
    "ControllerExplorer",
    "Explorer",
    "Hyperband",
    "Ladder",
    "LocalSearch",
    "Nsga2",
    "PolicyExplorer",
    "RandomExplorer",
    "SposEvolution",
    "SuccessiveHalving",
    "halving",
]


def __dir__() -> list[str]:
    """What the tab key offers."""
    return __all__
