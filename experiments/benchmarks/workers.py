"""Times how many candidates a second one and several workers judge: proxies, short trainings, a supernet's accuracy.

The workers take turns in one process, and are there before the clock starts. Each judges the same architectures with
one thread, so that all give the same values, which is checked. Where one worker is this process, nothing is sent.

    python -m experiments.benchmarks.workers                                # one and two workers
    python -m experiments.benchmarks.workers --workers 1 2 4 8 --candidates 200
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.setting import machine, write
from supernet.data.batches import evaluation_batches
from supernet.data.sklearn_digits import digits
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Score
from supernet.estimation.short_training import Fidelity, ShortTrainingScore
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.estimation.zero_cost.score import ZeroCostScore
from supernet.execution.engines import engine
from supernet.runtime.run import Run
from supernet.runtime.workers import Workers
from supernet.search.black_box.explorers import RandomExplorer
from supernet.search.black_box.exploring import Budget, Explored, explore
from supernet.space.choosers import Undecided
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.space.survey import candidates_of
from supernet.training.from_scratch import FinalNetwork
from supernet.training.loop import Recipe


def scores(space: NasBench201) -> dict[str, Score]:
    """What judges: the digits, half of them to learn from."""
    data, cpu = digits(), torch.device("cpu")
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    train, valid = data.train.subset(order[: len(order) // 2]), data.train.subset(order[len(order) // 2 :])
    outputs, shape, augmentation = len(data.classes), data.shape, data.augmentation
    torch.manual_seed(0)
    network = engine("fused", cpu).apply(space.network(Undecided(single=True), shape, outputs))
    problem = SearchProblem(Supernet(network), train, valid, augmentation, Run()).on_device()
    batches = tuple(evaluation_batches(train.subset(torch.arange(128)), 64, augmentation, cpu))
    final = FinalNetwork(space, shape, outputs)
    recipe = Recipe(epochs=3, cutout=0)
    return {
        "zero-cost proxies": ZeroCostScore(space, shape, outputs, batches, ("synflow", "naswot", "jacov")),
        "short trainings": ShortTrainingScore(
            final, train, valid, augmentation, recipe, fidelity=Fidelity(epochs=1), schedule="each_rung"
        ),
        "supernet": SupernetScore(problem, 64),
    }


def judged(score: Score, space: NasBench201, workers: Workers, seed: int, candidates: int) -> Explored:
    """Random architectures, all asked for at once."""
    explorer = RandomExplorer(candidates_of(space), seed=seed)
    return explore(explorer, score, Budget(evaluations=candidates), workers=workers)


def rates(score: Score, space: NasBench201, counts: Sequence[int], seeds: int, number: int) -> dict[int, list[float]]:
    """Candidates a second with each number of workers, a figure for each seed; they take turns."""
    found: dict[int, list[float]] = {count: [] for count in counts}
    for seed in range(-1, seeds):  # the first round warms up
        values = []
        for count in counts:
            workers, began = Workers(count), time.perf_counter()
            explored = judged(score, space, workers, max(seed, 0), number)
            took = time.perf_counter() - began
            values.append([dict(evaluation.values) for evaluation in explored.evaluations])
            if seed >= 0:
                found[count].append(number / took)
        assert all(value == values[0] for value in values), "the number of workers changed a value"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="how many, in turn")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5, help="each of other architectures")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/workers.json"))
    given = parser.parse_args()
    space = NasBench201(channels=given.channels, cells=1)
    by_score = {
        name: rates(score, space, given.workers, given.seeds, given.candidates) for name, score in scores(space).items()
    }
    print("| judged by | workers | candidates a second | against the first, seed by seed |\n|---|---|---|---|")
    for name, by_count in by_score.items():
        first = by_count[given.workers[0]]
        for count, figures in by_count.items():
            ratios = [figure / base for figure, base in zip(figures, first, strict=True)]
            print(f"| {name} | {count} | {in_words(figures, 1)} | {in_words(ratios, 2)} |")
    settings = {key: value for key, value in vars(given).items() if key != "output"}
    known: dict[str, Any] = {"settings": settings, "machine": machine(torch.device("cpu"))}
    write(given.output, {**known, "candidates_per_second": by_score})


def in_words(figures: Sequence[float], digits: int) -> str:
    """Mean and sample standard deviation."""
    spread = statistics.stdev(figures) if len(figures) > 1 else 0.0
    return f"{statistics.mean(figures):.{digits}f} ± {spread:.{digits}f}"


if __name__ == "__main__":
    main()
