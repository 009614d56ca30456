"""Reads boxes of objects as Pascal VOC and labelImg write them: an .xml file for each picture."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from supernet.data.box_changes import BoxChanges
from supernet.data.box_files import Pictures, alike_folders, other_formats, part_of, refuse_mixture
from supernet.data.box_folders import BoxSettings, Found, Labelled, box_data, finite, folder_of, rows, said_so
from supernet.data.dataset import Data
from supernet.data.listing import files_below
from supernet.runtime.errors import InputError
from supernet.runtime.reading import read_text
from supernet.runtime.text import quantity

_MOST_BYTES = 2**24  # of one .xml file
_EXPECTED = "an .xml file for each picture, beside it or in Annotations"


def voc(
    path: str,
    size: Sequence[int] | int | None = None,
    fit: str = "squash",
    one_based: bool = False,
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
    """Reads pictures and boxes as Pascal VOC and labelImg write them.

    Parts come from ImageSets/Main, or from folders train, val and test; without a test part a fifth of the training
    images is held out to test. An .xml file belongs to the picture of its own name; the path in it is not used. Where
    pictures in several folders have one name, the lists of ImageSets/Main name them with their folders.

    Args:
        path: the folder: that of the devkit (JPEGImages, Annotations), or one with .xml files beside the pictures.
        size: [height, width] in pixels that all images become, or one number for both. None takes the median size,
            made smaller until its longer side has at most 384 pixels, in whole steps of 32.
        fit: "squash" resizes without keeping the aspect; "pad" keeps it and lays the picture on a grey ground.
        one_based: whether the first pixel is number 1, as in the data sets of the VOC challenges; labelImg and most
            others write 0.
        classes: the names of the classes that are read, in their order; None: all, by the alphabet.
        flip: whether half of the training images are mirrored left to right.
        flip_down: whether half of them are mirrored top to bottom.
        scale: how many times as large objects become in training, from the least to the largest.
        colour: how far brightness, contrast and saturation are changed in training.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        workers: how many processes read images ahead, where the set is not held in memory.
        resident_gib: sets of up to this size in GiB are held in memory; larger ones are read when they are needed.

    Returns:
        The data set, named after the folder. Its labels are boxes in pixels of the prepared images; difficult objects
        are ignored in judging.

    Raises:
        InputError: the folder, a file in it or a setting is not understood, in one line.

    Example:
        >>> import pathlib, tempfile, supernet
        >>> from PIL import Image
        >>> box = "<bndbox><xmin>8</xmin><ymin>8</ymin><xmax>24</xmax><ymax>40</ymax></bndbox>"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(10):
        ...         Image.new("RGB", (96, 64), (number, 0, 0)).save(f"{folder}/{number}.png")
        ...         pathlib.Path(f"{folder}/{number}.xml").write_text(
        ...             f"<annotation><object><name>cell</name>{box}</object></annotation>"
        ...         ) and None
        ...     data = supernet.data.voc(folder)
        >>> data.classes, data.shape, data.train.labels[0, 0].tolist()
        (('cell',), (3, 64, 96), [0.0, 8.0, 8.0, 24.0, 40.0, 0.0, 512.0])
    """
    changes = BoxChanges(flip, flip_down, tuple(scale), colour)
    settings = BoxSettings(size, fit, classes, changes, mean, std, workers, resident_gib)
    root = folder_of(path, _EXPECTED)
    return box_data(root, _find(_devkit(root), one_based), settings)


@dataclass(frozen=True)
class _Annotation:
    """What an .xml file says: names and corners of objects, whether they are difficult, and the picture's size."""

    path: str
    filename: str
    objects: tuple[tuple[str, tuple[float, ...], bool], ...]
    stated: tuple[int, int] | None


def _devkit(root: Path) -> Path:
    """The folder that holds Annotations: the root, or one in it as in an unpacked devkit."""
    if (root / "Annotations").is_dir():
        return root
    below = [each.parent for pattern in ("*/Annotations", "*/*/Annotations") for each in sorted(root.glob(pattern))]
    devkits = [folder for folder in below if (folder / "JPEGImages").is_dir()]
    if len(devkits) > 1:
        names = ", ".join(os.path.relpath(folder, root) for folder in devkits[:5])
        raise InputError(f"path={root}: several data sets in it ({names}); give the folder of one of them")
    return devkits[0] if devkits else root


