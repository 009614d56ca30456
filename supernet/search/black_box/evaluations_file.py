"""A CSV file with a row for each architecture that was judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from supernet.runtime.files import write_whole
from supernet.runtime.text import csv_lines


class EvaluationsFile:
    """A CSV file to which a row is added for each evaluation; an older one is replaced by the rows that are known.

    A row with a field that no other had, such as why an evaluation failed, adds a column; the file is written anew.

    Args:
        path: the file; its folder is made.
        rows: of the evaluations before, where an exploration goes on.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     rows = EvaluationsFile(Path(folder, "explore.csv"), [])
        ...     rows.add({"architecture": "a", "accuracy": 0.5})
        ...     print(Path(folder, "explore.csv").read_text(), end="")
        evaluation,architecture,accuracy
        1,a,0.5
    """

    def __init__(self, path: Path, rows: Sequence[Mapping[str, str | float]]) -> None:
        self._path, self._rows, self._columns = path, list(rows), list[str]()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def add(self, row: Mapping[str, str | float]) -> None:
        """Adds the row of the next evaluation.

        Args:
            row: its fields by column.
        """
        self._rows.append(row)
        if len(self._rows) == 1 or not row.keys() <= set(self._columns):
            self._write()
            return
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(csv_lines([self._fields(len(self._rows), row)]))

    def _write(self) -> None:
        self._columns = list(dict.fromkeys(column for row in self._rows for column in row))
        head = [["evaluation", *self._columns]] if self._rows else []
        lines = [*head, *(self._fields(number, row) for number, row in enumerate(self._rows, start=1))]
        write_whole(self._path, csv_lines(lines))

    def _fields(self, number: int, row: Mapping[str, str | float]) -> list[str]:
        values = [row.get(column, "") for column in self._columns]
        return [str(number), *(value if isinstance(value, str) else repr(float(value)) for value in values)]
