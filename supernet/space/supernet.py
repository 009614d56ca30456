"""The supernet: a network that holds open decisions, as a function of images and architecture weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.runtime.parameter_slots import ParameterSlots
from supernet.space.architecture import Architecture, Decision, Weights
from supernet.space.cells import Cell
from supernet.space.choices import Choice, NumberChoice, OperationChoice, Together
from supernet.space.operations import Zero


class Supernet(nn.Module):
    """A network with open decisions: a function of images and architecture weights.

    It holds no architecture parameters: `parameters()` is exactly w of the bilevel problem, and every strategy
    runs on the same supernet by handing it other weights.

    Args:
        network: built by a chooser that keeps places open.

    Raises:
        InputError: a decision is asked twice with different options.

    Example:
        >>> from supernet.space.architecture import Architecture, one_hot
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.nasbench201 import NasBench201
        >>> space = NasBench201(channels=4, cells=1, stages=1, nodes=1)
        >>> supernet = Supernet(space.network(Undecided(), (3, 8, 8), outputs=10))
        >>> cell = Architecture(space.name, {"cell/1": ("0",), "cell/1/0": ("skip_connect",)})
        >>> supernet(torch.zeros(2, 3, 8, 8), one_hot(cell, supernet.decisions)).shape
        torch.Size([2, 10])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._choices = [module for module in network.modules() if isinstance(module, Choice)]
        self._operations = [choice for choice in self._choices if isinstance(choice, OperationChoice)]
        self._numbers = [choice for choice in self._choices if isinstance(choice, NumberChoice)]
        self.norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        self.decisions: dict[str, Decision] = {}
        for choice in self._choices:
            known = self.decisions.setdefault(choice.decision.name, choice.decision)
            if known != choice.decision:
                raise InputError(f"{known.name!r} is asked twice with different options; give each its own name")

    def forward(self, images: Tensor, weights: Weights) -> Tensor:
        """Runs the network with these weights.

        Args:
            images: (batch, channels, height, width).
            weights: an entry for each decision about an operation or a number; where an input decision has none, the
                edges of its node are plainly added.

        Returns:
            Logits, (batch, classes).
        """
        of_candidates: dict[tuple[str, int], Tensor] = {}
        for edge in self._operations:
            if edge.key not in of_candidates:
                of_candidates[edge.key] = edge.of_candidates(weights[edge.decision.name])
        of_candidates |= {number.key: weights[number.decision.name] for number in self._numbers}
        on = self._on(of_candidates)
        try:
            for choice in self._choices:
                if isinstance(choice, OperationChoice | NumberChoice):
                    choice.weights, choice.on = of_candidates[choice.key], on.get(choice.key, ())
                else:
                    choice.weights = weights.get(choice.decision.name)
            return self.network(images)
        finally:
            for choice in self._choices:
                choice.weights, choice.on = None, ()

    @contextmanager
    def decided(self, architecture: Architecture) -> Iterator[None]:
        """Within it the supernet is the plain network of an architecture, with the same parameters.

        Its cells have the edges that are kept, each with its kept operation alone, and `forward` needs no weights: {}.
        It is for supernets whose open operations are all edges of cells (`decidable`).

        Args:
            architecture: of its space.

        Example:
            >>> from supernet.space.choosers import Undecided
            >>> from supernet.space.nasbench201 import NasBench201, from_string
            >>> space = NasBench201(channels=4, cells=1, stages=1, nodes=1)
            >>> supernet = Supernet(space.network(Undecided(), (3, 8, 8), outputs=10))
            >>> with supernet.decided(from_string("|skip_connect~0|")):
            ...     supernet(torch.ones(2, 3, 8, 8), {}).shape, supernet.cells[0].edges
            (torch.Size([2, 10]), ModuleDict(
              (0-1): Identity()
            ))
        """
        before = [(cell, cell.edges, cell.incoming) for cell in self.cells]
        choices, operations = self._choices, self._operations
        try:
            self._choices, self._operations = [], []
            for cell in self.cells:
                _decide(cell, architecture)
            yield
        finally:
            self._choices, self._operations = choices, operations
            for cell, edges, incoming in before:
                cell.edges, cell.incoming = edges, incoming

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells; from the first use on the structure is to stay."""
        return [module for module in self.network.modules() if isinstance(module, Cell)]

    @cached_property
    def decidable(self) -> bool:
        """Whether `decided` can be used: partial channels, for example, are no plain operations."""
        edges = [edge for cell in self.cells for edge in cell.edges.values() if isinstance(edge, OperationChoice)]
        return len(edges) == len(self._operations) and not self._numbers

    @property
    def operations(self) -> Sequence[OperationChoice]:
        """The mixed operations of all edges."""
        return self._operations

    @property
    def numbers(self) -> Sequence[NumberChoice]:
        """The open sizes."""
        return self._numbers

    @cached_property
    def slots(self) -> ParameterSlots:
        """Where the parameters are, in the order of `parameters()`; from the first use on the structure is to stay."""
        return ParameterSlots(self)

    def idle(self, paths: Sequence[Weights]) -> list[nn.Parameter]:
        """Finds the operations that run without weight: some operation has to run on every edge of single paths.

        Args:
            paths: the weights of each pass, as `forward` takes them.

        Returns:
            The parameters of the operations of single paths that have no weight in any of the passes, on edges that
            a node may leave out. An operation has weight if its edge and itself have it in the same pass.
        """
        nodes = {name for _, name, _ in self._edges}
        names = [*nodes, *(edge for edge, _, _ in self._edges)]
        if not nodes or not all(name in weights for name in names for weights in paths):
            return []
        sizes = [len(self.decisions[name].options) for name in names]
        used: set[tuple[str, str]] = set()
        for weights in paths:
            read = iter(torch.cat([weights[n][:size] for n, size in zip(names, sizes, strict=True)]).tolist())
            on = {(name, option): next(read) != 0 for name in names for option in self.decisions[name].options}
            for edge, node, source in self._edges:
                if on[node, source]:
                    used |= {(edge, option) for option in self.decisions[edge].options if on[edge, option]}
        return [
            parameter
            for (edge, _, _), operations in self._edges.items()
            for option, own in operations.items()
            if (edge, option) not in used
            for parameter in own
        ]

    @cached_property
    def _edges(self) -> dict[tuple[str, str, str], dict[str, list[nn.Parameter]]]:
        """The parameters of each operation on edges of single paths that may be left out: (edge, node, source)."""
        found: dict[tuple[str, str, str], dict[str, list[nn.Parameter]]] = {}
        for choice in self._operations:
            for name, sources in choice.decision.when if choice.single else ():
                node = self.decisions.get(name)
                if node is not None and node.role == "inputs" and node.keep < len(node.options):
                    own = found.setdefault((choice.decision.name, name, sources[0]), {})
                    for option in choice.decision.options:
                        own.setdefault(option, []).extend(choice.candidates[option].parameters())
        return found

    @property
    def data_dependent(self) -> bool:
        """Whether a pass begins by reading weights from the device: which operations run is decided on the host."""
        return any(choice.single for choice in (*self._operations, *self._numbers))

    def _on(self, weights: Mapping[tuple[str, int], Tensor]) -> dict[tuple[str, int], list[bool]]:
        """Reads by key which weights of single paths are not zero, all at once, to wait for the device once."""
        choices: list[OperationChoice | NumberChoice] = [*self._operations, *self._numbers]
        keys = list(dict.fromkeys(choice.key for choice in choices if choice.single))
        if not keys:
            return {}
        read = iter(torch.cat([weights[key].detach() for key in keys]).ne(0).tolist())
        return {key: [next(read) for _ in range(len(weights[key]))] for key in keys}


def _decide(cell: Cell, architecture: Architecture) -> None:
    """Leaves a cell the edges and operations that an architecture keeps."""
    first, kept, incoming = len(cell.preprocess), nn.ModuleDict(), list[list[tuple[int, str]]]()
    for number, arriving in enumerate(cell.incoming, start=first):
        sources = architecture.get(f"{cell.kind}/{number}")
        incoming.append([edge for edge in arriving if sources is None or str(edge[0]) in sources])
        for _, name in incoming[-1]:
            edge = cell.edges[name]
            if isinstance(edge, OperationChoice):
                options = architecture.get(edge.decision.name, edge.decision.options[:1])
                operations = [edge.candidates[option] for option in options]
                edge = operations[0] if len(operations) == 1 else Together(operations)
            kept[name] = edge
    _leave_out_dead_states(cell, kept, incoming)
    cell.edges, cell.incoming = kept, incoming


def _leave_out_dead_states(cell: Cell, kept: nn.ModuleDict, incoming: list[list[tuple[int, str]]]) -> None:
    """Leaves the states that nothing but "none" reads one edge, which is "none": what they are has no effect."""
    first, alive = len(cell.preprocess), set(cell.output)
    for number in reversed(range(first, first + len(incoming))):
        arriving = incoming[number - first]
        if number in alive:
            alive |= {source for source, name in arriving if not isinstance(kept[name], Zero)}
            continue
        nothing = [(edge, cell.edges[edge[1]]) for edge in arriving]
        for edge, choice in nothing:
            if isinstance(choice, OperationChoice) and "none" in choice.candidates:
                incoming[number - first], kept[edge[1]] = [edge], choice.candidates["none"]
                break
