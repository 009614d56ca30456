"""Reads tables (CSV) that say which labels, part and group each image file has."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernet.data.label_arrays import check_form, read_labels
from supernet.data.listing import PARTS
from supernet.runtime.errors import InputError
from supernet.runtime.reading import read_text
from supernet.runtime.text import quantity

_FILE = ("file", "filename", "file_name", "image", "path")
_LABEL, _SPLIT = ("label", "labels", "class"), ("split",)
_GROUP = (
    "group",
    "patient",
    "patient_id",
    "patient id",
    "patientid",
)  # as sets of radiographs that people know have it
_VALUES = {0.0: 0, 1.0: 1, -1.0: -1}
_WORDS = {"false": 0, "true": 1}  # as pandas writes them
UNKNOWN = ("", "nan", "na", "n/a")
"""What stands in a cell of which nothing is known, in lower case."""

# What pandas calls its index, and what an editor leaves behind.
_UNNAMED = re.compile(r"(unnamed: \d+)?", re.IGNORECASE)
_BETWEEN = "|"  # stands between the names of several labels in one cell
_MOST = 2**28  # bytes of text


@dataclass(frozen=True)
class Table:
    """What a table says of image files.

    Args:
        files: as they are written in the table.
        lines: of the table, in which they stand.
        classes: the names of the classes or labels.
        labels: (N,) int64, or (N, labels) int64 with 1, 0 and -1 (unknown).
        parts: "train", "val" or "test" of each file; empty where the table does not say.
        groups: the name of the group of each file; empty where the table does not say.
        group_name: of the column of groups.
        unlabelled: files that were left out, because nothing is known of them.
        notes: what was left out or converted, a short line each.
    """

    files: tuple[str, ...]
    lines: tuple[int, ...]
    classes: tuple[str, ...]
    labels: Tensor
    parts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    group_name: str = ""
    unlabelled: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def read_table(path: str | Path, form: str = "auto", classes: Sequence[str] = (), group: str | None = None) -> Table:
    """Reads a table with a column `file`, and either a column `label` with names or a column for each label.

    A column for each label has 1 where it applies, 0 where not, -1 or nothing where that is unknown. A cell of `label`
    has the name of a class, or names with | between them; where all names are numbers, -1 is unknown. A column `split`
    says train, val or test. A column `group`, `patient` or `patient_id` says which images belong together. Columns
    without a name, such as the index that pandas writes, are left alone.

    Args:
        path: the file; commas, semicolons or tabs separate its columns.
        form: "one" class an image, "several" labels an image, or "auto": columns are one-hot where each row has one 1
            and zeros.
        classes: which columns, or which names in `label`, are the labels, and in which order; empty takes all.
        group: the column of groups; None takes the usual one where it is there.

    Returns:
        The table.

    Raises:
        InputError: a line or a column is not understood; the message has its number or name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "labels.csv")
        ...     _ = path.write_text("file,cough,fever\\na.png,1,0\\nb.png,1,1\\nc.png,,0\\n")
        ...     table = read_table(path)
        >>> table.classes, table.labels.tolist()
        (('cough', 'fever'), [[1, 0], [1, 1], [-1, 0]])
    """
    check_form(form)
    sheet = _Sheet.read(path)
    file = sheet.column(_FILE)
    if file is None:
        raise InputError(f"{sheet.name}: no column {_FILE[0]} among {sheet.shown()}; one must name the image files")
    split, named = sheet.column(_SPLIT), sheet.column(_LABEL)
    grouped = sheet.column(_GROUP if group is None else (group,))
    if group is not None and grouped is None:
        raise InputError(f"{sheet.name}: no column {group} among {sheet.shown()}")
    taken = {file, split, grouped}
    sheet, notes = sheet.without_copies(file)
    everything = [value for value, _ in sheet.values(file)]
    if named is not None and named not in taken:
        names, labels, sheet, said = _of_names(sheet, named, form, tuple(classes))
    else:
        names, labels, sheet, said = _of_columns(sheet, taken, form, tuple(classes))
    parts = () if split is None else tuple(_part(value, line, sheet) for value, line in sheet.values(split))
    files = tuple(value for value, _ in sheet.values(file))
    return Table(
        *(files, sheet.lines, names, labels, parts),
        groups=() if grouped is None else tuple(value for value, _ in sheet.values(grouped)),
        group_name="" if grouped is None else sheet.header[grouped],
        unlabelled=tuple(sorted(set(everything) - set(files))),
        notes=(*notes, *said),
    )


@dataclass(frozen=True)
class _Sheet:
    """The cells of a table, and the number of the line of each row."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    @classmethod
    def read(cls, path: str | Path) -> _Sheet:
        name = Path(path).name
        text = read_text(path, str(path), _MOST)
        first = re.sub(r'"[^"]*"', "", text.split("\n", 1)[0])  # a name in quotes may hold any of them
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
        rows: list[tuple[str, ...]] = []
        lines: list[int] = []
        try:
            for row in reader:
                if any(map(str.strip, row)):
                    rows.append(tuple(cell.strip() for cell in row))
                    lines.append(reader.line_num)
        except csv.Error as error:
            raise InputError(f"{name}: line {reader.line_num}: no table ({error})") from None
        if len(rows) < 2:
            raise InputError(f"{name}: needs a line with the names of its columns, and a line for each image")
        for cells, line in zip(rows, lines, strict=True):
            if len(cells) != len(rows[0]):
                raise InputError(
                    f"{name}: line {line} has {quantity(len(cells), 'cell')}, the first line {len(rows[0])}"
                )
        named = [column.casefold() for column in rows[0] if not _UNNAMED.fullmatch(column)]
        if len(set(named)) < len(named):
            raise InputError(f"{name}: two columns have one name among {', '.join(rows[0][:20])}")
        return cls(name, rows[0], tuple(rows[1:]), tuple(lines[1:]))

    def column(self, names: Sequence[str]) -> int | None:
        """The place of the first column with one of these names, in upper or lower case; None without one."""
        places = {column.casefold(): place for place, column in enumerate(self.header)}
        return next((places[name.casefold()] for name in names if name.casefold() in places), None)

    def values(self, column: int) -> list[tuple[str, int]]:
        """The cells of a column, each with the number of its line."""
        return [(row[column], line) for row, line in zip(self.rows, self.lines, strict=True)]

    def shown(self) -> str:
        return ", ".join(self.header[:12]) + ", ..." * (len(self.header) > 12)

    def kept(self, keep: Sequence[bool]) -> _Sheet:
        """The sheet with some of its rows."""
        rows = tuple(row for row, k in zip(self.rows, keep, strict=True) if k)
        return _Sheet(self.name, self.header, rows, tuple(n for n, k in zip(self.lines, keep, strict=True) if k))

    def without_copies(self, file: int) -> tuple[_Sheet, list[str]]:
        """The sheet with one row for each file. Raises InputError where two rows say different things of one."""
        told = [place for place, column in enumerate(self.header) if not _UNNAMED.fullmatch(column)]
        first: dict[str, int] = {}
        keep = []
        for place, row in enumerate(self.rows):
            if not row[file]:
                raise InputError(f"{self.name}: line {self.lines[place]} names no file")
            before = first.setdefault(row[file], place)
            keep.append(before == place)
            if any(self.rows[before][place] != row[place] for place in told):
                lines = f"lines {self.lines[before]} and {self.lines[place]}"
                raise InputError(f"{self.name}: {lines} say different things of {row[file]}; keep one of them")
        copies = len(keep) - sum(keep)
        said = quantity(copies, "line stands there twice", "lines stand there twice")
        return self.kept(keep), [f"{self.name}: {said}: read once"] if copies else []


