"""Kernels in Triton for the executor `stacked`, and whether they serve. The modules with kernels import Triton.

Each of them has a plain twin in PyTorch's own operations where it is used. Sums are made in float32 and in another
order than cuDNN's, but in the same order every time: partial sums of fixed parts first, then the sum of those. Sizes
of blocks are functions of the tensors' sizes: nothing is tried, so that a CUDA graph may record the first call.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

LARGEST = 2**31 - 1
"""Places in memory are counted in 32 bits."""

MOST_PIXELS = 2**19
"""So many pixels a picture may have: their numbers are divided as float32 (`depthwise._quotient`)."""

MOST = 8
"""So many stacks and so many targets are added up in one call: as many pointers the kernels have."""


@dataclass(frozen=True)
class Statistics:
    """How norms behave in training mode, and where what they remember is.

    Args:
        eps: what is added to the variance.
        momentum: with which running statistics move.
        running: means of all norms of a cell, one after the other, then all variances, float32, which are moved in
            place; None where nothing is remembered.
    """

    eps: float
    momentum: float
    running: Tensor | None


def serves(*tensors: Tensor) -> bool:
    """Says whether Triton kernels compute on these tensors: float32 or bfloat16, on a CUDA device.

    The environment variable SUPERNET_TRITON=0 switches them off. With Triton's own TRITON_INTERPRET=1 they compute on a
    CPU, slowly, for tests.

    Args:
        tensors: one or more, on one device.

    Example:
        >>> serves(torch.zeros(1, dtype=torch.float64))
        False
    """
    device = "cpu" if _interpreted() else "cuda"
    return _present() and all(
        x.device.type == device and x.dtype in (torch.float32, torch.bfloat16) and x.numel() <= LARGEST for x in tensors
    )


def switched_on() -> bool:
    """Says whether SUPERNET_TRITON allows the kernels; read at each call."""
    return os.environ.get("SUPERNET_TRITON", "1") != "0"


def table_of(rows: Sequence[object], device: torch.device) -> Tensor:
    """Makes a table that kernels read.

    Args:
        rows: integers, or rows of as many integers each.
        device: where the kernels run.

    Returns:
        int32, of the rows' shape.

    Example:
        >>> table_of([(0, 1), (2, 3)], torch.device("cpu"))
        tensor([[0, 1],
                [2, 3]], dtype=torch.int32)
    """
    with torch.inference_mode(False):  # a tensor made in inference mode could not be used in training
        return torch.tensor(rows, dtype=torch.int32, device=device)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def _present() -> bool:
    return switched_on() and _installed()
