"""Checks of results on a GPU: executors, bfloat16, CUDA graphs, hidden waiting.

Every row that has a wrong value is kept with what is wrong about it, and the other rows are measured all the same.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.gpu_rows import Row, Rows, Wrong
from experiments.benchmarks.gpu_sizes import PARTIAL, Scale
from experiments.benchmarks.gpu_steps import BY_PASS, EAGER, PRODUCT, WHOLE
from experiments.benchmarks.setting import (
    Search,
    SearchSteps,
    TrainingSteps,
    Variant,
    build_supernet,
    distance,
    passes_of,
    random_batch,
    random_weights,
    switched_off,
    synchronise,
    whole_distance,
)
from supernet.runtime.run import Run
from supernet.space.choosers import Undecided

EXECUTORS = (PRODUCT, "stacked")
"""What the product runs on a GPU, and the stacked form with grouped 1x1 convolutions, which is slower there."""
EXACT, LOGITS, TURNED = 1e-9, 1e-4, 1e-2
"""The largest differences, of the length of all numbers: in float64; of logits in float32; of logits and gradients in
float32, where a last digit can turn a ReLU, which moves gradients but not logits."""
STEPS = 8
"""With graphs, and without."""


def check_executors(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Logits and all gradients against the reference's, in float64 and, without TF32, in float32."""
    for dtype, divisor in product((torch.float64, torch.float32), (1, 4)):
        kind = f"{str(dtype).removeprefix('torch.')}{'' if divisor == 1 else ' partial'}"
        chooser = Undecided() if divisor == 1 else PARTIAL

        @cache
        def found(executor: str, dtype: torch.dtype = dtype, chooser: Undecided = chooser) -> list[Tensor]:
            supernet = build_supernet(scale.check, device, dtype, chooser)
            weights = random_weights(supernet, device, dtype, inputs=chooser.channel_divisor > 1)
            batch = random_batch(scale.check_batch, device, side=scale.side, dtype=dtype)
            return passes_of(supernet, batch, weights, Run(device, graphs=False), executor)

        def far(executor: str, kind: str = kind, found: Callable[[str], list[Tensor]] = found) -> Row:
            row = _far(found(executor), found("reference"))
            close = row["all"] < EXACT if "float64" in kind else row["logits"] < LOGITS and row["all"] < TURNED
            _require(close, "differs from the reference", row)
            return row

        for executor in EXECUTORS:
            rows.measure(f"{kind} {executor}", partial(far, executor))
        with switched_off("SUPERNET_TRITON"):  # whose kernels are not for float64
            found.cache_clear()
            if dtype == torch.float32:
                rows.measure(f"{kind} {PRODUCT}, without Triton", partial(far, PRODUCT))


def check_bfloat16(scale: Scale, device: torch.device, rows: Rows) -> None:
    """How far bfloat16 is from float32, edge by edge and stacked: the executor may not add to that."""

    @cache
    def found(executor: str, precision: Any) -> list[Tensor]:
        supernet = build_supernet(scale.check, device)
        weights, batch = random_weights(supernet, device), random_batch(scale.check_batch, device, side=scale.side)
        return passes_of(supernet, batch, weights, Run(device, precision=precision, graphs=False), executor)

    def far(executor: str) -> Row:
        exact = found("reference", "float32")
        row, edges = (_far(found(name, "bfloat16"), exact) for name in (executor, "reference"))
        _require(row["all"] < 2 * edges["all"] + 1e-3, "is further off than the reference", row)
        return row

    for executor in ("reference", *EXECUTORS):
        rows.measure(executor, partial(far, executor))


