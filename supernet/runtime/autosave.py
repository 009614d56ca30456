"""Saves a loop's state from time to time, when the loop asks for it, and before a signal stops it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from supernet.runtime.checkpoint import Checkpoint, Stateful
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted
from supernet.runtime.run import Run
from supernet.runtime.seeding import random_states, restore_random_states
from supernet.runtime.text import quantity


def check_progress(step: Any, epoch: Any, per_epoch: int, epochs: int) -> None:
    """Checks that a loop can be at a step and an epoch that a checkpoint says.

    Args:
        step: how many steps are done.
        epoch: how many epochs are complete.
        per_epoch: the steps of an epoch.
        epochs: the epochs of the loop.

    Raises:
        InputError: they are no whole numbers, or the step is not in the epoch that follows the complete ones.

    Example:
        >>> check_progress(25, 2, per_epoch=10, epochs=5)
        >>> check_progress(35, 2, per_epoch=10, epochs=5)
        Traceback (most recent call last):
        supernet.runtime.errors.InputError: it says step 35, epoch 2; this run has 5 epochs of 10 steps
    """
    counts = type(step) is int and type(epoch) is int
    if not (counts and 0 <= epoch <= epochs and epoch * per_epoch <= step <= min(epochs, epoch + 1) * per_epoch):
        length = f"{quantity(epochs, 'epoch')} of {quantity(per_epoch, 'step')}"
        raise InputError(f"it says step {step}, epoch {epoch}; this run has {length}")


class Autosave:
    """The checkpoint of a run and the rule of when it is written.

    Several processes save and stop at the same step, and the leader alone writes.

    Args:
        run: its checkpoint file, its fingerprint and how often it saves.
        parts: what is saved, by name.
        check: called before each saving. It raises where the state is not worth keeping, so that the file stays good.
    """

    def __init__(self, run: Run, parts: Mapping[str, Stateful], check: Callable[[], None]) -> None:
        self._run, self._check, self._parts = run, check, parts
        self._checkpoint = Checkpoint(run.checkpoint, run.fingerprint, parts, tell=run.report.line)
        self._last, self._steps = time.monotonic(), 0

    def restore(self) -> bool:
        """Restores the state on disk; returns whether there is one."""
        found, processes = self._checkpoint.load(), self._run.processes
        if processes.several:
            restore_random_states(processes.from_leader(random_states))
        self._compare("the start")  # no process goes on before all have read
        return found

    def save(self) -> None:
        """Checks the state and writes it now.

        Raises:
            Parted: processes differ; the file stays as it was.
        """
        self._check()
        self._compare(f"step {self._steps} since the last start")
        if self._run.processes.leads:
            self._checkpoint.save()
        self._last = time.monotonic()

    def between_steps(self) -> None:
        """Writes if it is time to. If a signal asked for a stop it writes and raises Interrupted."""
        processes = self._run.processes
        due = processes.leads and time.monotonic() - self._last >= self._run.save_seconds
        signal, save = self._run.asked(due)
        if signal is not None:
            self.save()
            raise Interrupted(signal)
        if save:
            self.save()
        elif self._steps and self._steps % processes.every == 0:
            self._compare(f"step {self._steps} since the last start")
        self._steps += 1

    def _compare(self, where: str) -> None:
        self._run.processes.compare(self._parts, where)
