"""Reads finished runs as rows, and groups rows that differ in the seed, for the tables of sweeps and reports."""

from __future__ import annotations

import json
import statistics
import typing
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supernet.runtime.errors import InputError
from supernet.runtime.reading import why_no_file
from supernet.runtime.text import printable

from ..conversion import convert
from ..records.summary import SCRATCH, SEARCHED, SUMMARY, VERSION

_MOST = 1e15  # no count or time of a run comes near, and sums of squares stay finite


@dataclass(frozen=True)
class RunRecord:
    """One network of one finished run; fields are those of summary.json (`finishing.summary_head`, `summary.Finalist`).

    `kind` is "searched", "random", or "scratch" for a searched cell whose weights are new where those of the others are
    not; `words` are the run's overrides without those that change no result. More
    than twelve fields: each is a column that a report may show.
    """

    run: Path
    kind: str
    words: tuple[str, ...]
    settings: str
    training: str
    experiment: str
    method: str
    data: str
    space: str
    score: str
    seed: int
    genotype: str
    parameters: int
    valid: float | None
    test: float | None
    training_seconds: float | None
    search_seconds: float | None
    search_valid: float | None
    table: Mapping[str, float | None]
    best: Mapping[str, float | None]

    def __post_init__(self) -> None:
        for name in ("valid", "test", "search_valid"):
            if (share := getattr(self, name)) is not None and not 0.0 <= share <= 1.0:
                raise InputError(f"{name}={share}: a score lies between 0 and 1")
        for name in ("seed", "parameters", "training_seconds", "search_seconds"):
            if (value := getattr(self, name)) is not None and not 0 <= value < _MOST:
                raise InputError(f"{name}={value}: needs 0 or more, and no more than a run can have")
        for values in (self.table, self.best):
            for column, value in values.items():
                if value is not None and abs(value) >= _MOST:
                    raise InputError(f"{column}={value}: too large for a table")

    @property
    def outcome(self) -> tuple[Any, ...]:
        """Equal for two rows of which one repeats the other: a random cell is the same beside any search."""
        return self.kind, self.training, self.seed, self.genotype, self.valid, self.test

    @property
    def key(self) -> str:
        """The key that the rows of a group share: all settings, or for a random cell those of its training."""
        return self.training if self.kind == "random" else self.settings

    @property
    def seconds(self) -> float:
        """The seconds of search and training together, as far as they are known."""
        return (self.search_seconds or 0.0) + (self.training_seconds or 0.0)

    def regret(self, column: str) -> float | None:
        """How far below the table's best cell this one is in a column."""
        best, own = self.best.get(column), self.table.get(column)
        return None if best is None or own is None else best - own


@dataclass(frozen=True)
class Group:
    """Rows that differ in the seed alone; `label` names the settings in which they differ from other groups."""

    label: str
    kind: str
    members: tuple[RunRecord, ...]

    def values(self, name: str) -> list[float]:
        """The known values of a field of the rows ("test"), in their order."""
        return [value for member in self.members if (value := getattr(member, name)) is not None]

    def truths(self, column: str) -> list[float]:
        """The known values of a column of the table."""
        return [value for member in self.members if (value := member.table.get(column)) is not None]

    def chosen(self) -> RunRecord | None:
        """The run with the best validation score, the first of equals; None where none was validated."""
        judged = [member for member in self.members if member.valid is not None]
        return max(judged, key=lambda member: member.valid or 0.0, default=None)


_IDLE = ("seed", "name", "runtime", "hydra", "table", "baseline")  # settings that change nothing about a result


