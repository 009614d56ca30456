"""Reads boxes of objects as YOLO has them: a .txt file for each picture, and a .yaml file with classes and parts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from supernet.data.box_changes import BoxChanges
from supernet.data.box_files import Pictures, other_formats, part_of, refuse_mixture, yolo_label
from supernet.data.box_folders import BoxSettings, Found, Labelled, box_data, finite, folder_of, rows
from supernet.data.dataset import Data
from supernet.data.images import SUFFIXES
from supernet.data.listing import files_below
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, is_folder, read_text
from supernet.runtime.text import quantity

_MOST_BYTES, _MOST_YAML = 2**26, 2**20  # of one text file, such as a list of pictures, and of a .yaml file
_NOTHING_OR_MERGED = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
_FARTHEST = 2.0  # shares of a picture's side that a corner may lie outside; more are pixels by mistake
_EXPECTED = "a data.yaml with names, train and perhaps val and test, or a classes.txt, and labels/ beside images/"
_NAMES = ("classes.txt", "obj.names")


def yolo(
    path: str,
    size: Sequence[int] | int | None = None,
    fit: str = "squash",
    classes: Sequence[str] | None = None,
    flip: bool = True,
    flip_down: bool = False,
    scale: Sequence[float] = (0.6, 1.6),
    colour: float = 0.2,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    workers: int = 0,
    resident_gib: float = 2.0,
) -> Data:
    """Reads pictures and boxes as YOLO has them.

    Each line of a .txt file is a class number and the box's middle, width and height in shares of the picture's sides,
    or a polygon, which becomes the box around it. Parts come from the .yaml file, each a folder, a list of folders or a
    .txt file of pictures; their places are looked for in the folder of the .yaml file and in the one above. Without a
    test part a fifth of the training images is held out to test. A picture without a .txt file has no objects.

    Args:
        path: the .yaml file, or a folder with one; or a folder with a classes.txt that names the classes.
        size: [height, width] in pixels that all images become, or one number for both. None takes the median size,
            made smaller until its longer side has at most 384 pixels, in whole steps of 32.
        fit: "squash" resizes without keeping the aspect; "pad" keeps it and lays the picture on a grey ground.
        classes: the names of the classes that are read, in their order; None: all, by their numbers.
        flip: whether half of the training images are mirrored left to right.
        flip_down: whether half of them are mirrored top to bottom.
        scale: how many times as large objects become in training, from the least to the largest.
        colour: how far brightness, contrast and saturation are changed in training.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        workers: how many processes read images ahead, where the set is not held in memory.
        resident_gib: sets of up to this size in GiB are held in memory; larger ones are read when they are needed.

    Returns:
        The data set, named after the folder. Its labels are boxes in pixels of the prepared images.

    Raises:
        InputError: the folder, a file in it or a setting is not understood, in one line.

    Example:
        >>> import pathlib, tempfile, supernet
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(10):
        ...         Image.new("RGB", (96, 64), (number, 0, 0)).save(f"{folder}/{number}.png")
        ...         _ = pathlib.Path(f"{folder}/{number}.txt").write_text("0 0.25 0.5 0.5 0.25")
        ...     _ = pathlib.Path(f"{folder}/data.yaml").write_text("{train: ., names: [cell]}")
        ...     data = supernet.data.yolo(folder)
        >>> data.classes, data.shape, data.train.labels[0, 0].tolist()
        (('cell',), (3, 64, 96), [0.0, 0.0, 24.0, 48.0, 40.0, 0.0, 768.0])
    """
    changes = BoxChanges(flip, flip_down, tuple(scale), colour)
    settings = BoxSettings(size, fit, classes, changes, mean, std, workers, resident_gib)
    if is_file(path):
        return box_data(Path(path).parent, _by_yaml(_read(Path(path))), settings)
    root = folder_of(path, _EXPECTED)
    return box_data(root, _find(root), settings)


class _AsWritten(yaml.SafeLoader):
    """Reads plain values as they are written: a class may be called no, on or 007, which YAML 1.1 takes for others."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in found if tag in _NOTHING_OR_MERGED]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class _Plan:
    """What a .yaml file says: names by class number, and where the pictures of each part lie."""

    path: Path
    names: tuple[str, ...]
    base: str
    parts: Mapping[str, Sequence[str]]
    posed: bool


