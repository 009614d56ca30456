"""Noise that depends on a seed and a number alone, also where the step that draws it is replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from supernet.runtime.seeding import generator


class Noise:
    """Streams of noise by number: all that is drawn within `drawn(number)` is the same each time.

    The global generators are what is drawn from; they are given back as they were. While a step is recorded
    (`recorded`), the GPU's global generator stands for generators of the graph, one after the other.

    Args:
        seed: of all streams.
        stream: tells the users of one seed apart.

    Example:
        >>> noise, cpu = Noise(0, 1), torch.device("cpu")
        >>> with noise.drawn(5, cpu):
        ...     first = torch.rand(2)
        >>> with noise.drawn(5, cpu):
        ...     again = torch.rand(2)
        >>> torch.equal(first, again)
        True
    """

    def __init__(self, seed: int, stream: int) -> None:
        self._seed, self._stream = seed, stream
        self._generators: list[torch.Generator] | None = None  # while a step is recorded
        self._numbers: list[int] = []  # of the streams that were begun in this step
        self.last_step: list[int] = []
        """The numbers of the streams that were begun in the last step, in their order."""

    def seed_of(self, number: int) -> int:
        """The seed of a stream.

        Args:
            number: of the stream.
        """
        return generator(self._seed, self._stream, number).initial_seed()

    @contextmanager
    def drawn(self, number: int, device: torch.device) -> Iterator[None]:
        """Within it the global generators of the processor and of a device are at the start of a stream.

        Args:
            number: of the stream.
            device: on which noise is drawn.

        Raises:
            RuntimeError: while a step is recorded, where it draws more often than in the step before.
        """
        self._numbers.append(number)
        if self._generators is not None:
            with _instead(self._next_generator(), device):
                yield
            return
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed_of(number))
            yield

    def end_step(self) -> None:
        """Ends a step: the next stream that is begun is the first one of another step."""
        self.last_step, self._numbers = self._numbers, []

    @contextmanager
    def recorded(self, generators: Sequence[torch.Generator]) -> Iterator[None]:
        """Within it streams are drawn from these generators, the next one for each stream that is begun.

        Args:
            generators: of the device, registered at the graph that is recorded.
        """
        self._generators, self._numbers, self.last_step = list(generators), [], []
        try:
            yield
        finally:
            self._generators = None

    def _next_generator(self) -> torch.Generator:
        if not self._generators:
            raise RuntimeError("the step draws noise more often than the one before it")
        return self._generators.pop(0)


@contextmanager
def _instead(own: torch.Generator, device: torch.device) -> Iterator[None]:
    """Within it the device's global generator draws the numbers of another one."""
    index = torch.cuda.current_device() if device.index is None else device.index
    default = torch.cuda.default_generators[index]
    before = default.graphsafe_get_state()
    default.graphsafe_set_state(own.graphsafe_get_state())
    try:
        yield
    finally:
        default.graphsafe_set_state(before)