def _part(value: str, line: int, sheet: _Sheet) -> str:
    part = next((part for part, names in PARTS.items() if value.casefold() in names), None)
    if part is None:
        raise InputError(f"{sheet.name}: line {line}: split={value}: use train, val or test")
    return part


def _of_names(
    sheet: _Sheet, column: int, form: str, classes: tuple[str, ...]
) -> tuple[tuple[str, ...], Tensor, _Sheet, list[str]]:
    """Classes and labels of one column with names; the sheet without the rows whose class is unknown."""
    cells = [([n.strip() for n in value.split(_BETWEEN) if n.strip()], line) for value, line in sheet.values(column)]
    several = form == "several" or (form == "auto" and any(len(names) > 1 for names, _ in cells))
    found, notes = _in_order({name for names, _ in cells for name in names}), list[str]()
    if not several and (unknown := _unknown_numbers(found) - set(classes)):
        known = [not unknown.issuperset(names) or not names for names, _ in cells]
        notes = [f"left out: {quantity(known.count(False), 'image')} of which {sheet.header[column]} is unknown"]
        sheet, cells = sheet.kept(known), [cell for cell, k in zip(cells, known, strict=True) if k]
        found = [name for name in found if name not in unknown]
    if extra := sorted(set(found) - set(classes)) if classes else []:
        raise InputError(f"{sheet.name}: {extra[0]} is not among the classes {', '.join(classes[:20])}; add it")
    names = classes or tuple(found)
    places = {name: place for place, name in enumerate(names)}
    if several:
        labels = torch.zeros(len(cells), len(names), dtype=torch.int64)
        for row, (given, _) in zip(labels, cells, strict=True):
            row[[places[name] for name in given]] = 1
        count = quantity(len(names), "label")
        return names, labels, sheet, [f"{sheet.name}: {count}, of which an image may have several or none"]
    for given, line in cells:
        if len(given) != 1:
            said = quantity(len(given), "class") if given else "no class"
            raise InputError(f"{sheet.name}: line {line} has {said}; give one, or read several labels an image")
    return names, torch.tensor([places[given[0]] for given, _ in cells]), sheet, notes


