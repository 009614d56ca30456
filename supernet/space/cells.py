"""A cell: a small directed graph of states and edges, the thing that is searched and the thing that is found.

Its first states are its inputs; every further one, a node, is the sum of what comes over its edges from earlier
states. Which operation an edge has and which edges a node has is what the cell asks its chooser. How the graph is
evaluated is the executor's business: `reference` below, edge by edge, is the definition; `fused.py` is the fast one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from supernet.space.architecture import edge_name
from supernet.space.choices import Choice, Supernet, holding
from supernet.space.operations import DropPath, Site

if TYPE_CHECKING:
    from supernet.space.choosers import Chooser

Place = Callable[[str, int], tuple[Sequence[str], Site]]
"""(edge such as "normal/2/0", its source) -> the operations that it can have and where they stand."""


class Cell(nn.Module):
    """Maps input states (batch, any channels, height, width) to (batch, output nodes x channels, height, width).

    `preprocess` are modules that bring each input to the cell's channels. Nodes are numbered after the inputs and ask
    for their inputs as "kind/node", keeping `keep` of them (None: all), for their edges as "kind/node/source".
    `output` lists the nodes that are concatenated; None asks as "kind/output", and all are kept unless a genotype
    says otherwise.
    """

    def __init__(
        self,
        kind: str,
        choose: Chooser,
        preprocess: Sequence[nn.Module],
        nodes: int,
        place: Place,
        *,
        keep: int | None,
        output: Sequence[int] | None = None,
        reduction: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.reduction = kind, reduction
        self.preprocess = [f"preprocess{number}" for number in range(len(preprocess))]
        for name, module in zip(self.preprocess, preprocess, strict=True):
            self.add_module(name, module)
        self.edges = nn.ModuleDict()
        self.totals = nn.ModuleList()
        self.drop_path = DropPath()
        self.incoming: list[list[tuple[int, str]]] = []
        first = len(preprocess)
        for node in range(first, first + nodes):
            sources, total = choose.inputs(f"{kind}/{node}", [str(s) for s in range(node)], keep=keep or node)
            self.totals.append(total)
            self.incoming.append([(int(source), f"{source}-{node}") for source in sources])
            for source in sources:
                edge = edge_name(f"{kind}/{node}", source)
                options, site = place(edge, int(source))
                self.edges[f"{source}-{node}"] = choose.operation(edge, options, site)
        self.execute: Executor = choose.executor
        everything = [str(node) for node in range(first, first + nodes)]
        self.output = output or [int(n) for n in choose.inputs(f"{kind}/output", everything, keep=nodes)[0]]

    def forward(self, *inputs: Tensor) -> Tensor:
        states = self.execute(self, inputs)
        return torch.cat([states[node] for node in self.output], dim=1)

    def preprocessed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The input states, with this cell's channels and size."""
        return [self.get_submodule(name)(x) for name, x in zip(self.preprocess, inputs, strict=True)]


Executor = Callable[[Cell, Sequence[Tensor]], list[Tensor]]
"""(cell, what comes in) -> all states: the inputs, preprocessed, and the nodes."""


def reference(cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Every edge by itself, node after node: the definition that a faster executor must equal."""
    return one_by_one(cell, cell.preprocessed(inputs))


def one_by_one(cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
    """`reference`, from inputs that are preprocessed."""
    states = list(inputs)
    for total, incoming in zip(cell.totals, cell.incoming, strict=True):
        arriving = []
        for source, name in incoming:
            edge = cell.edges[name]
            value = edge(states[source])
            arriving.append(value if isinstance(edge, nn.Identity) else cell.drop_path(value))
        states.append(total(arriving))
    return states


def running(network: nn.Module, executor: Executor) -> AbstractContextManager[None]:
    """Within it all cells of `network` are evaluated by `executor`: same parameters, same function."""
    return holding([module for module in network.modules() if isinstance(module, Cell)], "execute", executor)


def frozen_statistics(network: nn.Module) -> AbstractContextManager[None]:
    """Within it batch norms in training mode use the batch's statistics, as always, but remember nothing."""
    return holding(_remembering(network), "track_running_stats", False)


def _remembering(network: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    modules = network.norms if isinstance(network, Supernet) else network.modules()
    return [m for m in modules if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]


@contextmanager
def recalibrated(network: nn.Module, batches: Iterable[Tensor], forward: Callable[[Tensor], object]) -> Iterator[None]:
    """Within it all batch norms remember the mean statistics of `batches`, as `forward` meets them, and nothing else.

    Afterwards every buffer of `network`, which is in training mode, is what it was. It is how a supernet's weights are
    judged under architecture weights that they have not been trained with.
    """
    norms = _remembering(network)
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    momenta = [norm.momentum for norm in norms]
    try:
        with torch.no_grad():
            for number, batch in enumerate(batches, start=1):
                for norm in norms:
                    norm.momentum = 1 / number  # the first batch replaces what there was, the others average
                forward(batch)
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


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
