"""Reads images from folders, one folder for each class."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low

import torch
from torch import Tensor

from supernet.data.batches import Files, Resident, Source
from supernet.data.copies import copy_groups
from supernet.data.dataset import CommonSettings, Data, Parts, assemble
from supernet.data.images import PLAIN, Header, Preparation, brightest, read_header
from supernet.data.levels import bits_white
from supernet.data.listing import LeftOut, Listed, find_classes, find_parts, list_images
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder

_AS_THEY_ARE = 96 * 96  # pixels up to which images keep their size unless one is asked for
_USUAL = (64, 64)  # what larger ones become
_MOST_PIXELS = 2**26  # of one image
_ENOUGH = 10_000  # headers after which nothing new is looked for where size and colour are known
_SEARCHED = 100_000  # images up to which copies between given parts are looked for


# Each of the twelve settings is one that a data set may need by itself; all but the path have a value that fits most.
def image_folder(
    path: str | Path,
    size: Sequence[int] | int | None = None,
    fit: str = "squash",
    border: int = 0,
    ground: int = 255,
    crop_padding: int = 0,
    scale: Sequence[float] | None = None,
    flip: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    workers: int = 0,
    resident_gib: float = 2.0,
) -> Data:
    """Reads a folder of images: train/<class>/<image>, perhaps with val and test beside train, or <class>/<image>.

    Where there is no test folder, a fifth of the training images is held out to test.

    Args:
        path: the folder.
        size: [height, width] in pixels that all images become, or one number for both. None takes the median
            size where that has at most 96 x 96 pixels, and 64 x 64 where it has more.
        fit: "squash" resizes without keeping the aspect; "crop" keeps it and takes the middle.
        border: pixels on every side that are cut away after resizing, with fit "crop".
        ground: the level behind transparent pictures, from 0 (black) to 255 (white).
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        scale: the least and the largest share of an image's area that a random crop has, such as [0.08, 1.0]; the crop
            is resized. It takes the place of `crop_padding`.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        workers: how many processes read images ahead, where the set is not held in memory.
        resident_gib: sets of up to this size in GiB are held in memory; larger ones are read when they are needed.

    Returns:
        The data set, named after the folder. Its notes say what was left out, resized or found twice.

    Raises:
        InputError: the folder, a file in it or a setting is not understood, in one line.

    Example:
        >>> import pathlib, tempfile, supernet
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(20):
        ...         image = pathlib.Path(folder, "photos", ("cat", "dog")[number % 2], f"{number}.png")
        ...         image.parent.mkdir(parents=True, exist_ok=True)
        ...         Image.new("L", (32, 24), number).save(image)
        ...     data = supernet.data.image_folder(f"{folder}/photos")
        >>> data.name, data.shape, data.classes, len(data.train), len(data.test)
        ('photos', (1, 24, 32), ('cat', 'dog'), 16, 4)
    """
    if not is_folder(path):
        raise InputError(f"path={path}: no such folder; expected train/<class>/<image> or <class>/<image> in it")
    for setting, value in (("workers", workers), ("resident_gib", resident_gib)):
        if value < 0:
            raise InputError(f"{setting}={value}: needs 0 or more")
    asked, root = _asked_size(size), Path(path)
    found = _find(root)
    seen = _look_at(found.parts, asked)
    preparation = Preparation(_white(found.parts["train"], seen), ground, fit, border)
    shape, resize = seen.shape(asked)
    told = seen.notes(shape, asked, preparation)
    reading = preparation
    if scale is not None:  # the crops of training draw on the border, too
        reading, shape = replace(preparation, border=0), (shape[0], shape[1] + 2 * border, shape[2] + 2 * border)
    how = (shape, resize or border > 0, workers, reading)
    files = {part: Files(listed.paths, listed.labels, *how) for part, listed in found.parts.items()}
    sources = _held(files, resident_gib * 2**30)
    copies, doubled = _copies(found.parts, found.classes)
    notes = (*found.notes, *told, *doubled)
    parts = Parts(sources["train"], sources.get("val"), sources.get("test"), found.classes, copies, notes)
    settings = CommonSettings(crop_padding, flip, mean, std, preparation=preparation, scale=scale)
    return assemble(root.resolve().name, parts, settings)


@dataclass(frozen=True)
class _Found:
    """The image files of each part, the names of the classes, and what was left out."""

    parts: dict[str, Listed]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def _find(root: Path) -> _Found:
    folders, notes = find_parts(root)
    classes = tuple(find_classes(folders["train"], str(root)))
    left_out = LeftOut()
    parts = {part: list_images(folder, classes, left_out) for part, folder in folders.items()}
    return _Found(parts, classes, (*notes, *left_out.notes()))


def _asked_size(size: Sequence[int] | int | None) -> tuple[int, int] | None:
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
        wide: the files of 16-bit grey.
        cut: how many are colour images of 16 bits.
        transparent: how many have transparency.
        grey: how many are grey.
    """

    colour: bool
    sizes: tuple[tuple[int, int], ...]
    wide: frozenset[str]
    cut: int
    transparent: int
    grey: int

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
                f"{len(sizes)} sizes, {low[0]} x {low[1]} to {high[0]} x {high[1]}"
                if several
                else f"{low[0]} x {low[1]}"
            )
            told.append(f"images of {span}: resized to {shape[1]} x {shape[2]}; size=[H,W] for another size")
        if self.colour and self.grey:
            told.append(f"{self.grey:,} of {len(self.sizes):,} images are grey: read as colour")
        if self.transparent:
            told.append(f"{self.transparent:,} images with transparency: laid on level {preparation.ground} (ground)")
        if self.wide:
            told.append(f"{len(self.wide):,} images of 16-bit grey: 0 to {preparation.white:,} become 256 levels")
        if self.cut:
            told.append(f"{self.cut:,} colour images of 16 bits: their upper 8 bits are read")
        return told


