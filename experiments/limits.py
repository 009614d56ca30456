"""Makes the limits on the final network from the settings: the groups `limits` and `costs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernet.estimation.limits import Limits
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.space.operations import Operation

from .instantiate import build


def limits_of(
    settings: Mapping[str, Any],
    space: Any,
    shape: tuple[int, int, int],
    classes: int,
    factories: Mapping[str, Operation] | None = None,
) -> Limits:
    """Makes the limits, and finds whether there is an architecture that keeps them.

    Args:
        settings: with `limits`, numbers by the names of costs, and `costs`: functions that make a cost of the parts of
            the space, by name.
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
    made = {name: build(node, f"costs.{name}") for name, node in settings["costs"].items() if node is not None}
    for name, cost in made.items():
        if not callable(cost):
            raise InputError(f"costs.{name}={cost}: needs a function of the space's parts, with _partial_: true")
    most = {name: limit for name, limit in settings["limits"].items() if limit is not None}
    limits = Limits(SpaceCosts(space, shape, classes, factories, made=made), most)
    limits.check()
    return limits
