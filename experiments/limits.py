"""Makes the limits on the final network from the settings: the groups `limits` and `costs`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from supernet.estimation.forms import Cost, Form
from supernet.estimation.limits import Limits
from supernet.estimation.parts import Recorded
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.space.operations import Operation

from .instantiate import build, named
from .latencies import latencies_of


def limits_of(
    settings: Mapping[str, Any],
    space: Any,
    shape: tuple[int, int, int],
    classes: int,
    factories: Mapping[str, Operation] | None = None,
) -> Limits:
    """Makes the limits, and finds whether there is an architecture that keeps them.

    Args:
        settings: with `limits`, numbers by the names of costs, and `costs`, by name: functions that make a cost of the
            parts of the space, or files of measured times.
        space: in the size of the final network.
        shape: of an image: channels, height, width.
        classes: how many.
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
    limits = Limits(SpaceCosts(space, shape, classes, factories, made=made), most)
    limits.check()
    return limits


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
