"""The order in which a pass goes over pictures that lie one behind the other in large files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from supernet.runtime.errors import InputError

_TOGETHER = 64  # pictures of a block, about
_LEAST, _LARGEST = 2**18, 2**25  # bytes of a block


@dataclass(frozen=True)
class Mixing:
    """How pictures in shards are shuffled.

    Args:
        streams: parts of a pass that are read side by side; each batch takes its share of each. Where the number of
            processes divides it, no two processes read the same part.
        shuffle: how many pictures of a stream are mixed at a time.

    Raises:
        InputError: a number is below 1.
    """

    streams: int = 8
    shuffle: int = 1024

    def __post_init__(self) -> None:
        for name, value in (("streams", self.streams), ("shuffle", self.shuffle)):
            if value < 1:
                raise InputError(f"{name}={value}: needs 1 or more")


def block_size(sizes: np.ndarray) -> int:
    """The bytes of a block: those of some 64 pictures, but neither small reads nor a large part of the memory.

    Args:
        sizes: (N,) of the pictures, in bytes.

    Example:
        >>> block_size(np.full(1000, 110_000)) // 2**20
        6
    """
    mean = float(sizes.mean()) if len(sizes) else 0.0
    return int(min(max(_TOGETHER * mean, _LEAST), _LARGEST))


def block_order(
    shards: np.ndarray, offsets: np.ndarray, block: int, mixing: Mixing, batch_size: int, stream: torch.Generator
) -> Tensor:
    """Draws an order of all pictures in which those that are read at about the same time lie beside each other.

    Shards are cut into blocks of some megabytes, and the blocks shuffled. What they hold in this order is cut into
    streams, and within a stream as many pictures as `mixing` says are shuffled at a time. Each batch is put together of
    its share of each stream, one stream after the other: the first half of a batch comes of the first half of the
    streams. So processes that divide batches read blocks of their own.

    Args:
        shards: (N,) the shard of each picture.
        offsets: (N,) where it lies there, in bytes.
        block: bytes of a block.
        mixing: how many streams, and how many pictures are mixed at a time.
        batch_size: pictures in a batch.
        stream: of the random numbers.

    Returns:
        (N,) places of pictures, each once.

    Example:
        >>> shards, offsets = np.repeat([0, 1], 8), np.tile(np.arange(8) * 1000, 2)
        >>> order = block_order(shards, offsets, 4000, Mixing(2, 4), 4, torch.Generator().manual_seed(0))
        >>> (order.view(4, 4) // 4).tolist()  # the block of each picture: two streams give two to each batch
        [[0, 0, 3, 3], [0, 0, 3, 3], [1, 1, 2, 2], [1, 1, 2, 2]]
    """
    count = len(shards)
    places = _by_blocks(shards, offsets, block, stream)
    batches, left = divmod(count, batch_size)
    shares = [len(part) for part in torch.arange(batch_size).tensor_split(mixing.streams)]
    rests = [len(part) for part in torch.arange(left).tensor_split(mixing.streams)]
    parts = places.split([batches * share + rest for share, rest in zip(shares, rests, strict=True)])
    mixed = [_mixed(part, mixing.shuffle, stream) for part in parts]
    whole = [part[: batches * share].view(batches, share) for part, share in zip(mixed, shares, strict=True)]
    ends = [part[batches * share :] for part, share in zip(mixed, shares, strict=True)]
    return torch.cat([torch.cat(whole, dim=1).flatten(), *ends])


def _by_blocks(shards: np.ndarray, offsets: np.ndarray, block: int, stream: torch.Generator) -> Tensor:
    """The places in the order of their blocks, which are shuffled; within a block as they lie."""
    lie = np.lexsort((offsets, shards))
    cut = np.stack([shards[lie], offsets[lie] // block])
    begins = np.concatenate([[True], (cut[:, 1:] != cut[:, :-1]).any(0)])[: len(lie)]
    number = torch.from_numpy(np.cumsum(begins) - 1)  # of the block of each
    blocks = int(number[-1]) + 1 if len(number) else 0
    rank = torch.randperm(blocks, generator=stream)
    return torch.from_numpy(lie)[torch.argsort(rank[number], stable=True)]


def _mixed(places: Tensor, shuffle: int, stream: torch.Generator) -> Tensor:
    """The same places, as many as `shuffle` mixed at a time."""
    window = torch.arange(len(places)) // shuffle
    drawn = torch.randperm(len(places), generator=stream)
    return places[drawn[torch.argsort(window[drawn], stable=True)]]
