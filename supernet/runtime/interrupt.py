"""Interruption: a signal becomes a question that a loop asks at every step, so that it can save and stop cleanly."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class Interrupted(Exception):
    """Raised by a loop that has saved its state because of a signal; exit_code is the shell's 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number

    @property
    def exit_code(self) -> int:
        """The exit status a shell expects of a process that a signal ended."""
        return 128 + self.signal


class Interruption:
    """Remember SIGINT and SIGTERM while the context is open; outside of it, nothing is ever requested.

    A SIGINT that follows an earlier signal raises KeyboardInterrupt at once. Handlers can be set on the main thread
    only; on other threads the context does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, _Handler] = {}

    def requested(self) -> bool:
        """Whether a signal has asked for a stop."""
        return self.signal is not None

    def __enter__(self) -> Self:
        self.signal = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
