"""A latency table: what each part of the networks of a space takes on one machine, as a file that a person can read.

It is a CSV file in UTF-8. Its head is comment lines, each with a JSON object: the format and how many rows there are,
the machine, the runtime, how it was measured, the space, and the calibration on whole networks. Then come the names of
the columns, and a row for each part.

    # {"format": "supernet.latency", "version": 1, "rows": 402}
    # {"machine": {"processor": "AMD EPYC", ...}}
    key,median,low,high,least,rounds,megabytes
    "Linear(1280>10 bias) @ 1280",0.0061,0.0060,0.0063,0.0058,40,0.05124

A person's own table needs a column `key` and one of milliseconds, `median` or `milliseconds`; a head is not needed.
One of whole architectures has a column `architecture` (a genotype as JSON, or a cell as NAS-Bench-201 writes it) in
place of `key`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from supernet.estimation.forms import Cost, Form, form_of
from supernet.estimation.latency.calibration import Line
from supernet.estimation.latency.timing import Latency
from supernet.estimation.parts import Recorded, Variant
from supernet.estimation.programmes import Programme
from supernet.runtime.errors import InputError
from supernet.runtime.files import write_whole
from supernet.runtime.text import csv_lines, printable, quantity
from supernet.space.architecture import Architecture

FORMAT, VERSION = "supernet.latency", 1
COLUMNS = ("key", "median", "low", "high", "least", "rounds", "megabytes")


@dataclass(frozen=True)
class Row:
    """What a part takes.

    Args:
        latency: of the part by itself, without the convolutions that stood beside it.
        megabytes: of its parameters and buffers.
    """

    latency: Latency
    megabytes: float = 0.0


@dataclass(frozen=True)
class Head:
    """How a table came to be. All but `line` is for a reader; what is not known is empty.

    Args:
        machine: `machine.fingerprint()`.
        runtime: `Runtime.settings()`.
        measurement: rounds, seconds, the sentinel's milliseconds and drift.
        space: its name, its settings, the shape of an image, the number of classes.
        calibration: how far predictions were from measured networks, before and after.
        line: from the sum over the parts to the network.
    """

    machine: Mapping[str, str] = field(default_factory=dict)
    runtime: Mapping[str, str] = field(default_factory=dict)
    measurement: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    line: Line = field(default_factory=Line)


@dataclass(frozen=True)
class LatencyTable:
    """What the parts of a space's networks take, and what a whole network takes then.

    Args:
        origin: how messages name the table, such as "latency=FILE".
        rows: by the parts' keys.
        head: how it came to be.

    Example:
        >>> from supernet.estimation.parts import record
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> recorded = record(NasBench201(channels=4, cells=1, stages=1, nodes=1), (3, 8, 8), outputs=10)
        >>> rows = {key: Row(Latency(0.5, 0.4, 0.6, 0.4, 10)) for key in recorded.variants}
        >>> table = LatencyTable("mine", rows, Head(line=Line(constant=0.1, factor=2.0)))
        >>> round(table.form(recorded).of(from_string("|nor_conv_3x3~0|")), 6)  # 0.1 + 2 x (four parts of 0.5)
        4.1
    """

    origin: str
    rows: Mapping[str, Row]
    head: Head = field(default_factory=Head)

    def form(self, recorded: Recorded) -> Form:
        """The latency of the networks of a space: differentiable in the weights, and exact for an architecture.

        Args:
            recorded: the parts of the space.

        Returns:
            Milliseconds of a network.

        Raises:
            InputError: the table lacks a part, is of another space, or says that the cheapest network takes no time.
        """
        self.check(recorded)
        made = self._form(recorded)
        if not (least := _least(made, recorded)) > 0:
            constant = self.head.line.constant
            way = f"correct the constant {constant:.4g} of its line, or " if constant < 0 else ""
            raise InputError(
                f"{self.origin}: says that the cheapest network of {recorded.space} takes {least:.4g} ms, and each "
                f"takes more than 0; {way}measure it anew with supernet-latency"
            )
        return made

    def least(self, recorded: Recorded) -> float:
        """Milliseconds of the cheapest network, or where that is seen at once a number above 0 below which none is."""
        return _least(self._form(recorded), recorded)

    def _form(self, recorded: Recorded) -> Form:
        return form_of(recorded, self.milliseconds).changed(constant=self.head.line.constant, factor=1.0)

    def milliseconds(self, variant: Variant) -> float:
        """What a part adds to the latency of a network."""
        row = self.rows[variant.key]
        return self.head.line(row.latency.median, row.megabytes) - self.head.line.constant

    def check(self, recorded: Recorded) -> None:
        """Raises InputError where the table lacks a part of a space."""
        missing = [key for key in recorded.variants if key not in self.rows]
        if not missing:
            return
        if len(missing) == len(recorded.variants):
            theirs = self.head.space.get("name")
            of = (
                f"is of {printable(theirs)[:60]}"
                if theirs and theirs != recorded.space
                else "is of other sizes or of another space"
            )
            raise InputError(
                f"{self.origin}: {of} and knows none of the {quantity(len(missing), 'part')} of {recorded.space} for "
                f"images of {'x'.join(map(str, recorded.shape))}; make one with supernet-latency"
            )
        raise InputError(
            f"{self.origin}: has no row {missing[0][:200]!r} and lacks {len(missing)} of {len(recorded.variants)}; add "
            "them, or make a table of this space and image size with supernet-latency"
        )

    @property
    def sentinel(self) -> float | None:
        """Milliseconds of the sentinel when the table was measured; None where that is not known."""
        found = self.head.measurement.get("sentinel")
        return float(found) if isinstance(found, int | float) and 0 < found < 1e9 else None

    def text(self) -> str:
        """The table as a file has it."""
        head: list[dict[str, Any]] = [{"format": FORMAT, "version": VERSION, "rows": len(self.rows)}]
        head += [
            {"machine": dict(self.head.machine)},
            {"runtime": dict(self.head.runtime)},
            {"measurement": dict(self.head.measurement)},
            {"space": dict(self.head.space)},
            {"calibration": {**self.head.calibration, "line": asdict(self.head.line)}},
        ]
        rows = [
            (key, *(f"{getattr(row.latency, name):.6g}" for name in COLUMNS[1:5]), row.latency.rounds, row.megabytes)
            for key, row in self.rows.items()
        ]
        return "".join(f"# {json.dumps(each)}\n" for each in head) + csv_lines([COLUMNS, *rows])

    def save(self, path: str | Path) -> None:
        """Writes the table; an older file is replaced by a whole one.

        Args:
            path: of the file.

        Raises:
            OSError: the file cannot be written. An older one stays as it was.
        """
        write_whole(Path(path), self.text())


@dataclass(frozen=True)
class KnownLatencies:
    """The latencies of whole architectures that a person has measured. It is a `Cost`.

    Args:
        origin: how messages name the table.
        milliseconds: by architecture.

    Raises:
        InputError: in a call, of an architecture that is not in the table.
    """

    origin: str
    milliseconds: Mapping[Architecture, float]

    def __call__(self, architecture: Architecture) -> float:
        try:
            return self.milliseconds[architecture]
        except KeyError:
            raise InputError(
                f"{self.origin}: has no row of {json.dumps(dict(architecture.choices))[:200]}; add it, or use a table "
                "of parts"
            ) from None


def _least(form: Form, recorded: Recorded) -> float:
    """What the cheapest network costs, or a number above 0 below which none is; NaN where a value is not finite."""
    values = [term.values for term in form.terms]
    if not (math.isfinite(form.base) and all(np.isfinite(each).all() for each in values)):
        return math.nan
    if all((each >= 0).all() for each in values):  # so no network is below what always counts
        bound = form.base + sum(float(t.values.min()) for t in form.terms if not t.when)
        if bound > 0:
            return bound
    programme = Programme(recorded.space, recorded.decisions)
    found = programme.solved(programme.total(form))
    assert found is not None, "a space has an architecture"
    return form.of(found)


def cost_of(table: LatencyTable | KnownLatencies, recorded: Recorded) -> Form | Cost:
    """The latency of the networks of a space from either kind of table.

    Args:
        table: of parts or of whole architectures.
        recorded: the parts of the space.

    Returns:
        A form, or of whole architectures a plain function.
    """
    return table.form(recorded) if isinstance(table, LatencyTable) else table
