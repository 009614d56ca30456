"""Changes images and the boxes in them together, a whole batch at once, on its device."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.data.targets import CLASS, CORNERS, IGNORED
from supernet.runtime.devices import send
from supernet.runtime.errors import InputError

_LEAST_SHARE, _LEAST_SIDE = 0.25, 2.0  # of a box's area, and pixels: what keeps less than that is dropped


@dataclass(frozen=True)
class BoxDraws:
    """The random numbers of a batch of B images: what `BoxChanges.draw` draws and `BoxChanges.apply` uses.

    Args:
        mirrored: (B,) 1 where left and right are exchanged, and 0 elsewhere.
        upended: (B,) 1 where top and bottom are exchanged.
        scale: (B,) how many times as large objects become.
        shift_x: (B,) from -1 to 1: the place from left to right, of all that the scale leaves room for.
        shift_y: (B,) the same from top to bottom.
        brightness: (B,) factors of the levels.
        contrast: (B,) factors of the distance from the image's mean level.
        saturation: (B,) factors of the distance from grey.
    """

    mirrored: Tensor
    upended: Tensor
    scale: Tensor
    shift_x: Tensor
    shift_y: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor

    def to(self, device: torch.device) -> BoxDraws:
        """Moves all numbers to the device in one transfer."""
        together = torch.stack([getattr(self, field.name) for field in fields(self)])
        return BoxDraws(*send(together, device).unbind())

    def part(self, rows: slice) -> BoxDraws:
        """The random numbers of some of the images."""
        return BoxDraws(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class BoxChanges:
    """Flips, scales, shifts and recolours training images at random; their boxes follow the pixels.

    A box is clipped to the image and dropped where less than a quarter of its area, or a side of less than two
    pixels, is left of it. Regions that are ignored stay as long as two pixels of each side do. The image is moved
    over its own mean colour.

    Args:
        flip: whether half of the images are mirrored left to right.
        flip_down: whether half of the images are mirrored top to bottom; for pictures that have no upper side, such
            as those of a microscope.
        scale: how many times as large objects become, from the least to the largest, evenly in the logarithm.
        colour: how far brightness, contrast and saturation are changed: by factors from 1 - colour to 1 + colour.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> changes = BoxChanges(flip=True, scale=(1.0, 1.0), colour=0.0)
        >>> images = torch.zeros(1, 1, 8, 16, dtype=torch.uint8)
        >>> boxes = torch.tensor([[[0, 2, 1, 6, 5, 0, 12]]]).float()
        >>> _, changed = changes.apply(images, boxes, changes.draw(1, torch.Generator().manual_seed(0)))
        >>> changed[0, 0].tolist()
        [0.0, 10.0, 1.0, 14.0, 5.0, 0.0, 12.0]
    """

    flip: bool = True
    flip_down: bool = False
    scale: tuple[float, ...] = (0.6, 1.6)
    colour: float = 0.2

    def __post_init__(self) -> None:
        if len(self.scale) != 2 or not 0.1 <= self.scale[0] <= self.scale[1] <= 10:
            raise InputError(f"scale={list(self.scale)}: needs the least and the largest, from 0.1 to 10")
        if not 0 <= self.colour < 1:
            raise InputError(f"colour={self.colour}: needs a number from 0 to below 1")

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Changes images and boxes with random numbers of a CPU generator.

        Args:
            images: (B, C, H, W) uint8.
            labels: (B, most, 7) float32, the boxes on the same device.
            generator: of the random numbers.

        Returns:
            The images as floats from 0 to 255, and the boxes.
        """
        return self.apply(images, labels, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> BoxDraws:
        """Draws the random numbers of `count` images.

        What is switched off draws, too, so that each part has the same numbers whatever the others are.
        """
        mirrored, upended, scale, *others = torch.rand(len(fields(BoxDraws)), count, generator=generator).unbind()
        least, largest = (math.log(factor) for factor in self.scale)
        shift_x, shift_y, *colours = (2 * each - 1 for each in others)
        return BoxDraws(
            (mirrored < 0.5).float() * self.flip,
            (upended < 0.5).float() * self.flip_down,
            (least + (largest - least) * scale).exp(),
            shift_x,
            shift_y,
            *(1 + self.colour * each for each in colours),
        )

    def apply(self, images: Tensor, labels: Tensor, draws: BoxDraws) -> tuple[Tensor, Tensor]:
        """Changes images and boxes as drawn; the arguments and results are those of a call."""
        draws = draws.to(images.device)
        changed = _flipped(images, draws).float()
        if self.scale != (1, 1):
            changed = _moved(changed, draws)
        if self.colour:
            changed = _recoloured(changed, draws)
        return changed, _boxes_moved(labels, draws, images.shape[2], images.shape[3])


def _flipped(images: Tensor, draws: BoxDraws) -> Tensor:
    images = torch.where(draws.mirrored[:, None, None, None] > 0, images.flip(3), images)
    return torch.where(draws.upended[:, None, None, None] > 0, images.flip(2), images)


def _shifts(draws: BoxDraws) -> tuple[Tensor, Tensor]:
    """How far the middle of what is seen moves, as a share of half a side.

    A part of an enlarged image is seen, and all of one that is made smaller, somewhere on the ground.
    """
    room = (1 - 1 / draws.scale).abs()
    return draws.shift_x * room, draws.shift_y * room


def _moved(images: Tensor, draws: BoxDraws) -> Tensor:
    """The images (B, C, H, W) scaled and shifted: the place o of a result, from -1 to 1, reads o / scale + shift."""
    across, down = _shifts(draws)
    zero, inverse = torch.zeros_like(across), 1 / draws.scale
    matrix = torch.stack((inverse, zero, across, zero, inverse, down), 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    ground = images.mean((2, 3), keepdim=True)
    return F.grid_sample(images - ground, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + ground


def _recoloured(images: Tensor, draws: BoxDraws) -> Tensor:
    """Brightness, contrast and saturation changed in this order; grey images have no saturation."""
    brightness, contrast, saturation = (
        factor[:, None, None, None] for factor in (draws.brightness, draws.contrast, draws.saturation)
    )
    images = images * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * contrast + mean
    if images.shape[1] > 1:
        grey = images.mean(1, keepdim=True)
        images = (images - grey) * saturation + grey
    return images.clamp(0, 255)


def _boxes_moved(labels: Tensor, draws: BoxDraws, height: int, width: int) -> Tensor:
    """The boxes (B, most, 7) where the pixels went; what is left of too few of them is a row of padding."""
    x1, y1, x2, y2 = labels[..., CORNERS].unbind(-1)
    across, down = _shifts(draws)
    left, right = _along(x1, x2, draws.mirrored, across, draws.scale, width)
    top, bottom = _along(y1, y2, draws.upended, down, draws.scale, height)
    area = (right - left) * (bottom - top)
    left, right = left.clamp(0, width), right.clamp(0, width)
    top, bottom = top.clamp(0, height), bottom.clamp(0, height)
    enough = ((right - left) * (bottom - top) >= _LEAST_SHARE * area) | (labels[..., IGNORED] > 0)
    kept = (labels[..., CLASS] >= 0) & enough & (right - left >= _LEAST_SIDE) & (bottom - top >= _LEAST_SIDE)
    corners = torch.stack((left, top, right, bottom), -1)
    changed = torch.cat((labels[..., : CORNERS.start], corners, labels[..., CORNERS.stop :]), -1)
    padding = torch.zeros_like(changed)
    padding[..., CLASS] = -1
    return torch.where(kept[..., None], changed, padding)


def _along(low: Tensor, high: Tensor, turned: Tensor, shift: Tensor, scale: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Both ends (B, most) of boxes along one axis after its flip, and the scale and shift of `_moved`."""
    backwards = turned[:, None] > 0
    low, high = torch.where(backwards, side - high, low), torch.where(backwards, side - low, high)
    offset = (side / 2 * (1 - scale * (1 + shift)))[:, None]
    return low * scale[:, None] + offset, high * scale[:, None] + offset
