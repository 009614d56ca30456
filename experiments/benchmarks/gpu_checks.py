"""Checks of results on a GPU, made before it is timed: stacked cells, CUDA graphs, bfloat16, hidden waiting.

Each check is a generator of (what, value), so that what is found is kept as it comes; it raises where a value is wrong.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from experiments.benchmarks.setting import (
    EXECUTORS,
    Search,
    SearchSteps,
    TrainingSteps,
    Variant,
    build_supernet,
    distance,
    passes_of,
    random_batch,
    random_weights,
    synchronise,
    whole_distance,
)
from supernet.runtime.run import Run
from supernet.search.differentiable.architects import unrolled
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.objectives import DirichletAnchor, ExpectedCost
from supernet.search.differentiable.operation_early_stopping import OperationEarlyStopping
from supernet.search.differentiable.projection import Projection
from supernet.search.differentiable.weight_transforms import Adversarial, AuxiliarySkip
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts

Found = Iterator[tuple[str, Any]]


@dataclass(frozen=True)
class Scale:
    """How large everything is: the published networks, or ones that a CPU does in seconds."""

    search: Darts
    training: Darts
    side: int
    batches: tuple[int, ...]
    partial_batch: int
    training_batch: int
    check_batch: int
    check_steps: int
    warm_up: int
    rounds: int

    @property
    def searches(self) -> dict[str, Search]:
        """The kinds of step that are checked and timed, by name."""
        return {
            "first_order": Search(self.search),
            "unrolled": Search(self.search, unrolled),
            "partial_channels": Search(self.search, chooser=Undecided(channel_divisor=4)),
        }

    @property
    def additions(self) -> dict[str, Search]:
        """Methods that do something of their own with weights or gradients in every step, by name."""
        costs = dict.fromkeys(self.search.operations, 1.0)
        return {
            "darts_minus": Search(self.search, parts={"transforms": {"skip": AuxiliarySkip()}}),
            "sdarts_adv": Search(self.search, parts={"transforms": {"attack": Adversarial()}}),
            "expected_cost": Search(self.search, parts={"terms": {"cost": ExpectedCost(costs)}}),
            "dirichlet_anchor": Search(self.search, parts={"terms": {"anchor": DirichletAnchor()}}),
            "darts_pt": Search(self.search, wrapper=_half_decided),
            "oles": Search(self.search, wrapper=OperationEarlyStopping),
        }


def _half_decided(strategy: GradientStrategy) -> Projection:
    """A selection by perturbation half of whose rounds are over."""
    projection = Projection(strategy)
    halves = {name: tuple(decision.options[:1]) for name, decision in list(strategy.decisions.items())[::2]}
    projection.load_state_dict({**projection.state_dict(), "rounds": projection.rounds // 2, "decided": halves})
    return projection


FULL = Scale(Darts(), Darts(channels=36, cells=20, auxiliary=True), 32, (64, 256, 1024), 256, 96, 16, 8, 8, 15)
_SMALL = Darts(channels=16, cells=1, nodes=2)  # 2 channels side by side, a part of 8, crash oneDNN on the CPU
TINY = Scale(_SMALL, Darts(channels=4, cells=2, auxiliary=True), 8, (4,), 4, 4, 4, 8, 4, 1)  # 4 steps: then graphs are


def check_stacked(scale: Scale, device: torch.device) -> Found:
    """The stacked executors against the reference: outputs and every gradient, float64 and (without TF32) float32."""
    for dtype, divisor in product((torch.float64, torch.float32), (1, 4)):
        kind = f"{dtype}{'' if divisor == 1 else ' partial channels'}"
        supernet = build_supernet(scale.search, device, dtype, Undecided(channel_divisor=divisor))
        weights = random_weights(supernet, device, dtype, inputs=divisor > 1)
        batch = random_batch(scale.check_batch, device, side=scale.side, dtype=dtype)
        expected = passes_of(supernet, batch, weights, Run(device), "reference")
        again = passes_of(supernet, batch, weights, Run(device), "reference")
        yield f"{kind} reference twice", whole_distance(again, expected)
        for name in EXECUTORS:
            got = passes_of(supernet, batch, weights, Run(device), name)
            yield f"{kind} {name} worst tensor", distance(got, expected)
            yield f"{kind} {name} all", (far := whole_distance(got, expected))
            if dtype == torch.float64:
                require(far < 1e-9, f"{name} differs from the reference in {kind}")


def check_bfloat16(scale: Scale, device: torch.device) -> Found:
    """How far bfloat16 is from float32, edge by edge and stacked."""
    supernet = build_supernet(scale.search, device)
    weights, batch = random_weights(supernet, device), random_batch(scale.check_batch, device, side=scale.side)
    exact = passes_of(supernet, batch, weights, Run(device), "reference")
    run = Run(device, precision="bfloat16")
    found = {name: whole_distance(passes_of(supernet, batch, weights, run, name), exact) for name in EXECUTORS}
    yield from found.items()
    for name, value in found.items():
        require(value < 2 * found["reference"] + 1e-3, f"{name} is further off than the reference in bfloat16")


def check_graphs(scale: Scale, device: torch.device) -> Found:
    """Losses, parameters, statistics and alphas after some steps with graphs against those without."""
    for name, search in scale.searches.items():
        for executor in ("reference", "stacked"):
            ends = []
            for graphs in (False, False, True):
                variant = Variant(executor, graphs=graphs)
                steps = SearchSteps(search, variant, scale.check_batch, scale.side, device)
                losses = [steps().detach() for _ in range(scale.check_steps)]
                ends.append([*losses, *steps.supernet.state_dict().values(), *steps.strategy.logits.values()])
            ends = [[tensor.detach().double() for tensor in end] for end in ends]
            noise, far = whole_distance(ends[1], ends[0]), whole_distance(ends[2], ends[0])
            yield f"{name} {executor}", far
            yield f"{name} {executor}, twice without", noise
            require(far < 10 * noise + 1e-4, f"graphs change {name} on {executor}")
            if device.type == "cuda":
                yield f"{name} {executor}, graphs", steps.recorded
                require(steps.recorded > 0, f"no graph was recorded of {name} on {executor}")


def check_waiting(scale: Scale, device: torch.device) -> Found:
    """Whether a step waits for the device anywhere: PyTorch raises where it would."""
    if device.type != "cuda":
        yield "skipped", "only CUDA tells"
        return
    for name, search in {**scale.searches, **scale.additions}.items():
        for variant in (Variant("reference"), Variant("stacked"), Variant("stacked", graphs=True)):
            steps = SearchSteps(search, variant, scale.check_batch, scale.side, device)
            yield f"{name} {variant}", _waits(steps, device)
    training = TrainingSteps(scale.training, Variant(), scale.check_batch, scale.side, device)
    yield "training", _waits(training, device)


def _waits(step: Callable[[], Any], device: torch.device) -> str:
    for _ in range(8):
        step()
    synchronise(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"waits at {place.filename}:{place.lineno}: {str(error).splitlines()[0]}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "never waits"


def require(right: bool, what: str) -> None:
    """Raises where a check fails: the section is then recorded as failed."""
    if not right:
        raise AssertionError(what)
