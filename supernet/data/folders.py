"""Images in folders, one folder a class."""

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
from supernet.data.images import PLAIN, Header, Preparation, brightest, read_header
from supernet.data.levels import bits_white
from supernet.data.listing import LeftOut, Listed, find_classes, find_parts, list_images
from supernet.data.sources import Data, Parts, assemble
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder

_AS_THEY_ARE = 96 * 96  # pixels up to which images keep their size unless one is asked for
_USUAL = (64, 64)  # what larger ones become
_MOST_PIXELS = 2**26  # of one image
_ENOUGH = 10_000  # headers after which nothing new is looked for where size and colour are known
_SEARCHED = 100_000  # images up to which copies between given parts are looked for


def image_folder(
    path: str,
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
    """A folder with train/<class>/<image>, perhaps val and test beside it, or <class>/<image> alone.

    `size`: [height, width] that all become. Without it, small images of one size stay as they are and others become
    64 x 64. `fit`: "squash", or "crop" to keep the aspect and take the middle; `border` pixels on every side are cut
    away then. `ground`: the level behind transparent pictures. `scale`: train on parts of this share of the image's
    area, resized. Sets of up to `resident_gib` stay in memory, larger ones are read when needed, by `workers`
    processes.
    """
    root = Path(path)
    if not is_folder(root):
        raise InputError(f"data.path={path}: no such folder; expected train/<class>/<image> or <class>/<image> in it")
    if workers < 0 or resident_gib < 0:
        raise InputError(f"data.workers={workers} and data.resident_gib={resident_gib} must be 0 or more")
    asked = _asked_size(size)
    folders, notes = find_parts(root)
    classes = tuple(find_classes(folders["train"], path))
    left_out = LeftOut()
    listed = {part: list_images(folder, classes, left_out) for part, folder in folders.items()}
    seen = _look_at(listed, asked)
    preparation = Preparation(_white(listed["train"], seen), ground, fit, border)
    shape, resize = seen.shape(asked)
    told = seen.notes(shape, asked, preparation)
    reading = preparation
    if scale is not None:  # the crops of training draw on the border, too
        reading, shape = replace(preparation, border=0), (shape[0], shape[1] + 2 * border, shape[2] + 2 * border)
    how = (shape, resize or border > 0, workers, reading)
    files = {part: Files(found.paths, found.labels, *how) for part, found in listed.items()}
    sources = _held(files, resident_gib * 2**30)
    copies, doubled = _copies(listed, classes)
    notes += [*left_out.notes(), *told, *doubled]
    parts = Parts(sources["train"], sources.get("val"), sources.get("test"), classes, copies, tuple(notes))
    return assemble(
        root.resolve().name,
        parts,
        crop_padding=crop_padding,
        flip=flip,
        mean=mean,
        std=std,
        preparation=preparation,
        scale=scale,
    )


def _asked_size(size: Sequence[int] | int | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
        raise InputError(f"data.size={sides}: use [height, width]")
    if sides[0] * sides[1] > _MOST_PIXELS:
        raise InputError(f"data.size={sides}: {sides[0] * sides[1]:,} pixels an image; use at most {_MOST_PIXELS:,}")
    return sides[0], sides[1]


@dataclass(frozen=True)
class _Seen:
    """What the headers of the files say together. `sizes`: (height, width) of each; `wide`: files of 16-bit grey."""

    colour: bool
    sizes: tuple[tuple[int, int], ...]
    wide: frozenset[str]
    cut: int
    transparent: int
    grey: int

    def shape(self, asked: tuple[int, int] | None) -> tuple[tuple[int, int, int], bool]:
        """(channels, height, width) of all images, and whether they are resized to it."""
        channels = 3 if self.colour else 1
        if asked is not None:
            return (channels, *asked), True
        usual = median_low(height for height, _ in self.sizes), median_low(width for _, width in self.sizes)
        if usual[0] * usual[1] > _AS_THEY_ARE:
            usual = _USUAL
        return (channels, *usual), set(self.sizes) != {usual}

    def notes(self, shape: tuple[int, int, int], asked: tuple[int, int] | None, preparation: Preparation) -> list[str]:
        """What happens to the pictures on their way."""
        told = []
        sizes = sorted(set(self.sizes), key=lambda size: (size[0] * size[1], size))
        if asked is None and sizes != [shape[1:]]:
            (low, high), several = (sizes[0], sizes[-1]), len(sizes) > 1
            span = (
                f"{len(sizes)} sizes, {low[0]} x {low[1]} to {high[0]} x {high[1]}"
                if several
                else f"{low[0]} x {low[1]}"
            )
            told.append(f"images of {span}: resized to {shape[1]} x {shape[2]}; data.size=[H,W] for another size")
        if self.colour and self.grey:
            told.append(f"{self.grey:,} of {len(self.sizes):,} images are grey: read as colour")
        if self.transparent:
            told.append(
                f"{self.transparent:,} images with transparency: laid on level {preparation.ground} (data.ground)"
            )
        if self.wide:
            told.append(f"{len(self.wide):,} images of 16-bit grey: 0 to {preparation.white:,} become 256 levels")
        if self.cut:
            told.append(f"{self.cut:,} colour images of 16 bits: their upper 8 bits are read")
        return told


def _look_at(listed: Mapping[str, Listed], asked: tuple[int, int] | None) -> _Seen:
    """Reads the header of every file; of a very large set only until nothing is open any more."""
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
    """The white of all 16-bit grey images: that of as many bits as the training images use."""
    wide = [path for path in train.paths if path in seen.wide]
    chosen = wide[:: max(1, len(wide) // _ENOUGH)]
    return bits_white(max(map(brightest, chosen))) if chosen else PLAIN.white


def _held(files: Mapping[str, Files], most: float) -> Mapping[str, Source]:
    """The parts in memory, if all of them together take at most so many bytes."""
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
    """Groups of training images with the same bytes, and what a person should know of copies."""
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
