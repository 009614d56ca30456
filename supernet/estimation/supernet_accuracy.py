"""Scores an architecture by the weights of the supernet: the estimate by which one-shot methods decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from supernet.data.batches import Batch, Source, evaluation_batches
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Measured
from supernet.execution.modes import evaluating, frozen_statistics, recalibrated, single_paths
from supernet.runtime.interrupt import Interrupted
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.seeding import generator
from supernet.space.architecture import Architecture, Weights, one_path
from supernet.space.dropout import Dropouts
from supernet.training.evaluation import evaluate, in_turns
from supernet.training.meters import Averages

_BATCHES_STREAM, _RECALIBRATION_STREAM = 3, 0xD0C2
_KEPT = 1 << 28  # bytes of batches that a score keeps ready on the device: all of CIFAR-10's 10,000 validation images


def supernet_averages(
    problem: SearchProblem, weights: Weights, batch_size: int, valid: Source | None = None
) -> Averages:
    """Measures the supernet, in the mode it is in, under given weights.

    Args:
        problem: whose supernet and task.
        weights: for each decision (options,), as `Supernet` takes them.
        batch_size: images at once.
        valid: the images; None: the architecture's half of the data.

    Returns:
        The averages over all these images.
    """
    return evaluate(
        lambda images: problem.supernet(images, weights),
        problem.valid if valid is None else valid,
        problem.augmentation,
        batch_size=batch_size,
        device=problem.run.device,
        task=problem.task,
        processes=problem.run.processes,
    )


@contextmanager
def alone(problem: SearchProblem, architecture: Architecture) -> Iterator[Weights]:
    """Within it the supernet runs what an architecture keeps and nothing else; for passes that are not learnt from.

    Args:
        problem: whose supernet.
        architecture: of its space.

    Yields:
        The weights to give the supernet.
    """
    supernet = problem.supernet
    if supernet.decidable and not problem.run.records:  # a graph is recorded of modules that stay
        with supernet.decided(architecture):
            yield {}
        return
    like = next(supernet.parameters())
    with single_paths(supernet):  # the other operations would only be multiplied by zero
        yield one_path(architecture, supernet.decisions, dtype=like.dtype, device=like.device)


class _Ready:
    """The batches of one set of images, made at the first pass over them and kept as far as `_KEPT` bytes go.

    Every candidate is judged by the same images: they are drawn, normalised and moved to the device once.
    """

    def __init__(self) -> None:
        self._source: Source | None = None
        self._own: Source | None = None  # those of this process
        self._kept: list[Batch] = []

    def __call__(
        self, problem: SearchProblem, size: int, draw: Callable[[], Source], processes: Processes = ALONE
    ) -> Iterator[Batch]:
        """Yields all batches, or those of this process; those that are not kept are made each time."""
        if self._source is None or self._own is None:
            self._own = self._source = draw()
            if processes.several:
                turns = torch.arange(len(self._source)).split(size)[processes.rank :: processes.count]
                self._own = self._source.subset(torch.cat([torch.arange(0), *turns]))  # it may have no turn
        yield from list(self._kept)
        kept = sum(map(len, self._kept))
        if kept == len(self._own):
            return
        rest = self._own.subset(torch.arange(kept, len(self._own))) if kept else self._own
        room = _KEPT - sum(batch.images.nbytes for batch in self._kept)
        for batch in evaluation_batches(rest, size, problem.augmentation, problem.run.device):
            yield batch
            room -= batch.images.nbytes
            if room >= 0:  # once it is not, none of those that follow is kept either
                self._kept.append(batch)

    @property
    def count(self) -> int:
        """How many images there are, once a pass has begun."""
        return 0 if self._source is None else len(self._source)


@dataclass(frozen=True)
class SupernetScore:
    """Judges by the supernet, which is in training mode, with each batch's own statistics in the norms.

    The statistics that norms remember are of all paths together, so they are not those of one. Nothing is dropped out.
    The batches are made at the first call and kept on the device as far as 256 MiB go.

    Args:
        problem: its supernet, its half of the data to judge by, its task.
        batch_size: images at once.
        batches: how many batches judge, the same at every call; None: all of that half.
    """

    problem: SearchProblem
    batch_size: int
    batches: int | None = None
    _ready: _Ready = field(default_factory=_Ready, init=False, repr=False, compare=False)
    _dropouts: Dropouts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_dropouts", Dropouts(self.problem.supernet))

    def __call__(self, architecture: Architecture) -> Measured:
        """The task's score of an architecture, each of whose edges alone runs."""
        with alone(self.problem, architecture) as weights:
            score = self.of_weights(weights)
        return Measured({self.problem.task.score: score}, {"images": float(self._ready.count)})

    def on(self, batches: int | None) -> SupernetScore:
        """Returns the same judge on this number of batches; None: on all of its half."""
        return replace(self, batches=batches)

    def of_weights(self, weights: Weights) -> float:
        """The task's score of the mixture under any weights, such as those without one operation.

        Raises:
            Interrupted: where the run was asked to stop.
        """
        problem, run = self.problem, self.problem.run
        if (signal := run.asked()[0]) is not None:
            raise Interrupted(signal)
        with problem.accelerated, frozen_statistics(problem.supernet), self._dropouts.off():
            ready = self._ready(problem, self.batch_size, self._images, run.processes)
            return _judged(problem, weights, ready)

    def _images(self) -> Source:
        return _judging(self.problem, self.batches, self.batch_size)


