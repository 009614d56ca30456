"""Tasks: what is learnt and judged. The loops leave both to the task."""

from supernet.training.tasks.classification import CLASSIFICATION, Classification, binary, classification
from supernet.training.tasks.detection import Detection, detection
from supernet.training.tasks.imbalance import ClassWeights, Focal, Imbalance, LogitAdjustment
from supernet.training.tasks.implied import implied
from supernet.training.tasks.multilabel import MultiLabel, multilabel
from supernet.training.tasks.task import Output, SoftLoss, Task, soft_cross_entropy

__all__ = [
    "CLASSIFICATION",
    "ClassWeights",
    "Classification",
    "Detection",
    "Focal",
    "Imbalance",
    "LogitAdjustment",
    "MultiLabel",
    "Output",
    "SoftLoss",
    "Task",
    "binary",
    "classification",
    "detection",
    "implied",
    "multilabel",
    "soft_cross_entropy",
]
