"""Labelled images: a function for each kind of data that people have, and what the functions return.

>>> import supernet
>>> supernet.data.digits().shape
(1, 8, 8)
"""

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident, Source, evaluation_batches, training_batches
from supernet.data.box_changes import BoxChanges
from supernet.data.coco import coco
from supernet.data.dataset import CommonSettings, Data, Parts, Sealed, assemble
from supernet.data.files import Files
from supernet.data.folders import image_folder
from supernet.data.labelled_folders import labelled_folder
from supernet.data.npz_files import npz
from supernet.data.preparation import Preparation
from supernet.data.reading import Reading
from supernet.data.shards import webdataset
from supernet.data.sklearn_digits import digits
from supernet.data.torchvision_archives import cifar10, cifar100, fashion_mnist, svhn
from supernet.data.voc import voc
from supernet.data.yolo import yolo

__all__ = [
    "Augmentation",
    "Batch",
    "BoxChanges",
    "CommonSettings",
    "Data",
    "Files",
    "Parts",
    "Preparation",
    "Reading",
    "Resident",
    "Sealed",
    "Source",
    "assemble",
    "cifar10",
    "cifar100",
    "coco",
    "digits",
    "evaluation_batches",
    "fashion_mnist",
    "image_folder",
    "labelled_folder",
    "npz",
    "svhn",
    "training_batches",
    "voc",
    "webdataset",
    "yolo",
]


def __dir__() -> list[str]:
    """What the tab key offers."""
    return __all__