def _find(root: Path) -> Found:
    plans = [path for path in files_below(root, {".yaml", ".yml"}) if _names_classes(path)]
    usual = [str(root / name) for name in ("data.yaml", "data.yml") if is_file(root / name)]  # read, even if damaged
    here = [path for path in plans if Path(path).parent == root] or plans or usual
    if len(here) > 1:
        names = ", ".join(os.path.relpath(path, root) for path in here[:5])
        raise InputError(f"path={root}: several .yaml files with names in it ({names}); give one of them")
    if here:
        return _by_yaml(_read(Path(here[0])))
    named = [path for path in files_below(root, {".txt", ".names"}) if Path(path).name in _NAMES]
    if not named:
        raise InputError(
            f"path={root}: nothing in it names the classes; expected {_EXPECTED}{other_formats(root, 'yolo')}"
        )
    lines = read_text(named[0], named[0], _MOST_BYTES).splitlines()
    classes = tuple(line.strip() for line in lines if line.strip())
    if not classes:
        raise InputError(f"{named[0]}: names no classes; write the name of each on a line of its own")
    parts: dict[str | None, list[str]] = {}
    pictures = Pictures.below(root).paths
    for path in pictures:
        parts.setdefault(part_of(path, root), []).append(path)
    loose = parts.pop(None, [])
    images = quantity(len(loose), "image")
    notes = [f"left out: {images} outside the parts {', '.join(map(str, parts))}"] if parts and loose else []
    if not parts:
        return _found(root, {"train": loose}, classes)
    return _found(root, {str(part): paths for part, paths in parts.items()}, classes, notes=notes)


def _names_classes(path: str) -> bool:
    try:
        said = yaml.load(read_text(path, path, _MOST_YAML), _AsWritten)
    except (yaml.YAMLError, InputError, RecursionError, ValueError):
        return False
    return isinstance(said, dict) and "names" in said


def _read(path: Path) -> _Plan:
    """What a .yaml file says, checked."""
    try:
        said = yaml.load(read_text(path, f"path={path}", _MOST_YAML), _AsWritten)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not readable as YAML ({reason}); repair the file") from None
    if not isinstance(said, dict) or not said.get("names"):
        raise InputError(f"{path}: names no classes; expected {_EXPECTED}")
    names = _names(said["names"], path)
    if said.get("nc", str(len(names))) != str(len(names)):
        raise InputError(f"{path}: nc={_shown(said['nc'])} and {quantity(len(names), 'name')}; correct one of them")
    if not said.get("train"):
        raise InputError(f"{path}: has no train; name the folder of the training images there")
    parts: dict[str, list[str]] = {}
    for part, keys in {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}.items():
        places: Any = next((said[key] for key in keys if said.get(key)), [])
        parts[part] = [places] if isinstance(places, str) else places
        if not isinstance(parts[part], list) or not all(isinstance(place, str) for place in parts[part]):
            raise InputError(f"{path}: {part}={_shown(places)}: needs a folder, a .txt file, or a list of them")
    base = said.get("path") or ""
    if not isinstance(base, str):
        raise InputError(f"{path}: path={_shown(base)}: needs the name of a folder")
    return _Plan(path, names, base, parts, "kpt_shape" in said)


def _shown(value: Any) -> str:
    """A value for a message. A few lines of YAML can hold a list that no memory could write out."""
    return str(value)[:60] if value is None or isinstance(value, str | float) else f"a {type(value).__name__}"


def _names(given: Any, path: Path) -> tuple[str, ...]:
    if isinstance(given, dict):
        if sorted(map(_shown, given)) != sorted(map(str, range(len(given)))):
            raise InputError(
                f"{path}: names has the numbers {', '.join(sorted(map(_shown, given)))[:80]}; needs 0, 1, 2, ..."
            )
        given = [name for _, name in sorted(given.items(), key=lambda item: int(item[0]))]
    if not isinstance(given, list) or not all(name is None or isinstance(name, str) for name in given):
        raise InputError(f"{path}: names={_shown(given)}: needs a list of names, or names by number")
    if nameless := [number for number, name in enumerate(given) if name is None]:
        raise InputError(f"{path}: class {nameless[0]} has no name; write one, in quotes if it is null")
    return tuple(given)


def _by_yaml(plan: _Plan) -> Found:
    parts = {}
    for part, places in plan.parts.items():
        pictures = [path for place in places for path in _pictures(_place(plan, place, part), plan)]
        if places and not pictures:
            raise InputError(f"{plan.path}: {part}={', '.join(places)[:80]}: no pictures there")
        if pictures:
            parts[part] = list(dict.fromkeys(pictures))
    return _found(plan.path.parent, parts, plan.names, plan.posed)


