"""How long a search step of nested candidates takes, against the plain networks that it draws, in the same run.

A step of single paths computes, of each open size, what the drawn architecture needs. Here whole steps of the search
(gradients to zero, forward, backward, clipping, SGD over all weights of the supernet) take turns with forward and
backward passes of the same architectures, each built by itself. The ratio is that of each pair; its median counts.

    python -m experiments.benchmarks.nested_step                                       # two minutes
    python -m experiments.benchmarks.nested_step --side 32 --batch 8 --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from experiments.benchmarks.setting import machine, random_batch, write
from supernet.data.batches import Batch
from supernet.execution.engines import engine
from supernet.runtime.seeding import generator
from supernet.runtime.text import quantity
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.loop import search_step
from supernet.search.progressive.weight_inheritance import weights_of
from supernet.search.strategy import Step
from supernet.space import spaces
from supernet.space.architecture import Architecture, one_path, random_architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.mobile import Mobile
from supernet.space.supernet import Supernet
from supernet.training.sgd import sgd
from supernet.training.tasks import CLASSIFICATION

SPACES = {"mobilenet_v3": spaces.mobilenet_v3, "ofa_mbv3": spaces.ofa_mbv3}


class Fixed(UniformStrategy):
    """Draws the path that it is told."""

    path: Architecture

    def sample(self, step: Step) -> dict[str, torch.Tensor]:
        return one_path(self.path, self.decisions)

    def samples(self, step: Step) -> list[dict[str, torch.Tensor]]:
        return [self.sample(step)]


def plain_pass(network: nn.Module, batch: Batch) -> None:
    """Forward and backward of a plain network, gradients new each time."""
    network.zero_grad()
    CLASSIFICATION.loss(network(batch.images), batch).backward()


def pairs(space: Mobile, batch: Batch, rounds: int) -> list[dict[str, float]]:
    """Seconds of a search step and of the plain passes of what it draws, in turns, each of several architectures."""
    fast = engine("fused")
    shape: tuple[int, int, int] = (3, batch.images.shape[2], batch.images.shape[3])
    torch.manual_seed(0)
    supernet = Supernet(fast.apply(space.network(Undecided(single=True), shape, 10)))
    strategy = Fixed(space.name, supernet.decisions)
    optimizer = sgd(supernet, 0.025, 0.9, weight_decay=3e-4)
    step = Step(supernet, batch, batch, CLASSIFICATION, optimizer, progress=0.0)
    found = []
    for number in range(rounds + 1):
        strategy.path = random_architecture(space.name, supernet.decisions, generator(0, number))
        network: nn.Module = space.network(Decided(strategy.path), shape, 10)
        network.load_state_dict(weights_of(supernet, strategy.path))
        network = fast.apply(network)
        times: dict[str, float] = {}
        for _ in range(2):  # what was built first is warm in the second turn
            began = time.perf_counter()
            search_step(step, strategy, 5.0)
            middle = time.perf_counter()
            plain_pass(network, batch)
            times = {"step": middle - began, "plain": time.perf_counter() - middle}
        found.append(times)
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=list(SPACES), default="mobilenet_v3")
    parser.add_argument("--side", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20, help="architectures")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/nested_step.json"))
    arguments = parser.parse_args()
    batch = random_batch(arguments.batch, torch.device("cpu"), side=arguments.side)
    times = pairs(SPACES[arguments.space](), batch, arguments.rounds)
    ratios = sorted(pair["step"] / pair["plain"] for pair in times)
    step, plain = (statistics.median(pair[name] for pair in times) for name in ("step", "plain"))
    print(
        f"search step {step:.3f} s, plain forward and backward {plain:.3f} s "
        f"(medians of {quantity(len(times), 'architecture')}); "
        f"ratio {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}"
    )
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    write(arguments.output, {"settings": settings, "machine": machine(torch.device("cpu")), "pairs": times})


if __name__ == "__main__":
    main()
