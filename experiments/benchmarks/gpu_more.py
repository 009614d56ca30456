"""What else a GPU does: steps of nested candidates, candidates a second, the validation pass of a search."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import torch
from torch import nn

from experiments.benchmarks.gpu_rows import Row, Rows
from experiments.benchmarks.gpu_sizes import Scale
from experiments.benchmarks.nested_step import Fixed, plain_pass
from experiments.benchmarks.setting import random_batch, synchronise
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.estimation.problem import SearchProblem
from supernet.estimation.supernet_accuracy import SupernetScore, supernet_averages
from supernet.execution.engines import engine
from supernet.execution.modes import evaluating
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.search.black_box.evolution import AgingEvolution
from supernet.search.black_box.exploring import Budget, explore
from supernet.search.loop import search_step
from supernet.search.progressive.weight_inheritance import weights_of
from supernet.search.strategy import Step
from supernet.space.architecture import random_architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.space.survey import candidates_of
from supernet.training.sgd import sgd
from supernet.training.tasks import CLASSIFICATION

_WARM = 2  # runs of each architecture before it is timed: its kernels are chosen at its first


def step_nested(scale: Scale, device: torch.device, rows: Rows) -> None:
    """A search step of single paths in `mobilenet_v3`, and forward and backward of the same networks by themselves."""
    rows.measure(f"mobilenet_v3 {scale.mobile_side} pixels {scale.batch}", partial(_nested, scale, device))


def _nested(scale: Scale, device: torch.device) -> Row:
    fast, space, shape = engine("fused", device), scale.mobile, (3, scale.mobile_side, scale.mobile_side)
    batch = random_batch(scale.batch, device, side=scale.mobile_side)
    torch.manual_seed(0)
    supernet = Supernet(fast.apply(space.network(Undecided(single=True), shape, 10))).to(device)
    strategy = Fixed(space.name, supernet.decisions)
    optimizer = sgd(supernet, 0.025, 0.9, weight_decay=3e-4)
    step = Step(supernet, batch, batch, CLASSIFICATION, optimizer, progress=0.0)
    pairs = []
    for number in range(scale.rounds):
        strategy.path = random_architecture(space.name, supernet.decisions, generator(0, number))
        network: nn.Module = space.network(Decided(strategy.path), shape, 10)
        network.load_state_dict(weights_of(supernet, strategy.path))
        network = fast.apply(network).to(device)
        for _ in range(_WARM):
            search_step(step, strategy, 5.0)
            plain_pass(network, batch)
        pairs.append(
            (_milliseconds(device, search_step, step, strategy, 5.0), _milliseconds(device, plain_pass, network, batch))
        )
    whole, plain = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [one / other for one, other in pairs]
    found = {"step_ms": whole, "plain_ms": plain, "ratio": statistics.median(ratios)}
    return {**found, "least": min(ratios), "most": max(ratios), "n": len(pairs)}


def _milliseconds(device: torch.device, function: Any, *given: Any) -> float:
    synchronise(device)
    began = time.perf_counter()
    function(*given)
    synchronise(device)
    return (time.perf_counter() - began) * 1e3


def time_validation(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Milliseconds a batch of the pass over the validation half at the end of an epoch, with graphs and without.

    The first call compiles kernels and records; what the later ones take is what each epoch takes.
    """
    for graphs in (True, False):
        words = "graphs" if graphs else "eager"
        rows.measure(f"{scale.batch} {words}", partial(_validation, graphs, scale, device))


def _validation(graphs: bool, scale: Scale, device: torch.device) -> Row:
    shape, batches = (3, scale.side, scale.side), 8
    torch.manual_seed(0)
    supernet = Supernet(engine("fused", device).apply(scale.search.network(Undecided(), shape, 10)))
    pixels = torch.randint(256, (batches * scale.batch, *shape), dtype=torch.uint8)
    source = Resident(pixels, torch.arange(len(pixels)) % 10)
    augmentation, run = Augmentation((0.5,) * 3, (0.25,) * 3), Run(device, graphs=graphs)
    problem = SearchProblem(supernet, source, source, augmentation, run).on_device()
    even = {n: torch.full((len(d.options),), 1 / len(d.options), device=device) for n, d in supernet.decisions.items()}
    weights = {name: weight for name, weight in even.items() if supernet.decisions[name].role != "inputs"}
    taken = []
    for _ in range(4):
        synchronise(device)
        began = time.perf_counter()
        with problem.accelerated, evaluating(problem.supernet):
            supernet_averages(problem, weights, scale.batch)
        synchronise(device)
        taken.append((time.perf_counter() - began) / batches * 1e3)
    later = taken[1:]
    found = {"first_ms": taken[0], "ms": statistics.median(later), "least": min(later), "most": max(later)}
    return {**found, "batches": batches}


def explore_candidates(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Candidates a second that an evolution judges by a supernet of single paths, on 2,560 images each."""
    spaces = {"darts": scale.search, "nasbench201": NasBench201() if scale.side >= 32 else NasBench201(4, 1, 1, 2)}
    for name, space in spaces.items():
        for precision in ("float32", "bfloat16"):
            rows.measure(f"{name} {precision}", partial(_explored, space, precision, scale, device))


def _explored(space: Any, precision: Any, scale: Scale, device: torch.device) -> Row:
    shape = (3, scale.side, scale.side)
    torch.manual_seed(0)
    network = engine("fused", device).apply(space.network(Undecided(single=True), shape, 10))
    pixels = torch.randint(256, (min(2560, scale.images), *shape), dtype=torch.uint8)
    source = Resident(pixels, torch.arange(len(pixels)) % 10)
    augmentation, run = Augmentation((0.5,) * 3, (0.25,) * 3), Run(device, precision=precision, graphs=True)
    problem = SearchProblem(Supernet(network), source, source, augmentation, run).on_device()
    score = SupernetScore(problem, min(256, len(pixels)))
    evolution = AgingEvolution(candidates_of(space), population=max(2, scale.candidates // 2), sample=2)
    for _ in range(3):  # kernels are chosen, batches are made
        score(evolution.candidates.random(evolution.rng))
    found = explore(evolution, score, Budget(evaluations=scale.candidates, seconds=20.0))
    judged = len(found.evaluations)
    return {"per_s": judged / found.seconds, "candidates": judged, "s": found.seconds, "images": len(pixels)}
