"""A set of images in another resolution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.data.batches import Source
from supernet.data.reading import hashed
from supernet.runtime.errors import InputError


@dataclass(frozen=True)
class Resized:
    """The images of a set in another size, bilinear with anti-aliasing, each batch when it is asked for.

    Args:
        source: the set.
        height: of every image in pixels, 1 or more.
        width: the same.

    Raises:
        InputError: a side is below 1.

    Example:
        >>> from supernet.data.batches import Resident
        >>> images = Resident(torch.full((2, 1, 8, 8), 7, dtype=torch.uint8), torch.tensor([0, 1]))
        >>> small = Resized(images, 4, 4)
        >>> small.shape, small.raw(torch.tensor([1])).unique().tolist()
        ((1, 4, 4), [7])
    """

    source: Source
    height: int
    width: int

    def __post_init__(self) -> None:
        for name, side in (("height", self.height), ("width", self.width)):
            if side < 1:
                raise InputError(f"{name}={side}: needs 1 pixel or more")

    @property
    def labels(self) -> Tensor:
        """The labels (N,) int64, on the CPU."""
        return self.source.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (channels, height, width) of every image."""
        return self.source.shape[0], self.height, self.width

    def __len__(self) -> int:
        return len(self.source)

    def subset(self, indices: Tensor) -> Resized:
        """Returns the set of the images at these indices."""
        return replace(self, source=self.source.subset(indices))

    def to(self, device: torch.device) -> Resized:
        """Returns the set with its images on the device, where they are in memory."""
        return replace(self, source=self.source.to(device))

    def order(self, batch_size: int, stream: torch.Generator) -> Tensor:
        """Draws the order of a pass as the set does."""
        return self.source.order(batch_size, stream)

    def raw(self, indices: Tensor) -> Tensor:
        """Returns the images at these indices as uint8 (B, C, height, width)."""
        return self._resized(self.source.raw(indices))

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yields the `raw` images of each index tensor in turn."""
        return map(self._resized, self.source.fetch(batches))

    def digest(self) -> str:
        """Hashes the digest of the set and the size."""
        return hashed((self.source.digest(), f"{self.height}x{self.width}"))

    def _resized(self, images: Tensor) -> Tensor:
        size = [self.height, self.width]
        values = F.interpolate(images.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
        return values.round_().clamp_(0, 255).to(torch.uint8)
