"""Small models to export, whose answers are far from equal, and files that are made of them."""

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

import supernet
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.data.dataset import Data, Sealed
from supernet.data.preparation import Preparation
from supernet.deployment.onnx_files import described, read_onnx
from supernet.deployment.predictor import Predictor
from supernet.space.operations import OPERATIONS

NAMES = ("ant", "bee", "cat", "dog")


def model(space: Any, shape: tuple[int, int, int], number: int = 0, *, cell: Any = None, factories=OPERATIONS):
    """A network of random weights with norms that have seen something, sharp answers, and all that belongs to it."""
    torch.manual_seed(number)
    cell = cell or supernet.random_cell(space, 0, number)
    network = space.network(supernet.Decided(cell, factories), shape, len(NAMES)).eval()
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, 0.0, 0.3)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        images = pictures(32, shape).float() / 255
        logits = network((images - 0.4) / 0.3)
        sharper = 2 / (logits - logits.mean(0)).std()
        last.weight.mul_(sharper)
        last.bias.sub_(logits.mean(0)).mul_(sharper)
    mean, std = (tuple(value + 0.01 * channel for channel in range(shape[0])) for value in (0.4, 0.3))
    return Predictor(
        network,
        space=space,
        architecture=cell,
        classes=NAMES,
        shape=shape,
        augmentation=Augmentation(mean, std, preparation=Preparation(ground=30)),
        provenance={"data": "toy", "seed": 3, "test accuracy": None},
    )


def pictures(count: int, shape: tuple[int, int, int], seed: int = 1) -> torch.Tensor:
    """Coarse patterns of levels: networks of random weights tell them apart, which they hardly do with noise."""
    coarse = torch.rand(count, shape[0], 2, 2, generator=torch.Generator().manual_seed(seed))
    return (nn.functional.interpolate(coarse, shape[1:]) * 255).to(torch.uint8)


def data_for(predictor: Predictor, count: int = 48) -> Data:
    """Images that are labelled as the model sees them."""

    def labelled(seed: int) -> Resident:
        images = pictures(count, predictor.shape, seed)
        return Resident(images, predictor.probabilities(images.float()).argmax(1))

    return Data("toy", predictor.classes, labelled(5), None, Sealed(labelled(6)), predictor.augmentation)


def rewritten(path: Path, change: Any, goal: Path) -> Path:
    """A file whose graph was changed by one who also wrote a fitting checksum."""
    read, graph = read_onnx(path), onnx.load(path)
    change(graph)
    about = {name: read.about[name] for name in ("input", "output", "precision")}
    goal.write_bytes(described(graph, read.description, about))
    return goal
