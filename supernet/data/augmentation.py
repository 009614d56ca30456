"""Crops, flips, normalises and cuts out a whole batch at once, on its device."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.data.box_changes import BoxChanges
from supernet.data.distortions import contrasted, turned
from supernet.data.preparation import PLAIN, Preparation
from supernet.data.targets import kind_of
from supernet.runtime.devices import send
from supernet.runtime.errors import InputError


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch of B images: what `Augmentation.draw` draws and `Augmentation.apply` uses.

    Args:
        top: (B,) int64, the row where the crop begins in the padded image.
        left: (B,) int64, its column.
        flip: (B,) int64, 1 where the image is mirrored and 0 elsewhere.
        centre_y: (B,) int64, the row of the middle of the cutout square in the cropped image.
        centre_x: (B,) int64, its column.
        box: (4, B) numbers in [0, 1), where crops are resized: the area of the crop, its aspect, and its place from the
            left and from the top.
        changes: (4, B) numbers in [-1, 1), where images are distorted: angle, zoom, contrast, brightness, in shares of
            the largest change.
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    centre_y: Tensor
    centre_x: Tensor
    box: Tensor | None = None
    changes: Tensor | None = None

    def to(self, device: torch.device) -> "Draws":
        """Moves the five integers to the device in one transfer, and what else there is in another each."""
        together = torch.stack((self.top, self.left, self.flip, self.centre_y, self.centre_x))
        box, changes = (None if each is None else send(each, device) for each in (self.box, self.changes))
        return replace(Draws(*send(together, device).unbind()), box=box, changes=changes)

    def part(self, rows: slice) -> "Draws":
        """The random numbers of some of the images."""
        plain = (self.top[rows], self.left[rows], self.flip[rows], self.centre_y[rows], self.centre_x[rows])
        return Draws(*plain, *(None if each is None else each[:, rows] for each in (self.box, self.changes)))


@dataclass(frozen=True)
class Augmentation:
    """Changes training images at random and normalises them, a whole batch at once.

    The order is: crop of the zero-padded image, horizontal flip, rotation and zoom, contrast, normalisation, cutout
    (DeVries & Taylor 2017).

    Args:
        mean: (channels,) of pixels in [0, 1].
        std: (channels,) the standard deviation of pixels in [0, 1].
        crop_padding: pixels of zeros on every side, from which a crop of the image's size is taken.
        flip: whether half of the images are mirrored left to right.
        cutout: the side in pixels of a square of zeros at a random place. It is clipped at the borders, and an odd side
            gives one pixel less, as in the DARTS code.
        preparation: how pictures became the pixels that are given here, so that a trained model prepares its images in
            the same way.
        scale: in place of the padded crop, a part of the image with an area between these two shares of the whole and
            an aspect between 3:4 and 4:3 is resized (Szegedy et al. 2015). The images then have the preparation's
            border on every side: training crops draw on it, and `normalise` cuts it away.
        boxes: how images are changed together with the boxes in them, in place of crop, flip and cutout.
        rotation: the largest angle in degrees by which an image is turned, to either side.
        zoom: an image is enlarged by up to this share, or made smaller by as large a factor.
        contrast: the distances from an image's mean are changed by up to this share, its brightness by up to half this
            share of the whole range.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> augmentation = Augmentation(mean=(0.5,), std=(0.25,), crop_padding=1, flip=True)
        >>> white = torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
        >>> augmentation(white, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 1, 4, 4])
        >>> augmentation.normalise(white)[0, 0, 0]
        tensor([2., 2., 2., 2.])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0
    preparation: Preparation = PLAIN
    scale: tuple[float, ...] | None = None
    boxes: BoxChanges | None = None
    rotation: float = 0.0
    zoom: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise InputError(f"mean={self.mean} and std={self.std}: each needs one number per channel")
        if min(self.std) <= 0:
            raise InputError(f"std={self.std}: every channel's standard deviation must be above 0")
        for name, pixels in (("crop_padding", self.crop_padding), ("cutout", self.cutout)):
            if pixels < 0:
                raise InputError(f"{name}={pixels}: needs 0 or more pixels")
        if self.scale is not None and (len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1):
            raise InputError(f"scale={list(self.scale)}: needs two shares of the area, such as [0.08, 1.0]")
        if self.scale is not None and self.crop_padding:
            raise InputError(f"crop_padding={self.crop_padding} and scale={list(self.scale)}: use one of them")
        if self.boxes is not None and (self.crop_padding or self.flip or self.cutout or self.scale is not None):
            raise InputError("boxes do not follow crop_padding, flip, cutout and scale; leave these out beside boxes")
        if not 0 <= self.rotation <= 180:
            raise InputError(f"rotation={self.rotation}: needs 0 to 180 degrees, such as 10")
        for name, share in (("zoom", self.zoom), ("contrast", self.contrast)):
            if not 0 <= share < 1:
                raise InputError(f"{name}={share}: needs a share below 1, such as 0.15, or 0")

    def output(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Returns the shape (channels, height, width) of the result for images of this shape."""
        channels, height, width = shape
        border = 0 if self.scale is None else 2 * self.preparation.border
        return channels, height - border, width - border

    def change(
        self,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        *,
        total: int | None = None,
        rows: slice = slice(None),
    ) -> tuple[Tensor, Tensor]:
        """Augments a batch, and its labels where they say where in an image something is.

        Args:
            images: (B, C, H, W) of uint8.
            labels: of the images, on their device.
            generator: of the random numbers, on the CPU.
            total: how many images numbers are drawn for; None: for these.
            rows: which of those these are.

        Returns:
            The images as floats, and their labels.

        Raises:
            InputError: the labels are boxes, which would not follow the pixels.
        """
        count = len(images) if total is None else total
        if self.boxes is not None:
            changed, labels = self.boxes.apply(images, labels, self.boxes.draw(count, generator).part(rows))
            return self._standardise(changed), labels
        if kind_of(labels) == "boxes" and (self.crop_padding or self.flip or self.cutout or self.scale is not None):
            raise InputError("boxes do not follow crop_padding, flip, cutout and scale; give BoxChanges instead")
        height, width = images.shape[2:]
        return self.apply(images, self.draw(count, height, width, generator).part(rows)), labels

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augments images (B, C, H, W) of uint8, with random numbers of a CPU generator; returns floats."""
        count, _, height, width = images.shape
        return self.apply(images, self.draw(count, height, width, generator))

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Draws:
        """Draws the random numbers of `count` images of this size.

        What is switched off draws, too, so that each part has the same numbers whatever the others are.
        """

        def below(limit: int) -> Tensor:
            return torch.randint(limit, (count,), generator=generator)

        offsets = 2 * self.crop_padding + 1
        _, height, width = self.output((0, height, width))
        draws = below(offsets), below(offsets), below(2), below(height), below(width)
        box = None if self.scale is None else torch.rand(4, count, generator=generator)
        distorted = self.rotation or self.zoom or self.contrast  # last, and only then: other draws stay what they were
        return Draws(*draws, box, torch.rand(4, count, generator=generator) * 2 - 1 if distorted else None)

    def apply(self, images: Tensor, draws: Draws) -> Tensor:
        """Returns the float images (B, C, H, W) that these random numbers make of images of uint8."""
        draws = draws.to(images.device)
        if self.scale is not None:
            images = self._crop_and_resize(images, draws, self.scale)
        elif self.crop_padding or self.flip:
            images = self._crop_and_flip(images, draws)
        if draws.changes is not None:
            images = self._distort(images, draws.changes)
        result = self._standardise(images)
        return self._cut_out(result, draws) if self.cutout else result

    def normalise(self, images: Tensor) -> Tensor:
        """Returns images (B, C, H, W) of uint8 as floats, minus the mean and divided by the standard deviation."""
        border = 0 if self.scale is None else self.preparation.border
        return self._standardise(images[..., border : images.shape[2] - border, border : images.shape[3] - border])

    def _standardise(self, images: Tensor) -> Tensor:
        statistics = send(torch.tensor((self.mean, self.std)), images.device)
        mean, std = statistics.view(2, -1, 1, 1)
        return images.float().div_(255).sub_(mean).div_(std)

    def _crop_and_flip(self, images: Tensor, draws: Draws) -> Tensor:
        count, channels, height, width = images.shape
        padding = self.crop_padding
        padded = F.pad(images, (padding, padding, padding, padding))
        rows = torch.arange(height, device=images.device) + draws.top[:, None]
        columns = torch.arange(width, device=images.device)
        if self.flip:
            columns = torch.where(draws.flip[:, None] == 1, width - 1 - columns, columns)
        columns = columns + draws.left[:, None]
        pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]  # (B, H, W), places in a padded plane
        pixels = pixels.view(count, 1, -1).expand(-1, channels, -1)
        return padded.flatten(2).gather(2, pixels).view(images.shape)

    def _crop_and_resize(self, images: Tensor, draws: Draws, scale: tuple[float, ...]) -> Tensor:
        """A box of each image, flipped or not, sampled bilinearly at the places of the output's pixels."""
        assert draws.box is not None
        count, channels, height, width = images.shape
        area, aspect, from_left, from_top = draws.box
        area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
        root = (math.log(4 / 3) * (aspect - 0.5)).exp()  # of an aspect that is uniform in its logarithm
        wide, high = (area.sqrt() * root).clamp(max=width), (area.sqrt() / root).clamp(max=height)
        left, top = (width - wide) * from_left, (height - high) * from_top
        turned = 1 - 2 * draws.flip if self.flip else torch.ones_like(draws.flip)
        zero = torch.zeros_like(wide)
        across = torch.stack((turned * wide / width, zero, (2 * left + wide) / width - 1), 1)
        down = torch.stack((zero, high / height, (2 * top + high) / height - 1), 1)
        _, out_height, out_width = self.output((channels, height, width))
        size = [count, channels, out_height, out_width]
        grid = F.affine_grid(torch.stack((across, down), 1), size, align_corners=False)
        return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _distort(self, images: Tensor, changes: Tensor) -> Tensor:
        """Factors are uniform in their logarithms, so that enlarged images are as many as smaller ones."""
        angle, zoom, contrast, brightness = changes
        if self.rotation or self.zoom:
            images = turned(images, self.rotation * angle, (math.log1p(self.zoom) * zoom).exp())
        if self.contrast:
            factor = (math.log1p(self.contrast) * contrast).exp()
            images = contrasted(images, factor, 0.5 * self.contrast * brightness)
        return images

    def _cut_out(self, images: Tensor, draws: Draws) -> Tensor:
        height, width = images.shape[2:]
        inside_rows = self._inside(draws.centre_y, height)[:, None, :, None]
        inside_columns = self._inside(draws.centre_x, width)[:, None, None, :]
        return images.masked_fill_(inside_rows & inside_columns, 0.0)

    def _inside(self, centres: Tensor, size: int) -> Tensor:
        """Whether each place along one axis lies within the square, (B, size)."""
        distance = torch.arange(size, device=centres.device) - centres[:, None]
        return (distance >= -(self.cutout // 2)) & (distance < self.cutout // 2)
