"""Sets of pictures that are decoded when they are asked for, by processes that read ahead."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from supernet.data.images import read_image
from supernet.data.members import Picture
from supernet.data.pictures import Members, Paths, packed
from supernet.data.preparation import PLAIN, Preparation
from supernet.data.reading import hashed
from supernet.runtime.errors import InputError


@dataclass(frozen=True)
class Files:
    """A set of pictures in files or in shards, which are decoded when they are asked for.

    Args:
        paths: the files or members of shards; names of files are packed.
        labels: of N images, of any kind (`supernet.data.targets`): (N,) int64 where each has one class.
        shape: the (channels, height, width) that every image becomes.
        resize: whether images of another size are resized; otherwise they are refused.
        workers: how many processes read ahead; 0 reads in this process.
        preparation: how a picture becomes pixels.
    """

    paths: Sequence[Picture]
    labels: Tensor
    shape: tuple[int, int, int]
    resize: bool = True
    workers: int = 0
    preparation: Preparation = PLAIN

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", packed(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def _pictures(self) -> Paths | Members:
        return packed(self.paths)

    def subset(self, indices: Tensor) -> Files:
        """Returns the set of the files at these indices."""
        return replace(self, paths=self._pictures.take(indices), labels=self.labels[indices])

    def to(self, device: torch.device) -> Files:
        """Returns the set itself, because its images reach the device batch by batch."""
        return self

    def order(self, batch_size: int, stream: torch.Generator) -> Tensor:
        """Draws the order of a pass, (N,): any for files, and one that reads shards from front to back."""
        return self._pictures.order(batch_size, stream)

    def raw(self, indices: Tensor) -> Tensor:
        """Decodes the images at these indices as uint8 (B, C, H, W)."""
        if not len(indices):  # the share of a process of a batch that is smaller than there are processes
            return torch.empty(0, *self.shape, dtype=torch.uint8)
        return torch.stack([self.read(i) for i in indices.tolist()])

    def read(self, index: int) -> Tensor:
        """Decodes one image as uint8 (C, H, W)."""
        return read_image(self.paths[index], self.shape, resize=self.resize, preparation=self.preparation)

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decodes one batch after the other, ahead of its use if there are workers."""
        return read_ahead(self.raw, batches, self.workers)

    def digest(self) -> str:
        """Hashes the shape, all labels, names below the common folder, and sizes of files (64 of a very large set)."""
        return hashed((str(self.shape), self.labels.numpy().tobytes(), *self._pictures.described()))


def read_ahead(raw: Callable[[Tensor], Tensor], batches: Iterable[Tensor], workers: int) -> Iterator[Tensor]:
    """Yields the images of one batch after the other, read by other processes before they are asked for.

    Args:
        raw: reads the images at some indices.
        batches: the indices of each batch.
        workers: how many processes; 0 reads in this process when a batch is asked for.

    Yields:
        The images of each batch, in the order of `batches`.

    Raises:
        InputError: as `raw` does.
    """
    if not workers:
        yield from map(raw, batches)
        return
    loader: DataLoader[tuple[Tensor, str]] = DataLoader(
        _Reader(raw),
        batch_size=None,
        sampler=(indices.tolist() for indices in batches),
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # otherwise each start would draw from the global generator
    )
    for images, mistake in _of_living(loader):
        if mistake:
            raise InputError(mistake)
        yield images


def _of_living(loader: Iterable[tuple[Tensor, str]]) -> Iterator[tuple[Tensor, str]]:
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            "a process that reads images ahead was killed, perhaps because memory was full; use fewer workers, or "
            "workers=0 to read in this process"
        ) from None


@dataclass(frozen=True)
class _Reader(Dataset[tuple[Tensor, str]]):
    """Runs in a worker process. It returns a mistake as text, because an exception would arrive as a traceback."""

    raw: Callable[[Tensor], Tensor]

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, str]:
        try:
            return self.raw(torch.tensor(indices, dtype=torch.int64)), ""
        except InputError as error:
            return torch.empty(0, dtype=torch.uint8), str(error)


def _leave_signals_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