def read_run(path: Path) -> list[RunRecord]:
    """The networks of the finished run whose summary.json is at `path`. Raises InputError with the way out.

    Numbers are finite and in their range, and texts `printable`: the file may come from anywhere.
    """
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        version = summary.get("version")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a readable summary ({type(error).__name__}); leave this run out") from None
    if version not in (1, VERSION) or isinstance(version, bool):
        raise InputError(f"{path}: summary of version {version}, this is {VERSION}; run it again or leave it out")
    try:
        summary = _of_version_2(summary) if version == 1 else summary
        networks = [_network(path.parent, summary, finalist) for finalist in summary["finalists"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: a summary without {error}; leave this run out") from None
    except InputError as error:
        raise InputError(f"{path}: {error}; leave this run out") from None
    if not networks:
        raise InputError(f"{path}: a summary without networks; leave this run out")
    return networks


def read_runs(paths: Iterable[Path]) -> tuple[list[RunRecord], list[str]]:
    """The networks of all runs that can be read, and a line about each run that cannot."""
    networks: list[RunRecord] = []
    left_out: list[str] = []
    for path in paths:
        try:
            networks += read_run(path)
        except InputError as error:
            left_out.append(str(error))
    return networks, left_out


def _network(run: Path, summary: Mapping[str, Any], finalist: Mapping[str, Any]) -> RunRecord:
    searched = finalist["name"] == SEARCHED
    words = convert(summary["overrides"], tuple[str, ...], "overrides")
    texts = {n: summary[n] for n in ("settings", "training", "experiment", "method", "data", "space", "score")}
    known: dict[str, Any] = {
        **{name: printable(_text(value, name)) for name, value in texts.items()},
        "seed": summary["seed"],
        "genotype": printable(_text(finalist["genotype"], "genotype")),
        "parameters": finalist["parameters"],
        "valid": finalist["valid_score"],
        "test": finalist["test_score"],
        "training_seconds": finalist["seconds"],
        "search_seconds": summary["search_seconds"] if searched else None,
        "search_valid": summary["search_valid_score"] if searched else None,
        "table": _named(finalist["table"]),
        "best": _named(summary["table_best"]),
    }
    hints = typing.get_type_hints(RunRecord)
    return RunRecord(
        run=run,
        kind=finalist["name"] if finalist["name"] in (SEARCHED, SCRATCH) else "random",
        words=tuple(printable(word) for word in words if not _idle(word)),
        **{name: convert(value, hints[name], name) for name, value in known.items()},
    )


def _of_version_2(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary of version 1, when accuracy was the only score, as version 2 has it."""

    def renamed(known: Mapping[str, Any]) -> dict[str, Any]:
        return {name.removesuffix("accuracy") + "score" * name.endswith("_accuracy"): v for name, v in known.items()}

    finalists = [renamed(finalist) for finalist in summary["finalists"]]
    return {**renamed(summary), "score": "accuracy", "finalists": finalists}


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name}={value}: needs text")
    return value


def _named(values: Any) -> Any:
    """A table's numbers, each under a name that can be shown."""
    return {printable(name): value for name, value in values.items()}


def _idle(word: str) -> bool:
    key = word.lstrip("+~").partition("=")[0]
    return key.split(".")[0] in _IDLE and key != "runtime.precision"


def find_runs(places: Iterable[Path]) -> list[Path]:
    """The summaries below each place, each once, sorted. Raises InputError where there is none."""
    found: dict[Path, Path] = {}
    for place in places:
        if why_no_file(place) == "no such file":
            raise InputError(f"{place}: no such folder; give runs, sweeps or folders of them")
        here = [place] if place.name == SUMMARY else sorted(place.rglob(SUMMARY), key=natural)
        if not here:
            raise InputError(f"{place}: no finished run in it (a finished one has a {SUMMARY})")
        found |= {path.resolve(): path for path in here if path.resolve() not in found}
    return list(found.values())


def natural(path: Path) -> list[tuple[int, str]]:
    """Returns a key that sorts job 10 after job 9."""
    return [(len(part) if part.isdecimal() else 0, part) for part in path.parts]


def common(networks: Sequence[RunRecord]) -> list[str]:
    """The words that all runs share, in the first one's order."""
    return [word for word in networks[0].words if all(word in n.words for n in networks)] if networks else []


def differing_words(some: Sequence[RunRecord], everything: Sequence[RunRecord]) -> str:
    """The words that `some` of the networks share and the others do not all have."""
    return " ".join(word for word in common(some) if word not in common(everything)) or "(defaults)"


def group(networks: Sequence[RunRecord]) -> list[Group]:
    """Searched cells by their settings, random ones by their training, each result once; best first.

    Best by the mean of the table's first column; without a table by the mean validation score, else by the test score.
    """
    once = list({(*network.outcome, network.key): network for network in networks}.values())
    shared, groups = common(networks), defaultdict(list)
    for network in once:
        groups[network.kind, network.key].append(network)
    trainings = {network.training for network in networks if network.kind == "random"}
    labels: dict[str, str] = {}
    made = []
    for (kind, key), members in groups.items():
        if kind in (SEARCHED, SCRATCH):
            label = " ".join(w for w in members[0].words if w not in shared) or members[0].method or "(defaults)"
            label += ", from scratch" if kind == SCRATCH else ""
        else:
            beside = [network for network in networks if network.training == key]
            label = "random cells" + (f", {differing_words(beside, networks)}" if len(trainings) > 1 else "")
        if labels.setdefault(label, key) != key:  # the same words, but other settings behind them
            label = f"{label} [{key}]"
        made.append(Group(label, kind, tuple(sorted(members, key=lambda n: n.seed))))
    return sorted(made, key=_rank)


def _rank(group: Group) -> tuple[int, float]:
    truths = group.truths(next(iter(group.members[0].table), ""))
    for place, values in enumerate((truths, group.values("valid"), group.values("test"))):
        if values:
            return place, -statistics.mean(values)
    return 3, 0.0


def columns(networks: Iterable[RunRecord]) -> list[str]:
    """The columns of all tables, in the order of their first appearance."""
    return list(dict.fromkeys(column for network in networks for column in network.table))
