"""Random numbers: seeds for the global generators of a process, and independent streams for everything else."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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
    """Seeds the global generators for a network that is built next: the same key gives the same initial weights.

    Args:
        seed: the seed of the run, any integer.
        key: integers that tell the networks of one run apart.

    Example:
        >>> seed_initial_weights(0, 1)
        >>> first = torch.nn.Linear(2, 2).weight
        >>> seed_initial_weights(0, 1)
        >>> torch.equal(first, torch.nn.Linear(2, 2).weight)
        True
    """
    seed_everything(generator(seed, _INITIAL_STREAM, *key).initial_seed() % 2**32)


def random_states() -> dict[str, Any]:
    """The states of all global generators, as plain containers, numbers and tensors."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global generator is what must be restored
    return {
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Puts all global generators back to earlier states, so that a resumed run draws the same numbers.

    Args:
        states: what `random_states` returned. States of CUDA devices that this machine does not have are left out.

    Example:
        >>> states = random_states()
        >>> drawn = torch.rand(3)
        >>> restore_random_states(states)
        >>> torch.equal(drawn, torch.rand(3))
        True
    """
    random.setstate(states["python"])
    np.random.set_state(tuple(states["numpy"]))  # noqa: NPY002 - see above
    torch.set_rng_state(states["torch"])
    for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
        torch.cuda.set_rng_state(state, device)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Within it code may seed and draw from the global generators; afterwards they are as they were.

    Example:
        >>> torch.manual_seed(3).initial_seed()
        3
        >>> with random_states_kept():
        ...     seed_everything(0)
        >>> torch.initial_seed()
        3
    """
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)
