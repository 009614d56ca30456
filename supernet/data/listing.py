"""Finds out which files of a folder are images of which class and part, and which files are left out."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from supernet.data.images import SUFFIXES, is_image_file
from supernet.data.members import Picture
from supernet.data.pictures import Paths
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_UNCLEAR = ("eval", "evaluation", "holdout")  # validation to some, test to others
# What file managers, archives, network drives and notebooks leave behind, besides names that begin with a dot.
_SYSTEM = frozenset(
    {
        *("__macosx", "@eadir", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "system volume information"),
        *("lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__"),
    }
)


@dataclass
class LeftOut:
    """Counts of what lies in the folders and was not read.

    Args:
        endings: how many files there are of each ending that no image has.
        folders: how many hidden folders and folders of the system there are.
        special: how many broken links and files that are not regular there are.
        loose: how many images lie outside the folders of the classes.
    """

    endings: Counter[str] = field(default_factory=Counter)
    folders: int = 0
    special: int = 0
    loose: int = 0

    def notes(self) -> list[str]:
        """At most one line, such as "left out: 3 .heic, 1 hidden or system folder"."""
        counts = [f"{n} {ending or 'without an ending'}" for ending, n in self.endings.most_common(5)]
        if others := sum(n for _, n in self.endings.most_common()[5:]):
            counts.append(f"{others} with other endings")
        if self.folders:
            counts.append(quantity(self.folders, "hidden or system folder"))
        if self.special:
            counts.append(quantity(self.special, "broken link or special file", "broken links or special files"))
        if self.loose:
            counts.append(f"{quantity(self.loose, 'image')} outside the class folders")
        return [f"left out: {', '.join(counts)}"] if counts else []


@dataclass(frozen=True)
class Listed:
    """The pictures of one part.

    Args:
        paths: the files, class after class, sorted within each, or members of shards.
        labels: (N,) int64.
    """

    paths: Sequence[Picture]
    labels: Tensor


Visited = dict[str, int]
"""When the names in each folder that was looked into were last changed, in nanoseconds, by the path of the folder."""


def find_parts(root: Path, visited: Visited | None = None) -> tuple[dict[str, Path], list[str]]:
    """Finds the folders of the parts by their usual names, in upper or lower case.

    Args:
        root: the folder of the data set.
        visited: takes up the folders that were looked into.

    Returns:
        The folders of "train", "val" and "test" that are there, or the root as "train" where no folder has such a
        name; and notes about folders beside them that hold no pictures.

    Raises:
        InputError: the names leave a doubt, or there is no folder to train on.
    """
    folders = _folders(root, visited)
    named = {part: [f for f in folders if f.name.casefold() in names] for part, names in PARTS.items()}
    found = [folder for group in named.values() for folder in group]
    if not found:
        _refuse_look_alikes(root, folders)
        return {"train": root}, []
    for group in named.values():
        if len(group) > 1:
            raise InputError(f"path={root}: {_names(group)} are one part by their names; keep one of them")
    others = [f for f in folders if f not in found]
    if pictured := [f for f in others if next(_images(f, visited=visited), None)]:
        first = pictured[0].name
        way_out = f"name it val or test, or move it out of {root}"
        if first.casefold() not in _UNCLEAR:
            way_out = (
                f"keep the parts train, val and test alone in {root}, each with class folders, or rename {first!r}"
            )
        raise InputError(f"path={root}: {_names(pictured)} beside {_names(found)}: a part or a class? {way_out}")
    if not named["train"]:
        raise InputError(f"path={root}: {_names(found)} and no train; expected train/<class>/<image>")
    notes = [f"not read, without images: {_names(others)}"] if others else []
    return {part: group[0] for part, group in named.items() if group}, notes


def find_classes(folder: Path, path: str, visited: Visited | None = None) -> dict[str, list[Path]]:
    """Finds the folders of the classes. Names that differ in their Unicode form alone are one class.

    Args:
        folder: the folder of the training images.
        path: the folder of the data set, for messages.
        visited: takes up the folders that were looked into.

    Returns:
        The folders by the name of their class, sorted.

    Raises:
        InputError: there are fewer than two.
    """
    classes = _by_class(folder, visited)
    if not classes:
        loose = sum(1 for _ in _images(folder))
        there = f"{quantity(loose, 'image')} and no folder" if loose else "no folder"
        raise InputError(f"path={path}: {there} for a class in it; expected train/<class>/<image>")
    if len(classes) == 1:
        (name, (only, *_)) = next(iter(classes.items()))
        below = _folders(only)
        deeper = f"; one level down are {_names(below)}: path={only}" if len(below) > 1 else ""
        raise InputError(f"path={path}: needs two class folders in {folder.name}, found one ({name}){deeper}")
    return classes


def list_images(folder: Path, classes: Sequence[str], left_out: LeftOut, visited: Visited | None = None) -> Listed:
    """Lists the images of one part.

    Args:
        folder: the folder of the part.
        classes: the names of the classes by label.
        left_out: counts what is passed over; it is added to.
        visited: takes up the folders that were looked into.

    Returns:
        The files and their labels, class after class.

    Raises:
        InputError: a class is not among those, or images have no class, or there are none.
    """
    found = _by_class(folder, visited)
    if extra := sorted(set(found) - set(classes)):
        alike = next((c for c in classes if c.casefold() == extra[0].casefold()), None)
        hint = f"; it differs from {alike!r} in upper and lower case" if alike else ""
        raise InputError(f"path: class {extra[0]!r} in {folder} is not among the training classes{hint}")
    loose = sum(1 for _ in _images(folder, deep=False, left_out=left_out))
    if loose and not found:
        raise InputError(
            f"path: {quantity(loose, 'image')} in {folder} without class folders, so unlabelled; sort them into "
            f"{folder.name}/<class>, or move the folder away: a fifth of the training images is held out then"
        )
    left_out.loose += loose
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = sorted(
            path for each in found.get(name, ()) for path in _images(each, left_out=left_out, visited=visited)
        )
        paths += files
        labels += [label] * len(files)
    if not paths:
        raise InputError(f"path: no images in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return Listed(Paths.of(paths), torch.tensor(labels))


def all_images(folder: Path, left_out: LeftOut) -> list[str]:
    """Lists the images in a folder and in the folders below it, as they are for a table that names them.

    Args:
        folder: the folder.
        left_out: counts what is passed over; it is added to.

    Returns:
        The files, sorted.

    Raises:
        InputError: there are none.
    """
    found = sorted(_images(folder, left_out=left_out))
    if not found:
        raise InputError(f"path: no images in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return found


def files_below(folder: Path, endings: Collection[str]) -> list[str]:
    """Lists files at every depth by their endings; hidden files, those of a system and special ones are passed over.

    Args:
        folder: where to look; links are followed.
        endings: in lower case, each with its dot.

    Returns:
        The files, sorted.

    Raises:
        InputError: a folder cannot be read.
    """
    return sorted(_files(folder, frozenset(endings), LeftOut(), deep=True))


def _images(
    folder: Path, *, deep: bool = True, left_out: LeftOut | None = None, visited: Visited | None = None
) -> Iterator[str]:
    return _files(folder, SUFFIXES, left_out or LeftOut(), deep=deep, visited=visited)


def _files(
    folder: Path, endings: frozenset[str], counts: LeftOut, *, deep: bool, visited: Visited | None = None
) -> Iterator[str]:
    """Files at every depth, through links. No folder is entered twice, because links can lead in a circle."""
    entered: set[tuple[int, int]] = set()
    images = endings == SUFFIXES  # of which some have no ending
    waiting = [str(folder)]
    while waiting:
        place = waiting.pop()
        for entry in _entries(place, entered, visited):
            kind = _kind(entry)
            if _hidden(entry.name):
                counts.folders += kind == "folder"
            elif kind == "folder":
                waiting += [entry.path] * deep
            elif kind == "special":
                counts.special += 1
            elif (ending := Path(entry.name).suffix.lower()) in endings or (images and is_image_file(entry.path)):
                yield entry.path
            else:
                counts.endings[ending] += 1


def _kind(entry: os.DirEntry[str]) -> str:
    """What an entry is, through links: "folder", "file", or "special" (a broken link, a pipe, a device)."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "special"
    except OSError:  # a link to itself
        return "special"


