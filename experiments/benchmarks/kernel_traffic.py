"""How many bytes the passes of a search step move, by Triton's kernels and by their plain twins; it needs no GPU.

    python -m experiments.benchmarks.kernel_traffic                     # the published sizes: a minute
    python -m experiments.benchmarks.kernel_traffic --tiny              # the script itself
    python -m experiments.benchmarks.kernel_traffic --steps "first order"

A step runs on PyTorch's device "meta", where tensors have sizes and no numbers, in the stacked form, in float32. It is
the step that a search takes (`setting.SearchSteps`), with the same functions up to the launch of a kernel.

What is counted: all passes of a step, forward and backward (first order and partial channels have two passes, second
order has five: one for the virtual step, one at its end, two for the difference, one for the weights). PyTorch's
operations are counted by `traffic.Traffic`. In place of each of Triton's kernels stands a `StandIn` that computes
nothing and counts each tensor that the kernel is given once. That is the ideal: what is read again comes from a cache.
Kernels have the names that a profiler shows.

What is not counted: clipping, both optimisers, what a kernel reads again from memory because a
cache did not keep it, and what cuDNN or cuBLAS copy within an operation. Operations are those that PyTorch chooses on
"meta", such as its own batch norm in place of cuDNN's. Bytes are no times: divided by the bandwidth of a device they
are the least time that a step can take there.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.benchmarks.setting import SearchSteps, Variant, machine, write
from experiments.benchmarks.step_traffic import PUBLISHED, TINY, Size, build
from experiments.benchmarks.traffic import Traffic, bytes_of
from supernet.execution import triton

if TYPE_CHECKING:
    from supernet.execution.triton.norms import Lines, Terms

STEPS = ("first order", "second order", "partial channels")
WAYS = ("Triton", "plain")
META = torch.device("meta")

CONVOLUTIONS = ("_forward", "_source_gradient", "_kernel_parts", "_kernel_sums")
NORMS = ("_moments", "_settle", "_add", "_products", "_conclude", "_spread")
"""All kernels that `execution.triton.depthwise` and `norms` launch. Another one would fail: "meta" has no memory."""


@dataclass
class Launched:
    """Bytes in and out of Triton's kernels, and how often each was launched, by name."""

    by_name: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Bytes of all kernels."""
        return sum(self.by_name.values())


@dataclass(frozen=True)
class StandIn:
    """Is launched as a Triton kernel is, and only counts.

    Args:
        name: of the kernel.
        launched: where it counts.

    Example:
        >>> launched, numbers = Launched(), torch.empty(5)
        >>> StandIn("_add", launched)[(1,)](numbers, numbers, torch.empty(2), 7, BLOCK=8)  # two tensors, of 20 and 8
        >>> launched.by_name["_add"], launched.launches["_add"]
        (28, 1)
    """

    name: str
    launched: Launched

    def __getitem__(self, grid: Sequence[int]) -> Callable[..., None]:
        return self._launch

    def _launch(self, *arguments: Any, **constants: Any) -> None:
        # Kernels have a fixed number of pointers: a tensor may be given in several places, and is moved once.
        given = {id(argument): argument for argument in arguments if isinstance(argument, Tensor)}
        self.launched.by_name[self.name] += sum(map(bytes_of, given.values()))
        self.launched.launches[self.name] += 1


class _OnlyAsked(TorchDispatchMode):
    """Within it the gradients of a batch norm are those that are asked for, as on other devices; "meta" makes all."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is not torch.ops.aten.native_batch_norm_backward.default:
            return made
        return tuple(gradient if asked else None for gradient, asked in zip(made, args[-1], strict=True))


@contextmanager
def on_meta() -> Iterator[None]:
    """Within it networks run on "meta", for which PyTorch has no autocast, not even one that is off."""
    with (
        _OnlyAsked(),
        patch.object(torch, "autocast", lambda *_, **__: nullcontext()),
        patch.object(torch, "is_autocast_enabled", lambda *_: False),
    ):
        yield


