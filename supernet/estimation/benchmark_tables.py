"""Benchmark tables: accuracies of architectures that are looked up, so that no network has to be trained.

A table is a CSV file, plain or compressed (.gz), in UTF-8. Lines that begin with "#" are comments. The first other line
names the columns; one is `arch`, a cell as NAS-Bench-201 writes it (`supernet.space.nasbench201.to_string`), all
different; blanks in it are ignored. In its place a file can have a column `index`, which counts the rows of another
table from 0 (`read_table`, cells). The others are numbers; an empty field (or nan) is not known. Columns that are
not asked for are not read.

    # accuracies in percent
    arch,cifar10_test_200,cifar100_test_200,imagenet16_120_test_200
    |avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|,85.86,52.91,26.63

In a table of another space a comment says which, and `arch` is what `supernet.space.texts.to_text` writes:

    # space: mobile
    arch,digits_test
    stage1/1/kernel=3 stage1/depth=1,91.5
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from supernet.estimation.scores import Measured
from supernet.runtime.errors import InputError
from supernet.runtime.reading import read_text
from supernet.runtime.text import quantity
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import NasBench201
from supernet.space.texts import from_text, to_text

_LARGEST = 64 << 20  # bytes of text, unpacked; NAS-Bench-201's 15,625 cells with a hundred columns take 12 MB
_SPACE = re.compile(r"#\s*space:\s*([A-Za-z0-9_.-]{1,100})\s*")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


__all__ = ["NasBench201Seconds", "Table", "TableScore", "micro", "micro_mobile", "read_table"]


def __dir__() -> list[str]:
    """What the tab key offers."""
    return __all__


@dataclass(frozen=True)
class Table:
    """What a benchmark knows about its architectures. It is a `Score`: called with an architecture it returns its row.

    Iterating gives the architectures in the order of the file. A number that is not known is NaN.

    Args:
        origin: how messages name the table.
        columns: the names of the columns.
        rows: the numbers of each architecture, in the order of `columns`, by its text: a cell as NAS-Bench-201 writes
            it, or what `to_text` writes of other spaces.
        space: the name of the architectures' space.

    Raises:
        InputError: in a look-up, where the table has no such architecture.

    Example:
        >>> table = micro()
        >>> len(table), table.columns
        (125, ('digits_valid', 'digits_test'))
        >>> best = table.best("digits_valid")
        >>> to_text(best), table(best).values["digits_test"] > 90
        ('|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|', True)
    """

    origin: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]
    space: str = NasBench201.name

    def __call__(self, architecture: Architecture) -> Measured:
        text = self._text(architecture)
        if text not in self.rows:
            what = "cell" if self.space == NasBench201.name else "network"
            raise InputError(
                f"{self.origin}: has no {what} {text[:200]}; its {len(self.rows):,} {what}s are of another space, "
                f"with {what}s such as {next(iter(self.rows))}; use the table of its space"
            )
        return Measured(dict(zip(self.columns, self.rows[text], strict=True)))

    def __iter__(self) -> Iterator[Architecture]:
        return (from_text(text, self.space) for text in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def index(self, architecture: Architecture) -> int:
        """The number of an architecture's row, from 0: its index in the benchmark, if the file has the same order."""
        self(architecture)
        return list(self.rows).index(self._text(architecture))

    def best(self, column: str) -> Architecture:
        """The architecture with the largest number in `column`."""
        place = self.columns.index(column)
        known = {text: row[place] for text, row in self.rows.items() if not math.isnan(row[place])}
        return from_text(max(known, key=lambda text: known[text]), self.space)

    def _text(self, architecture: Architecture) -> str:
        if architecture.space != self.space:
            raise InputError(
                f"{self.origin}: the genotype is of space {architecture.space!r}; only cells of {self.space!r} are in "
                "the table; use the table of its space"
            )
        return to_text(architecture)


