"""Makes a data set of pictures and boxes that a reader of a format has found, in the same way for every format."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median_low

import numpy as np
import torch
from torch import Tensor

from supernet.data.box_changes import BoxChanges
from supernet.data.copies import copy_groups, copy_notes
from supernet.data.dataset import CommonSettings, Data, Parts, assemble
from supernet.data.file_sets import FileSettings, asked_size, read_files
from supernet.data.images import Header, read_header
from supernet.data.listing import Listed
from supernet.data.preparation import Preparation, placement
from supernet.data.targets import BOX, CLASS, class_names, padded
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder
from supernet.runtime.text import quantity

_LONGEST = 384  # pixels of the longer side, unless a size is asked for
_STEP = 32  # a side is a whole number of these then: the largest stride of a detector
_LEAST_SIDE = 1.0  # pixels; what is smaller is no object
_SLACK = 1.0  # pixels that a box may reach beyond its image without being counted as clipped: a matter of rounding
_THREADS = 4
_YES, _NO = ("1", "1.0", "true", "yes"), ("", "0", "0.0", "false", "no", "unspecified")


@dataclass(frozen=True)
class Labelled:
    """A picture and the objects in it, as a label file states them.

    Args:
        path: of the picture.
        boxes: (count, 7) float64 with the columns of `supernet.data.targets.BOX`: corners in pixels of the picture, or
            in shares of its sides; an area of 0 is that of the box.
        where: the label file, for messages.
        stated: (width, height) of the picture as the label file has them, in pixels.
        shares: whether corners are shares of the picture's sides, from 0 to 1.
    """

    path: str
    boxes: np.ndarray
    where: str = ""
    stated: tuple[int, int] | None = None
    shares: bool = False


@dataclass(frozen=True)
class Found:
    """What the reader of a format has found.

    Args:
        parts: the pictures of "train" and perhaps "val" and "test".
        classes: the names of the classes by number.
        notes: what was left out or is to be known, a short line each.
    """

    parts: Mapping[str, Sequence[Labelled]]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoxSettings:
    """The settings that all readers of boxes share.

    Args:
        size: [height, width] in pixels that all images become, or one number for both; None: the median size, made
            smaller until its longer side has at most 384 pixels, in whole steps of 32.
        fit: "squash" resizes without keeping the aspect; "pad" keeps it and lays the picture on a grey ground.
        classes: the names of the classes that are read, in their order; None: all of them.
        changes: how images and boxes are changed in training.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        workers: how many processes read images ahead, where the set is not held in memory.
        resident_gib: sets of up to this size in GiB are held in memory; larger ones are read when they are needed.

    Raises:
        InputError: a setting is out of its range.
    """

    size: Sequence[int] | int | None = None
    fit: str = "squash"
    classes: Sequence[str] | None = None
    changes: BoxChanges = field(default_factory=BoxChanges)
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    workers: int = 0
    resident_gib: float = 2.0

    def __post_init__(self) -> None:
        if self.fit not in ("squash", "pad"):
            raise InputError(f"fit={self.fit}: use squash or pad; anything else would cut objects off")
        asked = asked_size(self.size)
        if asked is not None and min(asked) < _STEP:
            raise InputError(f"size={list(asked)}: a detector needs at least {_STEP} pixels a side")
        self.files(asked or (_STEP, _STEP))

    def files(self, size: tuple[int, int]) -> FileSettings:
        """Returns how image files of these boxes become a set of this (height, width)."""
        return FileSettings(list(size), self.fit, workers=self.workers, resident_gib=self.resident_gib)


def folder_of(path: str | Path, expected: str) -> Path:
    """Checks that the folder of a data set is there.

    Args:
        path: the folder.
        expected: what is expected in it, for the message.

    Returns:
        The folder.

    Raises:
        InputError: there is no such folder.
    """
    if not is_folder(path):
        raise InputError(f"path={path}: no such folder; expected {expected}")
    return Path(path)


def finite(value: object, what: str, where: str) -> float:
    """Reads a number of a label file.

    Args:
        value: text or a number.
        what: it is, for the message.
        where: it stands, for the message.

    Returns:
        The number.

    Raises:
        InputError: it is none, or not finite.

    Example:
        >>> finite("12.5", "xmin", "a.xml")
        12.5
    """
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: {what}={str(value)[:40]}: needs a finite number; correct or remove the box")
    return number


def said_so(value: object, what: str, where: str) -> bool:
    """Reads a yes or no of a label file, as tools write it: 1, "1", true, "Yes", or nothing at all for no.

    Args:
        value: text, a number, true or false, or None where the file says nothing.
        what: it is, for the message.
        where: it stands, for the message.

    Returns:
        Whether it is a yes.

    Raises:
        InputError: it is neither.

    Example:
        >>> said_so("False", "difficult", "a.xml"), said_so(1, "iscrowd", "a.json")
        (False, True)
    """
    word = "" if value is None else str(value).strip().casefold()
    if word in _YES or word in _NO:
        return word in _YES
    raise InputError(f"{where}: {what}={str(value)[:40]}: needs 1 or 0; correct it there")


def rows(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Returns the boxes of an image as an array (count, 7), also where there are none."""
    return np.array(boxes, dtype=np.float64).reshape(-1, len(BOX))