def _find(root: Path, one_based: bool) -> Found:
    files = files_below(root, {".xml"})
    if not files:
        raise InputError(f"path={root}: no .xml file in it; expected {_EXPECTED}{other_formats(root, 'voc')}")
    annotations = [found for path in files if (found := _read(path)) is not None]
    if not annotations:
        said = quantity(len(files), ".xml file")
        raise InputError(f"path={root}: of its {said} none is an annotation; expected {_EXPECTED}")
    classes = tuple(sorted({name for each in annotations for name, _, _ in each.objects}))
    numbers = {name: float(number) for number, name in enumerate(classes)}
    pictures = Pictures.below(root)
    labelled: dict[str, Labelled] = {}
    lost: list[str] = []
    for each in annotations:
        stem = Path(each.path).stem
        picture = pictures.of(each.path, stem) or (each.filename and pictures.of(each.path, each.filename))
        if not picture:
            lost.append(each.path)
        elif picture in labelled:
            raise InputError(f"{each.path}: labels {picture}, as {labelled[picture].where} does; remove one of them")
        else:
            labelled[picture] = _labelled(picture, each, numbers, one_based)
    if not labelled:
        raise InputError(f"path={root}: no picture for any of {quantity(len(lost), '.xml file')} (first: {lost[0]})")
    unlabelled = [path for path in pictures.paths if path not in labelled]
    if unlabelled:
        refuse_mixture(root, unlabelled, {"yolo": [Path(p).stem for p in files_below(root, {".txt"})]}, "voc")
    parts, notes = _parts(root, labelled)
    stray = len(files) - len(annotations)
    return Found(parts, classes, (*_notes(one_based, lost, unlabelled, stray), *notes))


def _notes(one_based: bool, lost: Sequence[str], unlabelled: Sequence[str], stray: int) -> list[str]:
    first = "1, as in the VOC challenges (one_based=true)" if one_based else "0, as labelImg has it (one_based=false)"
    notes = [f"the first pixel of a row is number {first}"]
    if lost:
        notes.append(
            f"warning: {quantity(len(lost), '.xml file')} without a picture: left out (first: {Path(lost[0]).name})"
        )
    if unlabelled:
        images = quantity(len(unlabelled), "image")
        notes.append(f"warning: {images} without an .xml file: left out (first: {Path(unlabelled[0]).name})")
    if stray:
        notes.append(
            f"left out: {quantity(stray, '.xml file that is no annotation', '.xml files that are no annotations')}"
        )
    return notes


def _labelled(picture: str, said: _Annotation, numbers: Mapping[str, float], one_based: bool) -> Labelled:
    shift = 1.0 if one_based else 0.0  # the last pixel is included: its far edge is its own number then
    boxes = [
        (numbers[name], x1 - shift, y1 - shift, x2, y2, float(difficult), 0.0)
        for name, (x1, y1, x2, y2), difficult in said.objects
    ]
    return Labelled(picture, rows(boxes), said.path, said.stated)


