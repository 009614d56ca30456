"""Genotypes of the literature and of other people's code: read, converted and drawn.

>>> import supernet
>>> sorted(supernet.genotypes.PUBLISHED)[:3]
['all_sep_conv_3x3', 'amoebanet_a', 'darts_pt_0']
"""

from supernet.genotypes.drawing import draw_cell, heat_map, save_drawings, to_dot
from supernet.genotypes.literature import PUBLISHED, OriginalGenotype, published
from supernet.genotypes.lookup import find_genotype
from supernet.genotypes.original_checkpoints import (
    load_original_final,
    load_original_search,
    original_alphas,
    original_betas,
)
from supernet.genotypes.parsing import read_genotype

__all__ = [
    "PUBLISHED",
    "OriginalGenotype",
    "draw_cell",
    "find_genotype",
    "heat_map",
    "load_original_final",
    "load_original_search",
    "original_alphas",
    "original_betas",
    "published",
    "read_genotype",
    "save_drawings",
    "to_dot",
]
