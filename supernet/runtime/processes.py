"""Several processes that take one search or one training together, each with its share of every batch.

There is no wrapper around a network: each process has all of it, and what they learn is joined where a gradient is
taken, by one reduction of one flat tensor (`Processes.averaged`). All else, the draws of paths and of noise, the steps
of optimisers, the decisions of explorers, is computed by every process alike, from the same numbers. So each holds the
same state to the bit, any of them could write the checkpoint (the leader does), and a difference is a fault that
`Processes.compare` names.

PyTorch's launchers start the processes (`torchrun`, `torch.distributed.launcher`), its backends carry the numbers:
gloo on processors, NCCL on GPUs.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from supernet.runtime.errors import InputError
from supernet.runtime.seeding import random_states
from supernet.runtime.text import shortened

Value = TypeVar("Value")
_LOST = re.compile(r"gloo|NCCL|[Cc]onnection (was )?(closed|reset|refused)|Broken pipe|[Ss]ocket")
_UNSET = "; torchrun sets it, and unset RANK is for a process alone"
_DIGITS = 10  # more than any of a launcher's numbers has
_PATIENCE = timedelta(minutes=30)  # for a process that is alive and does not answer


class Parted(InputError):
    """Processes that are to hold the same numbers do not; one line names the first of them."""


@dataclass(frozen=True)
class Processes:
    """The processes that take a loop together, seen from one of them. The default is a process alone.

    Every method that is not a property is a meeting: all processes call it, in the same order, or all wait. Alone,
    each does nothing and costs nothing.

    Args:
        rank: the number of this process, from 0; 0 leads: it reports and writes.
        count: how many there are.
        every: in how many steps of a loop the processes compare what they hold, 1 or more.
        synchronised: whether batch norms take the statistics of the joined batch; otherwise each process has those of
            its share, as is usual, and what norms remember is their mean.

    Raises:
        InputError: a number is out of its range.

    Example:
        >>> alone = Processes()
        >>> alone.leads, alone.share(torch.arange(4)).tolist(), alone.largest([3, 1])
        (True, [0, 1, 2, 3], [3, 1])
    """

    rank: int = 0
    count: int = 1
    every: int = 100
    synchronised: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise InputError(f"rank={self.rank}: {self.count} processes have the ranks from 0 to {self.count - 1}")
        if self.every < 1:
            raise InputError(f"every={self.every}: needs 1 step or more between comparisons, such as 100")

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that reports and writes."""
        return self.rank == 0

    def sizes(self, total: int) -> list[int]:
        """How many of `total` images each process has: the first ones have one more where they do not divide.

        Example:
            >>> Processes(0, 4).sizes(10)
            [3, 3, 2, 2]
        """
        whole, left = divmod(total, self.count)
        return [whole + (rank < left) for rank in range(self.count)]

    def rows(self, total: int) -> slice:
        """Which of the rows of a joined batch are this process's."""
        ends = list(accumulate(self.sizes(total), initial=0))
        return slice(ends[self.rank], ends[self.rank + 1])

    def share(self, indices: Tensor) -> Tensor:
        """This process's part of the indices of a joined batch."""
        return indices[self.rows(len(indices))]

    def averaged(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Averages tensors over the processes, all of them by one reduction; differentiable.

        The slope of the mean in this process's own tensors is taken as 1 and not as 1 / count: whoever differentiates a
        function of the mean averages what comes of it again, and all processes have the same function.

        Args:
            tensors: of the same shapes in every process.

        Returns:
            The means, the same to the bit in every process.
        """
        if not self.several or not tensors:
            return list(tensors)
        return list(_Mean.apply(*tensors))

    @torch.no_grad()
    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by their means over the processes, all of one type by one reduction.

        Args:
            tensors: of the same shapes in every process; they are written to.
        """
        if not self.several:
            return
        for group in by_kind(tensors):
            flat = _mean_of(group)
            torch._foreach_copy_(group, [part.view_as(t) for part, t in _parts(flat, group)])

    def gathered(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        """Puts the rows of all processes one behind the other, in the order of their ranks.

        A gradient reaches this process's own rows alone; the others' reaches them.

        Args:
            own: (rows, ...), where all but the number of rows are the same in every process.
            sizes: how many rows each process has.

        Returns:
            (sum of sizes, ...).
        """
        if not self.several:
            return own
        joined: Tensor = _Rows.apply(own, self.rank, tuple(sizes))
        return joined

    def stacked(self, own: Tensor) -> Tensor:
        """Stacks tensors of the same shape of all processes; a gradient is that of all processes' losses together.

        Args:
            own: any shape.

        Returns:
            (count, ...).
        """
        if not self.several:
            return own[None]
        joined: Tensor = _Stack.apply(own, self.rank, self.count)
        return joined

    def all_of(self, value: Value, device: torch.device | str = "cpu") -> list[Value]:
        """Collects an object of each process, such as what an evaluation counted.

        Args:
            value: anything that can be pickled; tensors may be in it, on any device.
            device: where the tensors of the answer are.

        Returns:
            The objects in the order of the ranks.
        """
        if not self.several:
            return [value]
        packed = io.BytesIO()
        torch.save(value, packed)
        found: list[bytes | None] = [None] * self.count
        dist.all_gather_object(found, packed.getvalue())
        read: list[Value] = [
            torch.load(io.BytesIO(one or b""), map_location=device, weights_only=False)  # of this program's processes
            for one in found
        ]
        return read

    def from_leader(self, make: Callable[[], Value]) -> Value:
        """Lets the leader alone make something that others could not make alike, such as a measured time.

        Args:
            make: called by the leader.

        Returns:
            What the leader made, in every process.
        """
        if not self.several:
            return make()
        made: list[Any] = [make() if self.leads else None]
        dist.broadcast_object_list(made, src=0)
        value: Value = made[0]
        return value

    def largest(self, numbers: Sequence[int]) -> list[int]:
        """The largest of each number over the processes: what one of them was asked, all of them do.

        Args:
            numbers: as many in every process.

        Returns:
            As many.
        """
        if not self.several:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        answer: list[int] = found.tolist()
        return answer

    def wait(self) -> None:
        """Waits until all processes are here."""
        self.largest([0])

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Within it the others run after the leader has: for what it leaves for them, such as files it fetches."""
        if self.several and not self.leads:
            self.wait()
        yield
        if self.several and self.leads:
            self.wait()

    def compare(self, parts: Mapping[str, Any], where: str) -> None:
        """Checks that all processes hold the same: states of parts and of random generators, to the bit.

        Args:
            parts: objects with a `state_dict`, by name.
            where: says where the loop is, for the message.

        Raises:
            Parted: in every process, where one of them holds something else. It names the first tensor.

        Example:
            >>> Processes().compare({"network": torch.nn.Linear(1, 1)}, "step 100")
        """
        if not self.several:
            return
        own = _digests({**{name: part.state_dict() for name, part in parts.items()}, "random": _random_states()})
        together = hashlib.blake2b(b"".join(own.values()), digest_size=8).digest()
        number = int.from_bytes(together, "little", signed=True)
        most, least = self.largest([number, -1 - number])
        if most == -1 - least:
            return
        for name, *found in _side_by_side(self.all_of(own)):
            if len(set(found)) > 1:
                other = next(rank for rank, digest in enumerate(found) if digest != found[0])
                raise Parted(
                    f"{name} differs between processes 0 and {other} at {where}; processes that take one search "
                    "together have to hold the same numbers: machines of one kind, with the same versions, do. The "
                    "last checkpoint is from before"
                )


ALONE = Processes()


def _side_by_side(of_each: Sequence[Mapping[str, bytes]]) -> Iterator[tuple[Any, ...]]:
    for name in dict.fromkeys(name for one in of_each for name in one):
        yield (name, *(one.get(name) for one in of_each))


def _random_states() -> dict[str, Any]:
    """Those of the generators that a loop draws from; of GPUs the process's own."""
    states = random_states()
    own = states.pop("cuda")
    return {**states, "device": own[torch.cuda.current_device()] if own else None}


def _digests(value: Any, name: str = "") -> dict[str, bytes]:
    """A hash of each tensor and number in nested containers, by its path."""
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, Tensor | Mapping | list | tuple) for item in value):
        items = enumerate(value)
    else:
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            content = f"{value.dtype} {tuple(value.shape)}".encode() + plain.numpy().tobytes()
        else:
            content = repr(value).encode()
        return {name: hashlib.blake2b(content, digest_size=16).digest()}
    found: dict[str, bytes] = {}
    for key, item in items:
        found |= _digests(item, f"{name}/{key}" if name else str(key))
    return found


