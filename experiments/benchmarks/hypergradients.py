"""Compares the finite difference of second-order DARTS (its second term) with the exact product.

The term is d(grad_alpha L_train)/dw times v, v the validation gradient after the virtual step (DARTS, Liu et al.
2019, equation 8). It is taken in float64 on a small supernet after some SGD steps on handwritten digits, and on a
smooth twin of it (softplus for ReLU, average for max pooling), for several lengths of the two-sided step.

    python experiments/benchmarks/hypergradients.py                           # some minutes
    python experiments/benchmarks/hypergradients.py --seeds 1 --steps 2       # under a minute
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from supernet.data.batches import Batch
from supernet.execution.modes import frozen_statistics
from supernet.runtime.text import quantity
from supernet.search.differentiable.architects import Bilevel, unrolled, unrolled_exact
from supernet.search.strategy import Step
from supernet.space.architecture import Weights
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.sgd import SgdStep, sgd
from supernet.training.tasks import Classification

PUBLISHED = 1e-2
EPSILONS = (1e-1, PUBLISHED, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
RATE, MOMENTUM, DECAY = 0.025, 0.9, 3e-4


def build(smooth: bool, seed: int, arguments: argparse.Namespace) -> Supernet:
    """A supernet in float64; the smooth twin has the same parameters."""
    torch.manual_seed(seed)
    space = Darts(channels=arguments.channels, cells=arguments.cells, nodes=arguments.nodes)
    supernet = Supernet(space.network(Undecided(), (1, 8, 8), 10)).double()
    if smooth:
        for module in list(supernet.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.ReLU):
                    setattr(module, name, nn.Softplus())
                if isinstance(child, nn.MaxPool2d):
                    setattr(module, name, nn.AvgPool2d(3, child.stride, padding=1, count_include_pad=False))
    return supernet


def batches(seed: int, count: int, size: int) -> list[Batch]:
    """Batches of digits without repetition, normalised."""
    digits = load_digits()
    images = torch.tensor(digits.images[:, None] / 16, dtype=torch.float64)
    images = (images - images.mean()) / images.std()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: count * size]
    if len(order) < count * size:
        raise SystemExit(
            f"{quantity(count, 'batch')} of {size}: more than the {quantity(len(images), 'digit')}; take fewer steps"
        )
    return [Batch(images[i], torch.tensor(digits.target)[i]) for i in order.split(size)]


def relax(logits: Sequence[Tensor], supernet: Supernet) -> Weights:
    """Softmax weights of the operation decisions; all edges count in full."""
    names = [name for name, decision in supernet.decisions.items() if decision.role == "operation"]
    return {name: each.softmax(0) for name, each in zip(names, logits, strict=True)}


def trained(supernet: Supernet, logits: Sequence[Tensor], data: Sequence[Batch]) -> Step:
    """Takes a step of SGD on each batch but the last two, which are the halves of the step returned."""
    optimizer = sgd(supernet, RATE, MOMENTUM, weight_decay=DECAY)
    for batch in data[:-2]:
        step = Step(supernet, batch, batch, Classification(), optimizer, 0.0)
        optimizer.zero_grad()
        step.loss(step.train, {name: w.detach() for name, w in relax(logits, supernet).items()}).backward()
        optimizer.step()
    return Step(supernet, data[-2], data[-1], Classification(), optimizer, 0.0)


def problem_of(step: Step, logits: Sequence[Tensor]) -> Bilevel:
    """The bilevel problem of one step."""
    parameters = list(step.supernet.parameters())
    return Bilevel(
        parameters,
        logits,
        lambda inner: step.loss(step.train, relax(logits, step.supernet), inner),
        lambda inner: step.loss(step.valid, relax(logits, step.supernet), inner),
        SgdStep.of(step.optimizer, parameters),
    )


def measure(smooth: bool, seed: int, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Distance and cosine to the exact quantity for each epsilon: of the second term, and of the hypergradient."""
    supernet = build(smooth, seed, arguments)
    generator = torch.Generator().manual_seed(seed)
    decisions = [d for d in supernet.decisions.values() if d.role == "operation"]
    logits = [1e-3 * torch.randn(len(d.options), dtype=torch.float64, generator=generator) for d in decisions]
    logits = [each.requires_grad_() for each in logits]
    step = trained(supernet, logits, batches(seed, arguments.steps + 2, arguments.batch_size))
    problem = problem_of(step, logits)

    def without_direct(inner: Sequence[Tensor]) -> Tensor:
        weights = {name: w.detach() for name, w in relax(logits, supernet).items()}
        return step.loss(step.valid, weights, inner)

    second = replace(problem, valid_loss=without_direct)  # its hypergradient is the second term alone
    rows = []
    with frozen_statistics(supernet):
        exact, whole = torch.cat(unrolled_exact(second)), torch.cat(unrolled_exact(problem))
        for epsilon in EPSILONS:
            term = torch.cat(unrolled(second, epsilon))
            rows.append(
                {
                    "epsilon": epsilon,
                    "term_distance": ((term - exact).norm() / exact.norm()).item(),
                    "term_cosine": torch.cosine_similarity(term, exact, dim=0).item(),
                    "hypergradient_distance": ((term - exact).norm() / whole.norm()).item(),
                    "hypergradient_cosine": torch.cosine_similarity(whole - exact + term, whole, dim=0).item(),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 on")
    parser.add_argument("--steps", type=int, default=10, help="SGD steps before the measurement")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/hypergradients.json"))
    arguments = parser.parse_args()
    results = {}
    for network in ("relu", "smooth"):
        runs = [measure(network == "smooth", seed, arguments) for seed in range(arguments.seeds)]
        results[network] = runs
        seeds = quantity(arguments.seeds, "seed")
        print(f"{network}: medians over {seeds} (of the second term; of the whole hypergradient)")
        print("  epsilon   distance   cosine    distance   cosine")
        for rows in zip(*runs, strict=True):
            epsilon, *values = (median(row[key] for row in rows) for key in rows[0])
            note = "  published" if epsilon == PUBLISHED else ""
            columns = "    ".join(f"{d:8.1e}  {c:+.4f}" for d, c in (values[:2], values[2:]))
            print(f"  {epsilon:7.0e}   {columns}{note}")
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"settings": settings, "torch": torch.__version__, "results": results}, indent=1)
    arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
