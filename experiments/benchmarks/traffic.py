"""Adds up the bytes that operations read and write: what a step costs on a device whose memory is its limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ONLY_WRITTEN = {
    *("copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "exponential_", "random_", "_foreach_copy_"),
    *("_foreach_zero_", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "empty_like"),
    *("new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided"),
}
"""Operations that overwrite their first argument, or ask only for its shape."""
_NOTHING = {
    *("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "detach", "alias", "lift_fresh"),
    *("record_stream", "set_", "resize_", "_reshape_alias", "_unsafe_view", "is_pinned", "is_same_size"),
}
"""Operations that move nothing."""


def bytes_of(tensor: Tensor) -> int:
    """Bytes of a tensor's distinct elements: what is expanded lies in memory once."""
    distinct = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        distinct *= size if stride or not size else 1
    return distinct * tensor.element_size()


def bytes_moved(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], made: Any) -> int:
    """Bytes in and out of one operation.

    Args:
        operation: as a dispatch mode is given it.
        args: its arguments.
        kwargs: more of them.
        made: what it returned.

    Returns:
        The bytes of all tensors that are read, and of all that are written; 0 for views and for memory that is made
        and not filled.
    """
    name, mutated, overwritten = _kind(operation)
    if name is None:
        return 0
    written, read = list[Tensor](), list[Tensor]()
    for number, (argument, value) in enumerate([*zip(mutated, args, strict=False), *kwargs.items()]):
        tensors = _tensors(value)
        if mutated.get(argument, False):
            written += tensors
        if argument != "out" and not (overwritten and number == 0):
            read += tensors
    fresh = [tensor for tensor in _tensors(made) if not any(tensor is known for known in written)]
    return sum(map(bytes_of, read)) + sum(map(bytes_of, written)) + sum(map(bytes_of, fresh))


@cache
def _kind(operation: Any) -> tuple[str | None, dict[str, bool], bool]:
    """An operation's name (None: it moves nothing), which arguments it writes into, whether it overwrites the first."""
    name = str(operation._schema.name.split("::")[1])
    given = operation._schema.arguments
    mutated = {a.name: a.alias_info is not None and a.alias_info.is_write for a in given}
    return None if operation.is_view or name in _NOTHING else name, mutated, name in _ONLY_WRITTEN


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, (list, tuple)) else []


class Traffic(TorchDispatchMode):
    """Within it, the bytes in and out of each operation are added up; backward passes count, views do not.

    Kernels that are launched by other ways than PyTorch's operations, such as Triton's, are not seen.

    Attributes:
        by_name: bytes by the operation's name.
        operations: how many there were, by name.

    Example:
        >>> import torch
        >>> with Traffic() as traffic:
        ...     sums = torch.zeros(8) + torch.ones(8)  # two are written; two are read, one is written
        >>> traffic.total, traffic.by_name["add"]
        (160, 96)
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Bytes of all operations."""
        return sum(self.by_name.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        moved = bytes_moved(func, args, kwargs, made)
        if moved:
            name = func._schema.name.split("::")[1]
            self.by_name[name] += moved
            self.operations[name] += 1
        return made
