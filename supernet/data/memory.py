"""Asks for the size of the machine's memory before something large is made in it."""

import os

from supernet.runtime.errors import InputError


def require_memory(size: int, where: str) -> None:
    """Refuses what needs more than the whole memory of this machine, before a damaged header makes it allocate that.

    A system that does not say how much memory it has refuses nothing.

    Args:
        size: bytes that are needed.
        where: how the message begins, such as the name of the file.

    Raises:
        InputError: `size` bytes are more than this machine's whole memory.

    Example:
        >>> require_memory(1 << 20, "images.idx")
        >>> require_memory(1 << 60, "images.idx")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        supernet.runtime.errors.InputError: images.idx: 1,073,741,824.0 GiB by its header, and this machine has ...
    """
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return
    if size > whole:
        raise InputError(f"{where}: {size / 2**30:,.1f} GiB by its header, and this machine has {whole / 2**30:,.1f}")
