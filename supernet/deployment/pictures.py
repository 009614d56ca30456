"""Brings images of many forms to the shape that a model takes: whatever runs the model, it is given the same pixels."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from supernet.data.images import as_tensor, read_sized
from supernet.data.preparation import PADDING, PLAIN, Placement, Preparation, placement
from supernet.data.upright import upright
from supernet.deployment.sources import spread
from supernet.deployment.web import Fetched
from supernet.runtime.errors import InputError

Images = str | Path | Image.Image | np.ndarray | Tensor
_MOST_IMAGES, _MOST_PIXELS = 256, 1 << 21  # of a batch
_LOG = logging.getLogger(__name__)
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture as it was given, from which its pixels can be had again.

    Args:
        content: a file, the bytes of one, a picture of Pillow, or a tensor (C, H, W) of levels from 0 to 255.
        shape: its (height, width) as it is shown, in pixels.
        reader: how it becomes pixels of a model.
        number: which one of the source it is, from 0.
    """

    content: Any
    shape: tuple[int, int]
    reader: Pictures
    number: int = 0

    @property
    def path(self) -> str | None:
        """The file or the address that it came from, if it came from one."""
        if isinstance(self.content, Fetched):
            return self.content.address
        return os.fspath(self.content) if isinstance(self.content, str | os.PathLike) else None

    @property
    def file_name(self) -> str:
        """The last part of its path, or "image0.png" by its number."""
        path = self.path
        if isinstance(self.content, Fetched):
            path = PurePosixPath(urlsplit(self.content.address).path).name
        return Path(path).name if path and Path(path).name else f"image{self.number}.png"

    @property
    def placed(self) -> Placement:
        """Where its pixels lie in the model's image."""
        height, width = self.shape
        return placement(width, height, self.reader.shape, self.reader.preparation_of(self.content))

    def original(self) -> np.ndarray:
        """Its pixels, (H, W, 3) of uint8, red first. A file is read again."""
        if isinstance(self.content, Tensor):
            levels = self.content.detach().cpu().round().to(torch.uint8)
            levels = levels if len(levels) == 3 else levels[:1].expand(3, -1, -1)
            return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())
        whole = replace(self.reader.preparation, fit="squash", border=0)
        pixels, _ = _read(self.content, (3, *self.shape), whole)
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

    def prepared(self) -> Tensor:
        """Its pixels as the model is given them, (channels, height, width), floats in [0, 255]. A file is read
        again."""
        return self.reader.pixels(self.content)[0].float()


