"""When a loop saves: now and then, where it says so, and before a signal stops it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from supernet.runtime.checkpoint import Checkpoint, Stateful
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted
from supernet.runtime.run import Run


def check_progress(step: Any, epoch: Any, per_epoch: int, epochs: int) -> None:
    """Raises InputError where a loop of `epochs` of `per_epoch` steps cannot be at this step and epoch.

    `epoch` counts the closed ones; `step` is among those of the next one, or where no epoch is left, at the end.
    """
    counts = type(step) is int and type(epoch) is int
    if not (counts and 0 <= epoch <= epochs and epoch * per_epoch <= step <= min(epochs, epoch + 1) * per_epoch):
        raise InputError(f"it says step {step}, epoch {epoch}; this run has {epochs} epochs of {per_epoch} steps")


class Autosave:
    """A run's checkpoint and the rule of when to write it.

    `check` is called before each write and raises where the state is not worth keeping, so that the file on disk
    stays good.
    """

    def __init__(self, run: Run, parts: Mapping[str, Stateful], check: Callable[[], None]) -> None:
        self._run, self._check = run, check
        self._checkpoint = Checkpoint(run.checkpoint, run.fingerprint, parts)
        self._last = time.monotonic()

    def restore(self) -> bool:
        """Takes over the state on disk, if there is one."""
        return self._checkpoint.load()

    def save(self) -> None:
        """Checks and writes now."""
        self._check()
        self._checkpoint.save()
        self._last = time.monotonic()

    def between_steps(self) -> None:
        """Writes if it is time to; writes and raises Interrupted if a signal asked for a stop."""
        if self._run.interruption.requested():
            self.save()
            raise Interrupted(self._run.interruption.signal or 0)
        if time.monotonic() - self._last >= self._run.save_seconds:
            self.save()
