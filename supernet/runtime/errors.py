"""The error for mistakes in what a person gave."""

from __future__ import annotations

from supernet.runtime.text import printable


class InputError(ValueError):
    """A mistake in what a person gave, in one line: what is wrong, its value, what is allowed, and the way out.

    A message about a parameter begins with the parameter's name: "epochs=0: needs at least 1".

    Args:
        message: the line. All characters that it quotes from files and names are made `printable`.

    Example:
        >>> str(InputError("path=a\\nb: no such file"))
        'path=a\\\\nb: no such file'
    """

    def __init__(self, message: object) -> None:
        super().__init__(printable(message))


def out_of_memory(error: BaseException) -> bool:
    """Says whether an error means that the memory of the processor is full.

    Args:
        error: any error: Python and NumPy raise MemoryError, PyTorch raises a RuntimeError with certain words.

    Returns:
        Whether it is one of these.

    Example:
        >>> out_of_memory(MemoryError()), out_of_memory(ValueError())
        (True, False)
    """
    told = ("can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(t in str(error) for t in told))