@dataclass(frozen=True)
class Pictures:
    """Reads images in many forms as batches of pixels of one shape.

    Args:
        shape: the (channels, height, width) of the images that the model is given.
        preparation: how a picture becomes pixels.
        bgr: whether arrays have blue first, as those of OpenCV.
        skip_unreadable: whether what cannot be read is left out, with one warning that counts it, as long as there is
            another picture.

    Example:
        >>> pictures = Pictures((1, 2, 2))
        >>> [(few[0].shape, pixels.shape) for few, pixels in pictures.batches(np.zeros((4, 6), np.uint8))]
        [((4, 6), torch.Size([1, 1, 2, 2]))]
    """

    shape: tuple[int, int, int]
    preparation: Preparation = PLAIN
    bgr: bool = False
    skip_unreadable: bool = False

    def batches(
        self, source: Images | Sequence[Any], device: torch.device | str = "cpu"
    ) -> Iterator[tuple[tuple[Picture, ...], Tensor]]:
        """Yields the images in batches.

        Args:
            source: as `Predictor` takes it.
            device: where the pixels go.

        Yields:
            The pictures, and their pixels (N, channels, height, width), floats in [0, 255].

        Raises:
            InputError: an image is not understood, in one line.
        """
        most = max(1, min(_MOST_IMAGES, _MOST_PIXELS // (self.shape[1] * self.shape[2])))
        one_by_one = self._each(source)
        while batch := list(islice(one_by_one, most)):
            pictures, pixels = zip(*batch, strict=True)
            yield pictures, torch.stack([image.to(device).float() for image in pixels])

    def pixels(self, content: Any) -> tuple[Tensor, tuple[int, int]]:
        """The pixels of a picture's content, of the shape of this reader, and the content's own (height, width)."""
        if isinstance(content, Tensor):
            return self._fit(content.unsqueeze(0))[0], (content.shape[-2], content.shape[-1])
        if self.shape[0] not in (1, 3):
            shown = content if isinstance(content, str | Path) else "image"
            raise InputError(f"{shown}: image files have 1 or 3 channels, the network wants others; pass a tensor")
        return _read(content, self.shape, self.preparation)

    def preparation_of(self, content: Any) -> Preparation:
        """How a content becomes pixels: the middle of a tensor is not cut out, all of it is resized."""
        cut = isinstance(content, Tensor) and self.preparation.fit == "crop"
        return replace(self.preparation, fit="squash", border=0) if cut else self.preparation

    def _each(self, source: Any) -> Iterator[tuple[Picture, Tensor]]:
        """Each picture with its pixels, uint8 or floats in [0, 255]."""
        number, left_out = 0, list[InputError]()
        for item in self._spread(source, left_out):
            for content in self._contents(item):
                try:
                    pixels, size = self.pixels(content)
                except InputError as error:
                    self._leave_out(error, left_out)
                    continue
                yield Picture(content, size, self, number), pixels
                number += 1
        if left_out and not number:
            raise left_out[0]
        if left_out:
            _LOG.warning("%d of %d pictures left out: %s", len(left_out), number + len(left_out), left_out[0])

    def _spread(self, source: Any, left_out: list[InputError]) -> Iterator[Any]:
        """What a source holds; of a list, what is not there or cannot be fetched may be left out."""
        if isinstance(source, list | tuple):
            for item in source:
                yield from self._spread(item, left_out)
            return
        try:
            yield from spread(source)
        except InputError as error:
            self._leave_out(error, left_out)

    def _leave_out(self, error: InputError, left_out: list[InputError]) -> None:
        if not self.skip_unreadable:
            raise error
        left_out.append(error)

    def _contents(self, item: Any) -> Iterator[Any]:
        """What an item of a source holds: itself, or the images of an array or a tensor."""
        if isinstance(item, np.ndarray):
            yield from _of_array(item, self.bgr, self.shape[0] in (1, 3))
        elif isinstance(item, Tensor):
            yield from _of_tensor(item)
        elif isinstance(item, str | Path | Fetched | Image.Image):
            yield item
        else:
            raise InputError(
                f"an image is a path, an address, a PIL image, an array or a tensor, not {type(item).__name__}"
            )

    def _fit(self, pixels: Tensor) -> Tensor:
        channels, height, width = self.shape
        if pixels.shape[1] != channels:
            if pixels.shape[1] == 1:
                pixels = pixels.expand(-1, channels, -1, -1)
            elif channels == 1 and pixels.shape[1] == 3:
                weights = torch.tensor(_GREY, device=pixels.device).view(1, 3, 1, 1)
                pixels = (pixels.float() * weights).sum(1, keepdim=True)
            else:
                raise InputError(f"the image has {pixels.shape[1]} channels, the network wants {channels}")
        if pixels.shape[2:] == (height, width):
            return pixels.contiguous()
        if self.preparation.fit != "pad":
            return _resized(pixels, height, width)
        placed = placement(pixels.shape[3], pixels.shape[2], self.shape, self.preparation)
        inner = round(placed.scale_y * placed.height), round(placed.scale_x * placed.width)
        left, top = int(placed.left), int(placed.top)
        around = (left, width - left - inner[1], top, height - top - inner[0])
        return pad(_resized(pixels, *inner), around, value=float(PADDING))


def _resized(pixels: Tensor, height: int, width: int) -> Tensor:
    return interpolate(pixels.float(), (height, width), mode="bilinear", antialias=True, align_corners=False)


def _read(content: Any, shape: tuple[int, int, int], preparation: Preparation) -> tuple[Tensor, tuple[int, int]]:
    """The pixels (uint8) of a file, of bytes from the web or of a picture of Pillow, and its own (height, width)."""
    if isinstance(content, Fetched):
        return _read_fetched(content, shape, preparation)
    if isinstance(content, Image.Image):
        turned = upright(content)
        return as_tensor(turned, shape, "image", preparation), (turned.height, turned.width)
    return read_sized(content, shape, preparation=preparation)


def _read_fetched(
    content: Fetched, shape: tuple[int, int, int], preparation: Preparation
) -> tuple[Tensor, tuple[int, int]]:
    """Reads bytes as a file of the same ending: whatever a file can be, a picture from the web can be, too."""
    ending = PurePosixPath(urlsplit(content.address).path).suffix
    with NamedTemporaryFile(suffix=ending if ending[1:].isalnum() else "", prefix="supernet-") as file:
        file.write(content.raw)
        file.flush()
        try:
            return read_sized(file.name, shape, preparation=preparation)
        except InputError as error:  # it names a file that nobody has given
            raise InputError(str(error).replace(file.name, content.address[:200])) from None


def _of_array(array: np.ndarray, bgr: bool, as_files: bool) -> Iterator[Any]:
    """Copies of the pictures of an array: of Pillow where they are to be read as files are, or tensors (C, H, W)."""
    deep = array.dtype == np.uint16 and array.ndim == 2
    if array.dtype != np.uint8 and not deep:
        raise InputError(
            f"an image array is uint8, or (H, W) of uint16, not {array.dtype}; pass floats in [0, 1] as a tensor"
        )
    if array.ndim == 2:
        array = array[None, :, :, None]
    elif array.ndim == 3:
        array = array[None]
    if array.ndim != 4:
        raise InputError(f"an image array is (H, W), (H, W, C) or (N, H, W, C), not of shape {array.shape}")
    if len(array) and min(array.shape[1:]) < 1:
        raise InputError(f"an image array of shape {array.shape} holds no pixels")
    for one in array:
        one = np.array(one[..., ::-1] if bgr and one.shape[2] == 3 else one, order="C")
        if as_files and one.shape[2] in (1, 3):
            yield Image.fromarray(one[..., 0] if one.shape[2] == 1 else one)
        else:
            yield torch.from_numpy(one).permute(2, 0, 1)


def _of_tensor(images: Tensor) -> Iterator[Tensor]:
    """The images (C, H, W) of a tensor, as levels from 0 to 255."""
    if images.dim() == 3:
        images = images.unsqueeze(0)
    if images.dim() != 4:
        raise InputError(f"an image tensor is (C, H, W) or (N, C, H, W), not of shape {tuple(images.shape)}")
    if min(images.shape[1:]) < 1:
        raise InputError(f"an image tensor of shape {tuple(images.shape)} holds no pixels")
    if len(images):
        yield from _levels(images)


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
