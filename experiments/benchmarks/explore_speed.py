"""Times how many candidates a second the supernet's score judges, against plain forward passes of their networks.

The plain loop has the networks of the same candidates built, with the supernet's weights copied, before its clock
starts, and batches that are ready; it computes logits and nothing else, or their accuracy, too, edge by edge or with
the fused executor that the score has. The score puts the kept operations of each candidate into the supernet and counts
the right answers. All take turns; all are in training mode and keep no statistics.

    python -m experiments.benchmarks.explore_speed
    python -m experiments.benchmarks.explore_speed --space nasbench201 --channels 8 --cells 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks.setting import alternate, machine, write
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident, evaluation_batches
from supernet.estimation.problem import SearchProblem
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.execution.engines import Engine, engine
from supernet.execution.modes import frozen_statistics
from supernet.runtime.run import Run
from supernet.search.progressive.weight_inheritance import weights_of
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.space.survey import candidates_of

CLASSES = 10


class Scores:
    """One call judges all candidates by the supernet."""

    def __init__(self, score: SupernetScore, candidates: list[Architecture]) -> None:
        self.score, self.candidates = score, candidates

    def __call__(self) -> None:
        for architecture in self.candidates:
            self.score(architecture)


class PlainPasses:
    """One call runs all networks on all batches, one network after the other, and reads a number of each."""

    def __init__(self, networks: list[nn.Module], batches: list[Batch], judged: bool) -> None:
        self.networks, self.batches, self.judged = networks, batches, judged

    def __call__(self) -> None:
        for network in self.networks:
            with torch.inference_mode(), frozen_statistics(network):
                total = sum(self.number(network(batch.images), batch) for batch in self.batches)
            float(total)  # waits for the device

    def number(self, logits: Tensor, batch: Batch) -> Tensor:
        """What is read of the logits in the end: the cheapest number, or how many images are right."""
        return (logits.argmax(1) == batch.labels).sum() if self.judged else logits[0, 0]


def arguments() -> argparse.Namespace:
    """The sizes, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=("micro", "nasbench201", "darts"), default="micro")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--cells", type=int, default=1, help="of a stage, or of the network")
    parser.add_argument("--side", type=int, default=8, help="height and width of an image")
    parser.add_argument("--images", type=int, default=719, help="that judge; as many as the digits have")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    device = torch.device(given.device)
    spaces: dict[str, Any] = {
        "micro": NasBench201(channels=given.channels, cells=given.cells, stages=1, nodes=2),
        "nasbench201": NasBench201(channels=given.channels, cells=given.cells),
        "darts": Darts(channels=given.channels, cells=given.cells),
    }
    space, shape, used = spaces[given.space], (3, given.side, given.side), engine("fused", device)
    torch.manual_seed(0)
    supernet = Supernet(used.apply(space.network(Undecided(single=True), shape, CLASSES)))
    mixed = Supernet(used.apply(space.network(Undecided(), shape, CLASSES)))
    mixed.load_state_dict(supernet.state_dict())
    images = torch.randint(0, 256, (given.images, *shape), dtype=torch.uint8)
    source, augmentation = Resident(images, torch.arange(given.images) % CLASSES), Augmentation((0.5,) * 3, (0.25,) * 3)
    drawn, rng = candidates_of(space), Random(0)
    candidates = [drawn.random(rng) for _ in range(given.candidates)]

    def score(network: Supernet) -> Scores:
        problem = SearchProblem(network, source, source, augmentation, Run(device)).on_device()
        return Scores(SupernetScore(problem, given.batch_size), candidates)

    def plain(architecture: Architecture, run: Engine) -> nn.Module:
        network = space.network(Decided(architecture, searching=True), shape, CLASSES)
        network.load_state_dict(weights_of(supernet, architecture))
        return run.apply(network).to(device).train()

    by_path, by_mixture = score(supernet), score(mixed)
    networks = [plain(architecture, engine("reference")) for architecture in candidates]
    fast = [plain(architecture, used) for architecture in candidates]
    batches = list(evaluation_batches(source, given.batch_size, augmentation, device))
    steps: dict[str, Callable[[], Any]] = {
        "plain passes": PlainPasses(networks, batches, judged=False),
        "plain passes, fused": PlainPasses(fast, batches, judged=False),
        "plain passes, fused, and their accuracy": PlainPasses(fast, batches, judged=True),
        "supernet of single paths": by_path,
        "supernet of mixtures": by_mixture,
    }
    times = alternate(steps, device, warm_up=1, rounds=given.rounds)
    base = times["plain passes"]["median"]
    print("| candidates a second | median | range | against plain passes |\n|---|---|---|---|")
    for name, t in times.items():
        low, median, high = (given.candidates / t[key] for key in ("most", "median", "least"))
        print(f"| {name} | {median:.1f} | {low:.1f}-{high:.1f} | {base / t['median']:.2f} |")
    if given.output is not None:
        settings = {key: str(value) for key, value in vars(given).items() if key != "output"}
        write(given.output, {"settings": settings, "machine": machine(device), "seconds": times})


if __name__ == "__main__":
    main()
