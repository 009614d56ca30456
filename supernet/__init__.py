"""One-shot neural architecture search: a supernet with every operation in it, searched, discretised and retrained."""

from supernet.deployment.loading import load
from supernet.genotypes.literature import published
from supernet.genotypes.parsing import read_genotype
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet

__all__ = [
    "Architecture",
    "Darts",
    "Decided",
    "InputError",
    "NasBench201",
    "Supernet",
    "Undecided",
    "load",
    "published",
    "read_genotype",
]
__version__ = "0.1.0"
