"""What a step of published size asks of a GPU: kernels it launches, bytes it moves, milliseconds of the host.

    python -m experiments.benchmarks.step_traffic                                # on a GPU
    python -m tests.standin --count -m experiments.benchmarks.step_traffic       # without one: kernels do nothing
    python -m experiments.benchmarks.step_traffic --device cpu --tiny            # the script itself

Bytes are those in and out of each of PyTorch's operations, views excluded; kernels of our own (Triton) are not seen, so
that bytes are to be counted with SUPERNET_TRITON=0. Host milliseconds last until the step's call returns: a median.
"graph" replays passes, and the rest of a step is launched kernel by kernel; "whole" replays the step. Each row is
written as it is found. Where kernels do nothing, numbers mean nothing, and only what the host does is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.setting import (
    EXECUTORS,
    SearchSteps,
    TrainingSteps,
    Variant,
    machine,
    searches,
    synchronise,
    write,
)
from experiments.benchmarks.traffic import Traffic
from supernet.space.darts import Darts
from supernet.space.dropout import set_drop_path

PATIENCE = 9
"""Steps until all passes of a step are recorded as graphs."""


@dataclass(frozen=True)
class Size:
    """How large networks and batches are: channels and cells of a search and of a training, batches by the step."""

    search: tuple[int, int]
    training: tuple[int, int]
    batches: dict[str, int]


PUBLISHED = Size((16, 8), (36, 20), {"first order": 64, "second order": 64, "partial channels": 256, "retraining": 96})
TINY = Size((4, 2), (4, 3), dict.fromkeys(PUBLISHED.batches, 4))


def build(name: str, size: Size, variant: Variant, device: torch.device) -> Any:
    """Calls of what is returned are steps; drop path is on in a training."""
    batch = size.batches[name]
    if name == "retraining":
        channels, cells = size.training
        steps = TrainingSteps(Darts(channels=channels, cells=cells, auxiliary=True), variant, batch, 32, device)
        set_drop_path(steps.network, 0.1)
        return steps
    space = Darts(channels=size.search[0], cells=size.search[1])
    return SearchSteps(searches(space)[name.replace(" ", "_")], variant, batch, 32, device)


def launches_of(step: Callable[[], Any], device: torch.device) -> int | None:
    """Kernels and copies that one step launches: as the stand-in counts them where there is one, or the profiler."""
    if device.type != "cuda":
        return None
    account = sys.modules.get("tests.standin.account")
    if account is not None:
        before = account.launches()
        step()
        return int(account.launches() - before)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        step()
        synchronise(device)
    return sum(str(event.device_type).endswith("CUDA") for event in seen.events())


def host_milliseconds(step: Callable[[], Any], device: torch.device, times: int) -> float:
    """The median over so many calls, each on an idle device."""
    taken = []
    for _ in range(times):
        synchronise(device)
        began = time.perf_counter()
        step()
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


def row_of(name: str, size: Size, variant: Variant, device: torch.device, times: int) -> dict[str, Any]:
    """All figures of one step, run in one way; bytes are those of a step without graphs."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    step = build(name, size, variant, device)
    for _ in range(PATIENCE if variant.graphs or variant.whole else 2):
        step()
    found: dict[str, Any] = {"launches": launches_of(step, device), "host_ms": host_milliseconds(step, device, times)}
    if device.type == "cuda":
        found["peak_gb"] = torch.cuda.max_memory_reserved(device) / 1e9
    if not variant.graphs and not variant.whole:
        with Traffic() as traffic:
            step()
        found["gigabytes"] = traffic.total / 1e9
        found["operations"] = sum(traffic.operations.values())
        most = traffic.by_name.most_common(12)
        found["most"] = {kind: {"gigabytes": b / 1e9, "operations": traffic.operations[kind]} for kind, b in most}
    return found


def variants_of(arguments: argparse.Namespace) -> Iterator[Variant]:
    """Each executor by itself and, on a GPU, with graphs of passes and of the whole step."""
    plain = Variant(as_product=True)
    if arguments.bfloat16:
        plain = replace(plain, precision="bfloat16", channels_last=True)
    for executor in arguments.executors:
        yield replace(plain, executor=executor)
        if arguments.device.startswith("cuda"):
            yield replace(plain, executor=executor, graphs=True)
            yield replace(plain, executor=executor, whole=True)


def line(name: str, row: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    cells = [row["launches"], row.get("gigabytes"), row["host_ms"], row.get("peak_gb")]
    shown = [("" if c is None else str(c) if isinstance(c, int) else f"{c:.2f}") for c in cells]
    return f"| {name} | {' | '.join(shown)} |"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks: to try the script")
    parser.add_argument("--steps", nargs="+", choices=list(PUBLISHED.batches), default=list(PUBLISHED.batches))
    parser.add_argument("--executors", nargs="+", choices=list(EXECUTORS), default=["stacked"])
    parser.add_argument("--bfloat16", action="store_true", help="in place of float32")
    parser.add_argument("--times", type=int, default=5, help="calls of which host milliseconds are the median")
    parser.add_argument("--label", default="", help="added to the rows' names, such as 'before'")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/step_traffic.json"))
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    device, size = torch.device(arguments.device), TINY if arguments.tiny else PUBLISHED
    record: dict[str, Any] = {"rows": {}}
    if arguments.output.exists():  # rows of other steps and labels stay
        record = json.loads(arguments.output.read_text(encoding="utf-8"))
    print("| step | launches | GB moved | host ms | peak GB |\n|---|---|---|---|---|", flush=True)
    for name in arguments.steps:
        for variant in variants_of(arguments):
            row = row_of(name, size, variant, device, arguments.times)
            full = " ".join(filter(None, [name, str(size.batches[name]), str(variant), arguments.label]))
            record["rows"][full] = {**row, "machine": machine(device)}
            write(arguments.output, record)
            print(line(full, row), flush=True)


if __name__ == "__main__":
    main()
