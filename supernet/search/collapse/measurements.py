"""What the monitor looks at: a supernet in the middle of its search, measured without leaving a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from supernet.data.batches import Source, evaluation_batches
from supernet.execution.modes import evaluating, frozen_statistics, recalibrated, running, single_paths
from supernet.runtime.seeding import generator
from supernet.search.collapse.curvature import LinearConvolutions, lambda_max
from supernet.search.problem import SearchProblem
from supernet.search.statistics import groups, parametric, share
from supernet.space.architecture import Architecture, one_path
from supernet.space.cells import reference
from supernet.training.evaluation import evaluate

_CURVATURE_STREAM, _RECALIBRATION_STREAM = 0xD0C1, 0xD0C2


@dataclass(frozen=True)
class Measurements:
    """What one look found: the current architecture, shares of its kept edges by kind of cell, and accuracies.

    `accuracy` is the supernet's and `alone` that of the architecture by itself, both in [0, 1] on the architecture's
    half of the data. `lambda_max`: None for a strategy without alphas.
    """

    architecture: Architecture
    skips: Mapping[str, float]
    parametric: Mapping[str, float]
    accuracy: float
    alone: float
    lambda_max: float | None

    def scalars(self) -> dict[str, float]:
        """By the tags under which they are reported."""
        shares = {f"collapse/skip_share/{kind}": value for kind, value in self.skips.items()}
        shares |= {f"collapse/parametric_share/{kind}": value for kind, value in self.parametric.items()}
        sharpness = {} if self.lambda_max is None else {"collapse/lambda_max": self.lambda_max}
        return {**sharpness, **shares, "collapse/gap": self.accuracy - self.alone}


def measure(
    problem: SearchProblem, accuracy: float, *, batch_size: int, iterations: int, tolerance: float, recalibration: int
) -> Measurements:
    """Looks at a search; `accuracy` is the supernet's, known already. The settings are those of `MonitorSettings`."""
    architecture, decisions = problem.strategy.finish(), problem.strategy.decisions
    learning = parametric(problem.supernet)
    return Measurements(
        architecture,
        {kind: share(architecture, decisions, kind, {"skip_connect"}) for kind in groups(decisions)},
        {kind: share(architecture, decisions, kind, learning) for kind in groups(decisions)},
        accuracy,
        accuracy_alone(problem, architecture, recalibration),
        sharpness(problem, batch_size, iterations, tolerance),
    )


def sharpness(problem: SearchProblem, batch_size: int, iterations: int, tolerance: float) -> float | None:
    """lambda_max on `batch_size` images of the architecture's half, at every look the same.

    None where there are no alphas, or where the weights do not depend on them (`relaxations.Uniform`).

    The supernet is in training mode, as in the authors' code, but without noise, augmentation or drop path, and in
    float32 whatever the search runs in. Its weights are constants here.
    """
    alphas, weights = problem.strategy.differentiable_weights()
    if not any(weight.requires_grad for weight in weights.values()):
        return None
    chosen = _some(problem.valid, batch_size, generator(problem.run.seed, _CURVATURE_STREAM))
    (batch,) = evaluation_batches(chosen, batch_size, problem.augmentation, problem.run.device)
    supernet, images = problem.supernet, problem.task.inputs(batch)
    constants = supernet.slots.replaced([parameter.detach() for parameter in supernet.parameters()])
    with LinearConvolutions(), running(supernet, reference), frozen_statistics(supernet), constants:
        loss = problem.task.loss(supernet(images, weights), batch)
    return lambda_max(loss, alphas, iterations, tolerance)


def accuracy_alone(problem: SearchProblem, architecture: Architecture, batches: int) -> float:
    """Accuracy, in [0, 1] on the architecture's half, of the architecture with the supernet's weights.

    The norms' statistics are taken anew from `batches` training batches, because those remembered are of the mixture.
    """
    supernet, size, run = problem.supernet, problem.batch_size, problem.run
    like = next(supernet.parameters())
    weights = one_path(architecture, problem.strategy.decisions, dtype=like.dtype, device=like.device)
    count = min(batches, max(1, len(problem.train) // size)) * size
    chosen = _some(problem.train, count, generator(run.seed, _RECALIBRATION_STREAM))
    training = evaluation_batches(chosen, size, problem.augmentation, run.device)
    images = (problem.task.inputs(batch) for batch in training)
    with (
        problem.accelerated,
        single_paths(supernet),
        recalibrated(supernet, images, lambda x: supernet(x, weights)),
        evaluating(supernet),
    ):
        return evaluate(
            lambda x: supernet(x, weights),
            problem.valid,
            problem.augmentation,
            batch_size=size,
            device=run.device,
            task=problem.task,
        ).accuracy


def _some(source: Source, count: int, stream: torch.Generator) -> Source:
    return source.subset(torch.randperm(len(source), generator=stream)[:count])
