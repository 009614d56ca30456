"""Reads a folder of images whose labels stand in a table (CSV)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import torch

from supernet.data.dataset import CommonSettings, Data
from supernet.data.file_sets import FileSettings
from supernet.data.groups import group_notes, numbered
from supernet.data.label_tables import UNKNOWN, Table, read_table
from supernet.data.listed_images import Grouping, data_of_files, groups_by_path
from supernet.data.listing import PARTS, LeftOut, Listed, all_images
from supernet.data.targets import class_names
from supernet.data.windows import AUTO
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder
from supernet.runtime.text import quantity

_NO_GROUPS = "none"


# Each of the settings is one that a data set may need by itself; all but the path have a value that fits most.
def labelled_folder(
    path: str | Path,
    table: str = "labels.csv",
    classes: Sequence[str] | None = None,
    labels: str = "auto",
    groups: str | None = None,
    size: Sequence[int] | int | None = None,
    fit: str = "squash",
    border: int = 0,
    ground: int = 255,
    window: str | Sequence[float] | None = AUTO,
    crop_padding: int = 0,
    scale: Sequence[float] | None = None,
    flip: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    workers: int = 0,
    resident_gib: float = 2.0,
    rotation: float = 0.0,
    zoom: float = 0.0,
    contrast: float = 0.0,
) -> Data:
    """Reads a folder of images, at any depth, whose labels stand in a table.

    The table has a column `file`. Either a column `label` names the class of each image (or several, with | between
    them), or there is a column for each label: 1 it applies, 0 it does not, -1 or nothing: unknown. A column `split`
    may say train, val or test, and a column `group`, `patient` or `patient_id` which images belong together. Without a
    split, a fifth of the images is held out to test.

    Args:
        path: the folder.
        table: the table, as a path from the folder.
        classes: which columns, or which names in `label`, are the labels, and in which order; None takes all.
        labels: "one" class an image, "several" labels an image, or "auto": columns are one-hot where each row has one 1
            and zeros, and otherwise several labels.
        groups: which images belong together, such as those of a patient, so that no split comes between them: a column,
            or a regular expression with one group in parentheses for the path of an image from the folder on, such as
            `(patient[0-9]+)_`. None takes the usual column where it is there; "none" takes no groups.
        size: [height, width] in pixels that all images become, or one number for both. None takes the median
            size where that has at most 96 x 96 pixels, and 64 x 64 where it has more.
        fit: "squash" resizes without keeping the aspect; "crop" keeps it and takes the middle.
        border: pixels on every side that are cut away after resizing, with fit "crop".
        ground: the level behind transparent pictures, from 0 (black) to 255 (white).
        window: which values of grey of more than 8 bits become black and white. "auto" takes the window that a DICOM
            file names, and otherwise the 0.5th and the 99.5th percentile of the training images; "none" takes the range
            of their bits; or two numbers.
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        scale: the least and the largest share of an image's area that a random crop has, such as [0.08, 1.0]; the crop
            is resized. It takes the place of `crop_padding`.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        workers: how many processes read images ahead, where the set is not held in memory.
        resident_gib: sets of up to this size in GiB are held in memory; larger ones are read when they are needed.
        rotation: the largest angle in degrees by which a training image is turned, to either side.
        zoom: the largest share by which a training image is enlarged; or made smaller by as large a factor.
        contrast: the largest share by which its contrast changes; its brightness by half of it.

    Returns:
        The data set, named after the folder. Its notes say what was left out, resized or found twice.

    Raises:
        InputError: the folder, the table, an image or a setting is not understood, in one line.

    Example:
        >>> import tempfile, supernet
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lines = ["file,effusion,nodule,patient"]
        ...     for n in range(20):
        ...         Image.new("L", (32, 24), 10 * n).save(f"{folder}/{n}.png")
        ...         lines.append(f"{n}.png,{n % 2},{n % 3 % 2},p{n // 2}")
        ...     _ = Path(folder, "labels.csv").write_text("\\n".join(lines))
        ...     data = supernet.data.labelled_folder(folder)
        >>> data.classes, data.shape, data.train.labels.shape, len(data.test)
        (('effusion', 'nodule'), (1, 24, 32), torch.Size([16, 2]), 4)
    """
    if not is_folder(path):
        raise InputError(f"path={path}: no such folder; expected images and a table of their labels in it")
    settings = FileSettings(size, fit, border, ground, window, scale, workers, resident_gib)
    root = Path(path)
    column = groups if groups not in (None, _NO_GROUPS) and "(" not in groups else None
    read = read_table(root / table, labels, class_names(classes), column)
    listed, rows, notes = _list(root, read)
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
    grouping = _groups(read, listed, rows, root, groups)
    return data_of_files(root, listed, read.classes, settings, common, grouping, (*read.notes, *notes))


def _list(root: Path, table: Table) -> tuple[dict[str, Listed], dict[str, list[int]], tuple[str, ...]]:
    """The files of each part and their rows in the table, and notes on what only the table or only the folder has."""
    left_out = LeftOut()
    found = _Found(root, all_images(root, left_out), (*table.files, *table.unlabelled))
    left_out.endings.pop(".csv", None)  # the table itself
    rows: dict[str, list[int]] = defaultdict(list)
    paths: dict[int, str] = {}
    lost = []
    for row, name in enumerate(table.files):
        path = found.path(name, table.lines[row])
        if path is None:
            lost.append(name)
        else:
            paths[row] = path
            rows[table.parts[row] if table.parts else "train"].append(row)
    _refuse_twice(paths, table)
    if not paths:
        raise InputError(f"path={root}: no image of the table is in the folder, such as {lost[0]}")
    if not rows["train"]:
        raise InputError(f"path={root}: no image of the table's split is train")
    notes = left_out.notes()
    if lost:
        count = f"{len(lost):,} of {quantity(len(table.files), 'file')}"
        notes.append(f"warning: not there, so left out: {count} of the table, such as {lost[0]}")
    unlabelled = {path for name in table.unlabelled if (path := found.path(name, 0)) is not None}
    if unnamed := found.count - len(unlabelled.union(paths.values())):
        notes.append(f"left out: {quantity(unnamed, 'image')} that the table does not name")
    parts = [part for part in PARTS if rows[part]]
    labels = {part: table.labels[torch.tensor(rows[part])] for part in parts}
    listed = {part: Listed(tuple(paths[row] for row in rows[part]), labels[part]) for part in parts}
    return listed, rows, tuple(notes)


class _Found:
    """The image files of a folder, by the names that a table may call them.

    Args:
        root: the folder.
        paths: the files.
        names: all that the table names.
    """

    def __init__(self, root: Path, paths: Sequence[str], names: Sequence[str]) -> None:
        self._by_path = {Path(path).relative_to(root).as_posix(): path for path in paths}
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        self.count = len(paths)
        self._named = Counter(_parts(name)[-1] for name in names)
        for below in self._by_path:
            self._by_name[PurePosixPath(below).name.casefold()].append(below)
            self._by_stem[PurePosixPath(below).stem.casefold()].append(below)

    def path(self, name: str, line: int) -> str | None:
        """The file that a table calls by this name; None where there is none.

        Tables write paths from a folder above or below, endings in capitals, or none. Where the folders of a name and
        those of a file contradict each other, it is that file only if no other line and no other file has its name.
        """
        if path := self._by_path.get(str(PurePosixPath(name.replace("\\", "/")))):
            return path
        parts = _parts(name)
        same = self._by_name.get(parts[-1]) or self._by_stem.get(parts[-1]) or []
        fitting = [below for below in same if _agree(parts[:-1], _parts(below)[:-1])]
        if len(fitting) > 1:
            first, other = (self._by_path[below] for below in fitting[:2])
            raise InputError(f"line {line}: {name} could be {first} or {other}; write its path from the folder on")
        if not fitting and len(same) == 1 and self._named[parts[-1]] == 1:
            fitting = same
        return self._by_path[fitting[0]] if fitting else None


def _parts(name: str) -> tuple[str, ...]:
    """The folders and the file of a path, in lower case."""
    return PurePosixPath(name.replace("\\", "/").casefold()).parts or ("",)


def _agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the longer path of folders ends in the other one."""
    short, long = sorted((tuple(one), tuple(other)), key=len)
    return long[len(long) - len(short) :] == short


def _refuse_twice(paths: Mapping[int, str], table: Table) -> None:
    """Raises InputError where two lines of the table are about one file by different names."""
    first: dict[str, int] = {}
    for row, path in paths.items():
        before = first.setdefault(path, row)
        if before != row:
            lines = f"lines {table.lines[before]} and {table.lines[row]}"
            raise InputError(f"{lines} of the table are about one image, {path}; keep one of them")


def _group(table: Table, row: int) -> str:
    """The name of a row's group; a row of which none is known stands for itself."""
    name = table.groups[row]
    return f"line {table.lines[row]}" if name.casefold() in UNKNOWN else name


def _groups(
    table: Table, listed: Mapping[str, Listed], rows: Mapping[str, list[int]], root: Path, asked: str | None
) -> Grouping:
    """The groups of training images, by a column of the table or by the names of files, and notes about them."""
    if asked == _NO_GROUPS:
        return None, ()
    if table.groups and (asked is None or "(" not in asked):
        names = {part: [_group(table, row) for row in rows[part]] for part in listed}
        return numbered(names["train"]), group_notes(names, table.group_name)
    return (None, ()) if asked is None else groups_by_path(listed, root, asked)
