"""Makes a data set of image files that a reader has listed, in the same way for folders and for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernet.data.copies import copy_groups, copy_notes
from supernet.data.dataset import CommonSettings, Data, Parts, assemble
from supernet.data.file_sets import FileSettings, read_files
from supernet.data.found_once import found_once
from supernet.data.groups import group_notes, named_in, numbered
from supernet.data.listing import Listed
from supernet.data.members import Member, Picture
from supernet.runtime.text import quantity

_SEARCHED = 100_000  # images up to which copies between given parts are looked for

Grouping = tuple[Tensor | None, Sequence[str]]
"""One number for all training images that belong together, (N,) or None, and notes about them."""


def data_of_files(
    root: Path,
    listed: Mapping[str, Listed],
    classes: tuple[str, ...],
    settings: FileSettings,
    common: CommonSettings,
    grouping: Grouping = (None, ()),
    notes: Sequence[str] = (),
) -> Data:
    """Reads listed files and makes a data set of them.

    Args:
        root: the folder of the data set, after which it is named.
        listed: the files of each part, "train" among them, with a class or several labels each.
        classes: the names of the classes.
        settings: how files are read.
        common: what is done with the images; how a picture becomes pixels follows from the files.
        grouping: which training images belong together.
        notes: what the reader left out, a short line each.

    Returns:
        The data set.

    Raises:
        InputError: a file or a setting is not understood, in one line.
    """
    groups, group_lines = grouping
    copies, copy_lines = copies_in(listed, classes, settings.cache_from)
    read = read_files(listed, settings, classes, copies, groups)
    sources = read.sources
    told = (*notes, *read.notes, *copy_lines, *group_lines)
    parts = Parts(sources["train"], sources.get("val"), sources.get("test"), classes, copies, told, groups)
    return assemble(root.resolve().name, parts, replace(common, preparation=read.preparation))


def groups_by_path(listed: Mapping[str, Listed], root: Path, pattern: str) -> Grouping:
    """Finds in the paths of images which of them belong together.

    Args:
        listed: the files of each part, "train" among them.
        root: the folder from which on paths count.
        pattern: a regular expression with one group in parentheses, as `named_in` takes it.

    Returns:
        The grouping.

    Raises:
        InputError: it is no such expression, or a file does not fit it.
    """
    names = {part: named_in([_below(path, root) for path in found.paths], pattern) for part, found in listed.items()}
    return numbered(names["train"]), group_notes(names, "groups")


def _below(picture: Picture, root: Path) -> str:
    """The path of a file from the folder of the data set on; of a member the name of its shard and its own."""
    if isinstance(picture, Member):
        return f"{Path(picture.shard.path).name}/{picture.name}"
    return Path(picture).relative_to(root).as_posix()


def copies_in(
    listed: Mapping[str, Listed], classes: tuple[str, ...], cache_from: int | None = None
) -> tuple[Tensor | None, list[str]]:
    """Finds files with the same bytes.

    Args:
        listed: the files of each part, "train" among them.
        classes: the names of the classes.
        cache_from: images from which on it is kept which are copies, as in `found_once`.

    Returns:
        One number for all training images with the same bytes (None for a very large set that is divided already), and
        notes about copies.
    """
    judged = [found for part, found in listed.items() if part != "train"]
    paths = [path for found in (listed["train"], *judged) for path in found.paths]
    if judged and len(paths) > _SEARCHED:
        return None, []
    parts = [found.paths for found in (listed["train"], *judged)]
    found = found_once("copies", parts, lambda: copy_groups(paths).numpy(), cache_from, _are_first_places)
    groups, count = torch.from_numpy(found), len(listed["train"].paths)
    labels = torch.cat([found.labels for found in (listed["train"], *judged)])
    several = labels.dim() > 1
    copies, notes = (groups != torch.arange(len(groups))).nonzero().flatten(), []
    same = labels[copies] == labels[groups[copies]]
    same = same.all(1) if several else same
    both = copies[~same].tolist()
    if both and several:
        one, many = (
            "image is an exact copy of one with other labels",
            "images are exact copies of some with other labels",
        )
        notes.append(f"warning: {quantity(len(both), one, many)}")
    elif both:
        pair = f"{classes[labels[groups[both[0]]]]} and {classes[labels[both[0]]]}"
        one, many = "image is an exact copy of one of another class", "images are exact copies of some of another class"
        notes.append(f"warning: {quantity(len(both), one, many)} ({pair})")
    leaked = int((groups[count:] < count).sum())
    alike = copies[(copies < count) & same]
    return groups[:count], [*notes, *copy_notes(leaked, 0 if "test" in listed else len(alike))]


def _are_first_places(groups: np.ndarray) -> bool:
    """Whether each is a place at or before its own that is its own: that of the first copy."""
    places = np.arange(len(groups))
    return groups.ndim == 1 and bool(((groups >= 0) & (groups <= places)).all() and (groups[groups] == groups).all())
