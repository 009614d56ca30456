"""How long a step of retraining takes, against the reference in the same run: DARTS_V2 with auxiliary head, drop path.

Variants take turns, step by step; figures are medians and ranges.

    python -m experiments.benchmarks.retrain_step                                    # the published size: ten minutes
    python -m experiments.benchmarks.retrain_step --channels 4 --cells 3 --batch 4 --rounds 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from experiments.benchmarks.setting import TrainingSteps, Variant, alternate, machine, rows, write
from supernet.space.darts import Darts
from supernet.space.dropout import set_drop_path

VARIANTS = {
    "reference": Variant(),
    "fused": Variant("fused"),
}
BFLOAT16 = {"fused, bfloat16": Variant("fused", precision="bfloat16")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=36)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bfloat16", action="store_true", help="too: for processors that have it in hardware")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/retrain_step.json"))
    arguments = parser.parse_args()
    device = torch.device("cpu")
    space = Darts(channels=arguments.channels, cells=arguments.cells, auxiliary=True)
    variants = VARIANTS | (BFLOAT16 if arguments.bfloat16 else {})
    steps = {name: TrainingSteps(space, v, arguments.batch, 32, device) for name, v in variants.items()}
    for each in steps.values():
        set_drop_path(each.network, 0.1)
    times = alternate(dict(steps), device, warm_up=1, rounds=arguments.rounds)
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    write(arguments.output, {"settings": settings, "machine": machine(device), "seconds": times})
    print("| retraining step | median s | range | n | times faster |\n|---|---|---|---|---|")
    print("\n".join(rows(times, "reference")))


if __name__ == "__main__":
    main()
