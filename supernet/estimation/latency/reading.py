"""Reads latency tables, those that `LatencyTable.save` has written and a person's own, whatever is in the file."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from supernet.estimation.latency.calibration import Line
from supernet.estimation.latency.machine import fingerprint
from supernet.estimation.latency.table import COLUMNS, FORMAT, VERSION, Head, KnownLatencies, LatencyTable, Row
from supernet.estimation.latency.timing import Latency
from supernet.runtime.errors import InputError
from supernet.runtime.reading import file_of, read_text
from supernet.runtime.text import printable, quantity
from supernet.space.architecture import Architecture
from supernet.space.mobile import Mobile
from supernet.space.nasbench201 import from_string
from supernet.space.texts import from_text

_LOG = logging.getLogger("supernet")
_LARGEST = 64 << 20  # bytes of a file
_MOST_ROWS = 1_000_000
_LONGEST = 20_000  # letters of one field
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_MILLISECONDS = ("median", "milliseconds")
_SECTIONS = ("machine", "runtime", "measurement", "space", "calibration")
_VERSIONED = ("onnxruntime", "torch")  # packages whose versions change what is fast
STEADY = 0.05
"""The drift of a machine's speed above which a table says so."""


def read_latencies(path: str | Path, *, here: Mapping[str, str] | None = None) -> LatencyTable | KnownLatencies:
    """Reads a table of parts or of whole architectures.

    A table from another machine or of other versions is taken; a warning of one line says what differs. So it is with
    a table that was measured while the machine's speed drifted.

    Args:
        path: the file, plain or .gz.
        here: the machine at hand, as `fingerprint` has it; None: asks for it.

    Returns:
        The table.

    Raises:
        InputError: there is no such file, or it is damaged or no such table, in one line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "mine.csv").write_text("key,milliseconds\\nReLU @ 4x8x8,0.25\\n")
        ...     table = read_latencies(f"{folder}/mine.csv")
        >>> table.rows["ReLU @ 4x8x8"].latency.median
        0.25
    """
    where = f"latency={file_of(path, 'latency')}"
    lines = read_text(path, where, _LARGEST).splitlines(keepends=True)
    columns, rows = _rows([line for line in lines if line.strip() and not line.startswith("#")], where)
    names = [name for name in ("architecture", "arch", "key") if name in columns]
    medians = [name for name in _MILLISECONDS if name in columns]
    if not names or not medians:
        lacks = "'key' or 'architecture'" if not names else "'median' or 'milliseconds'"
        shown = ", ".join(name[:40] for name in columns[:20]) or "none"
        raise InputError(f"{where}: has no column {lacks}; its columns: {shown}")
    if names[0] != "key":
        return KnownLatencies(where, _whole(rows, names[0], medians[0], where))
    head = _head([line for line in lines if line.startswith("#")], len(rows), where)
    table = LatencyTable(where, _parts(rows, medians[0], where), head)
    if not any(row.latency.median > 0 for row in table.rows.values()):
        raise InputError(
            f"{where}: all of its {quantity(len(rows), 'part takes', 'parts take')} 0 milliseconds; measure them"
        )
    if odd := oddities(table, fingerprint() if here is None else here):
        _LOG.warning(odd)
    return table


def differences(head: Head, here: Mapping[str, str]) -> list[str]:
    """Says in what the machine and the versions of a table differ from those at hand.

    Args:
        head: of the table.
        here: the machine at hand.

    Returns:
        Some words for each difference; none where the table says nothing.

    Example:
        >>> differences(Head(machine={"processor": "A"}), {"processor": "B"})
        ['processor A, here B']
    """
    found = [
        f"{name} {head.machine[name]}, here {here.get(name)}"
        for name in ("processor", "flags")
        if name in head.machine and head.machine[name] != here.get(name)
    ]
    if len(found) == 2:
        found.pop()  # of another processor the flags say nothing more
    measured = {name: head.runtime[name].partition("+")[0] for name in _VERSIONED if name in head.runtime}
    installed = {name: _version(name) for name in measured}
    others = [name for name in measured if measured[name] != installed[name]]
    return found + [f"{name} {measured[name]}, here {installed[name]}" for name in others]


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]  # without what says for which GPU it was compiled
    except PackageNotFoundError:
        return "none"


def oddities(table: LatencyTable, here: Mapping[str, str]) -> str:
    """Says what is odd about a table: that it is from elsewhere, or of a machine whose speed drifted.

    Args:
        table: as it was read.
        here: the machine at hand, as `fingerprint` has it.

    Returns:
        One line; "" where there is nothing odd.
    """
    words = []
    if differing := differences(table.head, here):
        words.append(f"was measured elsewhere ({'; '.join(differing)}); milliseconds here are others")
    drift = table.head.measurement.get("drift")
    if isinstance(drift, int | float) and drift > STEADY:
        words.append(f"was measured while the machine's speed drifted by {100 * min(drift, 1e4):.0f} %")
    return f"{printable(table.origin)}: {printable('; it '.join(words))[:600]}" if words else ""