def by_kind(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Groups tensors that one flat tensor can hold: of one type, on one device."""
    kinds: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault(_kind(tensor), []).append(tensor)
    return list(kinds.values())


def _parts(flat: Tensor, like: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(flat.split([tensor.numel() for tensor in like]), like, strict=True)


def _mean_of(tensors: Sequence[Tensor]) -> Tensor:
    """The mean over the processes of tensors of one type, as one flat tensor."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    return flat.div_(dist.get_world_size())


class _Mean(torch.autograd.Function):
    """See `Processes.averaged`."""

    @staticmethod
    def forward(*tensors: Tensor) -> tuple[Tensor, ...]:
        means = list(tensors)
        for group in by_kind(tensors):
            places = [i for i, tensor in enumerate(tensors) if _kind(tensor) == _kind(group[0])]
            for place, (part, tensor) in zip(places, _parts(_mean_of(group), group), strict=True):
                means[place] = part.view(tensor.shape).clone()
        return tuple(means)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return gradients


def _kind(tensor: Tensor) -> Any:
    return tensor.dtype, tensor.device


class _Rows(torch.autograd.Function):
    """See `Processes.gathered`. Rows are padded to the same number, which NCCL needs."""

    @staticmethod
    def forward(own: Tensor, rank: int, sizes: tuple[int, ...]) -> Tensor:
        most = max(sizes)
        padded = own.new_zeros((most, *own.shape[1:]))
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(found, padded)
        return torch.cat([rows[:size] for rows, size in zip(found, sizes, strict=True)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, rank, sizes = inputs
        begin = sum(sizes[:rank])
        ctx.rows = slice(begin, begin + sizes[rank])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.rows], None, None


class _Stack(torch.autograd.Function):
    """See `Processes.stacked`; its slope is `_OwnSum`, whose slope it is."""

    @staticmethod
    def forward(own: Tensor, rank: int, count: int) -> Tensor:
        own = own.contiguous()
        found = [torch.empty_like(own) for _ in range(count)]
        dist.all_gather(found, own)
        return torch.stack(found)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.rank, ctx.count = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        summed: Tensor = _OwnSum.apply(gradients[0], ctx.rank, ctx.count)
        return summed, None, None


class _OwnSum(torch.autograd.Function):
    """This process's part of the sum over the processes of (count, ...)."""

    @staticmethod
    def forward(stacked: Tensor, rank: int, count: int) -> Tensor:
        total = stacked.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[rank].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.rank, ctx.count = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        stacked: Tensor = _Stack.apply(gradients[0], ctx.rank, ctx.count)
        return stacked, None, None


def is_loss(error: BaseException) -> bool:
    """Whether an error says that the connection to another process was lost."""
    own = isinstance(error, dist.DistError)
    return own or (type(error) is RuntimeError and _LOST.search(str(error)) is not None)


def launched() -> bool:
    """Whether a launcher such as torchrun has started this process as one of several.

    Raises:
        InputError: what it says of their number is none.
    """
    return "RANK" in os.environ and _said("WORLD_SIZE", 1) > 1


@contextmanager
def together(every: int = 100, synchronised: bool = False) -> Iterator[Processes]:
    """Joins the processes that a launcher has started; a process that none has started is alone.

    Processes on GPUs see one GPU each afterwards, as the first. So call it before anything uses a GPU.

    Args:
        every: in how many steps the processes compare what they hold.
        synchronised: whether batch norms take the statistics of the joined batch.

    Yields:
        The processes, for `Run`, `supernet.search` and `supernet.retrain`.

    Raises:
        InputError: a number is out of its range, or the launcher's variables do not say where the processes meet.

    Example:
        >>> with together() as processes:
        ...     processes.count
        1
    """
    if not launched():
        yield Processes(every=every, synchronised=synchronised)
        return
    _check_launcher()
    _see_one_gpu(_said("LOCAL_RANK", 0))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), every, synchronised)
    finally:
        dist.destroy_process_group()