@dataclass(frozen=True)
class TableScore:
    """Looks an architecture up in place of training it: a column of a table, and the seconds that a training took.

    Args:
        table: what is known.
        column: the value by which architectures are judged, the larger the better.
        seconds: architecture -> what the evaluation behind a row would have taken, such as `NasBench201Seconds()`;
            None: not known.

    Raises:
        InputError: the table has no such column; in a look-up, the table lacks the architecture or its number.

    Example:
        >>> score = TableScore(micro(), "digits_valid")
        >>> score(from_text("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|", "nasbench201")).values
        {'digits_valid': 96.574}
    """

    table: Table
    column: str
    seconds: Callable[[Architecture], float] | None = None
    _known: dict[Architecture, Measured] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.column not in self.table.columns:
            raise InputError(f"column={self.column}: was not read; read were {', '.join(self.table.columns)}")

    def __call__(self, architecture: Architecture) -> Measured:
        if (known := self._known.get(architecture)) is not None:
            return known
        value = self.table(architecture).values[self.column]
        if math.isnan(value):
            raise InputError(
                f"column={self.column}: {self.table.origin} has no number for {to_text(architecture)[:200]}; use a "
                "column that has all"
            )
        cost = {} if self.seconds is None else {"simulated_seconds": self.seconds(architecture)}
        self._known[architecture] = measured = Measured({self.column: value}, cost)
        return measured


@dataclass(frozen=True)
class NasBench201Seconds:
    """What NATS-Bench charges for one evaluation: twelve epochs of training and a pass over the validation images.

    It is fitted to the released costs of the 15,625 cells, with a mean error of 1.7 %: seconds for each operation of a
    cell on one GPU. The other data sets' are multiples of CIFAR-10's.

    Source: Dong, Liu, Musial and Gabrys 2021, "NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology and
    Size" (TPAMI), whose protocol gives a search 20,000, 40,000 and 120,000 seconds on the three data sets.

    Args:
        data: "cifar10", "cifar100" or "imagenet16_120".

    Raises:
        InputError: the data set is another.

    Example:
        >>> round(NasBench201Seconds()(from_text("|nor_conv_3x3~0|+|none~0|skip_connect~1|", "nasbench201")), 2)
        48.46
    """

    data: str = "cifar10"

    def __post_init__(self) -> None:
        if self.data not in _TIMES:
            raise InputError(f"data={self.data}: known: {', '.join(_TIMES)}")

    def __call__(self, architecture: Architecture) -> float:
        training_times, validation_times = _TIMES[self.data]
        operations = (kept[0] for name, kept in architecture.items() if name.count("/") == 2)
        training = sum(_SECONDS[operation] for operation in operations)
        return training_times * training + validation_times * (1.09 + 0.243 * training / 12)


_SECONDS = {"none": 7.10, "skip_connect": 4.83, "nor_conv_1x1": 27.89, "nor_conv_3x3": 34.50, "avg_pool_3x3": 17.08}
_TIMES = {"cifar10": (1.0, 1.0), "cifar100": (2.0, 0.2), "imagenet16_120": (6.07, 0.122)}  # training, validation


def read_table(path: str | Path, columns: Sequence[str], cells: Table | None = None) -> Table:
    """Reads columns of a CSV file of the form that this module describes.

    Args:
        path: the file, plain or .gz.
        columns: the names of the columns to read.
        cells: a table whose cells the file's column `index` counts from 0, as measured latencies of NAS-Bench-201 come;
            None: the file has a column `arch`.

    Returns:
        The table.

    Raises:
        InputError: there is no such file or column, or the file is not such a table, in one line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = "arch,accuracy\\n|nor_conv_3x3~0|,91.5\\n|none~0|,10\\n"
        ...     _ = Path(folder, "cells.csv").write_text(text)
        ...     table = read_table(f"{folder}/cells.csv", ["accuracy"])
        >>> table(from_text("|nor_conv_3x3~0|", "nasbench201")).values
        {'accuracy': 91.5}
    """
    return _parse(_lines(Path(path), f"path={path}"), tuple(columns), f"path={path}", cells)


def micro(columns: Sequence[str] = ("digits_valid", "digits_test")) -> Table:
    """Reads the table of the micro space: all 125 cells of `NasBench201(channels=8, cells=1, stages=1, nodes=2)`.

    Each was trained on the digits with three seeds. Accuracies are in percent. The head of the file micro.csv says how
    it was made.

    Args:
        columns: of `digits_valid` and `digits_test` (means over the seeds), each with `_std` (the sample standard
            deviation) and `_0`, `_1`, `_2` (the single seeds) behind it, and of `params` and `macs`.

    Returns:
        The table.

    Raises:
        InputError: there is no such column.

    Example:
        >>> micro(["params"])(from_text("|none~0|+|none~0|none~1|", "nasbench201")).values
        {'params': 194.0}
    """
    return _packaged("micro", columns)