def box_data(root: Path, found: Found, settings: BoxSettings) -> Data:
    """Makes the data set of what a reader has found.

    Args:
        root: the folder of the data set, after which it is named.
        found: the pictures and their boxes.
        settings: what is done with them.

    Returns:
        The data set. Its labels are boxes in pixels of the prepared images (`supernet.data.targets`).

    Raises:
        InputError: there are no pictures to train on or no boxes, or a picture cannot be read.
    """
    if not found.parts.get("train"):
        raise InputError(f"path={root}: no labelled images to train on; expected a part train, or no parts at all")
    found = _chosen(found, settings.classes)
    headers = _headers(path for part in found.parts.values() for path in (each.path for each in part))
    shape = _shape(headers, asked_size(settings.size))
    seen = _Seen(shape, Preparation(fit=settings.fit))
    listed = {
        part: Listed(tuple(each.path for each in pictures), padded([seen.boxes(p, headers[p.path]) for p in pictures]))
        for part, pictures in found.parts.items()
    }
    labels = {part: each.labels for part, each in listed.items()}
    if not sum(int((part[..., CLASS] >= 0).sum()) for part in labels.values()):
        raise InputError(f"path={root}: not one box of a pixel or more among {quantity(len(headers), 'image')}")
    copies, doubled = _copies(listed)
    read = read_files(listed, settings.files(shape[1:]), found.classes, copies)
    told = (*_sizes(headers, shape, settings), *seen.notes(), *_rare(labels, found.classes), *doubled)
    sources = read.sources
    notes = (*found.notes, *read.notes, *told)
    parts = Parts(sources["train"], sources.get("val"), sources.get("test"), found.classes, copies, notes)
    common = CommonSettings(mean=settings.mean, std=settings.std, preparation=read.preparation)
    data = assemble(root.resolve().name, parts, common)
    return replace(data, augmentation=replace(data.augmentation, boxes=settings.changes))


def _chosen(found: Found, asked: Sequence[str] | None) -> Found:
    """The boxes of some of the classes, numbered anew."""
    if asked is None:
        return found
    wanted = class_names(asked)
    if not wanted:
        raise InputError(f"classes=[]: names none; choose among {', '.join(found.classes)}, or null for all")
    if unknown := [name for name in wanted if name not in found.classes]:
        raise InputError(f"classes: {unknown[0]} is not among {', '.join(found.classes)}")
    places = [float(found.classes.index(name)) for name in wanted]
    left_out = 0
    parts: dict[str, list[Labelled]] = {}
    for part, pictures in found.parts.items():
        parts[part] = []
        for each in pictures:
            kept = each.boxes[np.isin(each.boxes[:, 0], places)]
            left_out += len(each.boxes) - len(kept)
            kept[:, 0] = [places.index(number) for number in kept[:, 0]]
            parts[part].append(replace(each, boxes=kept))
    note = (f"left out: {quantity(left_out, 'box of other classes', 'boxes of other classes')}",) if left_out else ()
    return Found(parts, wanted, (*found.notes, *note))


def _headers(paths: Iterable[str]) -> dict[str, Header]:
    """The headers of all pictures, read by a few threads."""
    listed = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(listed, pool.map(read_header, listed), strict=True))


def _shape(headers: Mapping[str, Header], asked: tuple[int, int] | None) -> tuple[int, int, int]:
    channels = max(header.channels for header in headers.values())
    if asked is not None:
        return (channels, *asked)
    height, width = (median_low(getattr(h, side) for h in headers.values()) for side in ("height", "width"))
    scale = min(1.0, _LONGEST / max(height, width))
    sides = (max(_STEP, round(side * scale / _STEP) * _STEP) for side in (height, width))
    return (channels, *sides)  # type: ignore[return-value]


