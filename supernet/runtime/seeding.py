"""Random numbers: seeds for the global generators of a process, and independent streams for everything else."""

import hashlib
import random

import numpy as np
import torch

_INITIAL_STREAM = 0x1417


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and torch (the CPU and every CUDA device).

    Args:
        seed: a whole number in [0, 2**32).
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - third-party code may draw from the global generator
    torch.manual_seed(seed)


def generator(*key: int) -> torch.Generator:
    """Makes a new CPU generator whose stream depends on every integer of the key and on their order.

    Equal keys give equal streams on every machine, and neighbouring keys give unrelated ones. So a draw whose key is
    (seed, stream, pass) needs no saved state.

    Args:
        key: integers. torch uses 32 of the 64 bits that are made of them.

    Returns:
        The generator.

    Example:
        >>> torch.equal(torch.rand(3, generator=generator(0, 1)), torch.rand(3, generator=generator(0, 1)))
        True
        >>> torch.equal(torch.rand(3, generator=generator(0, 1)), torch.rand(3, generator=generator(1, 0)))
        False
    """
    digest = hashlib.blake2b(",".join(str(int(part)) for part in key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def seed_initial_weights(seed: int, *key: int) -> None:
    """Seed the global generators for a network that is built next: the same key gives the same initial weights."""
    seed_everything(generator(seed, _INITIAL_STREAM, *key).initial_seed() % 2**32)
