"""What is learnt and judged: each function makes a task for a data set (`find`, `train` and `judge` take it as `task`).

Without one they take what the data imply: `implied(data)`.

>>> import supernet
>>> supernet.tasks.implied(supernet.data.digits()).score
'accuracy'
"""

from supernet.training.tasks import (
    Classification,
    ClassWeights,
    Detection,
    Focal,
    Imbalance,
    LogitAdjustment,
    MultiLabel,
    Task,
    binary,
    classification,
    detection,
    implied,
    multilabel,
)

__all__ = [
    "ClassWeights",
    "Classification",
    "Detection",
    "Focal",
    "Imbalance",
    "LogitAdjustment",
    "MultiLabel",
    "Task",
    "binary",
    "classification",
    "detection",
    "implied",
    "multilabel",
]


def __dir__() -> list[str]:
    """What the tab key offers."""
    return __all__
