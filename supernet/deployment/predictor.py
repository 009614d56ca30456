"""Uses a trained network: it takes images in many forms and returns the probabilities of named classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from supernet.data.augmentation import Augmentation
from supernet.data.images import SUFFIXES, as_tensor, read_image
from supernet.deployment.bundle import NAME, save_bundle
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder
from supernet.space import Space
from supernet.space.architecture import Architecture

Images = str | Path | Image.Image | np.ndarray | Tensor
_BATCH = 256


@dataclass(frozen=True)
class Probabilities:
    """How probable each class is.

    Args:
        data: (classes,), which sum to 1.

    Example:
        >>> probabilities = Probabilities(torch.tensor([0.25, 0.75]))
        >>> probabilities.top1, float(probabilities.top1conf), probabilities.top5
        (1, 0.75, [1, 0])
    """

    data: Tensor

    @property
    def top1(self) -> int:
        """The number of the most probable class."""
        return int(self.data.argmax())

    @property
    def top1conf(self) -> Tensor:
        """The probability of the most probable class, a tensor of one value; `float()` makes it a number."""
        return self.data.max()

    @property
    def top5(self) -> list[int]:
        """The numbers of the five most probable classes, or of all if there are fewer, the most probable first."""
        return [int(i) for i in self.data.topk(min(5, len(self.data))).indices]

    @property
    def top5conf(self) -> list[float]:
        """The probabilities of `top5`."""
        return [float(self.data[i]) for i in self.top5]


@dataclass(frozen=True)
class Result:
    """What a network says of one image.

    Args:
        names: the name of each class by its number.
        probs: how probable each class is.
        path: the file of the image, if it was one.
    """

    names: dict[int, str]
    probs: Probabilities
    path: str | None = None


class Predictor:
    """A trained network with all that is needed to use it: call it with images. `supernet.load` returns one.

    Args:
        network: a module in evaluation mode, from normalised images (N, channels, height, width) to (N, classes).
        space: the space that built the network, a frozen dataclass of settings.
        architecture: the network's genotype.
        classes: the names of the classes, in the order of the network's outputs.
        shape: the (channels, height, width) of the images that the network is given.
        augmentation: how images are normalised.
        provenance: how the model was made, such as the seed, and its accuracies.

    Example:
        >>> import tempfile, torch, supernet
        >>> space, cell = supernet.Darts(channels=4, cells=3), supernet.published("darts_v2")
        >>> network = space.network(supernet.Decided(cell), (1, 8, 8), 2).eval()
        >>> model = Predictor(
        ...     network,
        ...     space=space,
        ...     architecture=cell,
        ...     classes=("cat", "dog"),
        ...     shape=(1, 8, 8),
        ...     augmentation=supernet.data.Augmentation(mean=(0.5,), std=(0.5,)),
        ...     provenance={},
        ... )
        >>> image = torch.zeros(1, 8, 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.safetensors")
        ...     again = supernet.load(f"{folder}/model.safetensors")
        >>> torch.equal(again(image)[0].probs.data, model(image)[0].probs.data)
        True
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        space: Space,
        architecture: Architecture,
        classes: tuple[str, ...],
        shape: tuple[int, int, int],
        augmentation: Augmentation,
        provenance: Mapping[str, str | float | int | None],
    ) -> None:
        self.network, self.space, self.architecture = network, space, architecture
        self.classes, self.shape = classes, shape
        self.augmentation, self.provenance = augmentation, dict(provenance)

    def __repr__(self) -> str:
        return f"Predictor({self.space.name}, {len(self.classes)} classes, images {self.shape}, {self.provenance})"

    def to(self, device: str | torch.device) -> Predictor:
        """Moves the network to a device, where images will follow it; returns the predictor itself."""
        self.network.to(device)
        return self

    def save(self, path: str | Path) -> None:
        """Writes the model to one file, which `supernet.load` reads. An older file is replaced by a whole one.

        Args:
            path: the file, by custom with the ending .safetensors; its folder must exist.

        Raises:
            InputError: the path is a folder, or its folder does not exist.
            OSError: the file cannot be written.
        """
        path = Path(path)
        if is_folder(path):
            raise InputError(f"path={path}: a folder; give a file, such as {path / NAME}")
        if not is_folder(path.parent):
            raise InputError(f"path={path}: there is no folder {path.parent}; make it first")
        save_bundle(
            path,
            self.network,
            space=self.space,
            architecture=self.architecture,
            classes=self.classes,
            augmentation=self.augmentation,
            shape=self.shape,
            provenance=self.provenance,
        )

    @torch.inference_mode()
    def __call__(self, images: Images | Sequence[Images]) -> list[Result]:
        """Classifies images.

        Grey becomes colour where the network needs it, colour becomes grey, and other sizes are resized.

        Args:
            images: the path of a file or of a folder (all images in it, see `image_files`), a PIL image, an array
                (H, W), (H, W, C) or (N, H, W, C) of uint8, a tensor (C, H, W) or (N, C, H, W) of uint8 or of floats in
                [0, 1], or a list of such.

        Returns:
            One result for each image, in their order.

        Raises:
            InputError: an image is not understood, in one line.
        """
        given: list[Any] = list(images) if isinstance(images, list | tuple) else [images]
        given = [one for item in given for one in _spread(item)]
        device = next(self.network.parameters()).device
        names, results = dict(enumerate(self.classes)), []
        one_by_one = self._each(given, device)
        while batch := list(islice(one_by_one, _BATCH)):
            paths, pixels = zip(*batch, strict=True)
            logits = self.network(self.augmentation.normalise(torch.stack(pixels)))
            shares = logits.float().softmax(1).cpu()
            results += [Result(names, Probabilities(p), path) for path, p in zip(paths, shares, strict=True)]
        return results

    def _each(self, given: Sequence[Any], device: torch.device) -> Iterator[tuple[str | None, Tensor]]:
        """The path and the pixels in [0, 255] of each image, on the device."""
        for item in given:
            path = str(item) if isinstance(item, str | Path) else None
            for pixels in self._pixels(item).split(_BATCH):
                yield from ((path, image) for image in pixels.to(device).float())

    def _pixels(self, image: Images) -> Tensor:
        """The pixels (N, channels, height, width) of the size that the network wants, uint8 or floats in [0, 255]."""
        if isinstance(image, str | Path):
            if self.shape[0] not in (1, 3):
                return _refuse_file(image)
            return read_image(image, self.shape, preparation=self.augmentation.preparation).unsqueeze(0)
        if isinstance(image, Image.Image):
            if self.shape[0] not in (1, 3):
                return _refuse_file("image")
            return as_tensor(image, self.shape, "image", self.augmentation.preparation).unsqueeze(0)
        if isinstance(image, np.ndarray):
            image = _from_array(image)
        elif not isinstance(image, Tensor):
            raise InputError(f"an image is a path, a PIL image, an array or a tensor, not {type(image).__name__}")
        if image.dim() == 3:
            image = image.unsqueeze(0)
        if image.dim() != 4:
            raise InputError(f"an image tensor is (C, H, W) or (N, C, H, W), not of shape {tuple(image.shape)}")
        if min(image.shape[1:]) < 1:
            raise InputError(f"an image tensor of shape {tuple(image.shape)} holds no pixels")
        if len(image) == 0:
            return torch.empty(0, *self.shape)
        return self._fit(_levels(image))

    def _fit(self, pixels: Tensor) -> Tensor:
        channels, *size = self.shape
        if pixels.shape[1] != channels:
            if pixels.shape[1] == 1:
                pixels = pixels.expand(-1, channels, -1, -1)
            elif channels == 1 and pixels.shape[1] == 3:
                weights = torch.tensor([0.299, 0.587, 0.114], device=pixels.device).view(1, 3, 1, 1)
                pixels = (pixels.float() * weights).sum(1, keepdim=True)
            else:
                raise InputError(f"the image has {pixels.shape[1]} channels, the network wants {channels}")
        if list(pixels.shape[2:]) != size:
            pixels = interpolate(pixels.float(), size, mode="bilinear", antialias=True, align_corners=False)
        return pixels.contiguous()


