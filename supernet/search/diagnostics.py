"""What a search looks like from outside: entropy, skip connections, sharpness, tables for heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from supernet.space.architecture import Architecture, Decision, Weights
from supernet.space.drawing import edge_names


def kinds(decisions: Mapping[str, Decision]) -> list[str]:
    """The groups of decisions that are shown together: what stands before the first slash of their names."""
    return list(dict.fromkeys(d.name.split("/")[0] for d in decisions.values()))


def entropy(decisions: Mapping[str, Decision], weights: Weights, kind: str) -> float:
    """Mean entropy of operation weights over a kind's edges, relative to the uniform one: 1 undecided, 0 decided."""
    shares = []
    for decision in _edges(decisions, weights, kind):
        p = weights[decision.name].double()
        p = p / p.sum().clamp_min(1e-12)
        shares.append(-(p * p.clamp_min(1e-12).log()).sum() / math.log(len(decision.options)))
    return torch.stack(shares).mean().item() if shares else 0.0


def skip_count(architecture: Architecture, kind: str) -> int:
    """How many skip connections the architecture keeps in cells of a kind: many are the sign of a collapse."""
    return sum(kept.count("skip_connect") for name, kept in architecture.items() if name.split("/")[0] == kind)


def lambda_max(loss: Tensor, alphas: Sequence[Tensor], iterations: int = 100, tolerance: float = 1e-4) -> float:
    """The largest eigenvalue of the Hessian of `loss` in the alphas (RobustDARTS, Zela et al. 2020, section 3).

    A sharp rise of it goes before a collapse. By power iteration with exact Hessian-vector products, until it changes
    by less than `tolerance` of itself; where the eigenvalue that is largest in size is negative, once more with the
    spectrum moved above zero. `loss` has to be differentiable twice: build it on the reference executor.
    """
    slope = torch.autograd.grad(loss, alphas, create_graph=True, allow_unused=True, materialize_grads=True)
    flat = torch.cat([s.flatten() for s in slope])
    if not flat.requires_grad:  # a linear loss
        return 0.0

    def product(vector: Tensor) -> Tensor:
        found = torch.autograd.grad(flat, alphas, vector, retain_graph=True, allow_unused=True, materialize_grads=True)
        return torch.cat([f.flatten() for f in found])

    def dominant(shift: float) -> float:
        start = torch.randn(len(flat), generator=torch.Generator().manual_seed(0)).to(flat)
        vector, value = start / start.norm(), 0.0
        for _ in range(iterations):
            moved = product(vector) - shift * vector
            before, value = value, (vector @ moved).item()
            if moved.norm() == 0 or abs(value - before) <= tolerance * abs(value):
                break
            vector = moved / moved.norm()
        return value

    largest = dominant(0.0)
    return largest if largest >= 0 else largest + dominant(largest)


def table(decisions: Mapping[str, Decision], weights: Weights, kind: str) -> tuple[list[str], list[str], Tensor]:
    """Edge names, operation names and weights (edges, operations) of a kind; NaN where an edge lacks an operation."""
    edges = _edges(decisions, weights, kind)
    options = list(dict.fromkeys(o for d in edges for o in d.options))
    values = torch.full((len(edges), len(options)), math.nan)
    for row, decision in enumerate(edges):
        values[row, [options.index(o) for o in decision.options]] = weights[decision.name].detach().float().cpu()
    return edge_names([d.name for d in edges]), options, values


def _edges(decisions: Mapping[str, Decision], weights: Weights, kind: str) -> list[Decision]:
    def wanted(d: Decision) -> bool:
        return not d.inputs and len(d.options) > 1 and d.name in weights and d.name.split("/")[0] == kind

    return [d for d in decisions.values() if wanted(d)]
