"""The largest memory that activations take while a network classifies one image: what a small device has to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_EACH_NUMBER = ("aten::native_batch_norm", "aten::hardswish", "aten::_native_batch_norm_legit_no_training")


def peak_memory(network: nn.Module, *inputs: Tensor) -> int:
    """Adds up the activations that are alive at the same time, at the moment at which they take the most.

    An activation is alive from the operation that makes it to the last one that reads it. What acts on each number by
    itself (norms, activations, additions) writes over an input that dies with it, as the memory planners of runtimes
    do; views take no memory. Parameters are not counted (`costs.stored_bytes`), nor is what a kernel takes for itself.

    Args:
        network: is run in evaluation mode.
        inputs: of it, with a batch of one image; tensors on torch's device "meta" are enough.

    Returns:
        Bytes.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)).to("meta")
        >>> peak_memory(network, torch.zeros(1, 1, 4, 4, device="meta"))  # 8 + 2 maps of 4 x 4 float32
        640
    """
    return max(_traced(network, inputs).alive())


def chained_peak(skeleton: nn.Module, *inputs: Tensor) -> int | None:
    """The peak of the network around open parts that run one after the other: the largest of all parts' peaks counts.

    Args:
        skeleton: a network whose open parts are single operations `new_empty` (`parts.Recorded`).
        inputs: of it.

    Returns:
        Bytes; None where something else is alive while an open part runs, so that peaks of parts do not tell.
    """
    return _traced(skeleton, inputs).around("aten::new_empty")


def _traced(network: nn.Module, inputs: Sequence[Tensor]) -> _Trace:
    training = network.training
    trace = _Trace(inputs, [*network.parameters(), *network.buffers()])
    try:
        network.eval()
        with torch.no_grad(), trace:
            made = network(*inputs)
    finally:
        network.train(training)
    trace.read(made)
    return trace


@dataclass(frozen=True)
class _Operation:
    """What an operation reads and makes anew, as numbers of memory blocks."""

    name: str
    reads: frozenset[int]
    makes: tuple[int, ...]
    overwrites: bool  # whether it can write its result over what it reads


class _Trace(TorchDispatchMode):
    """Notes for each operation which blocks of memory it reads and which it makes."""

    def __init__(self, inputs: Sequence[Tensor], constants: Sequence[Tensor]) -> None:
        super().__init__()
        self._kept = [tensor.untyped_storage() for tensor in constants]  # so that no address is used twice
        self._constants = {storage._cdata for storage in self._kept}
        self._numbers: dict[int, int] = {}
        self._sizes: list[int] = []
        self._operations: list[_Operation] = []
        self._operations.append(_Operation("", frozenset(), self._new(inputs), overwrites=False))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        known = frozenset(self._known([*args, *(kwargs or {}).values()]))
        overwrites = torch.Tag.pointwise in func.tags or func._schema.name in _EACH_NUMBER
        self._operations.append(_Operation(func._schema.name, known, self._new(made), overwrites))
        return made

    def read(self, result: Any) -> None:
        """Notes that the result is needed at the end."""
        self._operations.append(_Operation("", frozenset(self._known(result)), (), overwrites=False))

    def alive(self) -> list[int]:
        """The bytes that are alive during each operation."""
        last = {block: place for place, one in enumerate(self._operations) for block in (*one.makes, *one.reads)}
        total, ends = 0, dict[int, list[int]]()
        for block, place in last.items():
            ends.setdefault(place, []).append(block)
        sums = []
        for place, operation in enumerate(self._operations):
            dying = [block for block in ends.get(place, ()) if block in operation.reads]
            total += sum(self._sizes[block] for block in operation.makes)
            spared = [self._sizes[block] for block in dying if operation.overwrites]
            reused = next((size for size in spared if size in [self._sizes[block] for block in operation.makes]), 0)
            sums.append(total - reused)
            total -= sum(self._sizes[block] for block in ends.get(place, ()))
        return sums

    def around(self, open_part: str) -> int | None:
        """The peak without operations of a name; None where these are not all that is alive while they run."""
        last = {block: place for place, one in enumerate(self._operations) for block in (*one.makes, *one.reads)}
        peak = 0
        for place, (alive, operation) in enumerate(zip(self.alive(), self._operations, strict=True)):
            if operation.name != open_part:
                peak = max(peak, alive)
                continue
            own = {*operation.reads, *operation.makes}
            if alive != sum(self._sizes[block] for block in own) or any(last[b] > place for b in operation.reads):
                return None
        return peak

    def _known(self, tree: Any) -> list[int]:
        storages = [leaf.untyped_storage()._cdata for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
        return [self._numbers[address] for address in storages if address in self._numbers]

    def _new(self, tree: Any) -> tuple[int, ...]:
        made = []
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self._numbers and storage._cdata not in self._constants:
                    self._kept.append(storage)
                    self._numbers[storage._cdata] = len(self._sizes)
                    self._sizes.append(storage.nbytes())
                    made.append(self._numbers[storage._cdata])
        return tuple(made)
