"""Reads listed image files as sets of one size: measures sizes, colours and the window, and decodes small sets."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import median_low
from typing import TypeVar

import torch
from torch import Tensor

from supernet.data.batches import Resident, Source
from supernet.data.dataset import held_out
from supernet.data.files import Files
from supernet.data.headers import headers_of
from supernet.data.images import Header, grey_values
from supernet.data.levels import bits_white
from supernet.data.listing import Listed
from supernet.data.members import Picture
from supernet.data.preparation import Preparation
from supernet.data.windows import AUTO, NONE, Window, asked_window, chosen_for_measuring, measured_window, told_window
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

_AS_THEY_ARE = 96 * 96  # pixels up to which images keep their size unless one is asked for
_USUAL = (64, 64)  # what larger ones become
_MOST_PIXELS = 2**26  # of one image
_MOST_WHITE = 65535

Where = TypeVar("Where", bound=Picture)


@dataclass(frozen=True)
class FileSettings:
    """How image files become a set.

    Args:
        size: [height, width] in pixels that all images become, or one number for both; None takes the median size of
            small images and 64 x 64 for larger ones.
        fit: how an image is brought to the size, as in `Preparation`.
        border: pixels on every side that are cut away after resizing, with fit "crop".
        ground: the level behind transparent pictures.
        window: "auto", "none" or two numbers, as in `asked_window`.
        scale: the least and the largest share of an image's area that a random crop has; None crops nothing.
        workers: how many processes read ahead, where the set is not held in memory.
        resident_gib: sets of up to this size in GiB are held in memory.
        cache_from: pictures from which on is kept what was found out about all of them; None: nothing is.

    Raises:
        InputError: `workers` or `resident_gib` is below 0.
    """

    size: Sequence[int] | int | None = None
    fit: str = "squash"
    border: int = 0
    ground: int = 255
    window: str | Sequence[float] | None = AUTO
    scale: Sequence[float] | None = None
    workers: int = 0
    resident_gib: float = 2.0
    cache_from: int | None = None

    def __post_init__(self) -> None:
        for setting, value in (("workers", self.workers), ("resident_gib", self.resident_gib)):
            if value < 0:
                raise InputError(f"{setting}={value}: needs 0 or more")


@dataclass(frozen=True)
class FileSets:
    """The parts of a data set that was read from image files.

    Args:
        sources: "train", and "val" and "test" where they were listed.
        preparation: how a picture becomes pixels.
        notes: what was resized or converted, a short line each.
    """

    sources: Mapping[str, Source]
    preparation: Preparation
    notes: tuple[str, ...]


def read_files(
    listed: Mapping[str, Listed],
    settings: FileSettings,
    classes: Sequence[str] = (),
    copies: Tensor | None = None,
    groups: Tensor | None = None,
) -> FileSets:
    """Reads image files as sets of one shape.

    A window is measured on the images to train on alone: where there is no part to test by, not on those that
    `assemble` will hold out with the same classes, copies and groups.

    Args:
        listed: the files of the parts, "train" among them, with labels of any kind.
        settings: how.
        classes: the names of the classes.
        copies: of the training files, as in `Parts`.
        groups: of the training files, as in `Parts`.

    Returns:
        The sets, in memory where all of them together are small.

    Raises:
        InputError: a file or a setting is not understood, in one line.
    """
    asked, window = asked_size(settings.size), asked_window(settings.window)
    plain = Preparation(ground=settings.ground, fit=settings.fit, border=settings.border)
    headers = headers_of(listed, asked is not None, settings.cache_from)
    seen = _Seen.of(headers)
    shape, resize = seen.shape(asked)
    told = seen.notes(shape, asked, plain)
    train: Sequence[Picture] = listed["train"].paths
    if "test" not in listed and any(header.wide for header in headers.values()):
        kept, _ = held_out(listed["train"].labels, classes, copies, groups)
        train = tuple(train[place] for place in kept.tolist())
    preparation, said = windowed(plain, train, headers, window)
    reading, border = preparation, settings.border
    if settings.scale is not None:  # the crops of training draw on the border, too
        reading, shape = replace(preparation, border=0), (shape[0], shape[1] + 2 * border, shape[2] + 2 * border)
    how = (shape, resize or border > 0, settings.workers, reading)
    files = {part: Files(found.paths, found.labels, *how) for part, found in listed.items()}
    return FileSets(held(files, settings.resident_gib * 2**30), preparation, (*told, *said))


def asked_size(size: Sequence[int] | int | None) -> tuple[int, int] | None:
    """The (height, width) that a person asks for, or None. Raises InputError where it is no size.

    Args:
        size: [height, width], or one number for both, or None.
    """
    if size is None:
        return None
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
        raise InputError(f"size={sides}: use [height, width]")
    if sides[0] * sides[1] > _MOST_PIXELS:
        raise InputError(f"size={sides}: {sides[0] * sides[1]:,} pixels an image; use at most {_MOST_PIXELS:,}")
    return sides[0], sides[1]


@dataclass(frozen=True)
class _Seen:
    """What the headers of the files say together.

    Args:
        colour: whether any image has colours.
        sizes: (height, width) of each image that was looked at.
        cut: how many are images of 16 bits with colour or transparency.
        transparent: how many have transparency.
        grey: how many are grey.
        pages: how many files hold several pictures.
    """

    colour: bool
    sizes: tuple[tuple[int, int], ...]
    cut: int
    transparent: int
    grey: int
    pages: int

    @classmethod
    def of(cls, headers: Mapping[Picture, Header]) -> _Seen:
        return cls(
            colour=any(header.channels == 3 for header in headers.values()),
            sizes=tuple((header.height, header.width) for header in headers.values()),
            cut=sum(header.cut for header in headers.values()),
            transparent=sum(header.transparent for header in headers.values()),
            grey=sum(header.channels == 1 for header in headers.values()),
            pages=sum(header.pages for header in headers.values()),
        )

    def shape(self, asked: tuple[int, int] | None) -> tuple[tuple[int, int, int], bool]:
        """The (channels, height, width) of all images, and whether they are resized to it."""
        channels = 3 if self.colour else 1
        if asked is not None:
            return (channels, *asked), True
        usual = median_low(height for height, _ in self.sizes), median_low(width for _, width in self.sizes)
        if usual[0] * usual[1] > _AS_THEY_ARE:
            usual = _USUAL
        return (channels, *usual), set(self.sizes) != {usual}

    def notes(self, shape: tuple[int, int, int], asked: tuple[int, int] | None, preparation: Preparation) -> list[str]:
        """Notes on how the pictures are changed."""
        told = []
        sizes = sorted(set(self.sizes), key=lambda size: (size[0] * size[1], size))
        if asked is None and sizes != [shape[1:]]:
            (low, high), several = (sizes[0], sizes[-1]), len(sizes) > 1
            span = (
                f"{quantity(len(sizes), 'size')}, {low[0]} x {low[1]} to {high[0]} x {high[1]}"
                if several
                else f"{low[0]} x {low[1]}"
            )
            told.append(f"images of {span}: resized to {shape[1]} x {shape[2]}; size=[H,W] for another size")
        if self.colour and self.grey:
            told.append(f"grey, and read as colour: {self.grey:,} of {quantity(len(self.sizes), 'image')}")
        if self.transparent:
            images = quantity(self.transparent, "image with transparency", "images with transparency")
            told.append(f"{images}: laid on level {preparation.ground} (ground)")
        if self.cut:
            images = quantity(self.cut, "image of 16 bits", "images of 16 bits")
            told.append(f"{images} with colour or transparency: the upper 8 bits are read")
        if self.pages:
            files = quantity(self.pages, "file holds", "files hold")
            told.append(f"{files} several pictures: the first one is read")
        return told


def windowed(
    plain: Preparation, train: Sequence[Where], headers: Mapping[Where, Header], window: str | Window = AUTO
) -> tuple[Preparation, list[str]]:
    """Chooses the window of grey values for a set with files of more than 8 bits.

    Args:
        plain: the preparation without it.
        train: the files on which it is measured.
        headers: of the files of all parts.
        window: "auto", "none" or two numbers, as `asked_window` returns them.

    Returns:
        The preparation with the window, and notes on it.

    Raises:
        InputError: two numbers are given where no file has more than 8 bits, or a file cannot be read.
    """
    wide = {path for path, header in headers.items() if header.wide}
    own = {path for path, header in headers.items() if header.windowed} if window == AUTO else set()
    others = wide - own
    if isinstance(window, tuple):
        if not wide:
            raise InputError(f"window={list(window)}: no image has grey of more than 8 bits; leave it out")
        chosen = replace(plain, window=window, window_of_file=False)
    else:
        files = chosen_for_measuring([path for path in train if path in others])
        measured = measured_window(map(grey_values, files)) if window == AUTO else None
        white = None
        if files and measured is None:  # one for all images, as each by its own bits would be another scale
            white = min(bits_white(max(0, *(int(grey_values(path).max(initial=0)) for path in files))), _MOST_WHITE)
        chosen = replace(plain, white=white, window=measured, window_of_file=window != NONE)
    notes = []
    if rest := len(others):
        range_of = told_window(chosen.window or (0, chosen.white or _MOST_WHITE))
        notes.append(f"{quantity(rest, 'image of grey', 'images of grey')} of more than 8 bits: {range_of}")
    if own:
        one, several = "image with a window of its grey values", "images with windows of their grey values"
        notes.append(f"{quantity(len(own), one, several)} in the file: used")
    return chosen, notes


def held(files: Mapping[str, Files], most: float) -> Mapping[str, Source]:
    """Brings the parts of a set into memory, if all of them together take at most this number of bytes.

    Args:
        files: the parts.
        most: bytes.
    """
    needed = sum(len(part) * math.prod(part.shape) for part in files.values())
    return {name: _in_memory(part) for name, part in files.items()} if needed <= most else files


def _in_memory(files: Files) -> Resident:
    """Decodes all files by a few threads; Pillow lets them run side by side."""
    images = torch.empty(len(files), *files.shape, dtype=torch.uint8)
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        for place, image in enumerate(pool.map(files.read, range(len(files)))):
            images[place] = image
    finally:
        pool.shutdown(cancel_futures=True)
    return Resident(images, files.labels)
