"""The gzipped IDX files in which MNIST's family is published."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernet.data.batches import Resident
from supernet.runtime.errors import InputError


def read_idx(folder: Path, prefix: str) -> Resident:
    """The images (1, H, W) and labels of `prefix`, "train" or "t10k". Raises InputError naming the file."""
    images = _array(folder / f"{prefix}-images-idx3-ubyte.gz", 3)
    return Resident(images.unsqueeze(1), _array(folder / f"{prefix}-labels-idx1-ubyte.gz", 1).long())


def _array(path: Path, dimensions: int) -> Tensor:
    """The uint8 array of a file: two zero bytes, type 8, the number of dimensions, their sizes, the values."""
    where = f"data.source={path.parent}: {path.name}"
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{where} cannot be read ({type(error).__name__})") from None
    start = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) < start:
        raise InputError(f"{where} is not an IDX file of bytes with {dimensions} dimension(s)")
    shape = [int(side) for side in np.frombuffer(content, ">u4", dimensions, offset=4)]
    values = np.frombuffer(content, np.uint8, offset=start)
    if len(values) != int(np.prod(shape)):
        raise InputError(f"{where} holds {len(values)} values where its header says {shape}; fetch it again")
    return torch.from_numpy(values.reshape(shape).copy())
