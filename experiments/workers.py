"""The workers that the settings under `runtime` ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernet.runtime.errors import InputError
from supernet.runtime.workers import LOKY, Workers

OWN = ("workers", "backend", "scheduler")  # settings under `runtime` that are a command's, not those of a run


def workers_of(runtime: Mapping[str, Any], threads: int | None) -> Workers | None:
    """Makes the workers of a command.

    Args:
        runtime: `workers`, `backend` and `scheduler`.
        threads: of each; None: one.

    Returns:
        The workers; None where none are asked for.

    Raises:
        InputError: a value cannot be.

    Example:
        >>> workers_of({"workers": 8, "backend": "loky", "scheduler": None}, None)
        Workers(count=8, backend='loky', threads=1, scheduler=None)
    """
    count, backend, scheduler = (runtime[name] for name in OWN)
    if count is None:
        if backend != LOKY or scheduler is not None:
            raise InputError(f"runtime.backend={backend}: how many at a time? Give runtime.workers=NUMBER, too")
        return None
    try:
        return Workers(count, backend, threads or 1, scheduler)
    except InputError as error:
        raise InputError(f"runtime.{str(error).replace('count=', 'workers=', 1)}") from None
