"""What is searched: the supernet, both halves of the training data and the task."""

from __future__ import annotations

from dataclasses import dataclass

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.execution.precision import Accelerated
from supernet.runtime.run import Run
from supernet.search.strategy import Strategy
from supernet.space.supernet import Supernet
from supernet.training.tasks import Task


@dataclass(frozen=True)
class SearchProblem:
    """A search: the supernet, in training mode, its strategy, both halves of the data, and how they are run."""

    supernet: Supernet
    strategy: Strategy
    train: Source
    valid: Source
    augmentation: Augmentation
    task: Task
    batch_size: int
    run: Run
    accelerated: Accelerated
