"""Weights of torchvision's mobile networks in our networks: the same layers in the same order, under other names."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.data.preparation import Preparation
from supernet.deployment.predictor import Predictor
from supernet.runtime.errors import InputError
from supernet.runtime.reading import file_of, is_file
from supernet.runtime.text import printable, quantity
from supernet.space.choosers import Decided
from supernet.space.published_mobile import MOBILE

NETWORKS = {
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3_large": "mobilenet_v3_large",
    "mobilenet_v3_small": "mobilenet_v3_small",
    "efficientnet_b0": "efficientnet_b0",
    "mnasnet0_5": "mnasnet_b1",
    "mnasnet0_75": "mnasnet_b1",
    "mnasnet1_0": "mnasnet_b1",
    "mnasnet1_3": "mnasnet_b1",
}
"""Torchvision's name -> ours."""

_WIDTHS = {"mnasnet0_5": 0.5, "mnasnet0_75": 0.75, "mnasnet1_3": 1.3}
_SIDE = 224  # pixels
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_COUNTER = "num_batches_tracked"  # of a norm; old files have none


def load_torchvision(
    name: str, weights: str | Path | Mapping[str, Tensor], *, classes: tuple[str, ...] | None = None
) -> Predictor:
    """Loads a weight file of torchvision into the same network of ours, ready for use.

    Images are prepared as usual for ImageNet: the shorter side becomes 256 pixels, the middle 224 x 224 are taken, and
    colours are normalised.

    Args:
        name: of the network in torchvision: one of `NETWORKS`, such as "mobilenet_v3_large" or "mnasnet0_5".
        weights: a .pth file of torchvision, or the state dict of such a network.
        classes: the names of the classes, in the order of the network's outputs; None: their numbers.

    Returns:
        The network with its normalisation, on the CPU: call it with images, or save it as a model file.

    Raises:
        InputError: the name is unknown, the file is no state dict, or it is one of another network.

    Example:
        >>> import torchvision
        >>> theirs = torchvision.models.mobilenet_v3_small(num_classes=3).eval()
        >>> ours = load_torchvision("mobilenet_v3_small", theirs.state_dict(), classes=("cat", "dog", "owl"))
        >>> images = torch.rand(1, 3, 64, 64)
        >>> torch.allclose(ours.network(images), theirs(images), atol=1e-4)
        True
    """
    if name not in NETWORKS:
        raise InputError(f"name={printable(str(name)[:80])}: not known here; use one of {', '.join(NETWORKS)}")
    given = weights if isinstance(weights, Mapping) else _read(file_of(weights, "weights"))
    count = _outputs(given)
    named = tuple(map(str, range(count))) if classes is None else classes
    if isinstance(named, str) or not all(isinstance(each, str) for each in named):
        raise InputError(f"classes={str(classes)[:60]}: needs names, such as ('cat', 'dog')")
    if len(named) != count:
        raise InputError(f"classes={len(named)}: the network has {quantity(count, 'output')}")
    genotype, shape = MOBILE[NETWORKS[name]], (3, _SIDE, _SIDE)
    space, architecture = genotype.space(width=_WIDTHS.get(name, 1.0)), genotype.architecture()
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, only to be replaced
        network = space.network(Decided(architecture), shape, count)
    copy_by_position(network, given)
    return Predictor(
        network.eval(),
        space=space,
        architecture=architecture,
        classes=tuple(named),
        shape=shape,
        augmentation=Augmentation(_MEAN, _STD, preparation=Preparation(fit="crop", border=16)),
        provenance={"weights": f"torchvision {name}"},
    )


def copy_by_position(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copies a state dict into a network of the same layers in the same order, whatever they are called.

    Args:
        network: takes the values; its dtype and device stay.
        weights: by name, in the order of the layers. Kinds ("weight", "running_mean") and shapes have to agree.

    Raises:
        InputError: they do not; the first misfit is named, and nothing is copied.

    Example:
        >>> first, second = nn.Sequential(nn.Linear(2, 1)), nn.ModuleDict({"classifier": nn.Linear(2, 1)})
        >>> copy_by_position(first, second.state_dict())
        >>> torch.equal(first[0].weight, second["classifier"].weight)
        True
    """
    own = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    given = {name: value for name, value in weights.items() if not name.endswith(_COUNTER)}
    if len(own) != len(given):
        raise InputError(
            f"weights: {quantity(len(given), 'tensor')}, and the network has {len(own)}; they are of another network"
        )
    for (ours, wanted), (theirs, value) in zip(own.items(), given.items(), strict=True):
        if ours.rpartition(".")[2] != theirs.rpartition(".")[2] or wanted.shape != value.shape:
            raise InputError(
                f"weights: {printable(theirs[:80])} of {tuple(value.shape)} stands where the network has {ours} of "
                f"{tuple(wanted.shape)}; they are of another network"
            )
    counters = [value for name, value in weights.items() if name.endswith(_COUNTER)]
    own_counters = [value for name, value in network.state_dict().items() if name.endswith(_COUNTER)]
    pairs = [*zip(own.values(), given.values(), strict=True)]
    if len(counters) == len(own_counters):
        pairs += zip(own_counters, counters, strict=True)
    with torch.no_grad():
        for wanted, value in pairs:
            wanted.copy_(value)


def _read(path: str | Path) -> Mapping[str, Tensor]:
    """The tensors in a .pth file, by name. No code in it runs."""
    if not is_file(path):
        raise InputError(f"weights={printable(str(path))}: no such file")
    try:
        read: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"weights={printable(str(path))}: not a state dict that torch saved ({type(error).__name__})"
        ) from None
    if not isinstance(read, Mapping) or not all(isinstance(value, Tensor) for value in read.values()) or not read:
        raise InputError(f"weights={printable(str(path))}: holds {type(read).__name__}, not a state dict of tensors")
    return read


def _outputs(weights: Mapping[str, Tensor]) -> int:
    """How many classes a classifier with these weights tells apart: the length of its bias, the last tensor."""
    if broken := next((name for name, value in weights.items() if not torch.isfinite(value).all()), None):
        raise InputError(f"weights: {printable(str(broken)[:80])} holds infinite values or none (NaN)")
    last = next(reversed([*weights.values()]), None)
    if not isinstance(last, Tensor) or last.dim() != 1 or len(last) < 2:
        raise InputError("weights: the last tensor is no bias of a classifier; they are of another network")
    return len(last)
