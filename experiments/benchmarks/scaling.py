"""How the cost of a search step grows with channels, cells, batch and operations, reference and fused taking turns.

python -m experiments.benchmarks.scaling                                         # a quarter of an hour
python -m experiments.benchmarks.scaling --rounds 1 --side 8
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from experiments.benchmarks.setting import Search, SearchSteps, Variant, alternate, machine, write
from supernet.space.darts import DARTS_OPERATIONS, Darts

BASE, BATCH = Darts(channels=8, cells=5), 16


def points() -> dict[str, list[tuple[str, Darts, int]]]:
    """Along each axis: (where, space, batch). The first point of each is the base."""
    four = ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3")
    return {
        "channels": [(str(c), replace(BASE, channels=c), BATCH) for c in (8, 16, 32)],
        "cells": [(str(c), replace(BASE, cells=c), BATCH) for c in (5, 8, 11)],
        "batch": [(str(b), BASE, b) for b in (16, 32, 64)],
        "operations": [(str(len(o)), replace(BASE, operations=o), BATCH) for o in (DARTS_OPERATIONS, four)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/scaling.json"))
    arguments = parser.parse_args()
    device, found = torch.device("cpu"), {}
    print("| axis | at | reference s | fused s | times faster | fused, of its base |\n|---|---|---|---|---|---|")
    for axis, along in points().items():
        base = None
        for place, space, batch in along:
            steps = {
                name: SearchSteps(Search(space), Variant(name), batch, arguments.side, device)
                for name in ("reference", "fused")
            }
            times = alternate(dict(steps), device, warm_up=1, rounds=arguments.rounds)
            slow, fast = times["reference"]["median"], times["fused"]["median"]
            base = base or fast
            print(f"| {axis} | {place} | {slow:.3f} | {fast:.3f} | {slow / fast:.2f} | {fast / base:.2f} |", flush=True)
            found[f"{axis} {place}"] = times
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    write(arguments.output, {"settings": settings, "machine": machine(device), "seconds": found})


if __name__ == "__main__":
    main()