@contextmanager
def kernels_counted() -> Iterator[Launched]:
    """Within it Triton's kernels serve all tensors, and stand-ins for them count."""
    from supernet.execution.triton import depthwise, norms

    launched, lines, gradients = Launched(), norms.lines, norms.gradients

    def counted_lines(stacks: Sequence[Tensor], scales: Tensor | None, terms: Terms, *settings: Any) -> Lines:
        launched.by_name["_moments"] -= _unread(stacks, terms)
        return lines(stacks, scales, terms, *settings)

    def counted_gradients(
        slopes: Sequence[Tensor], stacks: Sequence[Tensor], line: Lines, terms: Terms
    ) -> tuple[list[Tensor], Tensor]:
        launched.by_name["_spread"] -= _unread(stacks, terms)
        return gradients(slopes, stacks, line, terms)

    with ExitStack() as patches:
        patches.enter_context(patch.object(triton, "serves", lambda *_: True))
        for module, names in ((depthwise, CONVOLUTIONS), (norms, NORMS)):
            for name in names:
                patches.enter_context(patch.object(module, name, StandIn(name, launched)))
        patches.enter_context(patch.object(norms, "lines", counted_lines))
        patches.enter_context(patch.object(norms, "gradients", counted_gradients))
        yield launched


def _unread(stacks: Sequence[Tensor], terms: Terms) -> int:
    """Bytes of stacks without norm: `_moments` and `_spread` are given all stacks, and read those with a norm."""
    return sum(bytes_of(stack) for stack, normed in zip(stacks, terms.normed, strict=True) if not normed)


def passes(steps: SearchSteps) -> None:
    """All passes of a step: those of the architect, then that for the gradients of the network's weights."""
    with patch.object(steps.strategy.optimizer, "step"):
        steps.strategy.update(steps.step)
    steps.step.optimizer.zero_grad()
    steps.strategy.backward(steps.step, steps.strategy.samples(steps.step))


def moved(name: str, size: Size, way: str) -> tuple[Traffic, Launched]:
    """Counts the bytes of all passes of one step.

    Args:
        name: of the step, one of `STEPS`.
        size: of network and batch.
        way: one of `WAYS`.

    Returns:
        What PyTorch's operations move, and what Triton's kernels move.
    """
    with on_meta(), kernels_counted() if way == "Triton" else nullcontext(Launched()) as launched:
        steps = build(name, size, Variant("stacked-matmul"), META)
        steps()  # plans and tables are made at the first pass, the optimiser's velocity at the first step
        launched.by_name.clear()
        launched.launches.clear()
        with Traffic() as traffic:
            passes(steps)
    return traffic, launched


def row_of(traffic: Traffic, launched: Launched) -> dict[str, Any]:
    """Both counts, as they are recorded: gigabytes, and how many operations or launches moved them."""
    return {
        "gigabytes": (traffic.total + launched.total) / 1e9,
        "by_operations": traffic.total / 1e9,
        "by_kernels": launched.total / 1e9,
        "operations": _by_name(traffic.by_name, traffic.operations),
        "kernels": _by_name(launched.by_name, launched.launches),
    }


def _by_name(moved: Counter[str], times: Counter[str]) -> dict[str, dict[str, float]]:
    return {name: {"gigabytes": count / 1e9, "times": times[name]} for name, count in moved.most_common()}


def line(name: str, row: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    most = sorted((row["operations"] | row["kernels"]).items(), key=lambda named: -named[1]["gigabytes"])[:4]
    shown = ", ".join(f"{kind} {found['gigabytes']:.2f}" for kind, found in most)
    sums = " | ".join(f"{row[key]:.2f}" for key in ("gigabytes", "by_operations", "by_kernels"))
    return f"| {name} | {sums} | {shown} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small networks: to try the script")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--output", type=Path, default=Path("experiments/results/kernel_traffic.json"))
    arguments = parser.parse_args()
    if importlib.util.find_spec("triton") is None:
        parser.error("Triton is not installed: its kernels are not run, but the functions that launch them are")
    size = TINY if arguments.tiny else PUBLISHED
    settings = {"channels": size.search[0], "cells": size.search[1], "side": 32, "precision": "float32"}
    record: dict[str, Any] = {"settings": settings, "machine": {**machine(META), "device": "meta"}, "rows": {}}
    print("| step | GB | by PyTorch's operations | by Triton's kernels | most |\n|---|---|---|---|---|", flush=True)
    for name in arguments.steps:
        for way in WAYS:
            full = f"{name} {size.batches[name]} {way}"
            record["rows"][full] = row_of(*moved(name, size, way))
            write(arguments.output, record)
            print(line(full, record["rows"][full]), flush=True)


if __name__ == "__main__":
    main()
