"""One-shot neural architecture search: a supernet with every operation in it, searched, discretised and retrained."""

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.choices import Supernet
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.genotype_text import read_genotype
from supernet.space.nasbench201 import NasBench201
from supernet.space.published import published
from supernet.training.bundle import load

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
