"""One-shot neural architecture search: a supernet with every operation in it, searched, discretised and retrained.

`supernet.data` reads images, `supernet.spaces` has the spaces and `supernet.methods` the methods of the literature,
`supernet.tables` what is known of architectures, `supernet.scores` and `supernet.explorers` what judges them and what
proposes them, `supernet.tasks` what is learnt. `find` searches, `explore` tries architectures one after the other,
`restore` brings a trained supernet back for that, `pareto` asks it for the best architecture at each cost, `subnetwork`
takes one out of it; `train` makes a model, `judge` tests it, `load` reads one from a file, `load_torchvision` one of
torchvision's; `export` writes one for another runtime.
"""

from supernet import data, explorers, scores, tasks
from supernet.api import find, judge, train
from supernet.deployment.exporting import export
from supernet.deployment.loading import load
from supernet.deployment.torchvision_weights import load_torchvision
from supernet.estimation import benchmark_tables as tables
from supernet.estimation.latency.reading import read_latencies
from supernet.estimation.scores import Measured
from supernet.estimation.space_costs import SpaceCosts
from supernet.exploration import explore, restore
from supernet.familiar import NAS
from supernet.fronts import pareto, subnetwork
from supernet.genotypes.literature import published
from supernet.genotypes.parsing import read_genotype
from supernet.runtime.errors import InputError
from supernet.runtime.processes import Processes, together
from supernet.runtime.workers import Workers
from supernet.search import methods
from supernet.search.recipe import SearchRecipe
from supernet.space import spaces
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.mobile import Mobile
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.space.survey import random_cell
from supernet.training.loop import Recipe
from supernet.training.transfer import Transfer

__all__ = [
    "NAS",
    "Architecture",
    "Darts",
    "Decided",
    "InputError",
    "Measured",
    "Mobile",
    "NasBench201",
    "Processes",
    "Recipe",
    "SearchRecipe",
    "SpaceCosts",
    "Supernet",
    "Transfer",
    "Undecided",
    "Workers",
    "data",
    "explore",
    "explorers",
    "export",
    "find",
    "judge",
    "load",
    "load_torchvision",
    "methods",
    "pareto",
    "published",
    "random_cell",
    "read_genotype",
    "read_latencies",
    "restore",
    "scores",
    "spaces",
    "subnetwork",
    "tables",
    "tasks",
    "together",
    "train",
]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    """What the tab key offers."""
    return __all__
