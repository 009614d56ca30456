"""What a search looks like from outside: entropy, skip connections, sharpness, tables for heat maps."""

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
    """The groups of decisions that are shown together, in order: in spaces of cells the kinds of cells."""
    return list(dict.fromkeys(d.group for d in decisions.values()))


def entropy(decisions: Mapping[str, Decision], weights: Weights, group: str) -> float:
    """Mean entropy of operation weights over a group's edges, relative to the uniform one: 1 undecided, 0 decided."""
    shares = []
    for decision in _edges(decisions, weights, group):
        p = weights[decision.name].double()
        p = p / p.sum().clamp_min(1e-12)
        shares.append(-(p * p.clamp_min(1e-12).log()).sum() / math.log(len(decision.options)))
    return torch.stack(shares).mean().item() if shares else 0.0


def skip_count(architecture: Architecture, decisions: Mapping[str, Decision], group: str) -> int:
    """How many skip connections the architecture keeps in cells of a group: many are the sign of a collapse."""
    own = {name for name, decision in decisions.items() if decision.group == group}
    return sum(kept.count("skip_connect") for name, kept in architecture.items() if name in own)


def parametric(supernet: Supernet) -> set[str]:
    """The operations that learn weights wherever the supernet has them.

    So convolutions do and pooling does not, whatever their names; nor does a skip connection, which is a plain one at
    stride 1, although it has convolutions at stride 2.
    """
    learns: dict[str, bool] = {}
    for choice in (module for module in supernet.modules() if isinstance(module, OperationChoice)):
        for name, module in choice.candidates.items():
            learns[name] = learns.get(name, True) and any(True for _ in module.parameters())
    return {name for name, always in learns.items() if always}


def share(architecture: Architecture, decisions: Mapping[str, Decision], group: str, operations: set[str]) -> float:
    """Which part of the edges that the architecture keeps in cells of a group has one of `operations`.

    An edge with "none" is not kept; without any edge, 0.
    """
    kept = [
        operation
        for name, options in architecture.items()
        if name in decisions and decisions[name].role == "operation" and decisions[name].group == group
        for operation in options
        if operation != "none"
    ]
    return sum(operation in operations for operation in kept) / max(1, len(kept))


def table(decisions: Mapping[str, Decision], weights: Weights, group: str) -> tuple[list[str], list[str], Tensor]:
    """Edge names, operation names and weights (edges, operations) of a group; NaN where an edge lacks an operation."""
    edges = _edges(decisions, weights, group)
    options = list(dict.fromkeys(o for d in edges for o in d.options))
    values = torch.full((len(edges), len(options)), math.nan)
    for row, decision in enumerate(edges):
        values[row, [options.index(o) for o in decision.options]] = weights[decision.name].detach().float().cpu()
    return edge_names([d.name for d in edges]), options, values


def _edges(decisions: Mapping[str, Decision], weights: Weights, group: str) -> list[Decision]:
    def wanted(d: Decision) -> bool:
        return d.role == "operation" and len(d.options) > 1 and d.name in weights and d.group == group

    return [d for d in decisions.values() if wanted(d)]