def _place(plan: _Plan, place: str, part: str) -> Path:
    """Where a folder or list of pictures is. Each place is tried below the file's folder and the one above.

    Sets that were packed on another machine name folders that are not here (path), or one level up (../train/images).
    """
    folder = plan.path.parent
    if "\\" in place and not is_folder(folder / place) and not is_file(folder / place):
        place = place.replace("\\", "/")  # written on Windows
    shortened = os.path.join(*[word for word in Path(place).parts if word != ".."] or ["."])
    bases = [folder / plan.base] * bool(plan.base) + [folder, folder.parent]
    tried = [Path(os.path.normpath(base / name)) for name in (place, shortened) for base in bases]
    for candidate in dict.fromkeys(tried):
        if is_folder(candidate) or is_file(candidate):
            return candidate
    raise InputError(
        f"{plan.path}: {part}={place}: not found; tried {', '.join(map(str, dict.fromkeys(tried)))}; correct it there"
    )


def _pictures(place: Path, plan: _Plan) -> list[str]:
    """The pictures of a folder, or those that a .txt file lists: below its own folder, or as other places are."""
    if is_folder(place):
        return list(Pictures.below(place).paths)
    if place.suffix.lower() in SUFFIXES:
        return [str(place)]
    listed = []
    for line in read_text(place, str(place), _MOST_BYTES).splitlines():
        if name := line.strip():
            beside = Path(os.path.normpath(place.parent / name))
            listed.append(str(beside if is_file(beside) else _place(plan, name, place.name)))
    return listed


def _found(
    root: Path,
    parts: Mapping[str, Sequence[str]],
    names: tuple[str, ...],
    posed: bool = False,
    notes: Sequence[str] = (),
) -> Found:
    labelled: dict[str, list[Labelled]] = {}
    missing: list[str] = []
    owner: dict[str, str] = {}  # the picture of each .txt file
    for part, pictures in parts.items():
        labelled[part] = []
        for picture in pictures:
            label = yolo_label(picture)
            if not is_file(label):
                label = Path(picture).with_suffix(".txt")  # beside the picture, though its folder is called images
            if is_file(label):
                if (other := owner.setdefault(str(label), picture)) != picture:
                    raise InputError(f"{label}: means {other} or {picture}? Remove or rename one of them")
                labelled[part].append(Labelled(picture, _boxes(label, names, posed), str(label), shares=True))
            else:
                missing.append(picture)
                labelled[part].append(Labelled(picture, rows([]), "", shares=True))
    count = sum(map(len, parts.values()))
    if missing:
        refuse_mixture(root, missing, {"voc": [Path(p).stem for p in files_below(root, {".xml"})]}, "yolo")
    if count and len(missing) == count:
        raise InputError(
            f"path={root}: no .txt file for any of {quantity(count, 'image')} (looked for {yolo_label(missing[0])})"
        )
    images = quantity(len(missing), "image without a .txt file", "images without a .txt file")
    told = [f"{images}: taken to show no objects"] if missing else []
    stray = _label_files(labelled.values())
    if stray:
        told.append(
            f"warning: {quantity(len(stray), '.txt file')} without a picture: left out (first: {Path(stray[0]).name})"
        )
    return Found(labelled, names, (*notes, *told))


def _label_files(parts: Iterable[Sequence[Labelled]]) -> list[str]:
    """The .txt files that no picture uses, in folders of labels alone; beside pictures they may be anything."""
    known = [each for part in parts for each in part]
    used = {each.where for each in known}
    folders = {os.path.dirname(path) for path in used if path} - {os.path.dirname(each.path) for each in known}
    found = [os.path.join(folder, name) for folder in sorted(folders) for name in sorted(os.listdir(folder))]
    return [path for path in found if path.endswith(".txt") and path not in used and Path(path).name not in _NAMES]


def _boxes(path: Path, names: Sequence[str], posed: bool) -> Any:
    """The boxes of a .txt file, corners in shares of the picture's sides."""
    boxes = []
    for number, line in enumerate(read_text(path, str(path), _MOST_BYTES).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{path} line {number}"
        values = [finite(word, "a number", where) for word in words]
        if values[0] != int(values[0]) or not 0 <= values[0] < len(names):
            raise InputError(f"{where}: class {words[0]}, and {len(names)} are named: 0 to {len(names) - 1}")
        corners = _corners(values[1:5] if posed else values[1:], where)
        if max(map(abs, corners)) > _FARTHEST:
            raise InputError(
                f"{where}: {line.strip()[:60]}: needs shares of the picture's sides from 0 to 1, not pixels"
            )
        boxes.append((values[0], *corners, 0.0, 0.0))
    return rows(boxes)


def _corners(values: Sequence[float], where: str) -> tuple[float, float, float, float]:
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) < 6 or len(values) % 2:
        raise InputError(
            f"{where}: {quantity(len(values) + 1, 'number')}; needs a class and 4 of a box, or a class and the "
            "corners of a polygon"
        )
    across, down = values[0::2], values[1::2]
    return min(across), min(down), max(across), max(down)
