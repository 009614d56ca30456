"""Brings images of many forms to the shape that a model takes: whatever runs the model, it is given the same pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from supernet.data.images import PLAIN, SUFFIXES, Preparation, as_tensor, read_image
from supernet.deployment.results import Probabilities, Result, check_probabilities
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder

Images = str | Path | Image.Image | np.ndarray | Tensor
_BATCH = 256


@dataclass(frozen=True)
class Pictures:
    """Reads images in many forms as batches of pixels of one shape.

    Args:
        shape: the (channels, height, width) of the images that the model is given.
        preparation: how a picture becomes pixels.

    Example:
        >>> pictures = Pictures((1, 2, 2))
        >>> [(paths, pixels.shape) for paths, pixels in pictures.batches(np.zeros((4, 4), np.uint8))]
        [((None,), torch.Size([1, 1, 2, 2]))]
    """

    shape: tuple[int, int, int]
    preparation: Preparation = PLAIN

    def batches(
        self, images: Images | Sequence[Images], device: torch.device | str = "cpu"
    ) -> Iterator[tuple[tuple[str | None, ...], Tensor]]:
        """Yields the images in batches.

        Args:
            images: as `Predictor` takes them.
            device: where the pixels go.

        Yields:
            The path of each image (None: it was no file), and pixels (N, channels, height, width), floats in [0, 255].

        Raises:
            InputError: an image is not understood, in one line.
        """
        given: list[Any] = list(images) if isinstance(images, list | tuple) else [images]
        given = [one for item in given for one in _spread(item)]
        one_by_one = self._each(given, torch.device(device))
        while batch := list(islice(one_by_one, _BATCH)):
            paths, pixels = zip(*batch, strict=True)
            yield paths, torch.stack(pixels)

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
            return read_image(image, self.shape, preparation=self.preparation).unsqueeze(0)
        if isinstance(image, Image.Image):
            if self.shape[0] not in (1, 3):
                return _refuse_file("image")
            return as_tensor(image, self.shape, "image", self.preparation).unsqueeze(0)
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


def classified(
    batches: Iterator[tuple[tuple[str | None, ...], Tensor]],
    probabilities: Callable[[Tensor], Tensor],
    classes: Sequence[str],
) -> list[Result]:
    """Asks a model for each batch of images.

    Args:
        batches: of `Pictures.batches`.
        probabilities: from pixels (N, channels, height, width), floats in [0, 255], to (N, classes), on the CPU.
        classes: their names.

    Returns:
        One result for each image, in their order.

    Raises:
        InputError: the model's answers are no probabilities.
    """
    names, results = dict(enumerate(classes)), list[Result]()
    for paths, pixels in batches:
        answers = probabilities(pixels)
        check_probabilities(answers, "model")
        results += [Result(names, Probabilities(share), path) for path, share in zip(paths, answers, strict=True)]
    return results


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
