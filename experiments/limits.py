"""Makes the limits on the final network from the settings: the groups `limits` and `costs`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from supernet.estimation.forms import Cost, Form
from supernet.estimation.limits import Limits
from supernet.estimation.parts import Recorded
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.space.heads import Outputs
from supernet.space.operations import Operation

from .instantiate import build, named
from .latencies import latencies_of


def limits_of(
    settings: Mapping[str, Any],
    space: Any,
    shape: tuple[int, int, int],
    outputs: Outputs,
    factories: Mapping[str, Operation] | None = None,
) -> Limits:
    """Makes the limits, and finds whether there is an architecture that keeps them.

    Args:
        settings: with `limits`, numbers by the names of costs, and `costs`, by name: functions that make a cost of the
            parts of the space, or files of measured times.
        space: in the size of the final network.
        shape: of an image: channels, height, width.
        outputs: how many classes, or the head of the networks.
        factories: what builds each operation, by name; None: the library's own.

    Returns:
        The limits; false where there are none.

    Raises:
        InputError: a limit or a cost cannot be, or nothing keeps the limits.
    """
    for group in ("limits", "costs"):
        if not isinstance(settings[group], dict):
            raise InputError(f"{group}={settings[group]}: needs names, such as {group}.macs")
    made = {name: _cost(name, node) for name, node in settings["costs"].items() if node is not None}
    most = {name: limit for name, limit in settings["limits"].items() if limit is not None}
    if "latency" in most and "latency" not in made:
        raise InputError(
            f"limits.latency={most['latency']}: needs a table of measured times, costs.latency=FILE; supernet-latency "
            "makes one for this device"
        )
    limits = Limits(SpaceCosts(space, shape, outputs, factories, made=made), most)
    limits.check()
    return limits


def cost_files(costs: Mapping[str, Any]) -> dict[str, str]:
    """The tables of measured times that a run uses.

    Args:
        costs: the settings of that group.

    Returns:
        Name of the cost -> a hash of its file.
    """
    files = {name: Path(node) for name, node in costs.items() if isinstance(node, str)}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in files.items()}


def check_cost_files(costs: Mapping[str, Any], directory: Path, before: Mapping[str, str]) -> None:
    """Finds whether a run that goes on has the tables with which it began.

    Args:
        costs: the settings of that group.
        directory: of the run; one that has saved nothing begins again.
        before: what `cost_files` said when it began.

    Raises:
        InputError: a table is another one.
    """
    if not any((directory / "checkpoints").glob("*.pt")):
        return
    for name, now in cost_files(costs).items():
        if name in before and before[name] != now:
            raise InputError(
                f"costs.{name}={costs[name]}: is another table than the run began with (its hash was {before[name]}, "
                f"now it is {now}); put that back, or begin another run"
            )


def _cost(name: str, node: Any) -> Callable[[Recorded], Form | Cost]:
    if isinstance(node, str):
        with named({f"costs.{name}": None}):
            return latencies_of(Path(node)).cost
    made = build(node, f"costs.{name}")
    if not callable(made):
        raise InputError(f"costs.{name}={made}: needs a file of measured times, or a function with _partial_: true")

    def cost(recorded: Recorded) -> Form | Cost:
        with named({f"costs.{name}": made}):
            found = made(recorded)
        if not callable(found):
            raise InputError(
                f"costs.{name}: gives a {type(found).__name__}; needs a Form, or a function of architectures"
            )
        return found

    return cost
