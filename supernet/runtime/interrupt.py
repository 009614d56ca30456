"""Turns a signal into a question that a loop asks at every step, so that the loop can save and stop cleanly."""

import signal
import threading
from collections.abc import Callable, Collection
from types import FrameType, TracebackType
from typing import Self

# A scheduler's notice that time is up soon: save, stop, and ask to be started again. Windows has no such signals.
NOTICES = tuple(signal.Signals[name] for name in ("SIGUSR1", "SIGUSR2") if name in signal.Signals.__members__)
_MINDED = (signal.SIGINT, signal.SIGTERM, *NOTICES)
_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class Interrupted(Exception):
    """A loop has saved its state because of a signal, and stops.

    Args:
        number: the number of the signal.

    Example:
        >>> Interrupted(signal.SIGTERM).exit_code
        143
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number

    @property
    def exit_code(self) -> int:
        """The exit status of a process that a signal has ended, as shells have it: 128 + signal."""
        return 128 + self.signal

    @property
    def notice(self) -> bool:
        """Whether it was a scheduler's notice, so that the job wants to be started again."""
        return self.signal in NOTICES


class Interruption:
    """Remembers SIGINT, SIGTERM and a scheduler's `NOTICES` while its context is open, and nothing outside of it.

    A SIGINT that follows an earlier signal raises KeyboardInterrupt at once; of others the first one counts, as a
    scheduler that has given notice sends SIGTERM, too. Handlers can only be set on the main thread; on other threads
    the context does nothing.

    Args:
        apart_from: signals that keep the handlers they have.

    Example:
        >>> with Interruption() as interruption:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     interruption.requested()
        True
    """

    def __init__(self, apart_from: Collection[int] = ()) -> None:
        self.signal: int | None = None
        self._minded = [number for number in _MINDED if number not in apart_from]
        self._previous: dict[int, _Handler] = {}

    def requested(self) -> bool:
        """Returns whether a signal has asked for a stop."""
        return self.signal is not None

    def __enter__(self) -> Self:
        self.signal = None
        if threading.current_thread() is threading.main_thread():
            for number in self._minded:
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
        if self.signal is None:
            self.signal = number
