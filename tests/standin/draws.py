"""Random numbers of the device: given by a generator's seed and offset, as on a GPU, and those that a CPU would draw.

A CUDA generator is a seed and an offset, which each operation moves on. What is drawn at an offset is what a CPU
generator of the same seed would draw after the same operations, so that a step on the CPU is a reference for one here.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.standin import account
from tests.standin.places import Place, leaves, mapped

Position = tuple[int, int]
"""A generator's seed and offset."""

_MOST = 20_000
_states: OrderedDict[Position, Tensor] = OrderedDict()  # of a CPU generator, by where the device's is
_increments: dict[Any, int] = {}


def is_random(func: Any) -> bool:
    """Whether an operation draws numbers."""
    return torch.Tag.nondeterministic_seeded in func.tags


def generator_of(args: Any, kwargs: Any, device: torch.device) -> torch.Generator:
    """The generator that an operation on this device draws from."""
    given = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, torch.Generator)]
    if given:
        return given[0]
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]


def same_state(one: torch.Generator, other: torch.Generator) -> bool:
    """Whether what one generator draws moves the other: states can be shared (`graphsafe_set_state`)."""
    seed, offset = position(one)
    one.set_offset(offset + 4)
    shared = position(other) == (seed, offset + 4)
    one.set_offset(offset)
    return shared and position(other) == (seed, offset)


def position(generator: torch.Generator) -> Position:
    """Where a generator is."""
    seed, offset = generator.get_state().view(torch.int64)[:2].tolist()
    return seed, offset


def drawn(before: Position, after: Position, run: Callable[[torch.Generator], Any]) -> Any:
    """What `run` returns, given a CPU generator in the state that belongs to `before`.

    Operations that take no generator draw from PyTorch's own, which is in the same state meanwhile.
    """
    mine, own = torch.Generator(), torch.default_generator
    if before[1] and before in _states:
        mine.set_state(_states[before])
    else:  # an offset that somebody has set is no place in a CPU's sequence: any numbers, but always the same
        mine.manual_seed(before[0] if not before[1] else (before[0] * 1000003 + before[1] * 7919) % 2**63)
    kept, start = own.get_state(), mine.get_state()
    own.set_state(start)
    try:
        result = run(mine)
        moved = own.get_state() if torch.equal(mine.get_state(), start) else mine.get_state()
    finally:
        own.set_state(kept)
    _states[after] = moved
    _states.move_to_end(after)
    if len(_states) > _MOST:
        _states.popitem(last=False)
    return result


def with_generator(value: Any, generator: torch.Generator) -> Any:
    """Arguments with a CPU generator in the place of the device's."""
    return mapped(value, torch.Generator, lambda _: generator)


def increment_of(func: Any, args: Any, kwargs: Any, device: torch.device) -> int:
    """By how much an operation moves an offset, tried on memory and a generator of no use."""
    shapes = mapped((args, kwargs), Place, lambda place: (place.shape, place.stride, place.dtype))
    key = func, repr(mapped(shapes, torch.Generator, lambda _: "generator"))
    if key not in _increments:
        with account.uncounted(), torch.no_grad():
            _increments[key] = _tried(func, args, kwargs, device)
    return _increments[key]


def _tried(func: Any, args: Any, kwargs: Any, device: torch.device) -> int:
    def anew(place: Place) -> Tensor:
        return torch.empty_strided(place.shape, place.stride, dtype=place.dtype, device=device)

    scratch = torch.Generator(device)
    asked, more = mapped(mapped((args, kwargs), Place, anew), torch.Generator, lambda _: scratch)
    generator = generator_of(asked, more, device)
    kept = generator.get_state()
    func(*asked, **more)
    moved = position(generator)[1] - kept.view(torch.int64)[1].item()
    generator.set_state(kept)
    return int(moved)
