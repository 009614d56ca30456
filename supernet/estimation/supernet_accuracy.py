"""Scores an architecture by the weights of the supernet: the estimate by which one-shot methods decide."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from supernet.data.batches import Source, evaluation_batches
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Measured
from supernet.execution.modes import evaluating, frozen_statistics, recalibrated, single_paths
from supernet.runtime.interrupt import Interrupted
from supernet.runtime.seeding import generator
from supernet.space.architecture import Architecture, Weights, one_path
from supernet.training.evaluation import evaluate
from supernet.training.meters import Averages

_BATCHES_STREAM, _RECALIBRATION_STREAM = 3, 0xD0C2


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
    )


@dataclass(frozen=True)
class SupernetScore:
    """Judges by the supernet, which is in training mode, with each batch's own statistics in the norms.

    The statistics that norms remember are of all paths together, so they are not those of one.

    Args:
        problem: its supernet, its half of the data to judge by, its task.
        batch_size: images at once.
        batches: how many batches judge, the same at every call; None: all of that half.
    """

    problem: SearchProblem
    batch_size: int
    batches: int | None = None

    def __call__(self, architecture: Architecture) -> Measured:
        """The task's score of an architecture, each of whose edges alone runs."""
        like = next(self.problem.supernet.parameters())
        weights = one_path(architecture, self.problem.supernet.decisions, dtype=like.dtype, device=like.device)
        averages = self._averages(weights)
        return Measured({self.problem.task.score: averages.score}, {"images": float(averages.count)})

    def on(self, batches: int | None) -> SupernetScore:
        """Returns the same judge on this number of batches; None: on all of its half."""
        return replace(self, batches=batches)

    def of_weights(self, weights: Weights) -> float:
        """The task's score of the mixture under any weights, such as those without one operation.

        Raises:
            Interrupted: where the run was asked to stop.
        """
        return self._averages(weights).score

    def _averages(self, weights: Weights) -> Averages:
        run, images = self.problem.run, self.problem.valid
        if run.interruption.requested():
            raise Interrupted(run.interruption.signal or 0)
        if self.batches is not None:
            images = _some(images, self.batches * self.batch_size, generator(run.seed, _BATCHES_STREAM))
        with self.problem.accelerated, frozen_statistics(self.problem.supernet):
            return supernet_averages(self.problem, weights, self.batch_size, images)


@dataclass(frozen=True)
class RecalibratedScore:
    """Judges an architecture by itself with the supernet's weights, after measuring its norms' statistics again.

    Args:
        problem: its supernet, in training mode; `train` recalibrates and `valid` judges.
        batch_size: images at once.
        batches: how many training batches the statistics are taken from, at most.
    """

    problem: SearchProblem
    batch_size: int
    batches: int = 4

    def __call__(self, architecture: Architecture) -> Measured:
        """The task's score on the architecture's half of the data."""
        problem, size, run = self.problem, self.batch_size, self.problem.run
        supernet, like = problem.supernet, next(problem.supernet.parameters())
        weights = one_path(architecture, supernet.decisions, dtype=like.dtype, device=like.device)
        count = min(self.batches, max(1, len(problem.train) // size)) * size
        chosen = _some(problem.train, count, generator(run.seed, _RECALIBRATION_STREAM))
        training = evaluation_batches(chosen, size, problem.augmentation, run.device)
        images = (problem.task.inputs(batch) for batch in training)
        with (
            problem.accelerated,
            single_paths(supernet),
            recalibrated(supernet, images, lambda x: supernet(x, weights)),
            evaluating(supernet),
        ):
            averages = supernet_averages(problem, weights, size)
        return Measured({problem.task.score: averages.score}, {"images": float(averages.count + len(chosen))})


def _some(source: Source, count: int, stream: torch.Generator) -> Source:
    """Draws some images of a source; each stream draws others."""
    return source.subset(torch.randperm(len(source), generator=stream)[:count])