def _entries(place: str, entered: set[tuple[int, int]], visited: Visited | None) -> list[os.DirEntry[str]]:
    try:
        status = os.stat(place)
        if visited is not None:
            visited[place] = status.st_mtime_ns
        if (status.st_dev, status.st_ino) in entered:
            return []
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(place) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"path: {place} cannot be read ({error.strerror})") from None


def _folders(folder: Path, visited: Visited | None = None) -> list[Path]:
    """The sub-folders, sorted, without hidden ones and those of a system."""
    entries = _entries(str(folder), set(), visited)
    return sorted(Path(entry.path) for entry in entries if _kind(entry) == "folder" and not _hidden(entry.name))


def _by_class(folder: Path, visited: Visited | None = None) -> dict[str, list[Path]]:
    """The sub-folders by the name of their class, sorted; several where their names differ in Unicode form alone."""
    found: dict[str, list[Path]] = {}
    for each in _folders(folder, visited):
        found.setdefault(unicodedata.normalize("NFC", each.name), []).append(each)
    return dict(sorted(found.items()))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _SYSTEM


def _names(folders: Sequence[Path]) -> str:
    shown = [folder.name for folder in folders[:5]]
    return ", ".join(shown) + (f" and {len(folders) - 5} more" if len(folders) > 5 else "")


def _refuse_look_alikes(root: Path, folders: Sequence[Path]) -> None:
    """Raises InputError where folders look like parts and not like classes, such as seg_train beside seg_test."""
    words = {word for folder in folders for word in re.split(r"[^a-z]+", folder.name.casefold())}
    words |= {word.removesuffix("set") for word in words}
    if words & set(PARTS["train"]) and words & {*PARTS["val"], *PARTS["test"], *_UNCLEAR}:
        raise InputError(f"path={root}: {_names(folders)} look like parts; name them train, val and test")
