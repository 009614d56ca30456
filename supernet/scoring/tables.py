"""Tables of what is known about architectures: a benchmark's accuracies, looked up instead of trained.

A table is a CSV file, plain or compressed (.gz), in UTF-8. Lines that begin with "#" are comments. The first other line
names the columns; one is `arch`, a cell as NAS-Bench-201 writes it (`supernet.space.nasbench201.to_string`), all
different. The others are numbers; an empty field is not known. Columns that nobody asks for are not looked at.

    # accuracies in percent
    arch,cifar10_test_200,cifar100_test_200,imagenet16_120_test_200
    |avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|,85.86,52.91,26.63
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import from_string, to_string


@dataclass(frozen=True)
class Table:
    """What is known about architectures. Called with one it gives column -> number, NaN where that is not known.

    `rows`: the cell's string -> the numbers, in the order of the file and of `columns`. Iterating gives the
    architectures. Look-ups raise InputError where there is no such row.
    """

    origin: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]

    def __call__(self, architecture: Architecture) -> dict[str, float]:
        cell = to_string(architecture)
        if cell not in self.rows:
            raise InputError(
                f"{self.origin}: has no cell {cell}; its {len(self.rows):,} cells are of another space, "
                f"with cells such as {next(iter(self.rows))}; table=none does without it"
            )
        return dict(zip(self.columns, self.rows[cell], strict=True))

    def __iter__(self) -> Iterator[Architecture]:
        return map(from_string, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def index(self, architecture: Architecture) -> int:
        """The row of an architecture from 0: the benchmark's index, if the file is in the benchmark's order."""
        self(architecture)
        return list(self.rows).index(to_string(architecture))

    def best(self, column: str) -> Architecture:
        """The architecture with the largest number in `column`."""
        place = self.columns.index(column)
        known = {cell: row[place] for cell, row in self.rows.items() if not math.isnan(row[place])}
        return from_string(max(known, key=lambda cell: known[cell]))


def read_table(path: str, columns: Sequence[str]) -> Table:
    """Reads `columns` of a CSV file as described above. Raises InputError, one line, where it is anything else."""
    return _parse(_lines(Path(path), f"table.path={path}"), tuple(columns), f"table.path={path}")


def micro(columns: Sequence[str] = ("digits_valid", "digits_test")) -> Table:
    """The table of space=micro: all 125 networks trained on digits, three seeds, accuracies in percent.

    `digits_valid` and `digits_test` are means over seeds, `..._std` the sample standard deviations, `..._0` to `..._2`
    the single seeds; `params` and `macs` are there, too. The file's head says how it was made.
    """
    text = files("supernet.scoring").joinpath("micro.csv").read_text(encoding="utf-8")
    return _parse(text.splitlines(), tuple(columns), "table=micro")


def _lines(path: Path, where: str) -> list[str]:
    if not path.is_file():
        raise InputError(f"{where}: no such file; expected a CSV file with a column 'arch', plain or .gz")
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(
            f"{where}: cannot be read as text ({type(error).__name__}); expected CSV, plain or .gz"
        ) from None


def _parse(lines: Sequence[str], columns: tuple[str, ...], where: str) -> Table:
    reader = csv.reader(line for line in lines if line.strip() and not line.startswith("#"))
    try:
        head = next(reader, [])
        if missing := [name for name in ("arch", *columns) if name not in head]:
            raise InputError(f"{where}: has no column {missing[0]!r}; its columns: {', '.join(head[:20]) or 'none'}")
        cell_at, places = head.index("arch"), [head.index(name) for name in columns]
        rows: dict[str, tuple[float, ...]] = {}
        for fields in reader:
            if len(fields) != len(head):
                raise InputError(f"{where}: row {len(rows)} has {len(fields)} fields, its columns are {len(head)}")
            cell = fields[cell_at].strip()
            if cell in rows:
                raise InputError(f"{where}: {cell} is there twice; each cell needs one row")
            rows[cell] = tuple(_number(fields[at], head[at], cell, where) for at in places)
    except csv.Error as error:
        raise InputError(f"{where}: not a CSV file ({error})") from None
    if not rows:
        raise InputError(f"{where}: has no rows")
    from_string(next(iter(rows)))
    return Table(where, columns, rows)


def _number(field: str, column: str, cell: str, where: str) -> float:
    if not field.strip():
        return math.nan
    try:
        return float(field)
    except ValueError:
        raise InputError(f"{where}: {column}={field!r} of {cell} is not a number") from None
