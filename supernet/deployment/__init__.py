"""Uses a trained network: loads it, calls it with images, saves it."""

from supernet.deployment.bundle import save_bundle
from supernet.deployment.loading import load
from supernet.deployment.predictor import Predictor
from supernet.deployment.results import Result, labelled
from supernet.deployment.sources import image_files
from supernet.deployment.torchvision_weights import load_torchvision
from supernet.deployment.values import Boxes, Probabilities

__all__ = [
    "Boxes",
    "Predictor",
    "Probabilities",
    "Result",
    "image_files",
    "labelled",
    "load",
    "load_torchvision",
    "save_bundle",
]
