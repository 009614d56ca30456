"""Shared by the benchmarks of speed: executors, steps of a search and of a training on random images, and timing."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supernet.data.batches import Batch, JoinedBatch
from supernet.execution.cuda_graphs import Capture
from supernet.execution.engines import Engine
from supernet.execution.fused.executor import fused
from supernet.execution.modes import running
from supernet.execution.precision import Accelerated, numerics_settled
from supernet.execution.recomputation import checkpointed
from supernet.execution.stacked.executor import Stacked
from supernet.execution.step_graph import StepGraph
from supernet.genotypes.literature import published
from supernet.runtime.files import write_whole
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.run import Precision, Run
from supernet.search.differentiable.architects import Architect, Bilevel, first_order, unrolled
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.relaxations import Gumbel, Softmax
from supernet.search.loop import search_step, step_request
from supernet.search.strategy import Step
from supernet.space.cells import Executor, reference
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.joining import prepare_network
from supernet.training.loop import step_request as training_request
from supernet.training.loop import train_step
from supernet.training.meters import Meter
from supernet.training.sgd import sgd
from supernet.training.tasks import Classification
from supernet.training.tasks.joined import joined


@contextmanager
def switched_off(variable: str) -> Iterator[None]:
    """Within it the library does without its compiled passes (SUPERNET_COMPILED) or its Triton (SUPERNET_TRITON)."""
    before = os.environ.get(variable)
    os.environ[variable] = "0"
    try:
        yield
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before


EXECUTORS: dict[str, Executor] = {
    "reference": reference,
    "fused": fused,
    "stacked": Stacked("convolution"),
    "stacked-matmul": Stacked("matmul"),
}
"""Ways to evaluate a search cell; a new one is an entry here."""


@dataclass(frozen=True)
class Variant:
    """One way to run a step.

    `graphs`: passes are CUDA graphs; `whole`: so is the whole step. `capture` stands in for CUDA's, `as_product`
    computes as `runtime.deterministic=true`.
    """

    executor: str = "reference"
    graphs: bool = False
    whole: bool = False
    precision: Precision = "float32"
    channels_last: bool = False
    checkpoint: bool = False
    as_product: bool = False
    capture: Capture | None = None

    def engine(self, device: torch.device) -> Engine:
        """What evaluates the cells, in the order of values in memory that goes with it."""
        executor = EXECUTORS[self.executor]
        on_cpu = self.executor == "fused" and device.type == "cpu"
        layout = torch.channels_last if on_cpu else torch.contiguous_format
        return Engine(checkpointed(executor) if self.checkpoint else executor, layout)

    def passes(self, network: nn.Module, device: torch.device) -> Accelerated:
        """The network's passes, as this variant runs them."""
        return Accelerated(network, self.run(device), self.capture)

    def run(self, device: torch.device) -> Run:
        """The run that this variant is."""
        return Run(device, graphs=self.graphs or self.whole, precision=self.precision)

    def numerics(self) -> AbstractContextManager[None]:
        """How PyTorch computes within a step."""
        return numerics_settled(deterministic=True) if self.as_product else nullcontext()

    def __str__(self) -> str:
        on = {"graph": self.graphs, "whole": self.whole}
        on |= {"bf16": self.precision == "bfloat16", "tf32": self.precision == "tf32"}
        on |= {"cl": self.channels_last, "checkpoint": self.checkpoint, "product": self.as_product}
        return "+".join([self.executor, *(name for name, there in on.items() if there)])


