"""The search of the main job: one leg, or one for each of the settings' `stages`, each a plain `search()`.

Every leg has a name of its own for its checkpoint, metrics and TensorBoard folder: "search" if it is the only one, else
"search1", "search2", ... A job that goes on runs through its finished legs again, which restores them from their last
checkpoints and takes no step, and so comes to the one that was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from supernet.estimation.problem import SearchProblem
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator, seed_everything
from supernet.search.loop import search
from supernet.search.progressive.stages import ResolvedStage, Stage, pruned
from supernet.search.progressive.weight_inheritance import inherit_weights
from supernet.search.statistics import groups
from supernet.search.strategy import has_alphas
from supernet.space.architecture import Architecture, Weights
from supernet.space.dropout import dropped
from supernet.space.supernet import Supernet

from . import sizes
from .job import Job
from .retraining import INITIAL_STREAM

_LEG_STREAM = 0x1E65
_SKIP = "skip_connect"


@dataclass(frozen=True)
class Search:
    """A leg's supernet and strategy; `inner` is the strategy without the stage's wrapper."""

    supernet: Supernet
    inner: Any
    strategy: Any

    def kept(self, leg: ResolvedStage, weights: Weights | None = None) -> dict[str, tuple[str, ...]]:
        """The operations of each edge that go on after `leg`, by what its strategy thinks of them now."""
        return pruned(self.supernet.decisions, weights or self.strategy.expected(), leg.stage.keep)


def search_cell(job: Job, yaml: str) -> Architecture:
    """Trains the supernet on one half of the training images and the strategy on the other, leg after leg."""
    before: Search | None = None
    kept: dict[str, tuple[str, ...]] = {}
    for number, leg in enumerate(job.legs):
        made = build_leg(job, number, kept, before)
        before = None  # its supernet would take memory during the next one's search
        architecture = _run(job, number, made, yaml)
        before, kept = made, made.kept(leg)
    return architecture


def build_leg(
    job: Job, number: int, kept: Mapping[str, Sequence[str]] | None = None, before: Search | None = None
) -> Search:
    """A leg's supernet, of the operations `kept` of each edge, and its strategy, both at their start."""
    leg, seed = job.legs[number], _seed(job, number)
    seed_everything(generator(seed, INITIAL_STREAM).initial_seed() % 2**32)
    network = leg.space.network(_chooser(job, leg, kept or {}), job.data.shape, len(job.data.classes))
    supernet = Supernet(job.engine.apply(network))
    strategy = make_strategy(job, supernet, seed)
    if leg.stage.inherit_weights and before is not None:
        inherit_weights(before.supernet, supernet)
        strategy.inherit(before.inner)
    return Search(supernet, strategy, strategy if leg.stage.wrapper is None else leg.stage.wrapper(strategy))


def make_strategy(job: Job, supernet: Supernet, seed: int) -> Any:
    """The job's strategy for the decisions of a supernet, at its start."""
    try:
        return job.strategy(job.space.name, supernet.decisions, seed=seed)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # a part that is made only now, such as an optimiser
        raise InputError(f"strategy: {error}") from error


def check_legs(job: Job) -> None:
    """What a leg's strategy cannot do shows now and not after the legs before."""
    acts = job.monitor.on_rise != "go_on"
    if len(job.legs) > 1 and acts:
        raise InputError(
            f"monitor.on_rise={job.monitor.on_rise}: acts on a search in one leg, stages has {len(job.legs)}; use go_on"
        )
    if job.divided.search is None:
        return
    for number, leg in enumerate(job.legs):
        with torch.device("meta"):
            supernet = Supernet(leg.space.network(job.chooser, job.data.shape, len(job.data.classes)))
        strategy = make_strategy(job, supernet, job.seed)
        strategy.finish()  # the discretiser's own settings
        if unknown := set(job.monitor.spared) - {*groups(supernet.decisions), "normal", "reduce"}:
            known = ", ".join(groups(supernet.decisions))
            raise InputError(
                f"monitor.spared={list(job.monitor.spared)}: no kind of cell is {unknown.pop()!r}; known: {known}"
            )
        if leg.stage.inherit_weights and not strategy.inherits:
            raise InputError(
                f"stages[{number}].inherit_weights=true: {type(strategy).__name__} learns nothing that a later stage "
                "can start with; use inherit_weights=false"
            )
        if leg.stage.keep is not None and not has_alphas(strategy):
            raise InputError(f"stages[{number}].keep={leg.stage.keep}: this search ranks no operations; use keep=null")
        wrapped = _wrapped(leg, number, strategy)
        if acts:
            job.monitor.check(wrapped)


