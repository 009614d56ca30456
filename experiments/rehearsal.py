"""What several processes have to send one another, counted by one of them that plays its part alone.

A `Rehearsal` stands in the place of `Processes` and goes the same way through the loops, with the share of the batch
that one process gets. What would be sent is written down and not sent: other processes are taken to hold the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from supernet.runtime.processes import Processes, by_kind

Value = TypeVar("Value")
ARCHITECT, WEIGHTS, OUTPUTS, NORMS, HOSTS = (
    "gradients of the architect",
    "weights' gradients and statistics",
    "outputs",
    "batch norms",
    "meetings of hosts",
)


@dataclass(frozen=True)
class Meeting:
    """One of the times at which all processes wait for one another.

    Args:
        what: it is for.
        size: bytes that each process has at its end.
        passes: how often these go around a ring of all processes: once to be gathered, twice to be summed.
    """

    what: str
    size: int
    passes: int

    @property
    def of_hosts(self) -> bool:
        """Whether it is held by processors, also where the networks are on GPUs."""
        return self.what == HOSTS

    def sent(self, count: int) -> float:
        """Bytes that each of `count` processes sends.

        Example:
            >>> Meeting("outputs", 800, 1).sent(8), Meeting("weights", 800, 2).sent(8)
            (700.0, 1400.0)
        """
        return self.passes * (count - 1) * self.size / count


@dataclass(frozen=True)
class Rehearsal(Processes):
    """The first of several processes, which are not there.

    Args:
        held: the meetings so far.

    Example:
        >>> first = Rehearsal(count=4)
        >>> first.average_([torch.zeros(10), torch.zeros(5)])
        >>> first.held
        [Meeting(what="weights' gradients and statistics", size=60, passes=2)]
    """

    held: list[Meeting] = field(default_factory=list, compare=False)

    def averaged(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Counts, and copies as a reduction does."""
        if not self.several or not tensors:
            return list(tensors)
        for group in by_kind(tensors):
            self._flat(ARCHITECT, group)
        return [tensor.clone() for tensor in tensors]

    @torch.no_grad()
    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Counts, and copies as a reduction does."""
        for group in by_kind(tensors) if self.several else ():
            parts = self._flat(WEIGHTS, group).split([tensor.numel() for tensor in group])
            torch._foreach_copy_(group, [part.view_as(t) for part, t in zip(parts, group, strict=True)])

    def gathered(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        """Zeros stand for the rows of others."""
        if not self.several:
            return own
        self._note(OUTPUTS, max(sizes) * len(sizes) * _bytes(own) // max(1, len(own)), passes=1)
        return torch.cat((own, own.new_zeros((sum(sizes) - len(own), *own.shape[1:]))))

    def stacked(self, own: Tensor) -> Tensor:
        """Others are taken to have the same."""
        if not self.several:
            return own[None]
        joined: Tensor = _Stack.apply(own, self)
        return joined

    def all_of(self, value: Value, device: torch.device | str = "cpu") -> list[Value]:
        """Others are taken to have the same."""
        self._note(HOSTS, 0, passes=1)
        return [value] * self.count

    def from_leader(self, make: Callable[[], Value]) -> Value:
        """This is the leader."""
        self._note(HOSTS, 0, passes=1)
        return make()

    def largest(self, numbers: Sequence[int]) -> list[int]:
        """Others are taken to ask for nothing else."""
        self._note(HOSTS, 8 * len(numbers), passes=2)
        return list(numbers)

    @torch.no_grad()
    def _flat(self, what: str, tensors: Sequence[Tensor]) -> Tensor:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self._note(what, _bytes(flat), passes=2)
        return flat

    def _note(self, what: str, size: int, passes: int) -> None:
        self.held.append(Meeting(what, size, passes))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class _Stack(torch.autograd.Function):
    """Gathers, as `Processes.stacked` does; its slope is a sum over processes, whose slope gathers again."""

    @staticmethod
    def forward(own: Tensor, processes: Rehearsal) -> Tensor:
        processes._note(NORMS, processes.count * _bytes(own), passes=1)
        return torch.stack([own] * processes.count)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.processes = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        summed: Tensor = _Sum.apply(gradients[0], ctx.processes)
        return summed, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(stacked: Tensor, processes: Rehearsal) -> Tensor:
        processes._note(NORMS, _bytes(stacked), passes=2)
        return stacked.sum(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.processes = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        stacked: Tensor = _Stack.apply(gradients[0], ctx.processes)
        return stacked, None
