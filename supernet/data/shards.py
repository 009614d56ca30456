"""Reads images from tar files (shards) in the form of webdataset: each sample a few members of one name."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernet.data.block_order import Mixing
from supernet.data.dataset import CommonSettings, Data
from supernet.data.file_sets import FileSettings
from supernet.data.listed_images import Grouping, data_of_files, groups_by_path
from supernet.data.listing import Listed
from supernet.data.pictures import Members
from supernet.data.shard_index import Index, Wanted, index_of, left_out_notes
from supernet.data.shard_lists import shard_paths
from supernet.data.targets import class_names
from supernet.data.windows import AUTO
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, read_text
from supernet.runtime.text import printable, quantity

CACHED_FROM = 20_000  # samples; fewer are listed in a moment
_NUMBER = re.compile(r"[0-9]{1,9}")
_ANY_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?", re.IGNORECASE)
_MOST_CLASSES = 1_000_000
_NAMES = ("classes.txt", "classnames.txt", "classes.json")
_MOST_TEXT = 2**24  # bytes of a file of names


# Each of the settings is one that a data set may need by itself; all but the shards have a value that fits most.
def webdataset(
    train: str | Path,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    label: str = "cls",
    image: str | None = None,
    classes: Sequence[object] | None = None,
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
    window: str | Sequence[float] | None = AUTO,
    groups: str | None = None,
    rotation: float = 0.0,
    zoom: float = 0.0,
    contrast: float = 0.0,
    streams: int = 8,
    shuffle: int = 1024,
    cache: bool = True,
) -> Data:
    """Reads images from shards: tar files as the library webdataset writes and reads them.

    The headers of all shards are read once, and images then from their places, block by block. So a run goes on at the
    exact image, and several processes read shards of their own. Where there are no shards to test by, a fifth of the
    training images is held out.

    Args:
        train: a tar file, a folder of tar files, or a path with braces, such as `train-{000000..000012}.tar`.
        valid: the same for the validation images.
        test: the same for the test images.
        label: the ending of the member with the class of a sample, a whole number from 0 on or a name; or `json.FIELD`
            for a field of its JSON.
        image: the ending of the picture of a sample, where it has several; None: the one that there is.
        classes: the names of the classes by their numbers. None looks for classes.txt, classnames.txt (a name a line)
            and classes.json (a list) beside the training shards; otherwise numbers are their names.
        size: [height, width] in pixels that all images become, or one number for both. None takes the median size
            where that has at most 96 x 96 pixels, and 64 x 64 where it has more.
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
        window: which values of grey of more than 8 bits become black and white, as in `image_folder`.
        groups: a regular expression with one group in parentheses, which finds in the name of a shard and a member
            (`train-000.tar/p7_3.png`) to whom it belongs: no split comes between the images of one.
        rotation: the largest angle in degrees by which a training image is turned, to either side.
        zoom: the largest share by which a training image is enlarged; or made smaller by as large a factor.
        contrast: the largest share by which its contrast changes; its brightness by half of it.
        streams: parts of a pass that are read side by side, as in `Mixing`.
        shuffle: how many images of a stream are mixed at a time, as in `Mixing`.
        cache: whether the list of 20,000 samples or more is kept in the person's cache folder, and taken from there
            while the sizes and times of the shards are the same.

    Returns:
        The data set, named after the folder of the training shards. Its notes say what was left out.

    Raises:
        InputError: a shard, a label or a setting is not understood, in one line; or the library webdataset, which knows
            what belongs to a sample, is not installed.
    """
    cache_from = CACHED_FROM if cache else None
    settings = FileSettings(size, fit, border, ground, window, scale, workers, resident_gib, cache_from)
    wanted, mixing = Wanted(label, image), Mixing(streams, shuffle)
    found = _indexed({"train": train, "valid": valid, "test": test}, wanted, cache_from)
    folder = Path(found["train"].shards[0].path).resolve().parent
    labels, names = labelled(found, class_names(classes) or _names_beside(folder))
    listed = {part: Listed(_members(index, mixing), labels[part]) for part, index in found.items()}
    common = CommonSettings(
        crop_padding=crop_padding,
        flip=flip,
        mean=mean,
        std=std,
        scale=scale,
        rotation=rotation,
        zoom=zoom,
        contrast=contrast,
    )
    grouping: Grouping = (None, ()) if groups is None else groups_by_path(listed, folder, groups)
    notes = left_out_notes(sum((index.left_out for index in found.values()), Counter()))
    return data_of_files(folder, listed, names, settings, common, grouping, notes)


def labelled(parts: Mapping[str, Index], names: tuple[str, ...]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Makes labels of what is written in shards.

    Args:
        parts: the samples of each part, "train" among them.
        names: the names of the classes; (): the labels are the names.

    Returns:
        The labels of each part, (N,) int64, and the names of the classes. Whole numbers count classes from 0. Names
        that nobody gave are numbered in their order.

    Raises:
        InputError: a label is not among the names, or a number is too large for one.
    """
    texts = {text for index in parts.values() for text in index.texts}
    if all(_NUMBER.fullmatch(text) for text in texts):
        if (largest := max(map(int, texts))) >= (limit := len(names) or _MOST_CLASSES):
            raise InputError(f"label {largest}: there are {quantity(limit, 'class')}, counted from 0")
        number = {text: int(text) for text in texts}
        names = names or tuple(str(label) for label in range(largest + 1))
    else:
        if not names:
            _refuse_measures(texts)
        names = names or tuple(sorted(parts["train"].texts))
        number = {name: place for place, name in enumerate(names)}
        if strange := sorted(texts - set(number)):
            raise InputError(f"label {printable(strange[0])}: no class among {_few(names)}")
    labels = {
        part: torch.from_numpy(np.array([number[text] for text in index.texts], np.int64)[index.labels])
        for part, index in parts.items()
    }
    return labels, names


