"""The measurements of the collapse monitor; they leave the supernet and its search unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from supernet.data.batches import evaluation_batches
from supernet.estimation.problem import SearchProblem
from supernet.estimation.supernet_accuracy import RecalibratedScore
from supernet.execution.modes import frozen_statistics, running
from supernet.runtime.seeding import generator
from supernet.search.collapse.curvature import LinearConvolutions, lambda_max
from supernet.search.statistics import groups, parametric, share
from supernet.search.strategy import Strategy
from supernet.space.architecture import Architecture
from supernet.space.cells import reference

_CURVATURE_STREAM = 0xD0C1


class MeasurementSettings(Protocol):
    """How much is measured; `MonitorSettings` says what each is."""

    @property
    def batch_size(self) -> int: ...
    @property
    def iterations(self) -> int: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def recalibration(self) -> int: ...


@dataclass(frozen=True)
class Measurements:
    """What one look at a search found. Kinds of cells are the groups of its decisions, such as "normal".

    Args:
        architecture: the one that the strategy would choose now.
        skips: by kind of cell, the share of its kept edges that are skip connections.
        parametric: by kind of cell, the share of its kept edges that learn weights.
        score: the supernet's, on the architecture's half of the data.
        alone: the score of the architecture by itself on the same images.
        lambda_max: the largest eigenvalue of the loss' Hessian in the alphas; None for a strategy without alphas.

    Example:
        >>> found = Measurements(Architecture("mine", {}), {"normal": 0.75}, {"normal": 0.25}, 0.875, 0.5, None)
        >>> found.scalars()
        {'collapse/skip_share/normal': 0.75, 'collapse/parametric_share/normal': 0.25, 'collapse/gap': 0.375}
    """

    architecture: Architecture
    skips: Mapping[str, float]
    parametric: Mapping[str, float]
    score: float
    alone: float
    lambda_max: float | None

    def scalars(self) -> dict[str, float]:
        """Gives what was found as scalars, by the tags under which they are reported."""
        shares = {f"collapse/skip_share/{kind}": value for kind, value in self.skips.items()}
        shares |= {f"collapse/parametric_share/{kind}": value for kind, value in self.parametric.items()}
        sharpness = {} if self.lambda_max is None else {"collapse/lambda_max": self.lambda_max}
        return {**sharpness, **shares, "collapse/gap": self.score - self.alone}


def measure(
    problem: SearchProblem, strategy: Strategy, score: float, batch_size: int, settings: MeasurementSettings
) -> Measurements:
    """Measures a search in progress and leaves it unchanged.

    Args:
        problem: its supernet is in training mode.
        strategy: whose current architecture is looked at.
        score: the supernet's on the architecture's half of the data, known already.
        batch_size: images at once.
        settings: how much is measured.

    Returns:
        What was found.
    """
    architecture, decisions = strategy.finish(), strategy.decisions
    learning = parametric(problem.supernet)
    kinds = groups({name: decision for name, decision in decisions.items() if decision.role == "operation"})
    alone = RecalibratedScore(problem, batch_size, settings.recalibration)(architecture)
    return Measurements(
        architecture,
        {group: share(architecture, decisions, group, {"skip_connect"}) for group in kinds},
        {group: share(architecture, decisions, group, learning) for group in kinds},
        score,
        alone.values[problem.task.score],
        sharpness(problem, strategy, settings.batch_size, settings.iterations, settings.tolerance),
    )


def sharpness(
    problem: SearchProblem, strategy: Strategy, batch_size: int, iterations: int, tolerance: float
) -> float | None:
    """The largest eigenvalue of the validation loss' Hessian in the alphas (Zela et al. 2020, section 4).

    The supernet is in training mode, as in the authors' code, but without noise, augmentation or drop path, and in
    float32 whatever the search runs in. Its weights are constants here.

    Args:
        problem: its supernet, its half of the data to judge by, its task.
        strategy: whose alphas.
        batch_size: images of the architecture's half, at every look the same.
        iterations: products with the Hessian, at most.
        tolerance: relative change of the eigenvalue at which it is taken for found.

    Returns:
        The eigenvalue; None where there are no alphas, or where the weights do not depend on them
        (`relaxations.Uniform`).
    """
    alphas, weights = strategy.differentiable_weights()
    if not any(weight.requires_grad for weight in weights.values()):
        return None
    order = torch.randperm(len(problem.valid), generator=generator(problem.run.seed, _CURVATURE_STREAM))
    chosen = problem.valid.subset(order[:batch_size])
    (batch,) = evaluation_batches(chosen, batch_size, problem.augmentation, problem.run.device)
    supernet, images = problem.supernet, problem.task.inputs(batch)
    constants = supernet.slots.replaced([parameter.detach() for parameter in supernet.parameters()])
    with LinearConvolutions(), running(supernet, reference), frozen_statistics(supernet), constants:
        loss = problem.task.loss(supernet(images, weights), batch)
    return lambda_max(loss, alphas, iterations, tolerance)
