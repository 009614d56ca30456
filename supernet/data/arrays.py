"""Labelled images in .npz files with MedMNIST's keys."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from supernet.data.batches import Resident
from supernet.runtime.errors import InputError

_NOT_NPZ = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, TypeError)


def open_npz(path: str, where: str) -> dict[str, np.ndarray]:
    """The arrays with MedMNIST's keys in a file; other keys are left alone. Raises InputError, led by `where`."""
    if not Path(path).is_file():
        raise InputError(f"{where}: no such file; expected an .npz with train_images, train_labels, test_images, ...")
    try:
        with np.load(path, allow_pickle=False) as file:  # TypeError: a lone array, renamed
            wanted = {f"{p}_{k}" for p in ("train", "val", "test") for k in ("images", "labels")}
            return {key: file[key] for key in file.files if key in wanted}
    except _NOT_NPZ as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # NumPy would go on to say how to run what is in the file
            reason = "it holds no arrays of numbers alone"
        raise InputError(f"{where}: not a plain .npz file ({reason})") from None


def from_arrays(arrays: dict[str, np.ndarray], part: str, where: str) -> Resident | None:
    """The part "train", "val" or "test" of what `open_npz` read, None if absent. Raises InputError, led by `where`."""
    images, labels = arrays.get(f"{part}_images"), arrays.get(f"{part}_labels")
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        raise InputError(f"{where}: {part}_images and {part}_labels belong together, one of them is missing")
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise InputError(
            f"{where}: {part}_images is {images.dtype} of shape {images.shape}; use uint8, N x H x W or N x H x W x C"
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise InputError(
            f"{where}: {part}_labels has {labels.shape[1]} columns; one label an image is what is supported"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.size != len(images):
        raise InputError(
            f"{where}: {part}_labels is {labels.dtype} of shape {labels.shape}; "
            f"use one whole number for each of {len(images)} images"
        )
    pixels = torch.from_numpy(images)
    pixels = pixels.unsqueeze(1) if images.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return Resident(pixels, torch.from_numpy(labels.reshape(-1).astype(np.int64)))
