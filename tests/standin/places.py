"""Tensors by their address: a device's memory is the host's, so that the CPU can compute where CUDA would have."""

import ctypes
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.standin import account


class Place:
    """Where a tensor of the device lies, without keeping it alive: as a kernel's argument does."""

    __slots__ = ("address", "bytes", "dtype", "shape", "span", "stride")

    def __init__(self, tensor: Tensor) -> None:
        self.address, self.dtype = tensor.data_ptr(), tensor.dtype
        self.shape, self.stride = tuple(tensor.shape), tensor.stride()
        self.span = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        self.bytes = 0 if 0 in self.shape else self.span * tensor.element_size()

    @property
    def empty(self) -> bool:
        return not self.bytes

    def tensor(self) -> Tensor:
        """A tensor of the CPU on this memory.

        Raises:
            AssertionError: the memory was given back to CUDA.
        """
        if self.empty:
            return torch.empty(self.shape, dtype=self.dtype)
        if not account.library.standin_live(ctypes.c_void_p(self.address), ctypes.c_size_t(self.bytes)):
            raise AssertionError(f"used after it was freed: {self.dtype} {self.shape} at {self.address:#x}")
        memory = (ctypes.c_char * self.bytes).from_address(self.address)
        return torch.frombuffer(memory, dtype=self.dtype, count=self.span).as_strided(self.shape, self.stride)

    def poison(self) -> None:
        """Fills memory that nobody has written yet with what nobody can take for a number."""
        if self.dtype.is_floating_point and not self.empty:
            self.tensor().fill_(math.nan)


def mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """An operation's arguments or results, with `change` of those of a kind in their places."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(each, kind, change) for each in value)
    if isinstance(value, dict):
        return {name: mapped(each, kind, change) for name, each in value.items()}
    return value


def leaves(value: Any) -> list[Any]:
    """All that lists, tuples and dictionaries hold."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


def placed(value: Any) -> Any:
    """Arguments or results with the places of tensors on the device instead of these; others stay."""
    return mapped(value, Tensor, lambda tensor: Place(tensor) if tensor.is_cuda else tensor)


def on_cpu(value: Any) -> Any:
    """The same with tensors of the CPU on that memory."""
    return mapped(value, Place, Place.tensor)