def _in_order(names: set[str]) -> list[str]:
    """Sorted by number where all names are numbers, or for what is unknown; otherwise by letters."""
    numbers = {name: _number(name) for name in names}
    if all(number is not None for name, number in numbers.items() if name.casefold() not in UNKNOWN):
        return sorted(names, key=lambda name: (numbers[name] is None, numbers[name] or 0.0, name))
    return sorted(names)


def _unknown_numbers(names: Sequence[str]) -> set[str]:
    """Those names of classes that say that the class is unknown, where all others are numbers from 0 on."""
    unknown = {name for name in names if name.casefold() in UNKNOWN or _number(name) == -1}
    others = [_number(name) for name in names if name not in unknown]
    return unknown if others and 0 in others and all(n is not None and n >= 0 for n in others) else set()


def _number(name: str) -> float | None:
    """The number that a name is, or None."""
    try:
        number = float(name)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _of_columns(
    sheet: _Sheet, taken: set[int | None], form: str, classes: tuple[str, ...]
) -> tuple[tuple[str, ...], Tensor, _Sheet, list[str]]:
    """Classes and labels of a column for each label; the sheet without the rows that say nothing of a single label."""
    columns = [p for p, name in enumerate(sheet.header) if p not in taken and not _UNNAMED.fullmatch(name)]
    if classes:
        places = {name: sheet.column((name,)) for name in classes}
        if lost := [name for name, place in places.items() if place is None]:
            raise InputError(f"{sheet.name}: no column {lost[0]} among {sheet.shown()}")
        columns = [place for place in places.values() if place is not None]
    if not columns:
        raise InputError(f"{sheet.name}: no column with labels among {sheet.shown()}")
    rows = zip(sheet.rows, sheet.lines, strict=True)
    values = np.array([[_value(sheet, row, line, c) for c in columns] for row, line in rows])
    names = tuple(sheet.header[place] for place in columns)
    if len(names) > 1 or form == "several":
        read, notes = read_labels({sheet.name: values}, form)
        return names, torch.from_numpy(read[sheet.name]), sheet, notes
    known = values[:, 0] >= 0
    unknown = len(known) - int(known.sum())
    notes = [f"left out: {quantity(unknown, 'image')} of which {names[0]} is unknown"] if unknown else []
    return (f"no {names[0]}", names[0]), torch.from_numpy(values[known, 0]), sheet.kept(known.tolist()), notes


def _value(sheet: _Sheet, row: tuple[str, ...], line: int, column: int) -> int:
    text = row[column]
    if text.casefold() in UNKNOWN:
        return -1
    if text.casefold() in _WORDS:
        return _WORDS[text.casefold()]
    try:
        return _VALUES[float(text)]
    except (ValueError, KeyError):  # what stands there is not quoted: it may be a patient's name
        raise InputError(
            f"{sheet.name}: line {line}: column {sheet.header[column]}: use 1, 0, or -1 or nothing for unknown; "
            "or name the columns that are labels, if this is none"
        ) from None
