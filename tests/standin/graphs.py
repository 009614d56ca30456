"""CUDA graphs with numbers: what was captured is done again at each replay, at the recorded addresses."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import _disable_current_modes

from tests.standin import account
from tests.standin.draws import Position, drawn, increment_of, position, same_state, with_generator
from tests.standin.operations import compute, name_of
from tests.standin.places import Place


@dataclass
class Operation:
    """One captured operation: places of its tensors, and the generator that it draws from."""

    func: Any
    args: Any
    kwargs: Any
    outputs: Any
    generator: torch.Generator | None = None
    device: torch.device | None = None
    increment: int = 0

    def run(self, positions: dict[torch.Generator, Position]) -> None:
        """Does it again; what it draws depends on where its generator is by now."""
        if self.generator is None:
            compute(self.func, self.args, self.kwargs, self.outputs)
            return
        seed, offset = positions[self.generator]
        after = seed, offset + self.increment

        def draw(generator: torch.Generator) -> Any:
            return compute(self.func, *with_generator((self.args, self.kwargs), generator), self.outputs)

        drawn((seed, offset), after, draw)
        positions[self.generator] = after


@dataclass
class Poison:
    """Memory that was asked for within a graph: a replay finds in it whatever is there."""

    place: Place

    def run(self, positions: dict[torch.Generator, Position]) -> None:
        self.place.poison()


@dataclass
class Recording:
    """What a graph has captured, in its order."""

    operations: list[Operation | Poison] = field(default_factory=list)
    registered: list[torch.Generator] = field(default_factory=list)
    moved: Counter[str] = field(default_factory=Counter)
    _generators: list[torch.Generator] = field(default_factory=list)

    def finish(self) -> None:
        """Finds out what each draw moves, and by how much, now that kernels may be launched again.

        A generator is known by its state: Python's objects of it are others each time, and its state may be shared.
        """
        for operation in self._draws():
            asked = operation.func, operation.args, operation.kwargs, operation.device
            operation.increment = increment_of(*asked)
            known = [g for g in self._generators if same_state(g, operation.generator)]
            if not known:
                self._generators.append(operation.generator)
                self._check_registered(operation)
            operation.generator = (known or self._generators)[-1]

    def _check_registered(self, operation: Any) -> None:
        """Notes a generator that the graph was not told of. From 2.14 on PyTorch finds that out by itself."""
        known = [*torch.cuda.default_generators, *self.registered]
        told = any(same_state(generator, operation.generator) for generator in known)
        if not told and TorchVersion(torch.__version__) < "2.14":
            account.note(f"a captured {name_of(operation.func)} draws from a generator that is not registered")

    def _draws(self) -> list[Any]:
        return [o for o in self.operations if isinstance(o, Operation) and o.generator is not None]

    def replay(self, real: Callable[[], None]) -> None:
        """Replays the graph that `real` launches, which moves the generators by as much as the draws do."""
        positions = {generator: position(generator) for generator in self._generators}
        real()
        for operation in self.operations:
            operation.run(positions)
        if wrong := [p for generator, p in positions.items() if p != position(generator)]:
            account.note(f"a graph's draws end at {wrong[0]}, its generator elsewhere")
        account.moved.update(self.moved)
        account.replayed.update({"graphs": 1, "operations": len(self.operations)})


_under_way: dict[int, Recording] = {}  # by the stream on which a capture began


def recording() -> Recording | None:
    """The recording that an operation belongs to, which is launched now on the current stream."""
    if not _under_way or not torch.cuda.is_current_stream_capturing():
        return None
    found = _under_way.get(torch.cuda.current_stream().cuda_stream)
    return found or next(reversed(_under_way.values()))  # a stream that has joined the capture


def install() -> None:
    """Makes PyTorch's graphs record and replay numbers."""
    graph = torch.cuda.CUDAGraph
    real_begin, real_end, real_replay = graph.capture_begin, graph.capture_end, graph.replay
    real_register = graph.register_generator_state

    def made(self: Any) -> Recording:
        if not hasattr(self, "_standin"):
            self._standin = Recording()
        return self._standin

    def register(self: Any, generator: torch.Generator) -> None:
        real_register(self, generator)
        made(self).registered.append(generator.graphsafe_get_state())

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        real_begin(self, *args, **kwargs)
        _under_way[torch.cuda.current_stream().cuda_stream] = made(self)

    def end(self: Any) -> None:
        for stream in [stream for stream, own in _under_way.items() if own is made(self)]:
            del _under_way[stream]
        real_end(self)
        with _disable_current_modes():
            made(self).finish()

    def replay(self: Any) -> None:
        with _disable_current_modes():
            made(self).replay(lambda: real_replay(self))

    graph.capture_begin, graph.capture_end, graph.replay = begin, end, replay
    graph.register_generator_state = register
