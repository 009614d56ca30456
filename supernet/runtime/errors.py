"""The one error type for mistakes in what a person gave."""

from __future__ import annotations

from supernet.runtime.text import printable


class InputError(ValueError):
    """A mistake in what a person gave, in one line: what, the value, what is allowed, the way out.

    Whatever the message quotes (names of files and classes, words of a run's directory) is made `printable`.
    """

    def __init__(self, message: object) -> None:
        super().__init__(printable(message))


def out_of_memory(error: BaseException) -> bool:
    """Whether the processor's memory ended: Python's and NumPy's MemoryError, or what PyTorch raises instead."""
    told = ("can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(t in str(error) for t in told))
