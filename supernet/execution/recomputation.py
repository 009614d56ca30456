"""Less memory for more time: a cell keeps its inputs alone and is computed again for the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from supernet.space.cells import Cell, Executor
from supernet.space.choices import Choice


def checkpointed(executor: Executor) -> Executor:
    """`executor`, keeping of each cell its inputs alone and computing the rest again for the gradient.

    Trades about a third more time for the memory of all cells but one (Chen et al. 2016). Parameters, architecture
    weights and drop path are those of the first time; running statistics move once.
    """

    def execute(cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
        if not torch.is_grad_enabled():
            return executor(cell, inputs)
        first_time = _State.of(cell)

        @contextmanager
        def again() -> Iterator[None]:
            now = _State.of(cell)
            replace(first_time, buffers=[_copies(own) for own in now.buffers]).put()  # moved once, not twice
            try:
                yield
            finally:
                now.put()

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), again()

        states: list[Tensor] = checkpoint(
            lambda *given: executor(cell, given), *inputs, use_reentrant=False, context_fn=contexts
        )
        return states

    return execute


@dataclass(frozen=True)
class _State:
    """What a cell's result depends on besides its inputs: parameters (stand-ins, perhaps), buffers and weights."""

    modules: Sequence[nn.Module]
    parameters: Sequence[dict[str, nn.Parameter | None]]
    buffers: Sequence[dict[str, Tensor | None]]
    given: Sequence[tuple[Tensor | None, Sequence[bool]]]  # to choices: weights, and which are on

    @classmethod
    def of(cls, cell: Cell) -> _State:
        modules = list(cell.modules())
        given = [(m.weights, m.on) if isinstance(m, Choice) else (None, ()) for m in modules]
        return cls(modules, [dict(m._parameters) for m in modules], [dict(m._buffers) for m in modules], given)

    def put(self) -> None:
        for module, parameters, buffers, given in zip(
            self.modules, self.parameters, self.buffers, self.given, strict=True
        ):
            module._parameters, module._buffers = parameters, buffers
            if isinstance(module, Choice):
                module.weights, module.on = given


def _copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if value is None else value.clone() for name, value in buffers.items()}