def _look_at(listed: Mapping[str, Listed], asked: tuple[int, int] | None) -> _Seen:
    """Reads the header of every file; of a very large set only until size and colour are known."""
    headers: dict[str, Header] = {}
    colour = False
    for path in (path for found in listed.values() for path in found.paths):
        headers[path] = read_header(path)
        colour = colour or headers[path].channels == 3
        if asked is not None and colour and len(headers) >= _ENOUGH:
            break
    return _Seen(
        colour=colour,
        sizes=tuple((header.height, header.width) for header in headers.values()),
        wide=frozenset(path for path, header in headers.items() if header.wide),
        cut=sum(header.cut for header in headers.values()),
        transparent=sum(header.transparent for header in headers.values()),
        grey=sum(header.channels == 1 for header in headers.values()),
    )


def _white(train: Listed, seen: _Seen) -> int:
    """The value of 16-bit grey images that becomes white: the largest of as many bits as the training images use."""
    wide = [path for path in train.paths if path in seen.wide]
    chosen = wide[:: max(1, len(wide) // _ENOUGH)]
    return bits_white(max(map(brightest, chosen))) if chosen else PLAIN.white


def _held(files: Mapping[str, Files], most: float) -> Mapping[str, Source]:
    """Brings the parts into memory, if all of them together take at most this number of bytes."""
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


def _copies(listed: Mapping[str, Listed], classes: tuple[str, ...]) -> tuple[Tensor | None, list[str]]:
    """Groups of training images with the same bytes, and notes about copies."""
    judged = [found for part, found in listed.items() if part != "train"]
    paths = [path for found in (listed["train"], *judged) for path in found.paths]
    if judged and len(paths) > _SEARCHED:
        return None, []
    groups, count = copy_groups(paths), len(listed["train"].paths)
    labels = torch.cat([found.labels for found in (listed["train"], *judged)])
    copies, notes = (groups != torch.arange(len(groups))).nonzero().flatten(), []
    both = copies[labels[copies] != labels[groups[copies]]].tolist()
    if both:
        pair = f"{classes[labels[groups[both[0]]]]} and {classes[labels[both[0]]]}"
        notes.append(f"warning: {len(both):,} images are exact copies of images of another class ({pair})")
    leaked = int((groups[count:] < count).sum())
    if leaked:
        notes.append(f"warning: {leaked:,} images to validate or test are exact copies of training images")
    alike = copies[(copies < count) & (labels[copies] == labels[groups[copies]])]
    if "test" not in listed and (inside := len(alike)):
        notes.append(
            f"{inside:,} images are exact copies of others: held out to test together with them, or not at all"
        )
    return groups[:count], notes
