"""Reads the gzipped IDX files in which MNIST and data sets like it are published."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernet.data.batches import Resident
from supernet.data.memory import require_memory
from supernet.runtime.errors import InputError
from supernet.runtime.reading import why_no_file
from supernet.runtime.text import quantity


def read_idx(folder: Path, prefix: str) -> Resident:
    """Reads the images and labels of one part of a data set.

    Args:
        folder: where the four .gz files are.
        prefix: the part, "train" or "t10k".

    Returns:
        The images, each (1, height, width), and their labels.

    Raises:
        InputError: a file is missing, damaged or something else; the message names it.
    """
    images = _array(folder / f"{prefix}-images-idx3-ubyte.gz", 3)
    labels = _array(folder / f"{prefix}-labels-idx1-ubyte.gz", 1).long()
    if len(images) != len(labels):
        counts = f"{quantity(len(images), 'image')} and {quantity(len(labels), 'label')}"
        raise InputError(f"source={folder}: {counts} of {prefix}; fetch again")
    return Resident(images.unsqueeze(1), labels)


def _array(path: Path, dimensions: int) -> Tensor:
    """The uint8 array of a file: two zero bytes, type 8, the number of dimensions, their sizes, the values."""
    where = f"source={path.parent}: {path.name}"
    if reason := why_no_file(path):
        raise InputError(f"{where} cannot be read ({reason})")
    start = 4 + 4 * dimensions
    try:
        with gzip.open(path) as file:
            header = file.read(start)
            if header[:4] != bytes((0, 0, 8, dimensions)) or len(header) < start:
                raise InputError(f"{where} is not an IDX file of bytes with {quantity(dimensions, 'dimension')}")
            shape = [int(side) for side in np.frombuffer(header, ">u4", dimensions, offset=4)]
            require_memory(math.prod(shape), where)
            values = bytearray(file.read(math.prod(shape) + 1))  # one more, to see whether there are more
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{where} cannot be read ({type(error).__name__})") from None
    if len(values) != math.prod(shape):
        held = "more values" if len(values) > math.prod(shape) else quantity(len(values), "value")
        raise InputError(f"{where} holds {held} where its header says {shape}; fetch it again")
    return torch.from_numpy(np.frombuffer(values, np.uint8).reshape(shape))
