"""Lists a folder of images once: the list of a large one is kept, and taken again while its folders are unchanged."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from supernet.data import kept
from supernet.data.listing import LeftOut, Listed, Visited, find_classes, find_parts, list_images
from supernet.data.names import Names
from supernet.data.pictures import Paths, packed

_FRESH = 2_000_000_000  # nanoseconds; file systems need not tell two changes within so short a time apart


@dataclass(frozen=True)
class FolderIndex:
    """What was found in a folder of images.

    Args:
        parts: the images of "train", and of "val" and "test" where they are there.
        classes: the names of the classes by label.
        notes: what was left out, a short line each.
    """

    parts: Mapping[str, Listed]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def index_of(root: Path, cache_from: int | None) -> FolderIndex:
    """Lists the images of a folder, or takes the list that was kept.

    The list is taken while no folder in it has been changed: adding, removing and renaming files changes a folder. Each
    start asks for the time of each folder alone, so for that of a thousand and not of a million files.

    Args:
        root: the folder of the data set.
        cache_from: images from which on the list is kept in the person's cache folder; None: it is not.

    Returns:
        The images of each part.

    Raises:
        InputError: as `find_parts`, `find_classes` and `list_images` do.
    """
    key = f"folder\0{os.path.abspath(root)}"
    if cache_from is not None and (arrays := kept.load(key)) is not None and (found := _of_arrays(root, arrays)):
        return found
    before, visited = time.time_ns(), Visited()
    found = _listed(root, visited)
    large = cache_from is not None and sum(len(part.paths) for part in found.parts.values()) >= cache_from
    if large and max(visited.values()) < before - _FRESH:
        kept.keep(key, _as_arrays(root, found, visited))
    return found


def _listed(root: Path, visited: Visited) -> FolderIndex:
    folders, notes = find_parts(root, visited)
    classes = tuple(find_classes(folders["train"], str(root), visited))
    left_out = LeftOut()
    parts = {part: list_images(folder, classes, left_out, visited) for part, folder in folders.items()}
    below = {part: Listed(_below(root, found), found.labels) for part, found in parts.items()}
    return FolderIndex(below, classes, (*notes, *left_out.notes()))


def _below(root: Path, found: Listed) -> Paths:
    """The paths with the root apart, once for all of them."""
    start = _start(root)
    names = Names.of(path.removeprefix(start) for path in map(str, found.paths))
    return Paths(start, names)


def _start(root: Path) -> str:
    return "" if root == Path() else os.path.join(root, "")  # Path writes ./a as a


def _as_arrays(root: Path, found: FolderIndex, visited: Visited) -> dict[str, np.ndarray]:
    arrays = {
        **kept.packed_names("folders", Names.of(os.path.relpath(folder, root) for folder in visited)),
        "times": np.array(list(visited.values()), np.int64),
        **kept.packed_names("classes", Names.of(found.classes)),
        **kept.packed_names("notes", Names.of(found.notes)),
        **kept.packed_names("parts", Names.of(found.parts)),
    }
    for part, listed in found.parts.items():
        arrays |= {**kept.packed_names(part, packed(listed.paths).names), f"{part}_labels": listed.labels.numpy()}
    return arrays


def _of_arrays(root: Path, arrays: kept.Arrays) -> FolderIndex | None:
    """The list that was kept; None where it is damaged or a folder has been changed."""
    try:
        folders, times = kept.unpacked_names("folders", arrays), arrays["times"].tolist()
        for folder, changed in zip(folders, times, strict=True):
            if os.stat(os.path.join(root, folder)).st_mtime_ns != changed:
                return None
        classes, notes, names = (tuple(kept.unpacked_names(each, arrays)) for each in ("classes", "notes", "parts"))
        parts = {part: _part(root, arrays, part, len(classes)) for part in names}
        return FolderIndex(parts, classes, notes) if "train" in parts else None
    except (OSError, KeyError, ValueError, TypeError):
        return None


def _part(root: Path, arrays: kept.Arrays, part: str, classes: int) -> Listed:
    names, labels = kept.unpacked_names(part, arrays), arrays[f"{part}_labels"]
    if labels.dtype != np.int64 or labels.shape != (len(names),) or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError("labels")
    if not len(names) or (names.starts == names.ends).any():
        raise ValueError("no names")
    if (np.frombuffer(names.block, np.uint8)[names.starts] == ord("/")).any() or b"../" in names.block:
        raise ValueError("names that lead out of the folder")
    return Listed(Paths(_start(root), names), torch.from_numpy(labels))