def check_graphs(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Losses, parameters, statistics and alphas after some steps with graphs against those without."""
    kinds = _kinds(scale.checks, scale, device)
    kinds["retraining"] = partial(_training_steps, scale, device)
    for name, make in kinds.items():
        _check_graphs(name, make, device, rows)


def check_methods(scale: Scale, device: torch.device, rows: Rows) -> None:
    """The same of methods that do something of their own in every step; one that decides on the host has no graphs."""
    for name, make in _kinds(scale.additions, scale, device).items():
        _check_graphs(name, make, device, rows, recorded=False)


def _check_graphs(
    name: str, make: Callable[[Variant], Any], device: torch.device, rows: Rows, *, recorded: bool = True
) -> None:
    @cache
    def plain(turn: int) -> list[Tensor]:
        return _end(make(EAGER))

    def far(way: Variant) -> Row:
        steps = make(way)
        ended = _end(steps)
        row: Row = {"all": whole_distance(ended, plain(0)), "worst": distance(ended, plain(0))}
        row["graphs"] = steps.recorded
        row["noise"] = whole_distance(plain(1), plain(0)) if row["all"] else 0.0
        _require(row["all"] <= 10 * row["noise"], "graphs change the numbers", row)
        _require(device.type != "cuda" or not recorded or row["graphs"] > 0, "no graph was recorded", row)
        return row

    for way in (WHOLE, BY_PASS):
        rows.measure(f"{name} {way}", partial(far, way))


def check_waiting(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Whether a step waits for the device anywhere: PyTorch raises where it would."""
    if device.type != "cuda":
        rows.measure("skipped", lambda: {"reason": "only CUDA tells"})
        return
    kinds = _kinds({**scale.checks, **scale.additions}, scale, device)
    kinds["retraining"] = partial(_training_steps, scale, device)
    for way, (name, make) in product((EAGER, WHOLE), kinds.items()):
        rows.measure(f"{name} {way}", partial(_waits, make, way))


def _kinds(
    searches: Mapping[str, Search], scale: Scale, device: torch.device
) -> dict[str, Callable[[Variant], SearchSteps | TrainingSteps]]:
    return {name: partial(_search_steps, search, scale, device) for name, search in searches.items()}


def _search_steps(search: Search, scale: Scale, device: torch.device, way: Variant) -> SearchSteps:
    return SearchSteps(search, way, scale.check_batch, scale.side, device)


def _training_steps(scale: Scale, device: torch.device, way: Variant) -> TrainingSteps:
    return TrainingSteps(scale.training, way, scale.check_batch, scale.side, device)


def _end(steps: Any) -> list[Tensor]:
    """All losses, and all that the steps have changed. The rate falls; a search sees other images each time."""
    losses = []
    for number in range(STEPS):
        if isinstance(steps, SearchSteps):
            steps.step.optimizer.param_groups[0]["lr"] = 0.025 * (1 - number / 20)
            for half, batch in enumerate((steps.step.train, steps.step.valid)):
                drawn = random_batch(
                    len(batch), batch.images.device, side=batch.images.shape[-1], seed=2 * number + half
                )
                batch.images.copy_(drawn.images)
        losses.append(steps().detach().clone())
    network = steps.supernet if isinstance(steps, SearchSteps) else steps.network
    alphas = list(steps.strategy.expected().values()) if isinstance(steps, SearchSteps) else []
    return [tensor.detach().double() for tensor in [*losses, *network.state_dict().values(), *alphas]]


def _waits(make: Callable[[Variant], Any], way: Variant) -> Row:
    step = make(way)
    for _ in range(6):
        step()
    synchronise(torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return {"waits": f"{Path(place.filename).name}:{place.lineno}: {str(error).splitlines()[0]}"}
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"waits": "never"}


def _far(ours: list[Tensor], theirs: list[Tensor]) -> Row:
    return {
        "logits": whole_distance(ours[:1], theirs[:1]),
        "all": whole_distance(ours, theirs),
        "worst": distance(ours, theirs),
    }


def _require(right: bool, what: str, row: Row) -> None:
    """Raises where a check fails: the row is kept, and is recorded as failed."""
    if not right:
        raise Wrong(what, row)
