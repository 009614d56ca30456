"""Figures that describe a search: entropy of the weights, skip connections, tables for heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from supernet.genotypes.drawing import edge_names
from supernet.space.architecture import Architecture, Decision, Weights
from supernet.space.choices import OperationChoice
from supernet.space.supernet import Supernet


def groups(decisions: Mapping[str, Decision]) -> list[str]:
    """Lists the groups of decisions that are shown together: in spaces of cells these are the kinds of cells.

    Args:
        decisions: of the network, by name.

    Returns:
        The names of the groups, in the order in which they first appear.

    Example:
        >>> cells = [Decision("normal/2/0", ("a", "b"), group="normal"), Decision("reduce/2/0", ("a",), group="reduce")]
        >>> groups({decision.name: decision for decision in cells})
        ['normal', 'reduce']
    """
    return list(dict.fromkeys(d.group for d in decisions.values()))


def entropy(decisions: Mapping[str, Decision], weights: Weights, group: str) -> float:
    """Measures how undecided a group is: the mean entropy of the weights of its edges, or sizes, relative to even ones.

    Args:
        decisions: of the network, by name.
        weights: (options,) for each decision; they need not add up to 1.
        group: the group, such as "normal"; its edges with one option, or without weights, do not count. Open sizes
            count as edges do.

    Returns:
        A number in [0, 1]: 1 where all is undecided, 0 where all is decided or no edge counts.

    Example:
        >>> edges = {name: Decision(name, ("a", "b"), group="normal") for name in ("normal/2/0", "normal/2/1")}
        >>> half = {"normal/2/0": torch.tensor([0.5, 0.5]), "normal/2/1": torch.tensor([1.0, 0.0])}
        >>> round(entropy(edges, half, "normal"), 3)
        0.5
    """
    shares = []
    for decision in _edges(decisions, weights, group):
        p = weights[decision.name].double()
        p = p / p.sum().clamp_min(1e-12)
        shares.append(-(p * p.clamp_min(1e-12).log()).sum() / math.log(len(decision.options)))
    return torch.stack(shares).mean().item() if shares else 0.0


def skip_count(architecture: Architecture, decisions: Mapping[str, Decision], group: str) -> int:
    """Counts the skip connections that an architecture keeps in a group: many are the sign of a collapse.

    Args:
        architecture: the options kept, by decision.
        decisions: of the network, by name.
        group: the group, such as "normal".

    Returns:
        The number of skip connections.

    Example:
        >>> edges = {name: Decision(name, ("skip_connect", "conv")) for name in ("a", "b")}
        >>> skip_count(Architecture("mine", {"a": ("skip_connect",), "b": ("conv",)}), edges, "")
        1
    """
    own = {name for name, decision in decisions.items() if decision.group == group}
    return sum(kept.count("skip_connect") for name, kept in architecture.items() if name in own)


def parametric(supernet: Supernet) -> set[str]:
    """Finds the operations that learn weights wherever the supernet has them.

    So convolutions do and pooling does not, whatever their names. A skip connection does not either: it has
    convolutions at stride 2, but it is a plain one at stride 1.

    Args:
        supernet: the network.

    Returns:
        The names of the operations.

    Example:
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.nasbench201 import NasBench201
        >>> network = NasBench201(channels=4, cells=1, stages=1, nodes=1).network(Undecided(), (3, 8, 8), outputs=10)
        >>> sorted(parametric(Supernet(network)))
        ['nor_conv_1x1', 'nor_conv_3x3']
    """
    learns: dict[str, bool] = {}
    for choice in (module for module in supernet.modules() if isinstance(module, OperationChoice)):
        for name, module in choice.candidates.items():
            learns[name] = learns.get(name, True) and any(True for _ in module.parameters())
    return {name for name, always in learns.items() if always}


def share(architecture: Architecture, decisions: Mapping[str, Decision], group: str, operations: set[str]) -> float:
    """Measures which part of the edges that an architecture keeps in a group has one of some operations.

    Args:
        architecture: the options kept, by decision.
        decisions: of the network, by name; what the architecture keeps beyond them does not count.
        group: the group, such as "normal".
        operations: the names of the operations that are looked for.

    Returns:
        A number in [0, 1]. An edge with "none" is not kept; without any edge the share is 0.

    Example:
        >>> edges = {name: Decision(name, ("none", "skip_connect", "conv")) for name in ("a", "b", "c")}
        >>> cell = Architecture("mine", {"a": ("skip_connect",), "b": ("conv",), "c": ("none",)})
        >>> share(cell, edges, "", {"skip_connect"})
        0.5
    """
    kept = [
        operation
        for name, options in architecture.items()
        if name in decisions and decisions[name].role == "operation" and decisions[name].group == group
        for operation in options
        if operation != "none"
    ]
    return sum(operation in operations for operation in kept) / max(1, len(kept))


def weight_table(
    decisions: Mapping[str, Decision], weights: Weights, group: str
) -> tuple[list[str], list[str], Tensor]:
    """Arranges the weights of a group's edges, or sizes, as a table, as a heat map shows it.

    Args:
        decisions: of the network, by name.
        weights: (options,) for each decision.
        group: the group, such as "normal"; its edges with one option, or without weights, are left out.

    Returns:
        The names of the edges, the names of the operations, and the weights (edges, operations) in float32 on the CPU,
        NaN where an edge lacks an operation.

    Example:
        >>> cell = {"normal/2/0": Decision("normal/2/0", ("a", "b")), "normal/2/1": Decision("normal/2/1", ("a", "c"))}
        >>> weights = {"normal/2/0": torch.tensor([0.5, 0.5]), "normal/2/1": torch.tensor([0.25, 0.75])}
        >>> edges, operations, values = weight_table(cell, weights, "")
        >>> edges, operations, values.tolist()
        (['c(k-2) → 0', 'c(k-1) → 0'], ['a', 'b', 'c'], [[0.5, 0.5, nan], [0.25, nan, 0.75]])
    """
    edges = _edges(decisions, weights, group)
    options = list(dict.fromkeys(o for d in edges for o in d.options))
    values = torch.full((len(edges), len(options)), math.nan)
    for row, decision in enumerate(edges):
        values[row, [options.index(o) for o in decision.options]] = weights[decision.name].detach().float().cpu()
    return edge_names([d.name for d in edges]), options, values


def _edges(decisions: Mapping[str, Decision], weights: Weights, group: str) -> list[Decision]:
    def wanted(d: Decision) -> bool:
        return d.role != "inputs" and len(d.options) > 1 and d.name in weights and d.group == group

    return [d for d in decisions.values() if wanted(d)]
