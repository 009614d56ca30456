"""Cells: small directed graphs of states and edges. A search chooses their operations and their edges.

Its first states are its inputs; every further one, a node, is the sum of what comes over its edges from earlier
states. Which operation an edge has and which edges a node has is what the cell asks its chooser. How the graph is
evaluated is an executor's business: `reference` below, edge by edge, is the definition; `supernet.execution` has the
fast ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from supernet.space.architecture import Decision, edge_name
from supernet.space.choosers import Chooser
from supernet.space.dropout import DropPath
from supernet.space.operations import Site

Place = Callable[[str, int], tuple[Sequence[str], Site]]
"""(edge such as "normal/2/0", its source) -> the operations that it can have and where they stand."""


class Cell(nn.Module):
    """Maps input states (batch, any channels, height, width) to (batch, output nodes x channels, height, width).

    Nodes are numbered after the inputs. They ask for their inputs as "kind/node" and for the operations of their edges
    as "kind/node/source".

    Args:
        kind: such as "normal"; cells of one kind share their decisions.
        choose: answers what is asked.
        preprocess: modules that bring each input to the channels of the cell.
        nodes: how many states the cell computes.
        place: which operations an edge can have, and where they stand.
        keep: how many inputs a node keeps (None: all).
        output: the nodes that are concatenated. None asks as "kind/output", and all are kept unless a genotype says
            otherwise.
        reduction: the cell halves height and width; what reports and drawings call it.
        optional: an edge may stay empty, so that "none" can be kept (NAS-Bench-201; DARTS leaves out edges instead).
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
        optional: bool = False,
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
        self.keeps_width = True  # whether all edges make as many channels as they are given
        first = len(preprocess)
        for node in range(first, first + nodes):
            sources_of = Decision(f"{kind}/{node}", tuple(map(str, range(node))), keep or node, "inputs", kind)
            sources, total = choose.inputs(sources_of)
            self.totals.append(total)
            self.incoming.append([(int(source), f"{source}-{node}") for source in sources])
            for source in sources:
                edge, needs = edge_name(sources_of.name, source), ((sources_of.name, (source,)),)
                options, site = place(edge, int(source))
                self.keeps_width &= site.channels_in == site.channels_out
                asked = Decision(edge, tuple(options), group=kind, when=needs, optional=optional)
                self.edges[f"{source}-{node}"] = choose.operation(asked, site)
        self.execute: Executor = reference  # an engine puts a faster one here
        everything = Decision(f"{kind}/output", tuple(map(str, range(first, first + nodes))), nodes, "inputs", kind)
        self.output = output or [int(node) for node in choose.inputs(everything)[0]]

    def forward(self, *inputs: Tensor) -> Tensor:
        states = self.execute(self, inputs)
        return torch.cat([states[node] for node in self.output], dim=1)

    def preprocessed(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Brings the inputs to the channels and the size of this cell.

        Args:
            inputs: (batch, any channels, height, width) each.

        Returns:
            The first states, (batch, channels, height, width) each.
        """
        return [self.get_submodule(name)(x) for name, x in zip(self.preprocess, inputs, strict=True)]


Executor = Callable[[Cell, Sequence[Tensor]], list[Tensor]]
"""(cell, what comes in) -> all states: the inputs, preprocessed, and the nodes."""


def reference(cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Evaluates every edge by itself, node after node: the definition that a faster executor must equal.

    Args:
        cell: whose edges and nodes are evaluated.
        inputs: (batch, any channels, height, width) each.

    Returns:
        All states: the inputs, preprocessed, and the nodes.
    """
    return one_by_one(cell, cell.preprocessed(inputs))


def one_by_one(cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Does the work of `reference` on inputs that are preprocessed already.

    Args:
        cell: whose edges and nodes are evaluated.
        inputs: its first states, (batch, channels, height, width) each.

    Returns:
        All states: the inputs and the nodes.
    """
    states = list(inputs)
    for total, incoming in zip(cell.totals, cell.incoming, strict=True):
        arriving = []
        for source, name in incoming:
            edge = cell.edges[name]
            value = edge(states[source])
            arriving.append(value if isinstance(edge, nn.Identity) else cell.drop_path(value))
        states.append(total(arriving))
    return states
