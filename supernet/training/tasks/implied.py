"""The task that a data set implies."""

from __future__ import annotations

from collections.abc import Callable

from supernet.data.dataset import Data
from supernet.data.targets import Kind
from supernet.training.tasks.classification import classification
from supernet.training.tasks.detection import detection
from supernet.training.tasks.task import Task

_IMPLIED: dict[Kind, Callable[[Data], Task]] = {"classes": classification, "boxes": detection}


def implied(data: Data) -> Task:
    """Chooses the task by what the data say of an image.

    Args:
        data: the images.

    Returns:
        Classification where each image has one class, detection where objects are boxed.

    Example:
        >>> import supernet
        >>> implied(supernet.data.digits()).score
        'accuracy'
    """
    return _IMPLIED[data.kind](data)
