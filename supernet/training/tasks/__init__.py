"""Tasks: what is learnt and judged. The loops leave both to the task."""

from supernet.training.tasks.classification import CLASSIFICATION, Classification, classification
from supernet.training.tasks.detection import Detection, detection
from supernet.training.tasks.implied import implied
from supernet.training.tasks.task import Output, SoftLoss, Task, soft_cross_entropy

__all__ = [
    "CLASSIFICATION",
    "Classification",
    "Detection",
    "Output",
    "SoftLoss",
    "Task",
    "classification",
    "detection",
    "implied",
    "soft_cross_entropy",
]
