"""How the architectures that an explorer has proposed are judged: in this process, or side by side by workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import torch

from supernet.data.reading import hashed
from supernet.estimation.scores import Measured, Score
from supernet.estimation.sending import sent, worth_a_worker
from supernet.estimation.short_training import ShortTrainingScore
from supernet.execution.precision import numerics_settled
from supernet.runtime.interrupt import Interruption
from supernet.runtime.seeding import random_states_kept, seed_everything
from supernet.runtime.workers import Failed, Pool, Workers
from supernet.space.architecture import Architecture


class WithResource(ABC):
    """A score that asks another one with a resource, which it knows of each architecture.

    Args:
        score: judges with a resource.
    """

    score: Callable[[Architecture, int], Measured]

    @abstractmethod
    def resource(self, architecture: Architecture) -> int:
        """How much of the resource an architecture is given now."""

    @abstractmethod
    def completed(self, architecture: Architecture, measured: Measured) -> Measured:
        """The measurement with all that is to be known of it."""

    def __call__(self, architecture: Architecture) -> Measured:
        """Judges an architecture with its resource."""
        return self.completed(architecture, self.score(architecture, self.resource(architecture)))


class Judging:
    """Judges architectures, with the same results wherever that is done.

    Random numbers that a score draws from the global generators are seeded by the architecture, and the generators are
    afterwards as they were. Scores that look up or count are asked in this process: that is faster than sending.

    Args:
        score: judges.
        workers: who judges; None: this process, with all its threads.
        interruption: ends the waiting for workers.
    """

    def __init__(self, score: Score, workers: Workers | None, interruption: Interruption) -> None:
        self._score, self._whole = score, score if isinstance(score, WithResource) else None
        self._inner: Callable[..., Measured] = score if self._whole is None else self._whole.score
        self._resting = self._inner if isinstance(self._inner, ShortTrainingScore) else None
        self._sends = workers is not None and workers.elsewhere and worth_a_worker(self._inner)
        here = Workers(threads=torch.get_num_threads())
        self._workers = here if workers is None or not worth_a_worker(self._inner) else workers
        self._interruption = interruption
        self._pool: Pool[_Question, tuple[Measured, bytes | None]] | None = None

    def each(self, architectures: Sequence[Architecture]) -> Generator[Measured | Failed]:
        """Judges architectures in their order.

        Args:
            architectures: which ones.

        Yields:
            For each what was measured, or why nothing was.

        Raises:
            InputError: as the score or `Workers.each` raises it.
            Interrupted: the same.
        """
        if self._sends:
            yield from self._side_by_side(architectures)
        else:
            asked = partial(_seeded, self._score) if worth_a_worker(self._inner) else self._score
            yield from self._workers.each(asked, architectures)

    def about(self, architecture: Architecture) -> Measured:
        """What is known of an evaluation that failed: its resource and what that costs."""
        return self._completed(architecture, Measured({}))

    def close(self) -> None:
        """Lets the workers go."""
        if self._pool is not None:
            self._pool.close()

    def _completed(self, architecture: Architecture, measured: Measured) -> Measured:
        return measured if self._whole is None else self._whole.completed(architecture, measured)

    def _side_by_side(self, architectures: Sequence[Architecture]) -> Generator[Measured | Failed]:
        if self._pool is None:
            self._pool = self._workers.pool(
                partial(_answer, sent(self._inner), torch.are_deterministic_algorithms_enabled()),
                interruption=self._interruption,
            )
        answers = self._pool.each([self._question(architecture) for architecture in architectures])
        with closing(answers):
            for architecture, answer in zip(architectures, answers, strict=True):
                if isinstance(answer, Failed):
                    yield answer
                    continue
                measured, state = answer
                if self._resting is not None:
                    self._resting.take_up(architecture, state)
                yield self._completed(architecture, measured)

    def _question(self, architecture: Architecture) -> _Question:
        resource = () if self._whole is None else (self._whole.resource(architecture),)
        rested = None if self._resting is None else self._resting.rested(architecture)
        return _Question(architecture, resource, rested)


@dataclass(frozen=True)
class _Question:
    """What a worker is asked: an architecture, its resource where there is one, the state of its training."""

    architecture: Architecture
    resource: tuple[int, ...]
    rested: bytes | None


def _answer(score: Callable[..., Measured], deterministic: bool, question: _Question) -> tuple[Measured, bytes | None]:
    """What was measured, and the state of the training. The worker keeps none, so that any other can go on."""
    with numerics_settled(deterministic):
        return _measured(score, question)


def _measured(score: Callable[..., Measured], question: _Question) -> tuple[Measured, bytes | None]:
    architecture = question.architecture
    if not isinstance(score, ShortTrainingScore):
        return _seeded(score, architecture, *question.resource), None
    score.take_up(architecture, question.rested)
    measured = _seeded(score, architecture, *question.resource)
    state = score.rested(architecture)
    score.take_up(architecture, None)
    return measured, state


def _seeded(score: Callable[..., Measured], architecture: Architecture, *resource: int) -> Measured:
    with random_states_kept():
        seed_everything(int(hashed((architecture.to_json(),))[:8], 16))
        return score(architecture, *resource)
