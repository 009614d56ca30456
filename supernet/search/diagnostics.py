"""What a search looks like from outside: entropy, skip connections, sharpness, tables for heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from supernet.space.architecture import Architecture, Decision, Weights
from supernet.space.choices import OperationChoice, Supernet
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


def share(architecture: Architecture, decisions: Mapping[str, Decision], kind: str, operations: set[str]) -> float:
    """Which part of the edges that the architecture keeps in cells of a kind has one of `operations`.

    An edge with "none" is not kept; without any edge, 0.
    """
    kept = [
        operation
        for name, options in architecture.items()
        if name in decisions and not decisions[name].inputs and name.split("/")[0] == kind
        for operation in options
        if operation != "none"
    ]
    return sum(operation in operations for operation in kept) / max(1, len(kept))


def risen(values: Sequence[float], window: int, delta: int) -> float | None:
    """How many times larger the mean of the last `window` values is than it was `delta` values ago.

    The trigger of RobustDARTS (Zela et al. 2020, as its code has it): the older mean is that of the
    value number len(values) - 1 - window // 2 - delta, in whose middle it lies; before there are so many values, and
    where the older mean is not positive, so that nothing can be a multiple of it, None.
    """
    if len(values) <= window // 2 + delta:
        return None
    now, before = values[-window:], values[: len(values) - delta][-window:]
    older = sum(before) / len(before)
    return sum(now) / len(now) / older if older > 0 else None


def lambda_max(loss: Tensor, alphas: Sequence[Tensor], iterations: int = 100, tolerance: float = 1e-4) -> float:
    """The largest eigenvalue of the Hessian of `loss` in the alphas (RobustDARTS, Zela et al. 2020, section 3).

    A sharp rise of it goes before a collapse. By the method of Lanczos (1950), which wants far fewer products with the
    Hessian than power iteration and is not misled by an eigenvalue that is larger in size and negative: `iterations`
    exact products, or fewer, until the estimate, which comes from below, changes by less than `tolerance` of itself.
    `loss` has to be differentiable twice: build it on the reference executor.
    """
    slope = torch.autograd.grad(loss, alphas, create_graph=True, allow_unused=True, materialize_grads=True)
    flat = torch.cat([s.flatten() for s in slope])
    if not flat.requires_grad:  # a linear loss
        return 0.0

    def product(vector: Tensor) -> Tensor:
        found = torch.autograd.grad(flat, alphas, vector, retain_graph=True, allow_unused=True, materialize_grads=True)
        return torch.cat([f.flatten() for f in found])

    start = torch.randn(len(flat), generator=torch.Generator().manual_seed(0)).to(flat)
    basis = (start / start.norm()).unsqueeze(0)
    projected = torch.zeros(0, 0, dtype=torch.float64)
    value = 0.0
    for number in range(min(iterations, len(flat))):
        moved = product(basis[-1])
        projected = nn.functional.pad(projected, (0, 1, 0, 1))
        projected[:, -1] = projected[-1] = (basis @ moved).double().cpu()
        if not projected.isfinite().all():  # second derivatives overflow before the loss does
            return math.nan
        ritz = torch.linalg.eigvalsh(projected)
        before, value = value, ritz[-1].item()
        for _ in range(2):  # once is not enough in floating point
            moved = moved - basis.T @ (basis @ moved)
        exhausted = moved.norm().item() <= 10 * torch.finfo(flat.dtype).eps * ritz.abs().max().item()
        if exhausted or (number and abs(value - before) <= tolerance * abs(value)):
            break
        basis = torch.cat([basis, (moved / moved.norm()).unsqueeze(0)])
    return value


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
