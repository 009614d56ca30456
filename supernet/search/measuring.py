"""Under a limit on a measured time the network that a search has found is measured, and the next where it breaks it.

What was measured can be kept in a file, so that a search that goes on takes the same network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.estimation.limits import Limits
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.runtime.errors import InputError
from supernet.runtime.files import write_whole
from supernet.runtime.reading import is_file, read_text
from supernet.runtime.run import Run
from supernet.search.loop import Searched
from supernet.search.measured_winner import MeasuredWinner, Trial, in_order, measured_winner, then, tightened
from supernet.search.progressive.restoring import restore_stages
from supernet.search.progressive.search import StagedSearch, check_stages
from supernet.space.architecture import Architecture
from supernet.training.tasks import CLASSIFICATION, Task

MEASURED = "measured.json"
_LARGEST = 4 << 20  # bytes
_MOST = 100  # trials of a file


@dataclass(frozen=True)
class Clock:
    """What measures a network in the unit of a limit.

    Args:
        cost: the name of the limit's cost, which predicts what is measured, such as "latency".
        milliseconds: (network, shape of an image) -> what it really takes.
        record: the file that keeps what was measured; None: it is not kept.
    """

    cost: str
    milliseconds: Callable[[nn.Module, tuple[int, int, int]], float]
    record: Path | None = None


def measured_search(
    planned: StagedSearch,
    found: Searched,
    clock: Clock,
    train: Source,
    valid: Source,
    augmentation: Augmentation,
    *,
    run_of: Callable[[str], Run],
    task: Task = CLASSIFICATION,
) -> MeasuredWinner:
    """Measures what a search has found; if it breaks the limit, what the search would have chosen next.

    First come the search's own runners-up. Then the strategy, restored from its checkpoints, chooses again under a
    limit that is tightened by what was measured over what was predicted. Last comes the cheapest architecture.

    Args:
        planned: the search, with limits, of which one is on the clock's cost.
        found: what it has found.
        clock: what measures, and where that is kept; what is kept of the same search is not measured again.
        train: the images that the supernets' weights learnt from.
        valid: the images that the architectures were judged by.
        augmentation: of training images.
        run_of: name of a stage -> where it ran, with its checkpoint.
        task: what was learnt and judged.

    Returns:
        What was measured, and the winner.

    Raises:
        InputError: the record or a checkpoint cannot be used, or the clock cannot measure a network.
    """
    assert planned.limits is not None
    limits, name = planned.limits, clock.cost
    limit, costs = limits.most[name], limits.costs
    if clock.record is not None and is_file(clock.record):
        measured = _recorded(clock.record, found.architecture, limit)
        if measured is not None:
            return measured

    def predict(architecture: Architecture) -> float:
        return costs.of(name, architecture)

    def choose(most: float) -> Architecture | None:
        if most <= 0.0:  # so much more was measured than was predicted
            return None
        tighter = Limits(costs, {**limits.most, name: most})
        try:
            tighter.check(check_stages(planned)[-1])
        except InputError:
            return None
        restored = restore_stages(
            replace(planned, limits=tighter), train, valid, augmentation, run_of=run_of, task=task
        )
        score = SupernetScore(restored.problem, planned.stages[-1].recipe.batch_size)
        try:
            tighter.check(restored.decisions)  # earlier stages may have left less than the space has
            return restored.strategy.finish(score)
        except InputError:  # nothing of what the search has left keeps the tighter limit
            return None

    measured = measured_winner(
        then(in_order([found.architecture, *found.runners_up], predict), tightened(choose, limit)),
        predict,
        lambda architecture: clock.milliseconds(costs.network(architecture), costs.shape),
        limit,
        cheapest=limits.anchor(check_stages(planned)[-1]),
    )
    if clock.record is not None:
        write_whole(clock.record, json.dumps(_plain(found.architecture, limit, measured), indent=2) + "\n")
    return measured


def lines_of(measured: MeasuredWinner) -> list[str]:
    """What was measured, a line for each network, and one more where none keeps the limit.

    Args:
        measured: of a limit in milliseconds.

    Returns:
        The lines.

    Example:
        >>> trial = Trial(Architecture("mine", {"edge": ("conv",)}), predicted=2.9, measured=3.2, limit=3.0)
        >>> lines_of(MeasuredWinner((trial,)))[0]
        'measured 3.2 ms, predicted 2.9 ms: breaks the limit of 3 ms'
    """
    lines = [
        f"measured {trial.measured:.4g} ms, predicted {trial.predicted:.4g} ms: "
        f"{'keeps' if trial.kept else 'breaks'} the limit of {trial.limit:g} ms"
        for trial in measured.trials
    ]
    if not measured.winner.kept:
        lines.append(
            f"no network keeps the limit of {measured.winner.limit:g} ms when it is measured, not even the one of the "
            "smallest predicted latency; the fastest of those measured is taken"
        )
    return lines


def read_record(record: Path) -> MeasuredWinner:
    """Reads what a search has measured.

    Args:
        record: the file of a `Clock`.

    Returns:
        What was measured, and the winner.

    Raises:
        InputError: the file is damaged.
    """
    return MeasuredWinner(_read(record)[2])


def _plain(found: Architecture, limit: float, measured: MeasuredWinner) -> dict[str, Any]:
    trials = [
        {"genotype": json.loads(t.architecture.to_json()), "predicted": t.predicted, "measured": t.measured}
        for t in measured.trials
    ]
    return {"found": json.loads(found.to_json()), "limit": limit, "trials": trials}


def _recorded(record: Path, found: Architecture, limit: float) -> MeasuredWinner | None:
    """What an interrupted run has measured; None where that was of another network or limit."""
    architecture, most, trials = _read(record)
    return MeasuredWinner(trials) if (architecture, most) == (found, limit) else None


def _read(record: Path) -> tuple[Architecture, float, tuple[Trial, ...]]:
    try:
        known = json.loads(read_text(record, str(record), _LARGEST))
        limit = _number(known["limit"])
        found = _architecture(known["found"], record)
        trials = tuple(_trial(node, limit, record) for node in _some(known["trials"]))
    except (InputError, ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{record}: is not what this run wrote; remove it, and it is measured again") from None
    return found, limit, trials


def _some(nodes: Any) -> Sequence[Any]:
    if not isinstance(nodes, list) or not 1 <= len(nodes) <= _MOST:
        raise ValueError
    return nodes


def _trial(node: Mapping[str, Any], limit: float, record: Path) -> Trial:
    architecture = _architecture(node["genotype"], record)
    return Trial(architecture, _number(node["predicted"]), _number(node["measured"]), limit)


def _architecture(node: Any, record: Path) -> Architecture:
    return Architecture.from_json(json.dumps(node), origin=str(record))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)
