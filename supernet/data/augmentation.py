"""Crop, flip, normalise and cut out a whole batch at once, on the device where it lies."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.data.images import PLAIN, Preparation
from supernet.runtime.devices import send
from supernet.runtime.errors import InputError


@dataclass(frozen=True)
class Draws:
    """What chance decided for each image of a batch: five int64 tensors of shape (B,).

    `top` and `left` are the crop's corner in the padded image, `flip` is 0 or 1, `centre_y` and `centre_x` are the
    middle of the cutout square in the cropped image.
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    centre_y: Tensor
    centre_x: Tensor

    def to(self, device: torch.device) -> "Draws":
        """Move all five to the device in one transfer."""
        together = torch.stack((self.top, self.left, self.flip, self.centre_y, self.centre_x))
        return Draws(*send(together, device).unbind())


@dataclass(frozen=True)
class Augmentation:
    """Random crop of the zero-padded image, horizontal flip, normalisation, cutout (DeVries & Taylor 2017).

    `mean` and `std` are per channel, for pixels scaled to [0, 1]. `cutout` is the side of the square in pixels; the
    square is clipped at the borders, and an odd side gives one pixel less, as in the DARTS code. `preparation` says how
    picture files became the pixels that are normalised here; what uses a trained model prepares its images alike.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0
    preparation: Preparation = PLAIN

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise InputError(f"mean {self.mean} and std {self.std} need one number per channel each")
        if min(self.std) <= 0:
            raise InputError(f"std={self.std}: every channel's standard deviation must be above 0")
        if self.crop_padding < 0 or self.cutout < 0:
            raise InputError(f"crop_padding={self.crop_padding} and cutout={self.cutout} must be 0 or more pixels")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the augmented float images (B, C, H, W) of uint8 ones; `generator` is a CPU generator."""
        count, _, height, width = images.shape
        return self.apply(images, self.draw(count, height, width, generator))

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Draws:
        """Draw for `count` images of this size; parts that are switched off still draw, so the others do not move."""

        def below(limit: int) -> Tensor:
            return torch.randint(limit, (count,), generator=generator)

        offsets = 2 * self.crop_padding + 1
        return Draws(below(offsets), below(offsets), below(2), below(height), below(width))

    def apply(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the float images (B, C, H, W) that these draws make of the uint8 ones."""
        draws = draws.to(images.device)
        moved = self._crop_and_flip(images, draws) if self.crop_padding or self.flip else images
        result = self.normalise(moved)
        return self._cut_out(result, draws) if self.cutout else result

    def normalise(self, images: Tensor) -> Tensor:
        """Return uint8 images (B, C, H, W) as floats with the mean taken off, divided by the standard deviation."""
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

    def _cut_out(self, images: Tensor, draws: Draws) -> Tensor:
        height, width = images.shape[2:]
        inside_rows = self._inside(draws.centre_y, height)[:, None, :, None]
        inside_columns = self._inside(draws.centre_x, width)[:, None, None, :]
        return images.masked_fill_(inside_rows & inside_columns, 0.0)

    def _inside(self, centres: Tensor, size: int) -> Tensor:
        """(B, size): whether a place along one axis lies in the square's span."""
        distance = torch.arange(size, device=centres.device) - centres[:, None]
        return (distance >= -(self.cutout // 2)) & (distance < self.cutout // 2)
