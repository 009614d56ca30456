"""Where images come from, batch after batch, so that batch k depends on nothing but the seed and k."""

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, tee
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from supernet.data.augmentation import Augmentation
from supernet.data.images import PLAIN, Preparation, read_image
from supernet.data.reading import hashed, sampled
from supernet.runtime.devices import send
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator

_ORDER_STREAM, _AUGMENTATION_STREAM = 0x0BDE, 0xA06
_WHOLLY_HASHED = 2**26  # bytes of pixels up to which a digest reads them all
_MEASURED = 20_000  # files up to which a digest asks for the size of each


@dataclass(frozen=True)
class Batch:
    """Normalised float images (B, C, H, W) and int64 labels (B,) on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class Source(Protocol):
    """A labelled set of equally large uint8 images."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64 on the CPU."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        ...

    def __len__(self) -> int: ...

    def subset(self, indices: Tensor) -> "Source":
        """The images at these indices, in this order."""
        ...

    def to(self, device: torch.device) -> "Source":
        """The same set held on the device, if it is held in memory at all."""
        ...

    def raw(self, indices: Tensor) -> Tensor:
        """Images as uint8 (B, C, H, W)."""
        ...

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """`raw` of each index tensor in turn, perhaps read ahead by other processes."""
        ...

    def digest(self) -> str:
        """A hash by which another set is recognised: of count, shape, labels and sampled pixels, or files."""
        ...


@dataclass(frozen=True)
class Resident:
    """A set held in memory as one uint8 tensor (N, C, H, W), on any device, with its labels (N,) on the CPU."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise InputError(f"images must be uint8 of shape (N, C, H, W), not {_described(self.images)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise InputError(f"labels must be int64 of shape ({len(self.images)},), not {_described(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def subset(self, indices: Tensor) -> "Resident":
        """Copy out the images at these indices."""
        return Resident(self.raw(indices), self.labels[indices])

    def to(self, device: torch.device) -> "Resident":
        """Move the images; the labels stay."""
        return replace(self, images=self.images.to(device))

    def raw(self, indices: Tensor) -> Tensor:
        """Gather images as uint8 (B, C, H, W)."""
        return self.images.index_select(0, send(indices, self.images.device))

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Gather one batch after the other."""
        return map(self.raw, batches)

    def digest(self) -> str:
        """Hash the shape, all labels, and the pixels of all images of a small set or of 64 of a large one."""
        small = self.images.numel() <= _WHOLLY_HASHED
        pixels = self.images if small or len(self) == 0 else self.raw(sampled(len(self)))
        return hashed((str(self.shape), self.labels.numpy().tobytes(), pixels.cpu().numpy().tobytes()))


@dataclass(frozen=True)
class Files:
    """A set of image files decoded when asked for; with `workers` > 0 that many processes read ahead.

    `shape` is what every image becomes, as `preparation` says; `resize=False` refuses images of another size instead.
    """

    paths: tuple[str, ...]
    labels: Tensor
    shape: tuple[int, int, int]
    resize: bool = True
    workers: int = 0
    preparation: Preparation = PLAIN

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Tensor) -> "Files":
        """The files at these indices."""
        return replace(self, paths=tuple(self.paths[i] for i in indices.tolist()), labels=self.labels[indices])

    def to(self, device: torch.device) -> "Files":
        """Return the set itself: its images reach the device batch by batch."""
        return self

    def raw(self, indices: Tensor) -> Tensor:
        """Decode images as uint8 (B, C, H, W)."""
        return torch.stack([self.read(i) for i in indices.tolist()])

    def read(self, index: int) -> Tensor:
        """Decode one image as uint8 (C, H, W)."""
        return read_image(self.paths[index], self.shape, resize=self.resize, preparation=self.preparation)

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode one batch after the other, ahead of their use if there are workers."""
        if not self.workers:
            yield from map(self.raw, batches)
            return
        loader: DataLoader[tuple[Tensor, str]] = DataLoader(
            _Reader(self),
            batch_size=None,
            sampler=(indices.tolist() for indices in batches),
            num_workers=self.workers,
            worker_init_fn=_leave_signals_to_the_parent,
            generator=torch.Generator(),  # otherwise each start would draw from the global generator
        )
        for images, mistake in loader:
            if mistake:
                raise InputError(mistake)
            yield images

    def digest(self) -> str:
        """Hash the shape, all labels and names below the common folder, and sizes (of 64 files of a very large set)."""
        top = os.path.commonpath(self.paths) if self.paths else ""
        names = "\0".join(os.path.relpath(path, top) for path in self.paths)
        measured = range(len(self)) if len(self) <= _MEASURED else sampled(len(self)).tolist()
        sizes = [os.stat(self.paths[i]).st_size for i in measured]
        return hashed((str(self.shape), self.labels.numpy().tobytes(), names, str(sizes)))


@dataclass(frozen=True)
class _Reader(Dataset[tuple[Tensor, str]]):
    """What a worker process runs; it hands a mistake back as text, for an exception would arrive as a traceback."""

    files: Files

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, str]:
        try:
            return self.files.raw(torch.tensor(indices)), ""
        except InputError as error:
            return torch.empty(0, dtype=torch.uint8), str(error)


def _leave_signals_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """Return the number of batches in one pass: the last, smaller one counts unless it is a single image."""
    whole, left = divmod(len(source), batch_size)
    return max(1, whole + (left > 1))


def training_batches(
    source: Source,
    batch_size: int,
    augmentation: Augmentation,
    *,
    seed: int,
    start: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Return augmented batches number `start`, `start + 1`, ... without end.

    Batch k depends on (seed, k) only, so the position in the data is one integer. Every pass is a new permutation; a
    single image left over at its end is dropped, for batch normalisation needs two.
    """
    _check_batches(source, batch_size)
    if start < 0:
        raise InputError(f"start={start}: batches are counted from 0")
    plan, ahead = tee(_plan(len(source), batch_size, steps_per_epoch(source, batch_size), seed, start))
    return _augmented(source, zip(plan, source.fetch(ahead), strict=True), augmentation, (seed, start), device)


def evaluation_batches(
    source: Source, batch_size: int, augmentation: Augmentation, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Return one pass over all images in their order, normalised and nothing else."""
    _check_batches(source, batch_size)
    plan, ahead = tee(torch.arange(len(source)).split(batch_size))
    for indices, images in zip(plan, source.fetch(ahead), strict=True):
        yield Batch(augmentation.normalise(images.to(device)), source.labels[indices].to(device))


def _plan(count: int, batch_size: int, steps: int, seed: int, start: int) -> Iterator[Tensor]:
    """Index tensors of batch `start` and all that follow."""
    number, skipped = divmod(start, steps)
    while True:
        order = torch.randperm(count, generator=generator(seed, _ORDER_STREAM, number))
        yield from islice(order.split(batch_size), skipped, steps)
        number, skipped = number + 1, 0


def _augmented(
    source: Source,
    fetched: Iterator[tuple[Tensor, Tensor]],
    augmentation: Augmentation,
    key: tuple[int, int],
    device: torch.device | str,
) -> Iterator[Batch]:
    seed, start = key
    for number, (indices, images) in enumerate(fetched, start):
        stream = generator(seed, _AUGMENTATION_STREAM, number)
        augmented = augmentation(send(images, device), stream)
        yield Batch(augmented, send(source.labels[indices], device))


def _check_batches(source: Source, batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: need at least 1")
    if len(source) == 0:
        raise InputError("a set without images gives no batches")


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
