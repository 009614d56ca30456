"""Finds the picture that a label file means, the part that a file belongs to, and labels of other formats."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath

from supernet.data.images import SUFFIXES
from supernet.data.listing import PARTS, files_below
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

_PICTURE_FOLDERS = frozenset({"images", "jpegimages", "image", "imgs", "img"})
_MASK_FOLDERS = frozenset({"segmentationclass", "segmentationobject"})  # of VOC: pictures with the names of others


def part_of(path: str | Path, root: Path) -> str | None:
    """Tells the part that a file belongs to by the folders it lies in: "train", "val", "test", or None.

    Args:
        path: the file.
        root: the folder of the data set; what lies above it says nothing.

    Returns:
        The part. Years behind a name say nothing, as in train2017.

    Example:
        >>> part_of("set/images/val2017/1.jpg", Path("set")), part_of("train/1.jpg", Path("train"))
        ('val', None)
    """
    folders = Path(os.path.relpath(path, root)).parts[:-1]
    return next((part for name in folders if (part := part_by_name(name)) is not None), None)


def part_by_name(name: str) -> str | None:
    """Tells the part that a folder or a list of files has by its name, or None.

    Example:
        >>> part_by_name("Valid"), part_by_name("train_2017"), part_by_name("trainers")
        ('val', 'train', None)
    """
    word = re.sub(r"[\d_-]+$", "", name.casefold())
    return next((part for part, names in PARTS.items() if word in names), None)


def part_in_name(name: str) -> str | None:
    """Tells the part that one of the words of a name says, or None.

    Example:
        >>> part_in_name("instances_val2017"), part_in_name("_annotations.coco")
        ('val', None)
    """
    return next((part for word in re.split(r"[._\s-]+", name) if (part := part_by_name(word))), None)


@dataclass(frozen=True)
class Pictures:
    """The image files below a folder, to be found by name.

    Args:
        root: the folder.
        paths: all image files, but masks of segmentation.
    """

    root: Path
    paths: tuple[str, ...]
    _by_stem: Mapping[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def below(cls, root: Path) -> Pictures:
        """Lists the image files below a folder."""
        found = [p for p in files_below(root, SUFFIXES) if Path(p).parent.name.casefold() not in _MASK_FOLDERS]
        pictures = cls(root, tuple(found))
        for path in found:
            pictures._by_stem[Path(path).stem].append(path)
        return pictures

    def of(self, label: str, name: str) -> str | None:
        """Finds the picture that a label file means.

        Args:
            label: the label file.
            name: what it calls the picture, perhaps with folders, which may be those of another machine.

        Returns:
            The picture's path, or None where there is none of this name.

        Raises:
            InputError: two could be meant.
        """
        wanted = PurePosixPath(name.replace("\\", "/"))
        named = self._by_stem.get(wanted.stem, []) if wanted.suffix.lower() in SUFFIXES else []
        if exact := [path for path in named if Path(path).name == wanted.name]:
            named = exact
        named = named or self._by_stem.get(wanted.name, [])
        if len(named) <= 1:
            return named[0] if named else None
        ranked = sorted(((self._nearness(path, label, wanted), path) for path in named), reverse=True)
        if ranked[0][0] == ranked[1][0]:
            raise InputError(f"{label}: means {ranked[0][1]} or {ranked[1][1]}? Remove or rename one of them")
        return ranked[0][1]

    def _nearness(self, path: str, label: str, wanted: PurePosixPath) -> tuple[int, bool, int, int, bool]:
        """How well a place fits: by folders of the name, the part, folders of the label, and a usual name."""
        shared = os.path.commonpath([os.path.dirname(path), os.path.dirname(label)])
        alike = part_of(path, self.root) == (part_of(label, self.root) or part_in_name(Path(label).stem))
        mirrored = alike_folders(path, label)  # as Annotations/a/1.xml is for JPEGImages/a/1.jpg
        usual = Path(path).parent.name.casefold() in _PICTURE_FOLDERS
        return alike_folders(path, str(wanted)), alike, len(Path(shared).parts), mirrored, usual


def alike_folders(path: str, other: str) -> int:
    """How many folders of two files are called alike, counted from the files upwards.

    Example:
        >>> alike_folders("set/images/a/1.jpg", "a/1.jpg"), alike_folders("set/b/1.jpg", "a/1.jpg")
        (1, 0)
    """
    pairs = zip(reversed(Path(path).parts[:-1]), reversed(Path(other).parts[:-1]), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def yolo_label(picture: str | Path) -> Path:
    """Where YOLO has the labels of a picture: in labels/ in place of the last images/ of its path, or beside it.

    Example:
        >>> yolo_label("set/images/train/1.jpg"), yolo_label("set/1.jpg")
        (PosixPath('set/labels/train/1.txt'), PosixPath('set/1.txt'))
    """
    parts = list(Path(picture).parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def other_formats(root: Path, own: str) -> str:
    """Says which formats other than the one that was asked for lie in a folder, and what reads them.

    Args:
        root: the folder.
        own: the format that was asked for: "voc", "coco" or "yolo".

    Returns:
        A part of a message, such as "; a.json looks like COCO: supernet.data.coco reads it", or "".
    """
    endings = {"voc": {".xml"}, "coco": {".json"}, "yolo": {".yaml", ".yml"}}
    for format_name, known in endings.items():
        if format_name != own and (found := files_below(root, known)):
            example = os.path.relpath(found[0], root)
            return f"; {example} looks like {format_name.upper()}: supernet.data.{format_name} reads it"
    return ""


def refuse_mixture(root: Path, unlabelled: Iterable[str], labels: Mapping[str, Sequence[str]], own: str) -> None:
    """Refuses a folder in which images that lack a label of the format have one of another.

    Args:
        root: the folder.
        unlabelled: images without a label.
        labels: for each other format, the stems of the label files that the folder has.
        own: the format that was asked for.

    Raises:
        InputError: there are such images.
    """
    stems = [(path, Path(path).stem) for path in unlabelled]
    for format_name, known in labels.items():
        there = set(known)
        if both := [path for path, stem in stems if stem in there]:
            raise InputError(
                f"path={root}: {quantity(len(both), 'image has', 'images have')} {format_name.upper()} labels and no "
                f"{own.upper()} ones (first: {both[0]}): a folder of two formats; move one of them out, or convert it"
            )