def image_files(folder: str | Path) -> list[Path]:
    """Finds the image files in a folder and in the folders below it.

    Hidden files and folders (a name that begins with a dot) and linked folders are left out.

    Args:
        folder: the folder.

    Returns:
        The files, sorted by path.

    Raises:
        InputError: there is no image in it.
    """
    folder = Path(folder)
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, n) for n in files if not n.startswith(".") and Path(n).suffix.lower() in SUFFIXES]
    if not found:
        raise InputError(f"{folder}: no images in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    return sorted(found)


def _spread(item: Any) -> list[Any]:
    """The images in a folder; anything else as it is."""
    return list(image_files(item)) if isinstance(item, str | Path) and is_folder(item) else [item]


def _refuse_file(path: str | Path) -> Tensor:
    raise InputError(f"{path}: image files have 1 or 3 channels, the network wants others; pass a tensor")


def _from_array(array: np.ndarray) -> Tensor:
    if array.dtype != np.uint8:
        raise InputError(f"an image array is uint8, not {array.dtype}; pass floats in [0, 1] as a tensor")
    if array.ndim == 2:
        array = array[None, :, :, None]
    elif array.ndim == 3:
        array = array[None]
    if array.ndim != 4:
        raise InputError(f"an image array is (H, W), (H, W, C) or (N, H, W, C), not of shape {array.shape}")
    return torch.from_numpy(np.array(array)).permute(0, 3, 1, 2)


def _levels(pixels: Tensor) -> Tensor:
    """The pixels as levels from 0 to 255."""
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise InputError(f"an image tensor is uint8 or of floats in [0, 1], not {pixels.dtype}")
    low, high = pixels.aminmax()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"pixels from {low:.3g} to {high:.3g}: floats must be in [0, 1]; "
            "is the image normalised already? Then call .network"
        )
    return pixels * 255


def labelled(result: Result, count: int = 5) -> Iterator[tuple[str, float]]:
    """Yields the names and the probabilities of the most probable classes.

    Args:
        result: what a network says of one image.
        count: how many classes, at most 5.

    Yields:
        (name, probability), the most probable first.

    Example:
        >>> names, shares = {0: "cat", 1: "dog"}, torch.tensor([0.25, 0.75])
        >>> list(labelled(Result(names, Probabilities(shares))))
        [('dog', 0.75), ('cat', 0.25)]
    """
    for index in result.probs.top5[:count]:
        yield result.names[index], float(result.probs.data[index])
