"""Sets of images and their batches. Batch k depends only on the seed and on k.

Where several processes share a batch, each reads, changes and normalises its own images alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, tee
from typing import Protocol

import torch
from torch import Tensor

from supernet.data.augmentation import Augmentation
from supernet.data.reading import hashed, sampled
from supernet.data.sampling import Groups, balanced_order, class_groups, uniform_order
from supernet.data.targets import check_labels
from supernet.runtime.devices import send
from supernet.runtime.errors import InputError
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.seeding import generator
from supernet.runtime.text import quantity

_ORDER_STREAM, _AUGMENTATION_STREAM = 0x0BDE, 0xA06
_WHOLLY_HASHED = 2**26  # bytes of pixels up to which a digest reads them all
_LEAST = 2  # images that a process needs of a batch: norms take their variance


@dataclass(frozen=True)
class JoinedBatch:
    """What a process knows of the batch that it shares with others.

    Args:
        labels: of all images, as those of a `Batch`.
        rows: which of them this process has.
    """

    labels: Tensor
    rows: slice

    @property
    def total(self) -> int:
        """How many images all processes have together."""
        return len(self.labels)


@dataclass(frozen=True)
class Batch:
    """A batch of B images on one device.

    Args:
        images: (B, C, H, W) normalised floats.
        labels: of the images, of any kind (`supernet.data.targets`): (B,) int64 where each has one class.
        joined: the batch that these are a part of; None: they are all.
    """

    images: Tensor
    labels: Tensor
    joined: JoinedBatch | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def count(self) -> int:
        """The images of all processes together, over which losses are means and scores are sums."""
        return len(self) if self.joined is None else self.joined.total


class Source(Protocol):
    """A set of labelled images of uint8, all of one shape. `Resident` and `Files` are two."""

    @property
    def labels(self) -> Tensor:
        """The labels of N images, of any kind (`supernet.data.targets`), on the CPU."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (channels, height, width) of every image."""
        ...

    def __len__(self) -> int: ...

    def subset(self, indices: Tensor) -> "Source":
        """Returns the images at these indices, in this order."""
        ...

    def to(self, device: torch.device) -> "Source":
        """Returns the set with its images on the device, or the set itself where they are not in memory."""
        ...

    def order(self, batch_size: int, stream: torch.Generator) -> Tensor:
        """Draws the order of a pass over all images, (N,): any, or one in which they can be read fast."""
        ...

    def raw(self, indices: Tensor) -> Tensor:
        """Returns the images at these indices as uint8 (B, C, H, W)."""
        ...

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yields the `raw` images of each index tensor in turn; other processes may read them ahead."""
        ...

    def digest(self) -> str:
        """Returns a hash of shape, labels, and pixels or files, by which other sets are told apart."""
        ...


@dataclass(frozen=True)
class Resident:
    """A set of images held in memory.

    Args:
        images: (N, C, H, W) uint8, on any device.
        labels: of N images, of any kind (`supernet.data.targets`): (N,) int64 where each has one class. On the CPU.

    Raises:
        InputError: the tensors are of other kinds or shapes.

    Example:
        >>> images = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
        >>> source = Resident(images, torch.tensor([0, 1, 2, 0, 1, 2]))
        >>> len(source), source.shape, source.subset(torch.tensor([4, 5])).labels.tolist()
        (6, (1, 8, 8), [1, 2])
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise InputError(f"images: must be uint8 of shape (N, C, H, W), not {_described(self.images)}")
        check_labels(self.labels)
        if len(self.labels) != len(self.images):
            raise InputError(
                f"labels: of {quantity(len(self.labels), 'image')}, and there are {len(self.images)}; give one of each"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (channels, height, width) of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def subset(self, indices: Tensor) -> "Resident":
        """Copies the images at these indices."""
        return Resident(self.raw(indices), self.labels[indices])

    def to(self, device: torch.device) -> "Resident":
        """Returns the set with its images on the device; the labels stay on the CPU."""
        return replace(self, images=self.images.to(device))

    def order(self, batch_size: int, stream: torch.Generator) -> Tensor:
        """Draws any order."""
        return uniform_order(len(self), stream)

    def raw(self, indices: Tensor) -> Tensor:
        """Gathers the images at these indices as uint8 (B, C, H, W)."""
        return self.images.index_select(0, send(indices, self.images.device))

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Gathers one batch after the other."""
        return map(self.raw, batches)

    def digest(self) -> str:
        """Hashes the shape, all labels and the pixels: all in a small set, those of 64 images in a large one."""
        small = self.images.numel() <= _WHOLLY_HASHED
        pixels = self.images if small or len(self) == 0 else self.raw(sampled(len(self)))
        return hashed((str(self.shape), self.labels.numpy().tobytes(), pixels.cpu().numpy().tobytes()))


def steps_per_epoch(source: Source, batch_size: int, least: int = 0, processes: int = 1) -> int:
    """Counts the batches of an epoch: those of one pass, or of as many whole passes as `least` batches take.

    The last, smaller batch of a pass counts, unless it is a single image, or has less than two for each process.

    Args:
        source: the images.
        batch_size: images in a batch.
        least: how many batches an epoch has at least.
        processes: how many share a batch.

    Returns:
        The number of batches.

    Example:
        >>> source = Resident(torch.zeros(10, 1, 4, 4, dtype=torch.uint8), torch.zeros(10, dtype=torch.int64))
        >>> steps_per_epoch(source, 4), steps_per_epoch(source, 3), steps_per_epoch(source, 4, least=7)
        (3, 3, 9)
    """
    whole, left = divmod(len(source), batch_size)
    once = max(1, whole + (left >= _LEAST * processes))
    return once * max(1, -(-least // once))


def training_batches(
    source: Source,
    batch_size: int,
    augmentation: Augmentation,
    *,
    seed: int,
    start: int = 0,
    device: torch.device | str = "cpu",
    balanced: bool = False,
    processes: Processes = ALONE,
) -> Iterator[Batch]:
    """Yields augmented batches number `start`, `start + 1` and so on, without end.

    Batch k depends on (seed, k) only, so that the position in the data is one integer. Every pass has a new order. A
    single image at the end of a pass is dropped, because batch normalisation needs two; of several processes each does.

    Args:
        source: the images.
        batch_size: images in a batch.
        augmentation: how they are changed and normalised.
        seed: the seed of the order and of the augmentation.
        start: the number of the first batch, from 0.
        device: where the batches are made.
        balanced: whether a pass shows all classes alike, rare images several times and some of the others not at all,
            in place of each image once.
        processes: share each batch: this one gets its part of the same images with the same changes as one process that
            has the whole batch. Where boxes are changed, making a batch is a meeting of all.

    Returns:
        The batches, each (batch_size, C, H, W) or, at the end of a pass, fewer images; of several processes a part.

    Raises:
        InputError: `batch_size` or `start` is out of its range, or there is no image.

    Example:
        >>> source = Resident(torch.zeros(10, 1, 4, 4, dtype=torch.uint8), torch.arange(10))
        >>> batches = training_batches(source, 4, Augmentation((0.5,), (0.5,)), seed=0)
        >>> [len(next(batches)) for _ in range(4)]
        [4, 4, 2, 4]
        >>> fifth = next(training_batches(source, 4, Augmentation((0.5,), (0.5,)), seed=0, start=4))
        >>> bool((fifth.labels == next(batches).labels).all())
        True
    """
    _check_batches(source, batch_size, processes.count)
    if start < 0:
        raise InputError(f"start={start}: batches are counted from 0")
    groups = class_groups(source.labels) if balanced else None
    steps = steps_per_epoch(source, batch_size, processes=processes.count)
    plan, ahead = tee(_plan(source, batch_size, steps, seed, start, groups))
    fetched = zip(plan, source.fetch(map(processes.share, ahead)), strict=True)
    return _augmented(source, fetched, augmentation, (seed, start), device, processes)


def evaluation_batches(
    source: Source,
    batch_size: int,
    augmentation: Augmentation,
    device: torch.device | str = "cpu",
    processes: Processes = ALONE,
) -> Iterator[Batch]:
    """Yields all images once in their order, normalised and otherwise unchanged.

    Args:
        source: the images.
        batch_size: images in a batch; the last one may have fewer.
        augmentation: whose normalisation is used.
        device: where the batches are made.
        processes: take turns: whole batches go to one after the other.

    Yields:
        The batches.

    Raises:
        InputError: `batch_size` is below 1, or there is no image.
    """
    _check_batches(source, batch_size)
    plan, ahead = tee(torch.arange(len(source)).split(batch_size)[processes.rank :: processes.count])
    for indices, images in zip(plan, source.fetch(ahead), strict=True):
        yield Batch(augmentation.normalise(images.to(device)), source.labels[indices].to(device))


def _plan(
    source: Source, batch_size: int, steps: int, seed: int, start: int, groups: Groups | None
) -> Iterator[Tensor]:
    """The indices of batch `start` and of all that follow; `groups` of images are to come alike."""
    number, skipped = divmod(start, steps)
    while True:
        stream = generator(seed, _ORDER_STREAM, number)
        order = source.order(batch_size, stream) if groups is None else balanced_order(groups, len(source), stream)
        yield from islice(order.split(batch_size), skipped, steps)
        number, skipped = number + 1, 0


def _augmented(
    source: Source,
    fetched: Iterator[tuple[Tensor, Tensor]],
    augmentation: Augmentation,
    key: tuple[int, int],
    device: torch.device | str,
    processes: Processes,
) -> Iterator[Batch]:
    seed, start = key
    for number, (indices, images) in enumerate(fetched, start):
        stream = generator(seed, _AUGMENTATION_STREAM, number)
        labels, total, rows = send(source.labels[indices], device), len(indices), processes.rows(len(indices))
        own = augmentation.change(send(images, device), labels[rows], stream, total=total, rows=rows)
        if not processes.several:
            yield Batch(*own)
            continue
        if augmentation.boxes is not None:  # others know how theirs have moved
            labels = processes.gathered(own[1], processes.sizes(total))
        yield Batch(*own, JoinedBatch(labels, rows))


def _check_batches(source: Source, batch_size: int, processes: int = 1) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: need at least 1")
    if processes > 1 and batch_size < _LEAST * processes:
        raise InputError(
            f"batch_size={batch_size}: {processes} processes share a batch, and each needs {_LEAST} images; "
            f"{_LEAST * processes} or more"
        )
    if processes > 1 and len(source) < _LEAST * processes:
        raise InputError(f"{quantity(len(source), 'image')}: too few for {processes} processes, which need 2 each")
    if len(source) == 0:
        raise InputError("a set without images gives no batches")


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