def _rows(lines: Sequence[str], where: str) -> tuple[list[str], list[dict[str, str]]]:
    reader = csv.reader(lines, strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        rows = []
        for number, each in enumerate(reader, start=1):
            if len(each) != len(columns):
                raise InputError(
                    f"{where}: row {number} has {quantity(len(each), 'field')}, its columns are {len(columns)}"
                )
            if number > _MOST_ROWS or max(map(len, each)) > _LONGEST:
                raise InputError(f"{where}: row {number} is more than a latency table has; is it the right file?")
            rows.append(dict(zip(columns, each, strict=True)))
    except csv.Error as error:
        raise InputError(f"{where}: not a CSV file ({error})") from None
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise InputError(f"{where}: has two columns {twice[:40]!r}; which one counts?")
    if not rows:
        raise InputError(f"{where}: has no rows; expected a table of supernet-latency, or a CSV file of your own")
    return columns, rows


def _parts(rows: Sequence[Mapping[str, str]], median: str, where: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for number, row in enumerate(rows, start=1):
        key = row["key"].strip()
        origin = f"{where}: row {number} ({key[:200]!r})"
        if not key:
            raise InputError(f"{where}: row {number} has no key; fill it in, or remove the row")
        if key in found:
            raise InputError(f"{origin} is there twice; each part needs one row")
        known = {name: _number(row, name, origin) for name in (median, *COLUMNS[2:]) if row.get(name, "").strip()}
        if median not in known:
            raise InputError(f"{origin} has no {median}; fill it in, or remove the row")
        middle = known[median]
        low, high, least = (known.get(name, middle) for name in ("low", "high", "least"))
        found[key] = Row(Latency(middle, low, high, least, int(known.get("rounds", 1))), known.get("megabytes", 0.0))
    return found


def _whole(rows: Sequence[Mapping[str, str]], column: str, median: str, where: str) -> dict[Architecture, float]:
    """Architectures as genotype.json has them, as NAS-Bench-201 writes them, or as `texts.to_text` does."""
    found: dict[Architecture, float] = {}
    for number, row in enumerate(rows, start=1):
        text = row[column].strip()
        origin = f"{where}: row {number}"
        try:
            cell = Architecture.from_json(text, origin=origin) if text.startswith("{") else _of_line(text)
        except InputError as error:
            raise InputError(str(error) if str(error).startswith(origin) else f"{origin}: {error}") from None
        if cell in found:
            raise InputError(f"{origin}: the architecture is there twice; each needs one row")
        milliseconds = _number(row, median, f"{origin} ({text[:200]!r})")
        if milliseconds == 0:
            raise InputError(f"{origin} ({text[:200]!r}): {median}=0; a network takes more than 0 milliseconds")
        found[cell] = milliseconds
    return found


def _of_line(text: str) -> Architecture:
    return from_string(text) if text.startswith("|") else from_text(text, Mobile.name)


def _number(row: Mapping[str, str], name: str, where: str) -> float:
    word = row[name].strip()
    if _NUMBER.fullmatch(word) and 0 <= (value := float(word)) < 1e9:
        return value
    raise InputError(f"{where}: {name}={word[:40]!r} is no number of 0 or more and below 1e9")


def _head(comments: Sequence[str], rows: int, where: str) -> Head:
    """The head of a table. Of a person's own table comments are for people, unless they begin as ours do."""
    known: dict[str, Any] = {}
    damaged = ""
    for line in comments:
        try:
            said = json.loads(line[1:])
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict):
            known |= said
        elif line[1:].lstrip().startswith("{"):
            damaged = damaged or line.strip()
    if "format" not in known and not any(name in known for name in _SECTIONS):
        return Head()
    if damaged:
        raise InputError(f"{where}: its head is damaged; no JSON object: {damaged[:60]}")
    if known.get("format") != FORMAT or known.get("version") != VERSION:
        raise InputError(
            f"{where}: its head is of {str(known.get('format'))[:40]} {str(known.get('version'))[:40]}; this supernet "
            f"reads {FORMAT} {VERSION}"
        )
    if known.get("rows") != rows:
        raise InputError(
            f"{where}: has {quantity(rows, 'row')} and its head says {str(known.get('rows'))[:40]}; it is cut off, or "
            "correct the head where rows were added on purpose"
        )
    sections = {name: known.get(name, {}) for name in _SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise InputError(f"{where}: {name} in its head is damaged; it needs to be a JSON object")
    line = sections["calibration"].pop("line", {})
    return Head(**{name: _texts(name, section) for name, section in sections.items()}, line=_line(line, where))


def _texts(name: str, section: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) for k, v in section.items()} if name in ("machine", "runtime") else section


def _line(given: Any, where: str) -> Line:
    names = [each.name for each in fields(Line)]
    values: list[Any] = list(given.values()) if isinstance(given, dict) and not set(given) - set(names) else [None]
    if not all(type(value) in (int, float) for value in values):
        raise InputError(f"{where}: the calibration's line is damaged; it needs numbers: {', '.join(names)}")
    try:
        line = Line(**given)
    except InputError as error:
        raise InputError(f"{where}: the calibration's line is damaged: {error}") from None
    return Line(*map(float, astuple(line)))
