"""Writes scalars to a CSV file in long format: step, tag, value."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from supernet.runtime.errors import InputError
from supernet.runtime.files import write_whole
from supernet.runtime.text import csv_lines

HEADER = ("step", "tag", "value")


class MetricsFile:
    """A CSV file of scalars that can be cut back to an earlier step.

    Values are written so that reading them gives the same float, "nan" and "inf" included.

    Args:
        path: the file; its folder is made when it is needed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     metrics = MetricsFile(Path(folder, "search.csv"))
        ...     metrics.append({"loss": 0.5}, step=1)
        ...     metrics.close()
        ...     print(Path(folder, "search.csv").read_text(), end="")
        step,tag,value
        1,loss,0.5
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def append(self, values: Mapping[str, float], step: int) -> None:
        """Adds one row for each tag and flushes the file."""
        file = self._open()
        csv.writer(file, lineterminator="\n").writerows((step, tag, repr(value)) for tag, value in values.items())
        file.flush()

    def resume(self, step: int) -> None:
        """Drops the rows of this step and of later ones, and a row that a crash has cut short."""
        self.close()
        if self._path.exists():
            write_whole(self._path, csv_lines([HEADER, *self._rows_before(step)]))
        self._open()

    def close(self) -> None:
        """Closes the file; a later `append` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> TextIO:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", newline="", encoding="utf-8")
            if self._file.tell() == 0:
                csv.writer(self._file, lineterminator="\n").writerow(HEADER)
        return self._file

    def _rows_before(self, step: int) -> list[list[str]]:
        try:
            with self._path.open(newline="", encoding="utf-8") as file:
                whole = (line for line in file if line.endswith("\n"))
                next(whole, None)
                return [row for row in csv.reader(whole) if _step(*row) < step]
        except (ValueError, TypeError, csv.Error):
            raise InputError(
                f"{self._path}: is not what a run wrote; remove it, and only its curves are lost"
            ) from None


def _step(step: str, tag: str, value: str) -> int:
    float(value)
    return int(step)
