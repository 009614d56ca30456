"""Reads boxes of objects as COCO has them: a .json file for all pictures of a part."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supernet.data.box_changes import BoxChanges
from supernet.data.box_files import Pictures, other_formats, part_in_name, part_of
from supernet.data.box_folders import BoxSettings, Found, Labelled, box_data, finite, folder_of, rows, said_so
from supernet.data.dataset import Data
from supernet.data.listing import files_below
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, read_text
from supernet.runtime.text import quantity

_MOST_BYTES = 2**30  # of one .json file; that of COCO's 118,287 training images has 450 MB
_EXPECTED = "a .json file with images, annotations and categories, or one for each part, and the pictures"


def coco(
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
    """Reads pictures and boxes as COCO has them.

    Several .json files are parts by their names or folders, such as instances_train2017.json or
    train/_annotations.coco.json; without a test part a fifth of the training images is held out to test. Pictures are
    found by their names at any place below the folder.

    Args:
        path: the folder of .json files and pictures, or one .json file beside them.
        size: [height, width] in pixels that all images become, or one number for both. None takes the median size,
            made smaller until its longer side has at most 384 pixels, in whole steps of 32.
        fit: "squash" resizes without keeping the aspect; "pad" keeps it and lays the picture on a grey ground.
        classes: the names of the classes that are read, in their order; None: all, by their ids.
        flip: whether half of the training images are mirrored left to right.
        flip_down: whether half of them are mirrored top to bottom.
        scale: how many times as large objects become in training, from the least to the largest.
        colour: how far brightness, contrast and saturation are changed in training.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        workers: how many processes read images ahead, where the set is not held in memory.
        resident_gib: sets of up to this size in GiB are held in memory; larger ones are read when they are needed.

    Returns:
        The data set, named after the folder. Its labels are boxes in pixels of the prepared images; crowds are ignored
        in judging.

    Raises:
        InputError: the folder, a file in it or a setting is not understood, in one line.

    Example:
        >>> import json, pathlib, tempfile, supernet
        >>> from PIL import Image
        >>> images = [{"id": n, "file_name": f"{n}.png", "width": 96, "height": 64} for n in range(10)]
        >>> boxes = [{"id": n, "image_id": n, "category_id": 7, "bbox": [8, 8, 16, 32]} for n in range(10)]
        >>> said = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "cell"}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for image in images:
        ...         Image.new("RGB", (96, 64), (image["id"], 0, 0)).save(f"{folder}/{image['file_name']}")
        ...     _ = pathlib.Path(f"{folder}/cells.json").write_text(json.dumps(said))
        ...     data = supernet.data.coco(folder)
        >>> data.classes, data.shape, data.train.labels[0, 0].tolist()
        (('cell',), (3, 64, 96), [0.0, 8.0, 8.0, 24.0, 40.0, 0.0, 512.0])
    """
    changes = BoxChanges(flip, flip_down, tuple(scale), colour)
    settings = BoxSettings(size, fit, classes, changes, mean, std, workers, resident_gib)
    if is_file(path):
        root = Path(path).parent
        root = root.parent if root.name.casefold() == "annotations" else root
        return box_data(root, _found(root, [_read(str(path))]), settings)
    root = folder_of(path, _EXPECTED)
    return box_data(root, _find(root), settings)


@dataclass(frozen=True)
class _Document:
    """What a .json file says.

    Args:
        path: of the file.
        images: the entry of each image, by its id.
        boxes: of each image, by its id: category id, corners, crowd, area.
        categories: names by id.
        notes: what was left out of it.
    """

    path: str
    images: Mapping[Any, Mapping[str, Any]]
    boxes: Mapping[Any, Sequence[tuple[Any, ...]]]
    categories: Mapping[int, str]
    notes: tuple[str, ...]


def _find(root: Path) -> Found:
    files = files_below(root, {".json"})
    if not files:
        raise InputError(f"path={root}: no .json file in it; expected {_EXPECTED}{other_formats(root, 'coco')}")
    instances = [path for path in files if Path(path).name.startswith("instances")]
    if instances:  # their names say what they are
        return _found(root, [_read(path) for path in instances])
    documents = [said for path in files if (said := _read(path, required=len(files) == 1)) is not None]
    others = sorted(set(files) - {document.path for document in documents})
    if not documents:
        names = ", ".join(os.path.relpath(path, root) for path in files[:3])
        raise InputError(f"path={root}: no COCO annotations in {names}; expected {_EXPECTED}")
    first = f" (first: {os.path.relpath(others[0], root)})" if others else ""
    return _found(root, documents, [f"left out: {len(others):,} .json files of other kinds{first}"] if others else [])


def _found(root: Path, documents: Sequence[_Document | None], passed_over: Sequence[str] = ()) -> Found:
    said = [document for document in documents if document is not None]
    categories: dict[int, str] = {}
    for document in said:
        for number, name in document.categories.items():
            if categories.setdefault(number, name) != name:
                raise InputError(
                    f"{document.path}: category {number} is {name!r} and in another part {categories[number]!r}; "
                    "give all parts the same categories"
                )
    order = sorted(categories)  # ids may have gaps: COCO's own go from 1 to 90 for 80 classes
    classes = tuple(categories[number] for number in order)
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise InputError(f"{said[0].path}: two categories have the name {twice!r}; rename one of them")
    notes = [*passed_over, *(note for document in said for note in document.notes)]
    if order != list(range(len(order))):
        notes.append(f"category ids {order[0]} to {order[-1]} become classes 0 to {len(order) - 1} in their order")
    pictures, parts, used = Pictures.below(root), {}, set[str]()
    places = {number: float(place) for place, number in enumerate(order)}
    for part, document in _parts(root, said, passed_over).items():
        parts[part], lost = _labelled(document, pictures, places)
        used |= {each.path for each in parts[part]}
        if lost and not parts[part]:
            pictures_of_it = quantity(len(lost), "picture")
            raise InputError(f"{document.path}: of its {pictures_of_it} none is below {root} (first: {lost[0]})")
        if lost:
            notes.append(
                f"warning: not there, so left out: {quantity(len(lost), 'picture')} of {Path(document.path).name} "
                f"(first: {lost[0]})"
            )
    if others := len(set(pictures.paths) - used):
        notes.append(f"left out: {quantity(others, 'image')} that no .json file names")
    return Found({part: found for part, found in parts.items() if found}, classes, tuple(notes))


def _parts(root: Path, documents: Sequence[_Document], passed_over: Sequence[str]) -> dict[str, _Document]:
    """The document of each part, by its name or else its folder; a single one is the training part."""
    if len(documents) == 1:
        return {"train": documents[0]}
    parts: dict[str, _Document] = {}
    for document in documents:
        part = part_in_name(Path(document.path).stem) or part_of(document.path, root)
        name = os.path.relpath(document.path, root)
        if part is None:
            raise InputError(f"path={root}: which part is {name}? Put train, val or test into its name")
        if part in parts:
            other = os.path.relpath(parts[part].path, root)
            raise InputError(f"path={root}: {other} and {name} are both {part} by their names; keep one of them")
        parts[part] = document
    if "train" not in parts:
        more = "".join(f"; {note}" for note in passed_over)
        raise InputError(f"path={root}: parts {', '.join(parts)} and no train; put train into the name of one{more}")
    return parts


def _labelled(document: _Document, pictures: Pictures, places: Mapping[int, float]) -> tuple[list[Labelled], list[str]]:
    """The pictures of a document with their boxes, and the names of those that do not exist."""
    found: dict[str, Labelled] = {}
    lost = []
    for number, image in document.images.items():
        picture = pictures.of(document.path, image["file_name"])
        if picture is None:
            lost.append(image["file_name"])
            continue
        if picture in found:
            raise InputError(f"{document.path}: two images are {picture}; remove one of them")
        boxes = rows([(places[box[0]], *box[1:]) for box in document.boxes.get(number, ())])
        found[picture] = Labelled(picture, boxes, f"{document.path}: {image['file_name']}", _stated(image))
    return list(found.values()), lost


def _stated(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    if isinstance(width, int | float) and isinstance(height, int | float) and 0 < width < 2**31 and 0 < height < 2**31:
        return int(width), int(height)
    return None


def _read(path: str, required: bool = True) -> _Document | None:
    """What a .json file says; None where it is of another kind and not required."""
    try:
        said = json.loads(read_text(path, path, _MOST_BYTES))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path}: not readable as JSON ({reason}); repair or remove the file") from None
    lists = ("images", "annotations", "categories")
    if not isinstance(said, dict) or not all(isinstance(said.get(name), list) for name in lists):
        if not required:
            return None
        there = f"has {', '.join(map(str, list(said)[:5]))}" if isinstance(said, dict) else "is no mapping"
        raise InputError(f"{path}: no COCO annotations, which have images, annotations and categories; it {there}")
    first = said["annotations"][:1]
    if not required and first and isinstance(first[0], dict) and "caption" in first[0]:
        return None
    images, categories = _images(said["images"], path), _categories(said["categories"], path)
    boxes, notes = _boxes(said["annotations"], images, categories, path)
    return _Document(path, images, boxes, categories, tuple(notes))


def _images(entries: Sequence[Any], path: str) -> dict[Any, Mapping[str, Any]]:
    images: dict[Any, Mapping[str, Any]] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or not _is_id(entry.get("id")):
            raise InputError(f"{path}: images[{place}] has no id or no file_name; give it both or remove it")
        if entry["id"] in images:
            raise InputError(f"{path}: two images have the id {entry['id']}; number them anew")
        images[entry["id"]] = entry
    return images


def _categories(entries: Sequence[Any], path: str) -> dict[int, str]:
    categories: dict[int, str] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or type(entry.get("id")) is not int or not isinstance(entry.get("name"), str):
            raise InputError(f"{path}: categories[{place}] has no whole number as id or no name; give it both")
        if categories.setdefault(entry["id"], entry["name"]) != entry["name"]:
            raise InputError(f"{path}: two categories have the id {entry['id']}; number them anew")
    if not categories:
        raise InputError(f"{path}: categories is empty; name the classes there")
    return categories


def _boxes(
    entries: Sequence[Any], images: Mapping[Any, Any], categories: Mapping[int, str], path: str
) -> tuple[dict[Any, list[tuple[Any, ...]]], list[str]]:
    """The boxes of each image: category id, corners, crowd, area; and notes about what was left out."""
    boxes: dict[Any, list[tuple[Any, ...]]] = {}
    strangers = without = 0
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: annotations[{place}] is no mapping; repair or remove it")
        where = f"{path}: annotations[{place}]"
        number, category, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
        if not _is_id(number) or number not in images:
            strangers += 1
            continue
        if type(category) is not int or category not in categories:
            raise InputError(f"{where}: category_id={category} is none of the categories; name it there")
        if box is None or box == []:
            without += 1
            continue
        if not isinstance(box, list) or len(box) != 4:
            raise InputError(f"{where}: bbox={str(box)[:60]}: needs [x, y, width, height]")
        x, y, width, height = (finite(side, "bbox", where) for side in box)
        area = finite(entry.get("area") or 0, "area", where)
        crowd = float(said_so(entry.get("iscrowd"), "iscrowd", where))
        boxes.setdefault(number, []).append((category, x, y, x + width, y + height, crowd, area))
    notes = []
    if strangers:
        notes.append(
            f"warning: {quantity(strangers, 'annotation')} of images that {Path(path).name} does not list: left out"
        )
    if without:
        notes.append(f"warning: {quantity(without, 'annotation')} of {Path(path).name} without a bbox: left out")
    return boxes, notes


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)