def _refuse_measures(texts: Collection[str]) -> None:
    """Refuses numbers that count no class, such as -1 for an unknown one, or a size in centimetres."""
    strange = sorted(text for text in texts if not text.isdecimal())
    if strange and all(_ANY_NUMBER.fullmatch(text) for text in texts):
        raise InputError(
            f"label {strange[0]}: needs a whole number from 0 on, or a name; classes=[...] names such ones"
        )


def _members(index: Index, mixing: Mixing) -> Members:
    return Members(index.shards, index.shard, index.offsets, index.sizes, index.names, mixing)


def _indexed(given: Mapping[str, str | Path | None], wanted: Wanted, cache_from: int | None) -> dict[str, Index]:
    """The samples of each part by its usual name. `given`: where the shards are, by the name of the setting."""
    paths = {name: shard_paths(where, name) for name, where in given.items() if where is not None}
    _check_apart(paths)
    found = {name: index_of(shards, wanted, cache_from) for name, shards in paths.items()}
    for name, index in found.items():
        if not len(index.shard):
            raise InputError(_nothing(name, index, wanted))
    return {{"valid": "val"}.get(name, name): index for name, index in found.items()}


def _check_apart(paths: Mapping[str, Sequence[str]]) -> None:
    """Refuses a shard that stands in two parts."""
    seen: dict[str, str] = {}
    for part, shards in paths.items():
        for path in map(str, map(Path.resolve, map(Path, shards))):
            if path in seen:
                where = f"in {seen[path]} and in {part}" if seen[path] != part else f"twice in {part}"
                raise InputError(f"{path}: {where}; each shard belongs to one part, once")
            seen[path] = part


def _nothing(name: str, index: Index, wanted: Wanted) -> str:
    """A line on shards in which no sample has a picture and a label."""
    asked = f"label={wanted.label}" + (f", image={wanted.image}" if wanted.image else "")
    what = "; ".join(left_out_notes(index.left_out)) or "no sample at all"
    return f"{name}: no picture with a label in {quantity(len(index.shards), 'shard')} ({what}), with {asked}"


def _names_beside(folder: Path) -> tuple[str, ...]:
    """The names of the classes in a file beside the shards, if there is one."""
    path = next((folder / name for name in _NAMES if is_file(folder / name)), None)
    if path is None:
        return ()
    text = read_text(path, str(path), _MOST_TEXT)
    if path.suffix == ".txt":
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{path}: no JSON; a list of names is needed") from None
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path}: needs a list of names")
    return tuple(content)


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