@dataclass(frozen=True)
class RecalibratedScore:
    """Judges an architecture by itself with the supernet's weights, after measuring its norms' statistics again.

    Args:
        problem: its supernet, in training mode; `train` recalibrates and `valid` judges.
        batch_size: images at once.
        batches: how many training batches the statistics are taken from, at most.
        valid_batches: how many validation batches judge, the same at every call; None: all of that half.
    """

    problem: SearchProblem
    batch_size: int
    batches: int = 4
    valid_batches: int | None = None
    _training: _Ready = field(default_factory=_Ready, init=False, repr=False, compare=False)
    _valid: _Ready = field(default_factory=_Ready, init=False, repr=False, compare=False)
    _dropouts: Dropouts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_dropouts", Dropouts(self.problem.supernet))

    def __call__(self, architecture: Architecture) -> Measured:
        """The task's score on the architecture's half of the data.

        Raises:
            Interrupted: where the run was asked to stop.
        """
        problem, size, run = self.problem, self.batch_size, self.problem.run
        if (signal := run.asked()[0]) is not None:
            raise Interrupted(signal)
        supernet = problem.supernet
        images = (problem.task.inputs(batch) for batch in self._training(problem, size, self._chosen))
        with (
            alone(problem, architecture) as weights,
            problem.accelerated,
            self._dropouts.off(),
            recalibrated(supernet, images, lambda x: supernet(x, weights)),
            evaluating(supernet),
        ):
            images_of = partial(_judging, problem, self.valid_batches, size)
            valid = self._valid(problem, size, images_of, run.processes)
            score = _judged(problem, weights, valid)
        return Measured({problem.task.score: score}, {"images": float(self._valid.count + self._training.count)})

    def _chosen(self) -> Source:
        """The training images from which the statistics are taken."""
        problem, size = self.problem, self.batch_size
        count = min(self.batches, max(1, len(problem.train) // size)) * size
        return _some(problem.train, count, generator(problem.run.seed, _RECALIBRATION_STREAM))


def _judged(problem: SearchProblem, weights: Weights, batches: Iterable[Batch]) -> float:
    """The task's score over all batches, which processes may have divided among them.

    The loss, which says nothing more about an architecture, is not computed.
    """
    task = problem.task
    with torch.inference_mode():
        own = [task.tally(problem.supernet(task.inputs(batch), weights), batch) for batch in batches]
        tallies = in_turns(problem.run.processes.all_of(own, problem.run.device))
        return dict(task.scores(tallies))[task.score]


def _judging(problem: SearchProblem, batches: int | None, size: int) -> Source:
    """The validation images that judge: so many batches of them, or all."""
    stream = generator(problem.run.seed, _BATCHES_STREAM)
    return problem.valid if batches is None else _some(problem.valid, batches * size, stream)


def _some(source: Source, count: int, stream: torch.Generator) -> Source:
    """Draws some images of a source; each stream draws others."""
    return source.subset(torch.randperm(len(source), generator=stream)[:count])
