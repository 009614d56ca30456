"""The task that a data set implies."""

from __future__ import annotations

from collections.abc import Callable

from supernet.data.dataset import Data
from supernet.data.targets import Kind
from supernet.runtime.errors import InputError
from supernet.training.tasks.classification import classification
from supernet.training.tasks.detection import detection
from supernet.training.tasks.imbalance import Imbalance
from supernet.training.tasks.multilabel import multilabel
from supernet.training.tasks.task import Task

_IMPLIED: dict[Kind, Callable[..., Task]] = {"classes": classification, "labels": multilabel, "boxes": detection}


def implied(data: Data, score: str | None = None, imbalance: Imbalance | None = None) -> Task:
    """Chooses the task by what the data say of an image.

    Args:
        data: the images.
        score: what networks are compared by, one of the task's scores; None: its own.
        imbalance: a correction of the loss for what is rare; None: none. A detector's loss takes none: it is focal.

    Returns:
        Classification where each image has one class, `MultiLabel` where it has several labels, `Detection` where
        objects are boxed.

    Raises:
        InputError: the task has no such score, or takes no correction.

    Example:
        >>> import supernet
        >>> implied(supernet.data.digits()).score
        'accuracy'
    """
    if imbalance is not None and data.kind == "boxes":
        raise InputError(f"imbalance: {data.name} has boxes of objects, whose loss takes no correction; leave it out")
    given = {name: value for name, value in (("score", score), ("imbalance", imbalance)) if value is not None}
    return _IMPLIED[data.kind](data, **given)
