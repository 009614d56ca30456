"""Compares GDAS' gradient of the alphas with the exact gradient of the expected loss, in the micro space.

A supernet of the micro space (conf/space/micro.yaml) learns uniformly drawn paths on handwritten digits. Then, on
images that it has not seen and under uniform alphas, the loss of each of its 125 paths is known, and with it the exact
gradient of the mean loss of a path that the alphas draw. GDAS (Dong and Yang 2019) estimates that gradient by one path
and a straight-through pass: printed are the cosine of its mean over many draws with the exact one, and how long that
mean is beside the standard deviation of one draw.

    python -m experiments.benchmarks.straight_through                          # some minutes
    python -m experiments.benchmarks.straight_through --seeds 1 --steps 240    # under a minute
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from supernet.data.batches import Batch
from supernet.execution.modes import frozen_statistics
from supernet.search.differentiable.relaxations import Gumbel
from supernet.search.strategy import Step
from supernet.space.architecture import Weights, one_path, random_architecture
from supernet.space.choosers import Undecided
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.training.schedules import Cosine
from supernet.training.sgd import sgd
from supernet.training.tasks import Classification

SPACE = NasBench201(
    channels=8,
    cells=1,
    stages=1,
    nodes=2,
    operations=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
)
BATCH, HELD = 64, 256


def halves(seed: int) -> tuple[Batch, Batch]:
    """The digits, normalised, in an order of the seed: those to learn from, and `HELD` others."""
    digits = load_digits()
    images = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    labels = torch.tensor(digits.target)
    learnt, held = order[HELD:], order[:HELD]
    return Batch(images[learnt], labels[learnt]), Batch(images[held], labels[held])


def trained(seed: int, steps: int) -> Step:
    """A supernet after `steps` steps of SGD, each on one uniformly drawn path."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    supernet, (learnt, held) = Supernet(SPACE.network(Undecided(single=True), (1, 8, 8), 10)), halves(seed)
    optimizer, schedule = sgd(supernet, 0.05, 0.9, weight_decay=3e-4), Cosine(0.05, 0.001)
    for number in range(steps):
        optimizer.param_groups[0]["lr"] = schedule(number, steps)
        places = torch.randint(len(learnt.images), (BATCH,), generator=generator)
        step = Step(
            supernet, Batch(learnt.images[places], learnt.labels[places]), held, Classification(), optimizer, 0.0
        )
        path = random_architecture(SPACE.name, supernet.decisions, generator)
        optimizer.zero_grad()
        step.loss(step.train, one_path(path, supernet.decisions)).backward()
        optimizer.step()
    return Step(supernet, held, held, Classification(), optimizer, 0.0)


def losses(step: Step, edges: list[str]) -> Tensor:
    """The held images' loss of each path: one axis for each edge, whose entries are the operations."""
    count, eye = len(SPACE.operations), torch.eye(len(SPACE.operations))
    found = torch.empty((count,) * len(edges))
    with torch.no_grad():
        for path in itertools.product(range(count), repeat=len(edges)):
            found[path] = step.loss(step.valid, {edge: eye[place] for edge, place in zip(edges, path, strict=True)})
    return found


def exact(of_paths: Tensor) -> Tensor:
    """The gradient in the alphas of all edges, at 0, of the expected loss of a path that they draw."""
    slopes = []
    for edge in range(of_paths.dim()):
        given = of_paths.movedim(edge, 0).flatten(1).mean(1)  # the expected loss, given the operation of this edge
        slopes.append((given - given.mean()) / len(given))
    return torch.cat(slopes)


def draws(step: Step, edges: list[str], count: int) -> Iterator[Tensor]:
    """GDAS' gradients of single draws at alphas of 0, at the temperature of the middle of a search."""
    relaxation = Gumbel(hard=True)
    for _ in range(count):
        alphas = [torch.zeros(len(SPACE.operations), requires_grad=True) for _ in edges]
        weights: Weights = {edge: relaxation(each, 0.5) for edge, each in zip(edges, alphas, strict=True)}
        slopes = torch.autograd.grad(step.loss(step.valid, weights), alphas)
        yield torch.cat(slopes)


def measure(seed: int, steps: int, count: int) -> dict[str, float]:
    """One supernet: its loss over all paths, and GDAS' gradient beside the exact one, whole and of the first edge."""
    step = trained(seed, steps)
    edges = [name for name, decision in step.supernet.decisions.items() if decision.role == "operation"]
    with frozen_statistics(step.supernet):
        of_paths = losses(step, edges)
        estimates = torch.stack(list(draws(step, edges, count)))
    true, estimate, first = exact(of_paths), estimates.mean(0), len(SPACE.operations)
    return {
        "loss": of_paths.mean().item(),
        "cosine": torch.cosine_similarity(true, estimate, dim=0).item(),
        "cosine of the first edge": torch.cosine_similarity(true[:first], estimate[:first], dim=0).item(),
        "signal to noise": (estimate.norm() / estimates.std(0).norm()).item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 on")
    parser.add_argument("--steps", type=int, nargs="+", default=[240, 1200, 4800], help="of SGD, before it is measured")
    parser.add_argument("--draws", type=int, default=2000, help="of GDAS, over which its gradient is averaged")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/straight_through.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for steps in arguments.steps:
        runs = results[steps] = [measure(seed, steps, arguments.draws) for seed in range(arguments.seeds)]
        for name in runs[0]:
            values = [run[name] for run in runs]
            each = " ".join(f"{value:.3f}" for value in values)
            print(f"{steps:6d} steps  {name:26s} mean {mean(values):6.3f}   seeds: {each}", flush=True)
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    record = {"settings": settings, "torch": torch.__version__, "results": results}
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
