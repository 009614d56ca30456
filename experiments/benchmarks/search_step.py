"""How long a step of the search takes, against the reference in the same run: first and second order, partial channels
and single paths.

The reference does operation for operation what the original's code does. Variants take turns, step by step; figures
are medians and ranges. Before that, each form's logits and gradients are held against the reference's. Every kind has
a record of its own.

    python -m experiments.benchmarks.search_step                                     # the published size: an hour
    python -m experiments.benchmarks.search_step --only first_order --rounds 3       # some minutes
    python -m experiments.benchmarks.search_step --channels 4 --cells 2 --batch 4 --side 8 --rounds 1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.setting import (
    Search,
    SearchSteps,
    Variant,
    alternate,
    build_supernet,
    machine,
    passes_of,
    random_batch,
    random_weights,
    rows,
    searches,
    switched_off,
    whole_distance,
    write,
)
from supernet.execution.native import library
from supernet.runtime.run import Run
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts

MOST, MOST_LOGITS, MOST_TURNED = 1e-8, 1e-4, 1e-2
"""The largest differences: in float64; of logits in float32; and of logits and gradients together in float32, where a
last digit can turn a ReLU, in either form, which moves gradients but not logits."""


def agreement(space: Darts, chooser: Undecided, side: int) -> dict[str, float]:
    """How far logits and gradients, all as one vector, are from the reference's in float64; too far stops."""

    def passes(executor: str, dtype: torch.dtype) -> list[torch.Tensor]:
        supernet = build_supernet(space, torch.device("cpu"), dtype, chooser)
        weights = random_weights(supernet, torch.device("cpu"), dtype, inputs=chooser.channel_divisor > 1)
        batch = random_batch(8, torch.device("cpu"), side=side, dtype=dtype)
        return passes_of(supernet, batch, weights, Run(), executor)

    exact, fused = passes("reference", torch.float64), passes("fused", torch.float32)
    found = {
        "fused, float64": whole_distance(passes("fused", torch.float64), exact),
        "reference, float32": whole_distance(passes("reference", torch.float32), exact),
        "fused, float32": whole_distance(fused, exact),
        "fused, float32, logits": whole_distance(fused[:1], exact[:1]),
    }
    print(", ".join(f"{name}: {value:.1e}" for name, value in found.items()), "from the reference in float64")
    limits = {"fused, float64": MOST, "fused, float32": MOST_TURNED, "fused, float32, logits": MOST_LOGITS}
    if not all(found[name] < limit for name, limit in limits.items()):
        raise SystemExit("the fused form differs from the reference")
    return found


def measure(search: Search, arguments: argparse.Namespace) -> dict[str, Any]:
    """Times of a kind of step."""
    device = torch.device("cpu")

    def steps(executor: str) -> SearchSteps:
        return SearchSteps(search, Variant(executor), arguments.batch, arguments.side, device)

    fused = steps("fused")
    variants: dict[str, Callable[[], Any]] = {"reference": steps("reference"), "fused": fused}
    if library() is not None:

        def plain() -> None:
            with switched_off("SUPERNET_COMPILED"):
                fused()

        variants["fused, nothing compiled"] = plain
    return alternate(variants, device, warm_up=1, rounds=arguments.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(searches(Darts())), help="one kind of step; all otherwise")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("experiments/results/search_step.json"),
        help="for first_order with _first_order before its ending",
    )
    arguments = parser.parse_args()
    space = Darts(channels=arguments.channels, cells=arguments.cells)
    settings = {k: v for k, v in vars(arguments).items() if k not in ("only", "output")}
    started = machine(torch.device("cpu"))
    print(f"{started}\n")
    for name, search in searches(space).items():
        if arguments.only not in (None, name):
            continue
        record: dict[str, Any] = {"settings": settings, "machine": started}
        if not search.chooser.single:
            record["agreement"] = agreement(space, search.chooser, arguments.side)
        record["seconds"] = measure(search, arguments)
        print(f"| {name} | median s | range | n | times faster |\n|---|---|---|---|---|")
        print("\n".join(rows(record["seconds"], "reference")) + "\n", flush=True)
        write(arguments.output.with_stem(f"{arguments.output.stem}_{name}"), record)


if __name__ == "__main__":
    main()