@dataclass
class _Seen:
    """Makes boxes of prepared images, and counts what had to be changed, with the first place of each.

    Args:
        shape: the (channels, height, width) of the prepared images.
        preparation: how pictures become them.
        counts: how many there are of each kind of change.
        first: the label file of the first of each.
    """

    shape: tuple[int, int, int]
    preparation: Preparation
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def boxes(self, picture: Labelled, header: Header) -> Tensor:
        """The boxes (count, 7) of a picture in pixels of its prepared image; too small ones are left out."""
        width, height = header.width, header.height
        boxes = picture.boxes.copy()
        if picture.shares:
            boxes[:, 1:5] *= (width, height, width, height)
        elif picture.stated not in (None, (width, height)):
            boxes[:, 1:5] = self._as_shown(boxes[:, 1:5], picture, header)
        given = boxes[:, 1:5].copy()
        boxes[:, 1:5] = given.clip(0, (width, height, width, height))
        sides = boxes[:, 3:5] - boxes[:, 1:3]
        kept = (sides >= _LEAST_SIDE).all(1)
        self._count("clipped", picture, int((abs(given - boxes[:, 1:5]).max(1, initial=0) > _SLACK)[kept].sum()))
        self._count("dropped", picture, int((~kept).sum()))
        boxes[:, 6] = np.where(boxes[:, 6] > 0, boxes[:, 6], sides.prod(1))
        placed = placement(width, height, self.shape, self.preparation)
        result = torch.from_numpy(boxes[kept])
        result[:, 1:5] = placed.forward(result[:, 1:5])
        return result.float()

    def _as_shown(self, corners: np.ndarray, picture: Labelled, header: Header) -> np.ndarray:
        """Corners of a picture of another size than stated: turned as EXIF says where that explains it."""
        if header.orientation in _TURNS and picture.stated == (header.height, header.width):
            self._count("turned", picture)
            return _TURNS[header.orientation](corners, header.width, header.height)
        self._count("sized", picture)
        return corners

    def _count(self, what: str, picture: Labelled, number: int = 1) -> None:
        if number:
            self.counts[what] = self.counts.get(what, 0) + number
            self.first.setdefault(what, Path(picture.where or picture.path).name)

    def notes(self) -> list[str]:
        """A line for each kind of change."""
        texts = {
            "sized": ("warning: {} of another size than the labels state; boxes are taken as they are", "image", ""),
            "turned": ("{} shown turned (EXIF) and labelled as stored: the boxes are turned, too", "image", ""),
            "clipped": ("{} out of the image: clipped", "box reaches", "boxes reach"),
            "dropped": ("left out: {} of less than a pixel or outside the image", "box", ""),
        }
        return [
            f"{text.format(quantity(self.counts[what], one, several))} (first: {self.first[what]})"
            for what, (text, one, several) in texts.items()
            if what in self.counts
        ]


def _transposed(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    return corners[:, [1, 0, 3, 2]]


def _clockwise(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    x1, y1, x2, y2 = corners.T
    return np.stack((width - y2, x1, width - y1, x2), 1)


def _transversed(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    x1, y1, x2, y2 = corners.T
    return np.stack((width - y2, height - x2, width - y1, height - x1), 1)


def _anticlockwise(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    x1, y1, x2, y2 = corners.T
    return np.stack((y1, height - x2, y2, height - x1), 1)


# What EXIF's orientations that exchange the sides make of corners as stored; width and height are those that are shown.
_TURNS = {5: _transposed, 6: _clockwise, 7: _transversed, 8: _anticlockwise}


def _sizes(headers: Mapping[str, Header], shape: tuple[int, int, int], settings: BoxSettings) -> list[str]:
    """A note on how images are resized, where no size was asked for."""
    sizes = sorted({(h.height, h.width) for h in headers.values()}, key=lambda size: (size[0] * size[1], size))
    if settings.size is not None or sizes == [shape[1:]]:
        return []
    span = " to ".join(f"{high} x {wide}" for high, wide in dict.fromkeys((sizes[0], sizes[-1])))
    return [f"images of {span}: resized to {shape[1]} x {shape[2]}; size=[H,W] for another size"]


def _rare(labels: Mapping[str, Tensor], classes: Sequence[str]) -> list[str]:
    """Notes on images without objects, and on classes that cannot be learnt."""
    notes = []
    empty = sum(int((part[..., CLASS] < 0).all(1).sum()) for part in labels.values())
    if empty:
        images = quantity(empty, "image without objects", "images without objects")
        notes.append(f"{images}: kept, to teach what is none")
    there = set(labels["train"][..., CLASS].unique().tolist())
    if missing := [name for number, name in enumerate(classes) if number not in there]:
        shown = ", ".join(missing[:5]) + f" and {len(missing) - 5} more" * (len(missing) > 5)
        notes.append(f"warning: no training boxes of {len(missing)} of {quantity(len(classes), 'class')}: {shown}")
    return notes


def _copies(files: Mapping[str, Listed]) -> tuple[Tensor, list[str]]:
    """Groups of training images with the same bytes, and a note about those that are in another part, too."""
    train = files["train"].paths
    groups = copy_groups([*train, *(path for part, each in files.items() if part != "train" for path in each.paths)])
    leaked = int((groups[len(train) :] < len(train)).sum())
    inside = int((groups[: len(train)] != torch.arange(len(train))).sum())
    return groups[: len(train)], copy_notes(leaked, 0 if "test" in files else inside)
