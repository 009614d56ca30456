"""Seeds: the global generators once per process, and named independent streams for everything else."""

import hashlib
import random

import numpy as np
import torch

_INITIAL_STREAM = 0x1417


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU and every CUDA device); seed is in [0, 2**32)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - third-party code may draw from the global generator
    torch.manual_seed(seed)


def generator(*key: int) -> torch.Generator:
    """Return a fresh CPU generator whose stream depends on every integer of the key and on their order.

    Equal keys give equal streams on every machine, and neighbouring keys give unrelated ones, so a draw that is keyed
    by (seed, stream, pass) needs no saved state. torch seeds its CPU generator with 32 of the 64 bits.
    """
    digest = hashlib.blake2b(",".join(str(int(part)) for part in key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def seed_initial_weights(seed: int, *key: int) -> None:
    """Seed the global generators for a network that is built next: the same key gives the same initial weights."""
    seed_everything(generator(seed, _INITIAL_STREAM, *key).initial_seed() % 2**32)
