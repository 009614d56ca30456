"""A CSV file of the picks of finished combinations, which are not run again."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

from supernet.runtime.errors import InputError
from supernet.runtime.files import write_whole
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.reading import is_file, read_text
from supernet.runtime.text import csv_lines
from supernet.search.black_box.comparison import Pick
from supernet.space.genes import Candidates

_HEAD = ("settings", "explorer", "score", "seed", "evaluations", "seconds", "simulated_seconds", "value", "ended")
_COLUMNS = (*_HEAD, "genes")
_LARGEST = 64 << 20  # bytes


class PicksFile:
    """Remembers picks in a file, a row each, written when a combination is finished.

    Args:
        path: the file.
        candidates: of the picks.
        settings: (explorer, score) -> a hash of all that a pick depends on besides its seed.
        interruption: asked before each combination.
        tell: is called with each new pick.

    Raises:
        InputError: the file is not such a file.
    """

    def __init__(
        self,
        path: Path,
        candidates: Candidates,
        settings: Callable[[str, str], str],
        interruption: Interruption,
        tell: Callable[[Pick], None],
    ) -> None:
        self._path, self._candidates, self._settings = path, candidates, settings
        self._interruption, self._tell = interruption, tell
        self._rows: dict[tuple[str, ...], list[str]] = {}
        text = read_text(path, str(path), _LARGEST) if is_file(path) else ""
        whole = text[: text.rfind("\n") + 1]  # a row that was cut off is run again
        rows = list(csv.reader(io.StringIO(whole, newline="")))
        for row in rows[1:]:
            if len(row) != len(_COLUMNS):
                raise InputError(f"{path}: is not what this program wrote; remove it, and all is tried again")
            self._rows[tuple(row[:4])] = row
        write_whole(path, csv_lines([list(_COLUMNS), *self._rows.values()]))

    def get(self, explorer: str, score: str, seed: int) -> Pick | None:
        """The pick of a finished combination. Raises Interrupted where a signal asked to stop."""
        if self._interruption.requested():
            raise Interrupted(self._interruption.signal or 0)
        row = self._rows.get((self._settings(explorer, score), explorer, score, str(seed)))
        return None if row is None else self._read(row)

    def add(self, pick: Pick) -> None:
        """Writes the row of a pick."""
        genes = json.dumps(self._candidates.genes(pick.architecture), separators=(",", ":"))
        key = [self._settings(pick.explorer, pick.score), pick.explorer, pick.score, str(pick.seed)]
        numbers = [repr(float(n)) for n in (pick.seconds, pick.simulated_seconds, _known(pick.value))]
        row = [*key, str(pick.evaluations), *numbers, pick.ended, genes]
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(csv_lines([row]))
        self._tell(pick)

    def _read(self, row: list[str]) -> Pick:
        fields = dict(zip(_COLUMNS, row, strict=True))
        try:
            architecture = self._candidates.architecture(tuple(map(tuple, json.loads(fields["genes"]))))
            seconds, simulated, value = (float(fields[n]) for n in ("seconds", "simulated_seconds", "value"))
            count, seed = int(fields["evaluations"]), int(fields["seed"])
        except (InputError, ValueError, TypeError, RecursionError):
            raise InputError(f"{self._path}: holds no such architecture; remove it, and all is tried again") from None
        known = None if math.isnan(value) else value
        names = fields["explorer"], fields["score"]
        return Pick(*names, seed, architecture, count, seconds, simulated, known, fields["ended"])


def _known(value: float | None) -> float:
    return math.nan if value is None else value
