"""Saves memory at the cost of time: a cell keeps only its inputs and is computed again for the gradient."""

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
    """Makes of an executor one that keeps only a cell's inputs and computes the rest again for the gradient.

    That trades about a third more time for the memory of all cells but one (Chen et al. 2016, "Training Deep Nets with
    Sublinear Memory Cost"). Parameters, architecture weights and random numbers are those of the first time, and
    running statistics move once.

    Args:
        executor: what evaluates a cell, both times.

    Returns:
        An executor that computes the same.

    Example:
        >>> from supernet.execution.modes import running
        >>> from supernet.space.cells import reference
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.darts import Darts
        >>> from supernet.space.supernet import Supernet
        >>> supernet = Supernet(Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 8, 8), 10))
        >>> weights = {name: torch.rand(len(d.options)) for name, d in supernet.decisions.items()}
        >>> with running(supernet, checkpointed(reference)):
        ...     supernet(torch.randn(2, 3, 8, 8), weights).sum().backward()
        >>> supernet.network.stem[0].weight.grad.abs().sum() > 0
        tensor(True)
    """

    def execute(cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
        if not torch.is_grad_enabled():
            return executor(cell, inputs)
        # The backward pass comes later: by then other parameters or weights may be in their places.
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
    """The tensors besides the inputs on which a cell's result depends: parameters, buffers and weights."""

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
