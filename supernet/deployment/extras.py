"""Packages that only an export needs: imported when they are used, and one line where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from supernet.runtime.errors import InputError


def extra(*names: str) -> Any:
    """Imports modules of the extra `supernet[export]`.

    Args:
        names: of the modules; those that only have to be there, first.

    Returns:
        The last one.

    Raises:
        InputError: one of them is not installed.
    """
    module = None
    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            missing = (error.name or name).split(".")[0]
            raise InputError(f'{missing} is not installed; pip install "supernet[export]" brings it') from None
    return module