def _check_launcher() -> None:
    """Raises InputError where the processes would wait for one that cannot come, or not know where to meet."""
    rank, count = _said("RANK"), _said("WORLD_SIZE")
    if rank >= count:
        raise InputError(f"RANK={rank}: of WORLD_SIZE={count} processes, whose ranks are 0 to {count - 1}{_UNSET}")
    if not os.environ.get("MASTER_ADDR"):
        raise InputError(f"MASTER_ADDR: is not set; RANK and WORLD_SIZE say that there are {count} processes{_UNSET}")
    if not 0 < (port := _said("MASTER_PORT")) < 1 << 16:
        raise InputError(f"MASTER_PORT={port}: ports have the numbers from 1 to {(1 << 16) - 1}{_UNSET}")


def _said(name: str, default: int | None = None) -> int:
    """A number in the launcher's variables of the environment."""
    value = os.environ.get(name, "" if default is None else str(default))
    if not (value.isascii() and value.isdecimal() and len(value) < _DIGITS):
        raise InputError(f"{name}={shortened(value)}: needs a whole number{_UNSET}")
    return int(value)


def _see_one_gpu(local: int) -> None:
    """Leaves of the visible GPUs the one of this process, so that it is the first in each of them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name for name in visible.split(",") if name] if visible is not None else None
    if names is None and torch.cuda.device_count() > 1:
        names = [str(number) for number in range(torch.cuda.device_count())]
    if names and len(names) > 1 and not torch.cuda.is_initialized():
        os.environ["CUDA_VISIBLE_DEVICES"] = names[local % len(names)]