def random_batch(
    size: int,
    device: torch.device,
    *,
    side: int = 32,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    processes: Processes = ALONE,
) -> Batch:
    """Normal images (size, 3, side, side) and random labels of ten classes; of several processes each has its share."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, side, side, generator=generator, dtype=torch.float64)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = images.to(device, dtype).contiguous(memory_format=layout)
    labels = torch.randint(10, (size,), generator=generator).to(device)
    if not processes.several:
        return Batch(images, labels)
    rows = processes.rows(size)
    return Batch(images[rows], labels[rows], JoinedBatch(labels, rows))


def build_supernet(
    space: Darts, device: torch.device, dtype: torch.dtype = torch.float32, chooser: Undecided | None = None
) -> Supernet:
    """The same supernet every time."""
    torch.manual_seed(0)
    return Supernet(space.network(chooser or Undecided(), (3, 32, 32), 10)).to(device, dtype)


@dataclass(frozen=True)
class Search:
    """What is searched and how: a space, an architect, how much of each edge runs, and what a method adds.

    `parts`: further arguments of the strategy, by name. `wrapper`: what is made of it.
    """

    space: Darts
    architect: Architect = first_order
    chooser: Undecided = field(default_factory=Undecided)
    parts: dict[str, Any] = field(default_factory=dict)
    wrapper: Callable[[Any], Any] = lambda strategy: strategy

    def strategy(self, supernet: Supernet) -> Any:
        """DARTS; with partial channels edges are weighed, too (PC-DARTS); on single paths noise picks them (GDAS)."""
        strategy = GradientStrategy(
            self.space.name,
            supernet.decisions,
            operations=Gumbel(hard=True) if self.chooser.single else Softmax(),
            inputs=Softmax() if self.chooser.channel_divisor > 1 else None,
            architect=self.architect,
            optimizer=partial(torch.optim.Adam, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3),
            discretiser=argmax,
            **self.parts,
        )
        return self.wrapper(strategy)


def searches(space: Darts) -> dict[str, Search]:
    """The kinds of search step, by name."""
    return {
        "first_order": Search(space),
        "second_order": Search(space, unrolled),
        "partial_channels": Search(space, chooser=Undecided(channel_divisor=4)),
        "single_path": Search(space, chooser=Undecided(single=True)),
    }


def first_order_as_the_original(problem: Bilevel) -> list[Tensor]:
    """The first-order gradient, and the weights' gradients, which nobody needs: the original's code computes them."""
    both = torch.autograd.grad(
        problem.valid_loss(problem.inner), [*problem.outer, *problem.inner], allow_unused=True, materialize_grads=True
    )
    return list(both[: len(problem.outer)])


class SearchSteps:
    """Calls are steps of a search on one pair of batches; the result is the loss, still on the device.

    As the reference it does what the original's code does, gradients that are dropped included.
    """

    def __init__(
        self,
        search: Search,
        variant: Variant,
        batch: int,
        side: int,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.supernet = build_supernet(search.space, device, chooser=search.chooser)
        variant.engine(device).apply(self.supernet)
        prepare_network(self.supernet, processes)
        if variant.executor == "reference" and search.architect is first_order and not processes.several:
            search = replace(search, architect=first_order_as_the_original)
        self.strategy: Any = search.strategy(self.supernet).to(device)
        optimizer = sgd(self.supernet, 0.025, 0.9, weight_decay=3e-4)
        how: dict[str, Any] = {"side": side, "channels_last": variant.channels_last, "processes": processes}
        train, valid = (random_batch(batch, device, seed=seed, **how) for seed in (1, 2))
        self._accelerated, self._numerics = variant.passes(self.supernet, device), variant.numerics
        task = joined(Classification(), processes)
        more: dict[str, Any] = {"accelerated": self._accelerated, "processes": processes}
        self.step = Step(self.supernet, train, valid, task, optimizer, 0.0, **more)
        self._whole, self._meter = _whole_steps(variant, self.supernet, self._accelerated, optimizer, device)

    def __call__(self) -> Tensor:
        with self._numerics(), self._accelerated:
            if self._whole is None:
                return search_step(self.step, self.strategy, 5.0)[0]
            return self._whole(step_request(self.step, self.strategy, 5.0, self._meter))[0]

    @property
    def recorded(self) -> int:
        """How many CUDA graphs there are of its passes, or of the whole step."""
        return self._accelerated.recorded if self._whole is None else self._whole.recorded


class TrainingSteps:
    """Calls are steps of the training of DARTS_V2, with auxiliary head and constant drop path."""

    def __init__(
        self,
        space: Darts,
        variant: Variant,
        batch: int,
        side: int,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        torch.manual_seed(0)
        network = variant.engine(device).apply(space.network(Decided(published("darts_v2")), (3, side, side), 10))
        self.network: nn.Module = network.to(device).train()
        prepare_network(self.network, processes)
        self.optimizer = sgd(self.network, 0.025, 0.9, weight_decay=3e-4)
        how: dict[str, Any] = {"side": side, "channels_last": variant.channels_last, "processes": processes}
        self._batch, self._processes = random_batch(batch, device, **how), processes
        self._task = joined(Classification(0.4), processes)
        self._accelerated, self._numerics = variant.passes(self.network, device), variant.numerics
        self._whole, self.meter = _whole_steps(variant, self.network, self._accelerated, self.optimizer, device)

    def __call__(self) -> Tensor:
        with self._numerics(), self._accelerated:
            if self._whole is None:
                return train_step(self.network, self._batch, self._task, self.optimizer, 5.0, self._processes)[0]
            return self._whole(training_request(self.network, self._batch, self._task, self, 5.0))[0]

    @property
    def recorded(self) -> int:
        """How many CUDA graphs there are of its passes, or of the whole step."""
        return self._accelerated.recorded if self._whole is None else self._whole.recorded


def _whole_steps(
    variant: Variant, network: nn.Module, passes: Accelerated, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[StepGraph | None, Meter]:
    """What replays whole steps, where the variant wants it, and the meter that is part of them."""
    steps = StepGraph(variant.run(device), network, passes, [optimizer]) if variant.whole else None
    return steps, Meter(device)


def synchronise(device: torch.device) -> None:
    """Waits until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function: Callable[[], Any], device: torch.device, times: int) -> list[float]:
    """How long one call takes, `times` times."""
    taken = []
    for _ in range(times):
        synchronise(device)
        began = time.perf_counter()
        function()
        synchronise(device)
        taken.append(time.perf_counter() - began)
    return taken


