"""Counts the tensor operations of a pass of the supernet, and estimates the number of GPU kernels.

It counts what reaches PyTorch's dispatcher in one forward and backward pass with all gradients. Views launch nothing
on a GPU; the kernels of the rest are an estimate (a convolution's backward pass is two, and so on). Then the seconds
of forward and backward passes, executors taking turns.

    python -m experiments.benchmarks.kernels                              # the published search network
    python -m experiments.benchmarks.kernels --partial 4                  # with one channel in four
    python -m experiments.benchmarks.kernels --channels 4 --cells 2 --batch 2 --side 8
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.benchmarks.setting import (
    EXECUTORS,
    alternate,
    build_supernet,
    machine,
    random_batch,
    random_weights,
    write,
)
from supernet.data.batches import Batch
from supernet.execution.modes import running
from supernet.runtime.text import quantity
from supernet.space.architecture import Weights
from supernet.space.cells import Cell, Executor
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet

_SILENT = """view _unsafe_view expand transpose t split split_with_sizes unsqueeze squeeze select slice detach permute
as_strided unbind alias narrow empty empty_like empty_strided lift_fresh"""
NO_KERNEL = frozenset(_SILENT.split())
KERNELS = {"convolution_backward": 2, "native_batch_norm": 2, "native_batch_norm_backward": 2, "cudnn_batch_norm": 1}


class Operations(TorchDispatchMode):
    """Counts what is dispatched within it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def summary(counts: Counter[str]) -> dict[str, int]:
    """All operations, those that launch nothing, and the estimated kernels."""
    silent = sum(n for name, n in counts.items() if name in NO_KERNEL)
    kernels = sum(n * KERNELS.get(name, 1) for name, n in counts.items() if name not in NO_KERNEL)
    return {"operations": counts.total(), "without_kernel": silent, "kernels": kernels}


def count(supernet: Supernet, executor: Executor, batch: Batch, weights: Weights) -> dict[str, Any]:
    """Operations of a pass: all, by phase, and the most frequent ones."""
    parameters = list(supernet.parameters())
    found: dict[str, Any] = {}
    alphas = list(weights.values())
    wanted: dict[str, list[Any]] = {
        "weights and alphas": [*alphas, *parameters],
        "weights": parameters,
        "alphas": alphas,
    }
    for name, at in wanted.items():
        given = {n: w.detach() for n, w in weights.items()} if name == "weights" else weights
        with running(supernet, executor):
            supernet(batch.images, given)  # what is made once is not counted
            with Operations() as operations:
                loss = nn.functional.cross_entropy(supernet(batch.images, given), batch.labels)
                forward = summary(operations.counts)
                torch.autograd.grad(loss, at)
        found[name] = {**summary(operations.counts), "of it forward": forward["operations"]}
        if name == "weights and alphas":
            found["most frequent"] = dict(operations.counts.most_common(25))
    return found


def parts(supernet: Supernet, executor: Executor, batch: Batch, weights: Weights) -> dict[str, Callable[[], Any]]:
    """Returns three functions to be timed: the forward pass, and it with all gradients or with the alphas' alone."""

    def forward() -> Tensor:
        with running(supernet, executor):
            return nn.functional.cross_entropy(supernet(batch.images, weights), batch.labels)

    def whole() -> None:
        torch.autograd.grad(forward(), [*weights.values(), *supernet.parameters()])

    def alphas() -> None:
        torch.autograd.grad(forward(), list(weights.values()))

    return {"forward": forward, "forward and all gradients": whole, "forward and alpha gradients": alphas}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--partial", type=int, default=1, help="operations see the first 1 / PARTIAL of the channels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="0: only count")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/kernels.json"))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    space, chooser = (
        Darts(channels=arguments.channels, cells=arguments.cells),
        Undecided(channel_divisor=arguments.partial),
    )
    supernet = build_supernet(space, device, chooser=chooser)
    weights = random_weights(supernet, device, inputs=arguments.partial > 1)
    batch = random_batch(arguments.batch, device, side=arguments.side, channels_last=arguments.channels_last)
    cells = sum(isinstance(module, Cell) for module in supernet.modules())
    counts = {name: count(supernet, executor, batch, weights) for name, executor in EXECUTORS.items()}
    of = "of them without a kernel; kernels, estimated"
    print(f"{quantity(cells, 'cell')}; operations ({of}) of a pass with gradients of")
    for name, found in counts.items():
        for gradients in ("weights and alphas", "weights", "alphas"):
            n = found[gradients]
            silent, kernels = n["without_kernel"], n["kernels"]
            print(f"  {name:<16} {gradients:<20} {n['operations']:>7,}  ({silent:>6,}; {kernels:>7,})")
    times = {}
    if arguments.rounds:
        made = {name: parts(supernet, executor, batch, weights) for name, executor in EXECUTORS.items()}
        for part in next(iter(made.values())):
            functions = {name: functions[part] for name, functions in made.items()}
            times[part] = alternate(functions, device, warm_up=1, rounds=arguments.rounds)
            for name, t in times[part].items():
                spread = f"{t['least'] * 1e3:.0f}..{t['most'] * 1e3:.0f}"
                print(f"  {part:<28} {name:<16} {t['median'] * 1e3:8.1f} ms  {spread}")
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    record = {"settings": settings, "machine": machine(device), "counts": counts, "seconds": times}
    write(arguments.output, record)


if __name__ == "__main__":
    main()
