"""Reads labelled images from .npz files with the keys of MedMNIST (Yang et al. 2023)."""

from __future__ import annotations

import lzma
import math
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from supernet.data.batches import Resident, Source
from supernet.data.copies import leak_notes
from supernet.data.dataset import CommonSettings, Data, assemble, held_out
from supernet.data.dataset import Parts as DataParts
from supernet.data.groups import group_notes
from supernet.data.label_arrays import read_labels
from supernet.data.levels import Scale, scale_of
from supernet.data.memory import require_memory
from supernet.data.preparation import PLAIN, Preparation
from supernet.data.targets import class_names
from supernet.data.windows import AUTO, NONE
from supernet.runtime.errors import InputError
from supernet.runtime.reading import why_no_file
from supernet.runtime.text import quantity

PARTS = ("train", "val", "test")
_WANTED, _GROUPS = ("images", "labels"), "groups"
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
    window: str | Sequence[float] | None = AUTO,
    labels: str = "auto",
    groups: str | None = None,
    rotation: float = 0.0,
    zoom: float = 0.0,
    contrast: float = 0.0,
) -> Data:
    """Reads an .npz file with MedMNIST's keys: {train,val,test}_images and {train,val,test}_labels.

    Images whose one class is -1 are left out, where 0 is a class.

    Images are uint8 arrays, N x H x W or N x H x W x C. The channels may come first; whole numbers up to 65535 and
    floats in [0, 1] or [0, 255] become 256 levels. Labels are N or N x 1 whole numbers from 0, one-hot, or a column of
    0, 1 and -1 (unknown) for each of several labels. The val_ keys may be missing; where the test_ keys are, a fifth of
    the training images is held out to test.

    Args:
        path: the file.
        classes: the names of the classes by label; None names them by their numbers.
        train_limit: how many training images are used at most, with every class in proportion; None uses all.
        test_limit: how many test images are used at most, with every class in proportion; None uses all.
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        window: which of the whole numbers of more than 8 bits become black and white. "auto" takes the 0.5th and the
            99.5th percentile of the training images, "none" the range of their bits; or two numbers.
        labels: "one" class an image, "several" labels an image, or "auto": columns are one-hot where each row has one 1
            and zeros, and otherwise several labels.
        groups: what stands after train_ in the key of an array that says which images belong together, such as those of
            a patient: no split comes between them. None takes train_groups where it is there; "none" takes no groups.
        rotation: the largest angle in degrees by which a training image is turned, to either side.
        zoom: the largest share by which a training image is enlarged; or made smaller by as large a factor.
        contrast: the largest share by which its contrast changes; its brightness by half of it.

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
    arrays, left_out = _known(open_npz(path, where, (groups or _GROUPS,)), labels)
    named = class_names(classes)

    def stay(known: Tensor) -> Sequence[int]:
        """The places of the images that are not held out to test by."""
        own = None if groups == NONE else _groups(arrays, groups, where)[0]
        places: list[int] = held_out(known, named, groups=own)[0].tolist()
        return places

    read, scale, notes = read_parts(arrays, where, window, labels, stay)
    together, said = (None, []) if groups == NONE else _groups(arrays, groups, where)
    notes = [*left_out, *notes, *said]
    sources = read["train"], read.get("val"), read.get("test")
    parts = DataParts(*sources, named, notes=tuple(notes), groups=together)
    preparation = _preparation(scale, window)
    settings = CommonSettings(
        crop_padding=crop_padding,
        flip=flip,
        mean=mean,
        std=std,
        train_limit=train_limit,
        test_limit=test_limit,
        preparation=preparation,
        rotation=rotation,
        zoom=zoom,
        contrast=contrast,
    )
    return _with_leaks(assemble(Path(path).stem, parts, settings), read, together)


def _preparation(scale: Scale, window: str | Sequence[float] | None) -> Preparation:
    """How files are to be read so that a model sees them as these arrays."""
    if scale.window is not None:
        return Preparation(window=scale.window, window_of_file=window == AUTO)
    return Preparation(white=int(scale.white)) if scale.white > 255 else PLAIN


def _with_leaks(data: Data, read: Mapping[str, Source], groups: Tensor | None) -> Data:
    """The data with a note on images to validate or test that are copies of training images."""
    parts = dict(read)
    if "test" not in parts:
        kept, held = held_out(parts["train"].labels, data.classes, groups=groups)
        parts |= {"train": read["train"].subset(kept), "test": read["train"].subset(held)}
    return replace(data, notes=(*data.notes, *leak_notes(parts)))


def open_npz(path: str | Path, where: str, more: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Reads the arrays with MedMNIST's keys; other keys are left alone.

    Args:
        path: the file.
        where: how messages name it, such as "path=toy.npz".
        more: what else is read of each part where it is there, such as "groups".

    Returns:
        The arrays by key.

    Raises:
        InputError: it is no .npz file of numbers, or has no training images.
    """
    if reason := why_no_file(path):
        raise InputError(f"{where}: {reason}; expected an .npz with train_images, train_labels, test_images, ...")
    try:
        wanted = frozenset(f"{part}_{what}" for part in PARTS for what in (*_WANTED, *more))
        sizes = _declared_sizes(path, wanted)
        require_memory(sum(sizes.values()), where)
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key in wanted}
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