def _wrapped(leg: ResolvedStage, number: int, strategy: Any) -> Any:
    try:
        return strategy if leg.stage.wrapper is None else leg.stage.wrapper(strategy)
    except InputError as error:
        raise InputError(str(error).replace("stages.wrapper", f"stages[{number}].wrapper", 1)) from None
    except (TypeError, ValueError) as error:
        raise InputError(f"stages[{number}].wrapper: {error}") from error


def leg_name(job: Job, number: int) -> str:
    """The name under which a leg reports and saves."""
    return "search" if len(job.legs) == 1 else f"search{number + 1}"


def _seed(job: Job, number: int) -> int:
    """Each leg sees other batches and draws other noise; the first those of a search in one leg."""
    return job.seed if number == 0 else generator(job.seed, _LEG_STREAM, number).initial_seed()


def _chooser(job: Job, leg: ResolvedStage, kept: Mapping[str, Sequence[str]]) -> Any:
    changes: dict[str, Any] = {}
    if kept:
        changes["kept"] = kept
    if leg.channel_divisor is not None:
        changes["channel_divisor"] = leg.channel_divisor
    if leg.recipe.skip_dropout and _SKIP in job.factories:
        changes["factories"] = {**job.factories, _SKIP: dropped(job.factories[_SKIP])}
    try:
        return replace(job.chooser, **changes)
    except TypeError as error:
        raise InputError(f"stages: the chooser cannot do with fewer operations or channels ({error})") from None


def _run(job: Job, number: int, made: Search, yaml: str) -> Architecture:
    leg, name = job.legs[number], leg_name(job, number)
    assert job.divided.search is not None
    train, valid = (job.data.train.subset(half) for half in job.divided.search)
    run = _run_of(job, number)
    run.report.text("config", "    " + yaml.replace("\n", "\n    "))
    if len(job.legs) > 1:
        run.report.line(f"{name}: {describe(leg, made.supernet)}")
    if length := sizes.described(leg.recipe, train):
        run.report.line(f"{name}: {length}")
    try:
        problem = SearchProblem(made.supernet, train, valid, job.data.augmentation, run)
        found = search(problem, made.strategy, leg.recipe, monitor=job.monitor, truth=job.table)
    finally:
        run.report.close()
    return found.architecture


def _run_of(job: Job, number: int) -> Run:
    run = job.run(leg_name(job, number))
    if job.legs[number].stage == Stage() and len(job.legs) == 1:
        return run
    stage = {"stage": str(job.legs[number].stage)}
    return replace(run, seed=_seed(job, number), fingerprint={**run.fingerprint, **stage})


def describe(leg: ResolvedStage, supernet: Supernet) -> str:
    """A leg's size in words, and where it is not what was asked for."""
    most = max(len(d.options) for d in supernet.decisions.values() if d.role == "operation")
    sizes = {f.name: getattr(leg.space, f.name) for f in fields(leg.space) if f.name in ("cells", "channels")}
    words = [*(f"{size} {name}" for name, size in sizes.items()), f"{most} operations an edge"]
    words.append(f"{leg.recipe.epochs} epochs")
    if leg.channel_divisor is not None:
        words.append(f"one channel in {leg.channel_divisor}")
        if leg.channel_divisor != leg.stage.channel_divisor:
            words[-1] += f" (not in {leg.stage.channel_divisor}: that does not divide all channels into two or more)"
    return ", ".join(words)
