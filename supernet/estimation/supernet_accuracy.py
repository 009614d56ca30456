"""How well a supernet does under given architecture weights: the estimate that one-shot methods decide by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.execution.modes import frozen_statistics
from supernet.execution.precision import Accelerated
from supernet.runtime.interrupt import Interrupted
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.search.recipe import SearchRecipe
from supernet.space.architecture import Weights
from supernet.space.supernet import Supernet
from supernet.training.evaluation import evaluate
from supernet.training.meters import Averages
from supernet.training.tasks import Task

_JUDGE_STREAM = 3


def _evaluate(
    supernet: Supernet,
    weights: Weights,
    valid: Source,
    augmentation: Augmentation,
    recipe: SearchRecipe,
    task: Task,
    run: Run,
) -> Averages:
    """The supernet, with these weights and in the mode it is in, on the architecture's half of the data."""
    return evaluate(
        lambda images: supernet(images, weights),
        valid,
        augmentation,
        batch_size=recipe.batch_size,
        device=run.device,
        task=task,
    )


@dataclass(frozen=True)
class _Judge:
    """`supernet.estimation.supernet_accuracy.Judge` of a supernet that is in training mode. May raise Interrupted."""

    supernet: Supernet
    valid: Source
    augmentation: Augmentation
    recipe: SearchRecipe
    task: Task
    run: Run
    accelerated: Accelerated

    def __call__(self, weights: Weights, batches: int | None = None) -> float:
        if self.run.interruption.requested():
            raise Interrupted(self.run.interruption.signal or 0)
        images = self.valid
        if batches is not None:
            order = torch.randperm(len(images), generator=generator(self.run.seed, _JUDGE_STREAM))
            images = images.subset(order[: batches * self.recipe.batch_size])
        with self.accelerated, frozen_statistics(self.supernet):
            args = (self.augmentation, self.recipe, self.task, self.run)
            return _evaluate(self.supernet, weights, images, *args).accuracy


class Judge(Protocol):
    """Says how well the supernet does with given weights on the half of the data the architecture is judged by."""

    def __call__(self, weights: Weights, batches: int | None = None) -> float:
        """Accuracy, in [0, 1], on all of it, or on `batches` batches, the same at every call.

        Batch norms use each batch's own statistics: those remembered are of all paths together.
        """
        ...