def alternate(
    functions: dict[str, Callable[[], Any]], device: torch.device, *, warm_up: int, rounds: int, times: int = 1
) -> dict[str, dict[str, float]]:
    """Median, smallest and largest seconds of each function; they take turns, so that a slow spell meets all.

    Each round is told of on stderr: a long measurement shows that it lives.
    """
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        seconds(function, device, warm_up)
    for number in range(1, rounds + 1):
        for name, function in functions.items():
            taken[name] += seconds(function, device, times)
        latest = ", ".join(f"{name} {values[-1]:.3f} s" for name, values in taken.items())
        print(f"round {number} of {rounds}: {latest}", file=sys.stderr, flush=True)
    return {
        name: {"median": statistics.median(values), "least": min(values), "most": max(values), "n": len(values)}
        for name, values in taken.items()
    }


def distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest difference of two lists of tensors, each relative to the largest number of its pair."""
    pairs = zip(ours, theirs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs)


def whole_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The distance of two lists of tensors as one vector, relative to the second's length."""
    one, two = (torch.cat([t.flatten().double() for t in each]) for each in (ours, theirs))
    return float((one - two).norm() / two.norm().clamp_min(1e-30))


def machine(device: torch.device) -> dict[str, str]:
    """Versions, card and commit."""
    found = {"torch": torch.__version__, "cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    found["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {**found, "commit": asked.stdout.strip() or "unknown", "date": time.strftime("%Y-%m-%d %H:%M")}


def _processor() -> str:
    """Its instruction set and how many threads are used."""
    return f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, {platform.machine()}"


def write(path: Path, record: dict[str, Any]) -> None:
    """The record as JSON, whole at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(record, indent=1) + "\n")


def rows(times: dict[str, dict[str, float]], first: str) -> list[str]:
    """A Markdown row for each variant: median, range and how many times faster than `first`."""
    base = times[first]["median"]
    return [
        f"| {name} | {t['median']:.3f} | {t['least']:.3f}-{t['most']:.3f} | {t['n']} | {base / t['median']:.2f} |"
        for name, t in times.items()
    ]


def passes_of(
    supernet: Supernet, batch: Batch, weights: dict[str, Tensor], run: Run, executor: str, capture: Any = None
) -> list[Tensor]:
    """Logits and the gradients of all weights and parameters of one pass."""
    with ExitStack() as stack:
        stack.enter_context(running(supernet, EXECUTORS[executor]))
        stack.enter_context(Accelerated(supernet, run, capture))
        logits = supernet(batch.images, weights)
    loss = nn.functional.cross_entropy(logits, batch.labels)
    return [logits.detach(), *torch.autograd.grad(loss, [*weights.values(), *supernet.parameters()])]


def random_weights(
    supernet: Supernet, device: torch.device, dtype: torch.dtype = torch.float32, *, inputs: bool = False
) -> dict[str, Tensor]:
    """Weights of the operations, and of nodes' inputs if wanted; leaves that want gradients."""
    generator = torch.Generator().manual_seed(3)
    decisions = {name: d for name, d in supernet.decisions.items() if inputs or d.role == "operation"}
    draws = {n: torch.randn(len(d.options), generator=generator, dtype=torch.float64) for n, d in decisions.items()}
    return {n: draw.softmax(0).to(device, dtype).requires_grad_() for n, draw in draws.items()}
