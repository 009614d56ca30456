"""What is found on a GPU, kept as it comes: a file of one JSON line a row, and the time that is left for more rows.

A row that is in the file is not measured again, so that the same command goes on where the last one stopped, killed or
not. Where a row is there twice, the later one counts.
"""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]

_LEAST = 2.0  # seconds: no row is shorter than that on a GPU, its network alone has to be built


class TimeIsUp(Exception):
    """The next row is likely not to end in time."""


class Wrong(Exception):
    """A check has found a value that it does not take.

    Args:
        what: is wrong.
        row: what was found.
    """

    def __init__(self, what: str, row: Row) -> None:
        super().__init__(what)
        self.row = row


@dataclass(frozen=True)
class Clock:
    """How long a call may take; None: as long as it wants."""

    seconds: float | None = None
    began: float = field(default_factory=lambda: time.monotonic())

    def left(self) -> float:
        """The seconds that are left."""
        return float("inf") if self.seconds is None else self.began + self.seconds - time.monotonic()

    def part(self, most: float | None) -> Clock:
        """What is left, or `most` seconds of it."""
        left = self.left() if most is None else min(most, self.left())
        return Clock(None if left == float("inf") else left)


class Record:
    """The file: its first line says on which machine and at which sizes, each other line is a row of a section.

    Args:
        path: the file; what is in it already is kept.
        head: machine and sizes.

    Raises:
        SystemExit: the file is of another machine, commit or size.
    """

    def __init__(self, path: Path, head: Row) -> None:
        self._path = path
        self.rows: dict[tuple[str, str], Row] = {}
        lines = _whole_lines(path)
        if not lines:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(head) + "\n", encoding="utf-8")
            return
        there, self.rows = read_rows(path)
        if _comparable(there) != _comparable(head):
            raise SystemExit(f"{path}: is of another machine, commit or size; give another --output, or delete it")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")  # a line that a killed call has begun is gone

    def add(self, section: str, name: str, row: Row) -> None:
        """Appends a row. The file is whole at every moment."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"section": section, "row": name, **row}) + "\n")
        self.rows[section, name] = row


class Rows:
    """The rows of one section.

    Args:
        record: where they are kept.
        section: its name.
        clock: how long there is.
    """

    def __init__(self, record: Record, section: str, clock: Clock) -> None:
        self.record, self.section, self.clock = record, section, clock
        self._longest = 0.0

    @property
    def failed(self) -> list[str]:
        """The names of the rows that have failed, whenever that was."""
        return [
            name for (section, name), row in self.record.rows.items() if section == self.section and "failed" in row
        ]

    def known(self, name: str) -> bool:
        """Whether a row is there and has not failed."""
        row = self.record.rows.get((self.section, name))
        return row is not None and "failed" not in row

    def add(self, name: str, row: Row) -> None:
        """Keeps a row and prints it."""
        self.record.add(self.section, name, row)
        print(f"  {name:<50} {_in_words(row)}", flush=True)

    def measure(self, name: str, find: Callable[[], Row], passing: tuple[type[Exception], ...] = ()) -> None:
        """Adds the row that `find` gives, or how it failed. A row that is known is left alone.

        Args:
            name: of the row.
            find: measures it.
            passing: what it may raise without having failed; there is no row then.

        Raises:
            TimeIsUp: before a row that, if it takes as long as the longest so far, would not end in time.
        """
        if self.known(name):
            return
        if self.clock.left() < max(_LEAST, 1.2 * self._longest):
            raise TimeIsUp
        began = time.monotonic()
        try:
            row = find()
        except passing:
            raise
        except Wrong as error:
            row = {**error.row, "failed": str(error)}
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = str(error).splitlines()[0][:200] if str(error) else ""
            row = {"failed": f"{type(error).__name__}: {reason}", "at": f"{Path(place.filename).name}:{place.lineno}"}
        seconds = time.monotonic() - began
        self._longest = max(self._longest, seconds)
        self.add(name, {**row, "took_s": round(seconds, 1)})
        let_go()


def read_rows(path: Path) -> tuple[Row, dict[tuple[str, str], Row]]:
    """A file's first line, and its rows by section and name; of a row that is there twice the later one.

    Args:
        path: the file; a last line that was cut off is left out.
    """
    head, *lines = (json.loads(line) for line in _whole_lines(path))
    return head, {(row.pop("section"), row.pop("row")): row for row in lines}


def let_go() -> None:
    """Gives back the memory of what is not used any more, so that the next row's peak is its own.

    Raises:
        SystemExit: the device has failed, as after a kernel that wrote elsewhere; no row of this process can be right.
    """
    if not torch.cuda.is_available():
        return
    gc.collect()
    try:
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()  # one for each stream that was recorded on, 64 MB each
        torch.cuda.empty_cache()
    except RuntimeError as error:
        raise SystemExit(
            f"the device has failed: {str(error).splitlines()[0]}; start again, or do without what failed"
        ) from None


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()


def _comparable(head: Row) -> Row:
    return {**head, "machine": {**head["machine"], "date": None}}


def _in_words(row: Row) -> str:
    return "  ".join(f"{key} {_short(value)}" for key, value in row.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:.4g}"
    return str(value)[:160]