def micro_mobile(columns: Sequence[str] = ("digits_valid", "digits_test")) -> Table:
    """Reads the table of the micro mobile space: all 160 networks of `supernet.spaces.micro_mobile()`.

    Each was trained on the digits with three seeds. Accuracies are in percent. The head of the file micro_mobile.csv
    says how it was made.

    Args:
        columns: those of `micro`.

    Returns:
        The table.

    Raises:
        InputError: there is no such column.

    Example:
        >>> table = micro_mobile(["params"])
        >>> len(table), table.space
        (160, 'mobile')
    """
    return _packaged("micro_mobile", columns)


def _packaged(name: str, columns: Sequence[str]) -> Table:
    text = files("supernet.estimation").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return _parse(text.splitlines(), tuple(columns), name)


def _lines(path: Path, where: str) -> list[str]:
    try:
        return read_text(path, where, _LARGEST).splitlines()
    except InputError as error:
        raise InputError(f"{error}; expected a CSV file with a column 'arch', plain or .gz") from None


def _parse(lines: Sequence[str], columns: tuple[str, ...], where: str, cells: Table | None = None) -> Table:
    names, key = None if cells is None else list(cells.rows), "arch" if cells is None else "index"
    reader = csv.reader(line for line in lines if line.strip() and not line.startswith("#"))
    named = [found[1] for line in lines if line.startswith("#") and (found := _SPACE.fullmatch(line.rstrip()))]
    if len(named) > 1:
        raise InputError(f"{where}: {len(named)} of its comments name a space; one table holds one space")
    space = named[0] if named else NasBench201.name
    try:
        head = [name.strip() for name in next(reader, [])]
        if missing := [name for name in (key, *columns) if name not in head]:
            shown = ", ".join(name[:40] for name in head[:20])
            raise InputError(f"{where}: has no column {missing[0]!r}; its columns: {shown or 'none'}")
        if doubled := [name for name in (key, *columns) if head.count(name) > 1]:
            raise InputError(f"{where}: has two columns {doubled[0]!r}; which one counts?")
        cell_at, places = head.index(key), [head.index(name) for name in columns]
        rows: dict[str, tuple[float, ...]] = {}
        for fields in reader:
            if len(fields) != len(head):
                raise InputError(
                    f"{where}: row {len(rows)} has {quantity(len(fields), 'field')}, its columns are {len(head)}"
                )
            row = f"{where}: row {len(rows)}"
            text = fields[cell_at]
            cell = _cell(text, space, row) if names is None else _counted(text, names, row)
            if cell in rows:
                raise InputError(f"{where}: {cell[:200]} is there twice; each needs one row")
            rows[cell] = tuple(_number(fields[at], head[at], cell, where) for at in places)
    except csv.Error as error:
        raise InputError(f"{where}: not a CSV file ({error})") from None
    if not rows:
        raise InputError(f"{where}: has no rows")
    for place, name in enumerate(columns):
        if all(math.isnan(row[place]) for row in rows.values()):
            raise InputError(f"{where}: column {name!r} has no number in any row; leave it out of columns")
    return Table(where, columns, rows, space)


def _cell(field: str, space: str, where: str) -> str:
    """The text of a row as it is written here, so that rows are compared as architectures and not as text."""
    try:
        return to_text(from_text(field, space))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _counted(field: str, names: Sequence[str], where: str) -> str:
    """The text of the cell in this row of another table."""
    word = field.strip()
    if not (word.isascii() and word.isdigit() and len(word) < 20 and int(word) < len(names)):
        raise InputError(f"{where}: index={word[:40]!r}: needs a whole number from 0 to {len(names) - 1:,}")
    return names[int(word)]


def _number(field: str, column: str, cell: str, where: str) -> float:
    word = field.strip()
    if not word or word.lower() == "nan":
        return math.nan
    if _NUMBER.fullmatch(word) and math.isfinite(value := float(word)):
        return value
    raise InputError(f"{where}: {column}={field[:40]!r} of {cell[:200]} is not a number")
