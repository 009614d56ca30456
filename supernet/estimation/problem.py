"""The problem of a search: the supernet, both halves of the training data, the task and the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.execution.precision import Accelerated
from supernet.runtime.run import Run
from supernet.space.supernet import Supernet
from supernet.training.tasks import CLASSIFICATION, Task


@dataclass(frozen=True)
class SearchProblem:
    """Everything that a search needs besides its strategy and its recipe. Scores and measurements need it, too.

    Args:
        supernet: the network that is searched.
        train: the images that the supernet's weights learn from.
        valid: the images that architectures are judged by, and that alphas learn from.
        augmentation: what is done to the images of a training batch.
        run: device, seed, report, checkpoint.
        task: what is learnt and judged.
    """

    supernet: Supernet
    train: Source
    valid: Source
    augmentation: Augmentation
    run: Run
    task: Task = CLASSIFICATION

    def on_device(self) -> SearchProblem:
        """The problem with the supernet, in training mode, and the images on the run's device."""
        self.supernet.to(self.run.device).train()
        return replace(self, train=self.train.to(self.run.device), valid=self.valid.to(self.run.device))

    @cached_property
    def accelerated(self) -> Accelerated:
        """Within it the supernet runs in the run's precision, and as CUDA graphs where the run wants that."""
        return Accelerated(self.supernet, self.run)
