"""What lower precision leaves of a second-order hypergradient, whose second term is a small difference of gradients."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache, partial

import torch
from torch import Tensor

from experiments.benchmarks.gpu_rows import Row, Rows
from experiments.benchmarks.gpu_sizes import Scale
from experiments.benchmarks.gpu_steps import PRODUCT
from experiments.benchmarks.setting import Search, SearchSteps, Variant, random_batch
from supernet.execution.modes import frozen_statistics
from supernet.runtime.run import Precision
from supernet.search.differentiable.architects import Bilevel, unrolled
from supernet.training.sgd import SgdStep

APART = ", differences in float32"
KINDS = ("float32", f"TF32{APART}", "TF32", f"bfloat16{APART}", "bfloat16")
"""With the differences in float32 are the product's precisions; TF32 and bfloat16 throughout are what it keeps from."""
SEEDS = (0, 1, 2)


def compare_precisions(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Cosines and distances to float64: of the second term, of the whole, of the direct term; medians over batches.

    The distance is in lengths of the float64 vector; `share` is the term's length in that of the whole.
    """
    exact = cache(partial(terms, "float64", scale=scale, device=device))

    def compared(kind: str) -> Row:
        found = [_compared(terms(kind, seed, scale=scale, device=device), exact(seed)) for seed in SEEDS]
        return {name: statistics.median(each[name] for each in found) for name in found[0]}

    for kind in KINDS:
        rows.measure(kind, partial(compared, kind))


def terms(kind: str, seed: int, *, scale: Scale, device: torch.device) -> tuple[Tensor, Tensor]:
    """The direct term and the second term of the hypergradient at an untrained supernet, each as one float64 vector."""
    dtype = torch.float64 if kind == "float64" else torch.float32
    apart: dict[str, Precision] = {"bfloat16": "bfloat16", "TF32": "tf32"}
    variant = Variant(PRODUCT, precision=apart.get(kind.removesuffix(APART), "float32"))
    steps = SearchSteps(Search(scale.check, unrolled), variant, scale.check_batch, scale.side, device)
    supernet, step, strategy = steps.supernet.to(dtype), steps.step, steps.strategy
    strategy.logits.to(dtype)
    train, valid = (
        random_batch(scale.check_batch, device, side=scale.side, seed=2 * seed + half, dtype=dtype) for half in (0, 1)
    )

    def problem(second: bool) -> Bilevel:
        def train_loss(inner: Sequence[Tensor]) -> Tensor:
            weights = strategy.relax(0.0, 1)
            return step.loss(train, weights if second else {n: w.detach() for n, w in weights.items()}, inner)

        def valid_loss(inner: Sequence[Tensor]) -> Tensor:
            return step.loss(valid, strategy.relax(0.0, 1), inner)

        exact = step.exact if kind.endswith(APART) else nullcontext
        next_step, alphas = SgdStep(0.025, 0.9, 3e-4), list(strategy.logits.values())
        return Bilevel(supernet.slots.now(), alphas, train_loss, valid_loss, next_step, exact=exact)

    assert step.accelerated is not None
    with frozen_statistics(supernet), step.accelerated:
        # A training loss that does not depend on the alphas has no second term.
        whole, direct = (torch.cat([g.double() for g in unrolled(problem(second))]) for second in (True, False))
    return direct, whole - direct


def _compared(ours: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> dict[str, float]:
    (direct, term), (true_direct, true_term) = ours, exact
    whole, true_whole = direct + term, true_direct + true_term
    return {
        "term_cosine": _cosine(term, true_term),
        "term_distance": float((term - true_term).norm() / true_term.norm()),
        "whole_cosine": _cosine(whole, true_whole),
        "whole_distance": float((whole - true_whole).norm() / true_whole.norm()),
        "direct_cosine": _cosine(direct, true_direct),
        "share": float(true_term.norm() / true_whole.norm()),
    }


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other / one.norm() / other.norm())
