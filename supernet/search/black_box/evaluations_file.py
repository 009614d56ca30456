"""A CSV file with a row for each architecture that was judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from supernet.runtime.files import write_whole
from supernet.runtime.text import csv_lines


class EvaluationsFile:
    """A CSV file to which a row is added for each evaluation; an older one is replaced by the rows that are known.

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
        self._path, self._count = path, len(rows)
        self._columns = list(rows[0]) if rows else []
        path.parent.mkdir(parents=True, exist_ok=True)
        head = [["evaluation", *self._columns]] if rows else []
        write_whole(path, csv_lines([*head, *(self._fields(number, row) for number, row in enumerate(rows, start=1))]))

    def add(self, row: Mapping[str, str | float]) -> None:
        """Adds the row of the next evaluation.

        Args:
            row: its fields by column; the first row of all says the columns.
        """
        lines = []
        if not self._columns:
            self._columns = list(row)
            lines.append(["evaluation", *self._columns])
        self._count += 1
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(csv_lines([*lines, self._fields(self._count, row)]))

    def _fields(self, number: int, row: Mapping[str, str | float]) -> list[str]:
        values = [row.get(column, "") for column in self._columns]
        return [str(number), *(value if isinstance(value, str) else repr(float(value)) for value in values)]
