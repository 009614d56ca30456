"""Measures the peak memory of search steps, each variant in a process of its own (resident memory).

What a process needs before it has a network (Python, PyTorch) is measured, too, and taken off in the last column.

    python -m experiments.benchmarks.memory                                          # the published size: minutes
    python -m experiments.benchmarks.memory --channels 4 --cells 2 --batch 4
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from experiments.benchmarks.setting import Search, SearchSteps, Variant, machine, write
from supernet.search.differentiable.architects import first_order, unrolled
from supernet.space.darts import Darts
from supernet.training.meters import memory_gb

VARIANTS = {
    "reference": Variant(),
    "fused": Variant("fused"),
    "fused, cells computed again": Variant("fused", checkpoint=True),
}


def child(name: str, arguments: argparse.Namespace) -> None:
    """Prints the peak before and after two steps, in GB."""
    device = torch.device("cpu")
    torch.randn(2, 2).matmul(torch.randn(2, 2))
    before = memory_gb(device)
    space = Darts(channels=arguments.channels, cells=arguments.cells)
    search = Search(space, unrolled if arguments.second_order else first_order)
    steps = SearchSteps(search, VARIANTS[name], arguments.batch, 32, device)
    for _ in range(2):
        steps()
    print(json.dumps({"before": before, "peak": memory_gb(device)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--second-order", action="store_true")
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/memory.json"))
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments)
        return
    found = {}
    for name in VARIANTS:
        command = [sys.executable, "-m", "experiments.benchmarks.memory", *sys.argv[1:], "--child", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    settings = {k: v for k, v in vars(arguments).items() if k not in ("output", "child")}
    write(arguments.output, {"settings": settings, "machine": machine(torch.device("cpu")), "gigabytes": found})
    base = found["reference"]
    print("| search step | peak GB | of the reference's | of it, without the process itself |\n|---|---|---|---|")
    for name, g in found.items():
        own = (g["peak"] - g["before"]) / (base["peak"] - base["before"])
        print(f"| {name} | {g['peak']:.2f} | {g['peak'] / base['peak']:.2f} | {own:.2f} |")


if __name__ == "__main__":
    main()