def read_parts(
    arrays: dict[str, np.ndarray],
    where: str,
    window: str | Sequence[float] | None = AUTO,
    form: str = "auto",
    stay: Callable[[Tensor], Sequence[int]] | None = None,
) -> tuple[dict[str, Resident], Scale, list[str]]:
    """Turns arrays into labelled images. All parts are read in the way that the training images ask for.

    Args:
        arrays: the arrays by MedMNIST's keys.
        where: how messages name their file.
        window: as in `npz`.
        form: of the labels, as in `npz`.
        stay: from labels to the places of the training images that stay where some are held out to test by: on them
            alone a window is measured. None: all stay.

    Returns:
        The parts "train", "val" and "test" that are there, the scale of their levels, and notes on conversions.

    Raises:
        InputError: an array is missing, or its shape or its numbers are not understood.
    """
    notes: list[str] = []
    given = {part: found for part in PARTS if (found := _images_and_labels(arrays, part, where)) is not None}
    names = {part: f"{where}: {part}_labels" for part in given}
    labels, said = read_labels({names[part]: labels for part, (_, labels) in given.items()}, form)
    kept = None
    if stay is not None and "test" not in given:
        kept = partial(stay, torch.from_numpy(labels[names["train"]]))
    scale = scale_of(given["train"][0], f"{where}: train_images", window, kept)
    notes += [scale.note.removeprefix(f"{where}: ")] if scale.note else []
    parts: dict[str, Resident] = {}
    for part, (images, _) in given.items():
        pixels = torch.from_numpy(np.ascontiguousarray(scale.apply(images, f"{where}: {part}_images")))
        if pixels.dim() == 3:
            pixels = pixels.unsqueeze(1)
        elif not _channels_first(images.shape):
            pixels = pixels.permute(0, 3, 1, 2).contiguous()
        parts[part] = Resident(pixels, torch.from_numpy(labels[names[part]]))
    shape = given["train"][0].shape
    if _channels_first(shape):
        notes.append(f"train_images of shape {_by(shape)}: read with the channels first")
    return parts, scale, [*notes, *said]


def _known(arrays: dict[str, np.ndarray], form: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays without images whose one class is unknown (-1 or NaN, where 0 is a class), and a note on them."""
    labels = {part: arrays[f"{part}_labels"] for part in PARTS if f"{part}_labels" in arrays}
    single = [each for each in labels.values() if each.dtype.kind in "if" and each.size == len(np.atleast_1d(each))]
    if form == "several" or len(single) < len(labels) or not any((each == 0).any() for each in single):
        return arrays, []
    known = {part: ~((each == -1) | (each != each)).reshape(-1) for part, each in labels.items()}
    count = sum(int((~each).sum()) for each in known.values())
    if not count:
        return arrays, []
    kept = {}
    for key, array in arrays.items():
        keep = known.get(key.split("_")[0])
        kept[key] = array[keep] if keep is not None and array.ndim and len(array) == len(keep) else array
    return kept, [f"left out: {quantity(count, 'image')} of which the class is unknown"]


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
    if labels.ndim == 0 or len(labels) != len(images) or (labels.ndim == 1 and labels.size != len(images)):
        raise InputError(
            f"{where}: {part}_labels is {labels.dtype} of shape {labels.shape}; use one whole number for each of "
            f"{quantity(len(images), 'image')}"
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


def _groups(arrays: dict[str, np.ndarray], key: str | None, where: str) -> tuple[torch.Tensor | None, list[str]]:
    """(N,) numbers of the groups of training images, and a line on them; None where there are none."""
    name = f"train_{key or _GROUPS}"
    if name not in arrays:
        if key is not None:
            raise InputError(f"groups={key}: no {name} in {where.removeprefix('path=')}; leave it out or name another")
        return None, []
    groups, count = arrays[name], len(arrays["train_images"])
    if groups.dtype.kind not in "iuUSb" or groups.size != count:
        raise InputError(
            f"{where}: {name} is {groups.dtype} of shape {groups.shape}; use a whole number or a word for each of "
            f"{quantity(count, 'image')}"
        )
    keys = {part: f"{part}_{key or _GROUPS}" for part in PARTS[1:]}
    others = {part: arrays[key].reshape(-1) for part, key in keys.items() if key in arrays}
    numbered = np.unique(groups.reshape(-1), return_inverse=True)[1]
    return torch.from_numpy(numbered.astype(np.int64)), group_notes({"train": groups.reshape(-1), **others}, name)


def _declared_sizes(path: str | Path, wanted: Set[str]) -> dict[str, int]:
    """The bytes of each wanted array by its header. No memory is taken for a header that the archive contradicts."""
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            key = member.filename.removesuffix(".npy")
            if key in wanted:
                with archive.open(member) as file:
                    header, size = _declared(file)
                if size is not None and header + size != member.file_size:
                    raise ValueError(
                        f"{key} has {quantity(member.file_size - header, 'byte')} where its header says {size}"
                    )
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
