"""Times the work of the host in a step whose passes are CUDA graphs: no step on a GPU can be shorter.

Passes are recorded once, on the processor, and then replayed by doing nothing. What is timed is everything else that a
step does: to see that the graph fits, to hand inputs, stand-ins and gradients over, the alphas' weights, the clipping
and both optimisers. The clipping and the weights' optimiser, which here compute on the processor, are timed alone, too.

    python -m experiments.benchmarks.host                            # the published sizes
    python -m experiments.benchmarks.host --cells 3 --training-cells 3 --channels 4
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.setting import SearchSteps, TrainingSteps, Variant, alternate, machine, searches, write
from supernet.execution.cuda_graphs import Backward, Forward, Recorded
from supernet.search.strategy import Step
from supernet.space.darts import Darts
from supernet.training.flat import clip_gradients

BATCH, SIDE = 2, 8
"""Images enough to record a pass; how large they are makes no difference afterwards."""


def still(forward: Forward, backward: Backward | None) -> Recorded:
    """Stands in for CUDA's capture: the passes of the recording are all there will be."""
    outputs = forward()
    return Recorded(outputs, lambda: None, backward(outputs) if backward else (), lambda: None)


def end_step(step: Step) -> None:
    """The end of a step of the weights, with the gradients that are there."""
    clip_gradients(step.optimizer, 5.0)
    step.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=16, help="of the search network")
    parser.add_argument("--cells", type=int, default=8, help="of the search network")
    parser.add_argument("--training-cells", type=int, default=20, help="of the network that is retrained")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/host.json"))
    arguments = parser.parse_args()
    device, graphs = torch.device("cpu"), Variant("stacked", graphs=True, capture=still)
    space = Darts(channels=arguments.channels, cells=arguments.cells)
    steps_of = {
        name.replace("_", " "): SearchSteps(search, graphs, BATCH, SIDE, device)
        for name, search in searches(space).items()
        if name != "single_path"  # never recorded
    }
    final = Darts(channels=4, cells=arguments.training_cells, auxiliary=True)
    training = TrainingSteps(final, graphs, BATCH, 32, device)
    networks = {**{name: steps.supernet for name, steps in steps_of.items()}, "retraining": training.network}
    networks["clipping and SGD alone"] = steps_of["first order"].supernet
    ending = partial(end_step, steps_of["first order"].step)
    steps: dict[str, Callable[[], Any]] = {**steps_of, "retraining": training, "clipping and SGD alone": ending}
    times = alternate(steps, device, warm_up=6, rounds=arguments.rounds)
    print("| the host's part of a step | modules | parameters | median ms | range |\n|---|---|---|---|---|")
    for name, t in times.items():
        sizes = f"{sum(1 for _ in networks[name].modules()):,} | {sum(1 for _ in networks[name].parameters()):,}"
        print(f"| {name} | {sizes} | {t['median'] * 1e3:.1f} | {t['least'] * 1e3:.1f}-{t['most'] * 1e3:.1f} |")
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    write(arguments.output, {"settings": settings, "machine": machine(device), "seconds": times})


if __name__ == "__main__":
    main()
