"""Keeps each round of a measurement in a file as soon as it is done, so that a measurement that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from supernet.estimation.latency.timing import Visit
from supernet.runtime.errors import InputError
from supernet.runtime.files import write_whole
from supernet.runtime.reading import read_text, why_no_file

_LARGEST = 256 << 20  # bytes


@dataclass(frozen=True)
class Journal:
    """The rounds of one measurement, a JSON list in each line. The first line says what is measured.

    Args:
        path: the file; None: nothing is kept.
        about: what is measured: machine, runtime, space, and under "names" the programs. A file that says something
            else is of another measurement.

    Raises:
        InputError: in `visits`, where the file is of another measurement or is damaged.
    """

    path: Path | None
    about: Mapping[str, Any]

    @property
    def names(self) -> Sequence[str]:
        """Of the programs, in the order of their numbers in the file."""
        found: Sequence[str] = self.about["names"]
        return found

    @cached_property
    def _first(self) -> str:
        # Of a machine that changes its clock all the time the frequency of the moment says nothing.
        machine = {name: value for name, value in self.about["machine"].items() if name != "frequency"}
        text = json.dumps({**self.about, "machine": machine}, sort_keys=True, default=str)
        return json.dumps({"measurement": hashlib.sha256(text.encode()).hexdigest()}) + "\n"

    def visits(self) -> list[list[Visit]]:
        """The rounds that are there and whole: each has a measurement of each program. Others are measured again.

        A last line that was cut off does not count, nor does a file in which no more than a part of the first line is.
        """
        if self.path is None or why_no_file(self.path) == "no such file":
            return []
        where = str(self.path)
        text = read_text(self.path, where, _LARGEST)
        if self._first.startswith(text):
            return []
        lines = text.split("\n")[:-1]
        if not lines or lines[0] + "\n" != self._first:
            raise InputError(
                f"{where}: is of another measurement (another space, machine, runtime, or other settings); go on with "
                "the same command, or remove the file"
            )
        every, found = set(self.names), list[list[Visit]]()
        for number, line in enumerate(lines[1:], start=2):
            visits = self._round(len(found), line, f"{where}: line {number}")
            if len(visits) == len(every) and {visit.key for visit in visits} == every:
                found.append(visits)
        return found

    def _round(self, number: int, line: str, where: str) -> list[Visit]:
        try:
            return [self._visit(number, *each) for each in json.loads(line)]
        except (ValueError, TypeError, IndexError, OverflowError, RecursionError):
            raise InputError(f"{where} is damaged; remove the file and measure anew") from None

    def _visit(self, number: int, place: int, milliseconds: float, sentinel: float) -> Visit:
        if type(place) is not int or place < 0 or not (0 < milliseconds < math.inf and 0 < sentinel < math.inf):
            raise ValueError
        return Visit(number, self.names[place], float(milliseconds), float(sentinel))

    def add(self, visits: Sequence[Visit]) -> None:
        """Writes one more round.

        Args:
            visits: all of the round.

        Raises:
            OSError: the file cannot be written. The rounds in it stay.
        """
        if self.path is None:
            return
        places = {name: place for place, name in enumerate(self.names)}
        row = json.dumps([[places[v.key], round(v.milliseconds, 7), round(v.sentinel, 7)] for v in visits]) + "\n"
        old = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = old[: old.rfind("\n") + 1]  # without a line that was cut off
        if whole and whole == old:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(row)
        else:
            write_whole(self.path, (whole or self._first) + row)
