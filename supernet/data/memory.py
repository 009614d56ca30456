"""Asks for the size of the machine's memory before something large is made in it."""

import os

from supernet.runtime.errors import InputError


def require_memory(size: int, where: str) -> None:
    """Raises InputError, begun by `where`, if `size` bytes are more than this machine's whole memory."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return
    if size > whole:
        raise InputError(f"{where}: {size / 2**30:,.1f} GiB by its header, and this machine has {whole / 2**30:,.1f}")