def _read(path: str) -> _Annotation | None:
    """What an annotation says; None where the file is XML of another kind."""
    text = read_text(path, path, _MOST_BYTES)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # an annotation needs none, and they can be made to fill the memory
        raise InputError(f"{path}: declares a document type, which no annotation needs; remove the declaration")
    try:
        top = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not readable as XML ({error}); repair or remove the file") from None
    if top.tag != "annotation":
        return None
    objects = tuple(_object(node, path) for node in top.findall("object"))
    sides = [top.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    stated = (int(sides[0]), int(sides[1])) if all(side.isdecimal() and len(side) < 10 for side in sides) else None
    known = stated if stated is not None and min(stated) > 0 else None  # some tools write 0 for an unknown size
    return _Annotation(path, top.findtext("filename", "").strip(), objects, known)


def _object(node: ElementTree.Element, path: str) -> tuple[str, tuple[float, ...], bool]:
    name = node.findtext("name", "").strip()
    if not name:
        raise InputError(f"{path}: an object without a name; name it or remove it")
    box = node.find("bndbox")
    if box is None:
        raise InputError(f"{path}: an object ({name}) without <bndbox>; give it a box or remove it")
    corners = tuple(finite(box.findtext(side, "").strip(), side, path) for side in ("xmin", "ymin", "xmax", "ymax"))
    return name, corners, said_so(node.findtext("difficult"), "difficult", path)


def _parts(root: Path, labelled: Mapping[str, Labelled]) -> tuple[dict[str, list[Labelled]], list[str]]:
    """The pictures of each part: by the lists of ImageSets/Main, or by the folders they lie in."""
    lists = {name: root / "ImageSets" / "Main" / f"{name}.txt" for name in ("train", "val", "trainval", "test")}
    listed = {name: path for name, path in lists.items() if path.is_file()}
    both = listed.pop("trainval", None)
    if both is not None and "train" not in listed:
        listed = {"train": both} | {name: path for name, path in listed.items() if name != "val"}
    if listed:
        return _by_lists(listed, labelled)
    parts: dict[str | None, list[Labelled]] = {}
    for _, each in sorted(labelled.items()):
        parts.setdefault(part_of(each.path, root) or part_of(each.where, root), []).append(each)
    if set(parts) == {None}:
        return {"train": parts[None]}, []
    loose = parts.pop(None, [])
    note = f"left out: {quantity(len(loose), 'image')} outside the parts {', '.join(map(str, parts))}" if loose else ""
    return {str(part): found for part, found in parts.items()}, [note] if note else []


def _by_lists(
    lists: Mapping[str, Path], labelled: Mapping[str, Labelled]
) -> tuple[dict[str, list[Labelled]], list[str]]:
    by_stem: dict[str, list[str]] = {}
    for picture in labelled:
        by_stem.setdefault(Path(picture).stem, []).append(picture)
    parts: dict[str, list[Labelled]] = {}
    notes, taken = [], set[str]()
    for part, path in lists.items():
        lines = read_text(path, str(path), _MOST_BYTES).splitlines()
        names = list(dict.fromkeys(_named(line.strip(), by_stem) for line in lines if line.strip()))
        found = {name: _meant(name, by_stem, path) for name in names}
        pictures = dict.fromkeys(each for each in found.values() if each is not None)
        parts[part] = [labelled[picture] for picture in pictures]
        taken |= set(pictures)
        if missing := [name for name, each in found.items() if each is None]:
            lost = f"{len(missing):,} of {quantity(len(names), 'name')} in {path.name}"
            notes.append(f"warning: no labelled picture for {lost}: left out (first: {missing[0]})")
    if others := len(set(labelled) - taken):
        notes.append(f"left out: {quantity(others, 'labelled image')} that no list names")
    return {part: found for part, found in parts.items() if found}, notes


def _named(line: str, known: Container[str]) -> str:
    """The name in a line of a list: all of it, as a name may have spaces, or what stands before a column such as -1."""
    first = line.split()[0]
    names = (line, line.rsplit(maxsplit=1)[0], first)
    return next((name for name in names if any(key in known for key in _keys(name))), first)


def _keys(name: str) -> tuple[str, str]:
    """What a picture of this name is looked up by: the name without folders, as it is and without its ending."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.name, path.stem


def _meant(name: str, by_stem: Mapping[str, Sequence[str]], where: Path) -> str | None:
    """The picture that a list names, perhaps with folders and an ending; None where no labelled one has this name."""
    pictures = next((by_stem[key] for key in _keys(name) if key in by_stem), ())
    if len(pictures) <= 1:
        return pictures[0] if pictures else None
    (most, first), (next_to, second), *_ = sorted(
        ((alike_folders(path, name.replace("\\", "/")), path) for path in pictures),
        key=lambda pair: (-pair[0], pair[1]),
    )
    if most == next_to:
        raise InputError(f"{where}: {name} means {first} or {second}? Write it with its folders there, or rename one")
    return first
