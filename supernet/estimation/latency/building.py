"""Builds the latency table of a space: asks for its parts, times them all in rounds, and checks on whole networks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch

from supernet.estimation.forms import form_of
from supernet.estimation.latency.calibration import LEAST, Accuracy, Line, accuracy, fit, through_origin
from supernet.estimation.latency.joints import Trial, image_of, joined, joint, trials, with_numbers
from supernet.estimation.latency.journal import Journal
from supernet.estimation.latency.machine import fingerprint, pinned
from supernet.estimation.latency.networks import Checked, random_networks, spread_networks
from supernet.estimation.latency.onnx_programs import Timed
from supernet.estimation.latency.runtimes import Program, Runtime
from supernet.estimation.latency.sentinel import sentinel
from supernet.estimation.latency.table import Head, LatencyTable, Row
from supernet.estimation.latency.timing import Latency, Stopwatch, Timings, Visit, rounds
from supernet.estimation.parts import Recorded, Shape, record
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.runtime.text import quantity
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided
from supernet.space.operations import OPERATIONS, Operation

_LOG = logging.getLogger("supernet")
_STREAM = 0x1A7E
_LEAST_ROUNDS = 5
Progress = Callable[[int, int, str], None]
"""Is told how much of how much is done, and of what."""


@dataclass(frozen=True)
class Measurement:
    """How much is measured, and when a measurement is refused.

    Args:
        rounds: how often each part and each network is timed, 5 or more.
        networks: whole networks that the calibration is fitted to, a third of them spread from the smallest to the
            largest and the others random; 0: none, and milliseconds are plain sums.
        held_out: other random ones that it is checked on. Of a space that has fewer networks all are measured, and a
            warning says so.
        seconds: after which no further round begins once there are five.
        drift: the largest share by which the sentinel's rounds may lie apart; above it there is no table. All times
            are ratios to the sentinel, so that a table of a machine that drifts less is somewhat noisier, and says so.
        seed: of the networks and of the orders.
        stopwatch: times one program.

    Raises:
        InputError: a number is out of its range.
    """

    rounds: int = 40
    networks: int = 30
    held_out: int = 20
    seconds: float = 540.0
    drift: float = 0.5
    seed: int = 0
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        if self.rounds < _LEAST_ROUNDS:
            raise InputError(f"rounds={self.rounds}: needs {_LEAST_ROUNDS} or more")
        if self.networks != 0 and self.networks < 4:
            raise InputError(f"networks={self.networks}: needs 4 or more to fit a line, or 0 for none")
        if self.held_out < 0:
            raise InputError(f"held_out={self.held_out}: needs 0 or more")
        if not self.seconds > 0:
            raise InputError(f"seconds={self.seconds}: needs to be above 0")
        if not self.drift > 0:
            raise InputError(f"drift={self.drift}: needs a share above 0, such as 0.5")


@dataclass(frozen=True)
class Built:
    """A table, and the networks that it was checked on.

    Args:
        table: the table.
        networks: all that were measured.
        before: how far plain sums are from the held-out networks; None where there were none.
        after: how far the table is from them.
    """

    table: LatencyTable
    networks: tuple[Checked, ...]
    before: Accuracy | None
    after: Accuracy | None


@dataclass(frozen=True)
class Builder:
    """Builds the table of a space.

    Args:
        space: in the size of the final network.
        shape: of an image: channels, height, width.
        classes: how many.
        runtime: what runs the networks.
        measurement: how much is measured.
        factories: what builds each operation, by name; None: the library's own.
        journal: the file that keeps each round, so that a build that was stopped goes on; None: no file.
        progress: is told how far it is.

    Example:
        >>> from supernet.estimation.latency.runtimes import EagerTorch
        >>> from supernet.space.nasbench201 import NasBench201
        >>> space = NasBench201(channels=4, cells=1, stages=1, nodes=1)
        >>> quick = Measurement(rounds=5, networks=0, held_out=0, drift=100.0)
        >>> built = Builder(space, (3, 8, 8), 10, EagerTorch(), quick).build()
        >>> len(built.table.rows), built.table.head.space["name"]
        (8, 'nasbench201')
    """

    space: Any
    shape: tuple[int, int, int]
    classes: int
    runtime: Runtime
    measurement: Measurement = field(default_factory=Measurement)
    factories: Mapping[str, Operation] | None = None
    journal: Path | None = None
    progress: Progress = lambda done, total, what: None

    def build(self) -> Built:
        """Measures, or goes on with a measurement that was stopped.

        Returns:
            The table and its check.

        Raises:
            InputError: a part cannot be run, the machine's speed drifted too far, the parts are too short to be
                measured, or the journal is of another measurement.
            OSError: the journal cannot be written. The rounds in it stay.
        """
        began = time.monotonic()
        recorded = record(self.space, self.shape, self.classes, self.factories)
        drawn, fitted = self._draw(recorded)
        about = self._about(recorded, len(drawn))
        joints = trials(recorded.variants.values(), self.shape)
        names = list(self._names(joints, len(drawn)))
        journal = Journal(self.journal, about | {"names": names})
        visits = journal.visits()
        if len(visits) < self.measurement.rounds:
            visits += self._measure(recorded, joints, drawn, journal, len(visits), began)
        timings = Timings([visit for each in visits for visit in each])
        self._check_drift(timings)
        return self._evaluate(recorded, joints, drawn, fitted, timings, about)

    def _draw(self, recorded: Recorded) -> tuple[list[Architecture], int]:
        """Different architectures, and to how many of them the calibration is fitted: a third of these are spread."""
        source = generator(self.measurement.seed, _STREAM)
        wanted, held_out = self.measurement.networks, self.measurement.held_out
        random = random_networks(recorded, wanted - wanted // 3 + held_out, source)
        apart = [each for each in spread_networks(recorded, wanted // 3, source) if each not in random]
        missing = wanted + held_out - len(apart) - len(random)
        more = random_networks(recorded, missing, source, without={*apart, *random})
        drawn = [*apart, *more, *random]
        fitted = min(wanted, len(drawn))
        if len(drawn) < wanted + held_out:
            _LOG.warning(
                f"networks={wanted}, held_out={held_out}: found only {quantity(len(drawn), 'different network')} of "
                f"{recorded.space}: {fitted} to calibrate the table and {len(drawn) - fitted} to check it"
                + ("" if fitted >= LEAST or not wanted else f" (below {LEAST} milliseconds are plain sums)")
            )
        return drawn, fitted

    def _about(self, recorded: Recorded, networks: int) -> dict[str, Any]:
        settings = asdict(self.space) if is_dataclass(self.space) and not isinstance(self.space, type) else {}
        space = {
            "name": recorded.space,
            "shape": list(self.shape),
            "classes": self.classes,
            "settings": settings,
        }
        counts = {"batch": 1, "networks": networks, "seed": self.measurement.seed}
        return {"machine": fingerprint(), "runtime": dict(self.runtime.settings()), "space": space, "counts": counts}

    def _names(self, joints: Mapping[str, Trial], networks: int) -> Iterator[str]:
        yield from (f"part/{key}" for key in joints)
        yield from (_joint_name(shape) for shape in dict.fromkeys(s for t in joints.values() for s in t.joints))
        yield from (f"network/{number}" for number in range(networks))

    def _modules(
        self, recorded: Recorded, joints: Mapping[str, Trial], drawn: list[Architecture]
    ) -> Iterator[tuple[str, Timed]]:
        """What is timed, in the order of the names, and the sentinel."""
        yield "sentinel", sentinel()
        for key, variant in recorded.variants.items():
            yield f"part/{key}", joined(variant, self.shape)
        for shape in dict.fromkeys(s for t in joints.values() for s in t.joints):
            yield _joint_name(shape), joint(shape)
        for number, architecture in enumerate(drawn):
            with torch.device("meta"):
                chooser = Decided(architecture, self.factories or OPERATIONS)
                network = self.space.network(chooser, self.shape, self.classes)
            yield f"network/{number}", (with_numbers(network), ((1, *image_of(recorded, architecture)),))

    def _measure(
        self,
        recorded: Recorded,
        joints: Mapping[str, Trial],
        drawn: list[Architecture],
        journal: Journal,
        done: int,
        began: float,
    ) -> list[list[Visit]]:
        count = len(list(self._names(joints, len(drawn)))) + 1
        programs: dict[str, Program] = {}
        for name, program in self.runtime.programs(self._modules(recorded, joints, drawn)):
            programs[name] = program
            self.progress(len(programs), count, "programs")
        beside = programs.pop("sentinel")
        wanted = self.measurement.rounds
        made: list[list[Visit]] = []
        with pinned(self.runtime.threads), torch.inference_mode():
            for visits in rounds(
                programs,
                beside,
                numbers=range(done, wanted),
                stopwatch=self.measurement.stopwatch,
                seed=self.measurement.seed,
            ):
                made.append(visits)
                journal.add(visits)
                self.progress(done + len(made), wanted, "rounds")
                enough = done + len(made) >= _LEAST_ROUNDS
                if enough and time.monotonic() - began > self.measurement.seconds:
                    break
        return made

    def _check_drift(self, timings: Timings) -> None:
        if timings.drift <= self.measurement.drift:
            return
        kept = "" if self.journal is None else f"; the rounds are in {self.journal}: remove it to measure anew"
        raise InputError(
            f"drift={self.measurement.drift:g}: the machine's speed drifted by {timings.drift:.2f} while it was "
            f"measured; close other programs, or drift={timings.drift + 0.01:.2f} makes a table that says so{kept}"
        )

    def _evaluate(
        self,
        recorded: Recorded,
        joints: Mapping[str, Trial],
        drawn: list[Architecture],
        fitted: int,
        timings: Timings,
        about: Mapping[str, Any],
    ) -> Built:
        latencies = timings.latencies()
        taken = {s: latencies[_joint_name(s)].median for t in joints.values() for s in t.joints}
        rows = {key: _row(latencies[f"part/{key}"], trial, taken) for key, trial in joints.items()}
        totals = form_of(recorded, lambda variant: rows[variant.key].latency.median)
        weights = form_of(recorded, lambda variant: rows[variant.key].megabytes)
        sums = [totals.of(one) for one in drawn]
        megabytes = [weights.of(one) for one in drawn]
        measured = [latencies[f"network/{number}"] for number in range(len(drawn))]
        truth = [each.median for each in measured]
        head: dict[str, Any] = {
            "batch": 1,
            "rounds": max(each.rounds for each in latencies.values()),
            "sentinel": round(timings.sentinel, 6),
            "drift": round(timings.drift, 4),
        }
        calibration: dict[str, Any] = {"fitted on": fitted, "held out": len(drawn) - fitted}
        line = self._line(recorded, rows, sums[:fitted], megabytes[:fitted], truth[:fitted])
        predicted = [line(total, each) for total, each in zip(sums, megabytes, strict=True)]
        before = after = None
        if len(drawn) > fitted:
            before, after = accuracy(sums[fitted:], truth[fitted:]), accuracy(predicted[fitted:], truth[fitted:])
            calibration |= {"before": _shortened(before), "after": _shortened(after)}
        table = LatencyTable(
            "table", rows, Head(about["machine"], about["runtime"], head, about["space"], calibration, line)
        )
        checks = zip(drawn, sums, megabytes, predicted, measured, strict=True)
        networks = tuple(Checked(a, i < fitted, s, m, p, t) for i, (a, s, m, p, t) in enumerate(checks))
        return Built(table, networks, before, after)

    def _line(
        self,
        recorded: Recorded,
        rows: Mapping[str, Row],
        sums: list[float],
        megabytes: list[float],
        truth: list[float],
    ) -> Line:
        """The best line by which each network of the space takes more than 0 ms, the cheapest, too."""
        lines: list[Callable[[], Line]] = [Line]
        if len(sums) >= LEAST:  # a tiny space may have fewer
            lines = [lambda: fit(sums, megabytes, truth), lambda: through_origin(sums, truth)]
        for each in lines:
            line = each()
            if LatencyTable("table", rows, Head(line=line)).least(recorded) > 0:
                return line
        raise InputError(
            f"{recorded.space}: the parts of its cheapest network take no time that can be measured, with images of "
            f"{'x'.join(map(str, self.shape))}; larger ones take more"
        )


def _joint_name(shape: Shape) -> str:
    return f"joint/{'x'.join(map(str, shape))}"


def _row(latency: Latency, trial: Trial, joints: Mapping[Shape, float]) -> Row:
    median, low, high, least = (
        trial.cost(each, joints) for each in (latency.median, latency.low, latency.high, latency.least)
    )
    return Row(Latency(median, low, high, least, latency.rounds), trial.megabytes)


def _shortened(found: Accuracy) -> dict[str, float | None]:
    return {name: value if value is None else round(value, 4) for name, value in asdict(found).items()}
