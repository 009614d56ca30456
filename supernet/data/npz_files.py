"""Reads labelled images from .npz files with the keys of MedMNIST (Yang et al. 2023)."""

from __future__ import annotations

import lzma
import math
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch

from supernet.data.batches import Resident
from supernet.data.dataset import CommonSettings, Data, assemble
from supernet.data.dataset import Parts as DataParts
from supernet.data.images import PLAIN, Preparation
from supernet.data.levels import Scale, scale_of
from supernet.data.memory import require_memory
from supernet.runtime.errors import InputError
from supernet.runtime.reading import why_no_file

PARTS = ("train", "val", "test")
_WANTED = frozenset(f"{part}_{what}" for part in PARTS for what in ("images", "labels"))
# What NumPy and zipfile raise where a file is damaged, lies about its sizes or holds something else.
_DAMAGED = (ValueError, OSError, EOFError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)
_NOT_ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, pickle.UnpicklingError)
_NOT_NPZ = (*_DAMAGED, *_NOT_ARCHIVE, SyntaxError, tokenize.TokenError)


def npz(
    path: str | Path,
    classes: Sequence[str] | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    crop_padding: int = 0,
    flip: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Reads an .npz file with MedMNIST's keys: {train,val,test}_images and {train,val,test}_labels.

    Images are uint8 arrays, N x H x W or N x H x W x C. The channels may come first; whole numbers up to 65535 and
    floats in [0, 1] or [0, 255] become 256 levels. Labels are N or N x 1 whole numbers from 0, or one-hot. The val_
    keys may be missing; where the test_ keys are, a fifth of the training images is held out to test.

    Args:
        path: the file.
        classes: the names of the classes by label; None names them by their numbers.
        train_limit: how many training images are used at most, with every class in proportion; None uses all.
        test_limit: how many test images are used at most, with every class in proportion; None uses all.
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.

    Returns:
        The data set, named after the file; its pixels are in memory.

    Raises:
        InputError: there is no such file, or it holds something else, in one line.

    Example:
        >>> import tempfile, numpy as np, supernet
        >>> pixels = np.arange(10 * 6 * 6, dtype=np.uint8).reshape(10, 6, 6)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/toy.npz", train_images=pixels, train_labels=np.arange(10) % 2)
        ...     data = supernet.data.npz(f"{folder}/toy.npz", classes=["even", "odd"])
        >>> data.name, data.shape, data.classes, len(data.train), len(data.test)
        ('toy', (1, 6, 6), ('even', 'odd'), 8, 2)
    """
    where = f"path={path}"
    read, scale, notes = read_parts(open_npz(path, where), where)
    named = tuple(str(name) for name in classes or ())
    parts = DataParts(read["train"], read.get("val"), read.get("test"), named, notes=tuple(notes))
    preparation = Preparation(white=int(scale.white)) if scale.white > 255 else PLAIN
    settings = CommonSettings(crop_padding, flip, mean, std, train_limit, test_limit, preparation)
    return assemble(Path(path).stem, parts, settings)


def open_npz(path: str | Path, where: str) -> dict[str, np.ndarray]:
    """Reads the arrays with MedMNIST's keys; other keys are left alone.

    Args:
        path: the file.
        where: how messages name it, such as "path=toy.npz".

    Returns:
        The arrays by key.

    Raises:
        InputError: it is no .npz file of numbers, or has no training images.
    """
    if reason := why_no_file(path):
        raise InputError(f"{where}: {reason}; expected an .npz with train_images, train_labels, test_images, ...")
    try:
        sizes = _declared_sizes(path)
        require_memory(sum(sizes.values()), where)
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key in _WANTED}
            keys = list(file.files)
    except InputError:
        raise
    except _NOT_NPZ as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # NumPy would go on to say how to run what is in the file
            reason = "it holds no arrays of numbers alone"
        raise InputError(f"{where}: not a plain .npz file ({reason})") from None
    if "train_images" not in arrays and "train_labels" not in arrays:
        there = f"{', '.join(keys[:8])}{', ...' * (len(keys) > 8)}" or "none"
        raise InputError(
            f"{where}: no train_images and train_labels in it; its keys are {there}; save it again under those names "
            "(and val_*, test_*)"
        )
    return arrays


def read_parts(arrays: dict[str, np.ndarray], where: str) -> tuple[dict[str, Resident], Scale, list[str]]:
    """Turns arrays into labelled images. All parts are read in the way that the training images ask for.

    Args:
        arrays: the arrays by MedMNIST's keys.
        where: how messages name their file.

    Returns:
        The parts "train", "val" and "test" that are there, the scale of their levels, and notes on conversions.

    Raises:
        InputError: an array is missing, or its shape or its numbers are not understood.
    """
    notes: list[str] = []
    given = {part: found for part in PARTS if (found := _images_and_labels(arrays, part, where)) is not None}
    scale = scale_of(given["train"][0], f"{where}: train_images")
    notes += [scale.note.removeprefix(f"{where}: ")] if scale.note else []
    parts: dict[str, Resident] = {}
    for part, (images, labels) in given.items():
        pixels = torch.from_numpy(np.ascontiguousarray(scale.apply(images, f"{where}: {part}_images")))
        if pixels.dim() == 3:
            pixels = pixels.unsqueeze(1)
        elif not _channels_first(images.shape):
            pixels = pixels.permute(0, 3, 1, 2).contiguous()
        parts[part] = Resident(pixels, torch.from_numpy(_plain_labels(labels, len(images), f"{where}: {part}_labels")))
    shape = given["train"][0].shape
    if _channels_first(shape):
        notes.append(f"train_images of shape {_by(shape)}: read with the channels first")
    if given["train"][1].ndim == 2 and given["train"][1].shape[1] > 1:
        notes.append(f"train_labels of shape {_by(given['train'][1].shape)}: one-hot, read as class numbers")
    return parts, scale, notes


def _images_and_labels(arrays: dict[str, np.ndarray], part: str, where: str) -> tuple[np.ndarray, np.ndarray] | None:
    images, labels = arrays.get(f"{part}_images"), arrays.get(f"{part}_labels")
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        raise InputError(f"{where}: {part}_images and {part}_labels belong together, one of them is missing")
    if images.ndim not in (3, 4):
        side = math.isqrt(images.shape[1]) if images.ndim == 2 else 0
        square = side > 1 and side * side == images.shape[1]
        way_out = f", such as images.reshape(-1, {side}, {side})" if square else ""
        raise InputError(
            f"{where}: {part}_images is {images.dtype} of shape {images.shape}; "
            f"use uint8, N x H x W or N x H x W x C{way_out}"
        )
    return images, labels


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Whether a shape is N x C x H x W and not N x H x W x C.

    It is where 1, 3 or 4 stand at the place of C and not at the end, or where the last two sides are equal and longer
    than the first. A shape that could be both is N x H x W x C.
    """
    if len(shape) != 4 or shape[3] in (1, 3, 4):
        return False
    first, second, last = shape[1:]
    return (first in (1, 3, 4) and second > first) or first < second == last


def _plain_labels(labels: np.ndarray, count: int, name: str) -> np.ndarray:
    """(N,) int64 class numbers of N x 1, N x classes (one-hot), whole floats or bools."""
    told = f"{name} is {labels.dtype} of shape {labels.shape}"
    if labels.dtype.kind not in "biuf":
        words = "words: use np.unique(labels, return_inverse=True)[1] and classes=[...]"
        raise InputError(
            f"{told}; use one whole number an image" + (f" instead of {words}" * (labels.dtype.kind in "US"))
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _from_one_hot(labels, count, told)
    if labels.size != count:
        raise InputError(f"{told}; use one whole number for each of {count} images")
    flat = labels.reshape(-1)
    if flat.dtype.kind == "f" and not (np.isfinite(flat).all() and (flat == np.floor(flat)).all()):
        raise InputError(f"{told} with fractions; use one whole number for each of {count} images")
    if flat.size and float(flat.max()) >= 2**63:
        raise InputError(f"{told} up to {flat.max()}; use whole numbers from 0 on")
    return flat.astype(np.int64)


def _from_one_hot(labels: np.ndarray, count: int, told: str) -> np.ndarray:
    ones = labels == 1
    if len(labels) != count:
        raise InputError(f"{told}; use one whole number for each of {count} images")
    if not (ones | (labels == 0)).all():
        raise InputError(f"{told}: {labels.shape[1]} columns of other numbers than 0 and 1; use labels.argmax(1)")
    if (ones.sum(1) != 1).any():
        raise InputError(
            f"{told}: {labels.shape[1]} columns, and a row with {ones.sum(1)[ones.sum(1) != 1][0]} ones: several or no "
            "labels an image; one label an image is what is supported, one-hot or as a whole number"
        )
    return ones.argmax(1).astype(np.int64)


def _declared_sizes(path: str | Path) -> dict[str, int]:
    """The bytes of each wanted array by its header. No memory is taken for a header that the archive contradicts."""
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            key = member.filename.removesuffix(".npy")
            if key in _WANTED:
                with archive.open(member) as file:
                    header, size = _declared(file)
                if size is not None and header + size != member.file_size:
                    raise ValueError(f"{key} has {member.file_size - header} bytes where its header says {size}")
                sizes[key] = size or 0
    return sizes


def _declared(file: IO[bytes]) -> tuple[int, int | None]:
    """The bytes of an array's header and of its values; None for values that are objects, which NumPy refuses."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return file.tell(), None if dtype.hasobject else math.prod(shape) * dtype.itemsize


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
