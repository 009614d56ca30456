"""The compiled functions, which are optional: without them convolutions and norms are slower.

`pip install` compiles it where there is a C++ compiler. SUPERNET_COMPILED=0 in the environment leaves it unused.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch  # noqa: F401 - its OpenMP has to be loaded first, so that ours is the same


def library() -> ctypes.CDLL | None:
    """The compiled functions of depthwise.cpp and passes.cpp; None where they were not compiled or are not wanted."""
    return None if os.environ.get("SUPERNET_COMPILED", "1") == "0" else _loaded()


@cache
def _loaded() -> ctypes.CDLL | None:
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name("_compiled" + suffix)
        if path.exists():
            try:
                return ctypes.CDLL(str(path))
            except OSError:  # compiled for another machine
                return None
    return None
