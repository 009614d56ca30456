"""Runs a search in one stage or in several; each stage is one call of `search`.

Each stage has a name of its own for what it reports and saves: "search" if it is the only one, else "search1",
"search2", ... A search that goes on runs through its finished stages again, which restores them from their last
checkpoints and takes no step, and so comes to the stage that was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.estimation.limits import Limits
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Score
from supernet.execution.engines import Engine, engine
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator, seed_initial_weights
from supernet.runtime.text import quantity
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.loop import NO_MONITOR, Searched, search
from supernet.search.method import Method
from supernet.search.progressive.shrinking import Teacher, shrinking_strategy
from supernet.search.progressive.stages import ResolvedStage, Stage, pruned, resolve_stages
from supernet.search.progressive.weight_inheritance import inherit_weights
from supernet.search.statistics import groups
from supernet.search.strategy import Strategy, has_alphas, limited
from supernet.space.architecture import Decision, Weights
from supernet.space.choices import SKIP
from supernet.space.choosers import Undecided
from supernet.space.dropout import dropped
from supernet.space.heads import Outputs
from supernet.space.supernet import Supernet
from supernet.training.lengths import length_in_words
from supernet.training.tasks import CLASSIFICATION, Task

_STAGE_STREAM = 0x1E65


@dataclass(frozen=True)
class StagedSearch:
    """A search before it runs: what is built in each of its stages.

    Args:
        stages: as they will run, one or more (`resolve_stages`).
        chooser: what is built at each open place of a supernet, before stages leave operations out.
        make_strategy: (name of the space, decisions, *, seed) -> the strategy of a stage, at its start.
        shape: of an image: channels, height, width.
        outputs: how many classes, or the head that makes something else of the maps.
        engine: how supernets are run.
        monitor: looks for the signs of a collapse; one that acts needs a search in one stage.
        seed: of all initial weights, batches and draws.
        limits: what the final network of the architecture may cost; None: anything.

    Example:
        >>> from supernet.data.augmentation import Augmentation
        >>> from supernet.data.batches import Resident
        >>> from supernet.search.methods import p_darts
        >>> from supernet.search.progressive.stages import resolve_stages
        >>> from supernet.space.nasbench201 import NasBench201
        >>> space, shape = NasBench201(channels=4, cells=1, stages=1, nodes=1), (1, 8, 8)
        >>> method = p_darts().few_steps(epochs=3, batch_size=8)
        >>> stages = resolve_stages(method.stages, space, method.recipe, shape, outputs=2)
        >>> planned = StagedSearch(stages, method.chooser_for(space), method.make_strategy, shape, outputs=2)
        >>> images = torch.zeros(16, *shape, dtype=torch.uint8)
        >>> half = Resident(images, torch.arange(16) % 2)
        >>> found = search_stages(planned, half, half, Augmentation((0.5,), (0.5,)))
        >>> sorted(found.architecture)
        ['cell/1', 'cell/1/0']
    """

    stages: Sequence[ResolvedStage]
    chooser: Undecided
    make_strategy: Callable[..., Strategy]
    shape: tuple[int, int, int]
    outputs: Outputs
    engine: Engine = field(default_factory=lambda: engine("fused"))
    monitor: MonitorSettings = NO_MONITOR
    seed: int = 0
    limits: Limits | None = None

    @classmethod
    def of(
        cls,
        method: Method,
        space: Any,
        shape: tuple[int, int, int],
        outputs: Outputs,
        engine: Engine,
        seed: int,
        limits: Limits | None = None,
    ) -> StagedSearch:
        """The search of a space by a method of the literature.

        Args:
            method: one of `supernet.methods`.
            space: in the size of the search.
            shape: of an image: channels, height, width.
            outputs: how many classes, or the head that makes something else of the maps.
            engine: how supernets are run.
            seed: of all initial weights, batches and draws.
            limits: what the final network of the architecture may cost; None: anything.

        Returns:
            The search, before it runs.
        """
        stages = resolve_stages(method.stages, space, method.recipe, shape, outputs)
        chooser = method.chooser_for(space)
        return cls(stages, chooser, method.make_strategy, shape, outputs, engine, method.monitor, seed, limits)

    def stage_seed(self, number: int) -> int:
        """Each stage sees other batches and draws other noise; the first those of a search in one stage."""
        return self.seed if number == 0 else generator(self.seed, _STAGE_STREAM, number).initial_seed()


@dataclass(frozen=True)
class BuiltStage:
    """A stage that can run: its supernet, and its strategy.

    Args:
        supernet: the network that is searched, with what the stages before have left.
        inner: the strategy without the stage's wrapper, from which the next stage inherits.
        strategy: the strategy that the search runs; `inner` itself where the stage has no wrapper.
        teacher: the largest network as the first stage left it; None where no stage has asked for it yet.
    """

    supernet: Supernet
    inner: Strategy
    strategy: Strategy
    teacher: Teacher | None = None

    def kept(self, keep: int | None, weights: Weights | None = None) -> dict[str, tuple[str, ...]]:
        """The operations of each edge that go on to the next stage.

        Args:
            keep: how many of each edge; None: all.
            weights: by which they are ranked; None: what the strategy thinks of them now.

        Returns:
            The options that are left, by decision.
        """
        return pruned(self.supernet.decisions, weights or self.strategy.expected(), keep)


def stage_name(number: int, stages: int) -> str:
    """Returns the name under which a stage reports and saves.

    Args:
        number: of the stage, from 0.
        stages: how many the search has.

    Returns:
        The name.

    Example:
        >>> stage_name(0, 1), stage_name(0, 2), stage_name(1, 2)
        ('search', 'search1', 'search2')
    """
    return "search" if stages == 1 else f"search{number + 1}"


def search_stages(
    planned: StagedSearch,
    train: Source,
    valid: Source,
    augmentation: Augmentation,
    *,
    run_of: Callable[[str], Run] = lambda name: Run(),
    task: Task = CLASSIFICATION,
    truth: Score | None = None,
) -> Searched:
    """Runs the search, stage after stage.

    Args:
        planned: what is built in each stage.
        train: the images that the supernets' weights learn from.
        valid: the images that the architectures are judged by.
        augmentation: of training images.
        run_of: name of a stage -> where and how it runs. Its report is closed when the stage ends.
        task: what is learnt and judged.
        truth: what is known of an architecture, such as a table: it is reported every epoch for the current one.

    Returns:
        The architecture that the last stage found, and how its supernet did.

    Raises:
        InputError: where settings do not go together, or a checkpoint is of other settings.
        NotFinite: where the search diverges.
        Interrupted: after saving, where the run was asked to stop.
    """
    before: BuiltStage | None = None
    kept: dict[str, tuple[str, ...]] = {}
    for number, stage in enumerate(planned.stages):
        built = build_stage(planned, number, kept, before)
        before = None  # its supernet would take memory during the search of the next one
        run = stage_run(planned, number, run_of)
        if len(planned.stages) > 1:
            run.report.line(f"{stage_name(number, len(planned.stages))}: {size_in_words(stage, built.supernet)}")
        if length := length_in_words(stage.recipe, train):
            run.report.line(f"{stage_name(number, len(planned.stages))}: {length}")
        try:
            problem = SearchProblem(built.supernet, train, valid, augmentation, run, task)
            found = search(problem, built.strategy, stage.recipe, monitor=planned.monitor, truth=truth)
        finally:
            run.report.close()
        before, kept = built, built.kept(stage.stage.keep)
    return found


def build_stage(
    planned: StagedSearch,
    number: int,
    kept: Mapping[str, Sequence[str]] | None = None,
    before: BuiltStage | None = None,
) -> BuiltStage:
    """Builds a stage's supernet and its strategy, both at their start.

    Args:
        planned: the search.
        number: of the stage, from 0.
        kept: the operations that are left of each edge by the stages before; None: all.
        before: the stage before, whose weights and alphas are inherited where this stage says so.

    Returns:
        The supernet and the strategy.

    Raises:
        InputError: where the parts do not go together.
    """
    stage, seed = planned.stages[number], planned.stage_seed(number)
    left = {**(kept or {}), **_opened(planned, number)}
    seed_initial_weights(seed)
    network = stage.space.network(_chooser(planned.chooser, stage, left), planned.shape, planned.outputs)
    supernet = Supernet(planned.engine.apply(network))
    make_strategy = limited(planned.make_strategy, _limits(planned, number))
    strategy = make_strategy(stage.space.name, supernet.decisions, seed=seed)
    if stage.stage.inherit_weights and before is not None:
        inherit_weights(before.supernet, supernet)
        strategy.inherit(before.inner)
    else:
        strategy.initialise(supernet)
    shrinking, teacher = stage.stage.shrinking, None if before is None else before.teacher
    if teacher is None and before is not None and shrinking is not None and shrinking.distillation:
        teacher = Teacher(before.supernet)
    return BuiltStage(supernet, strategy, _wrapped(stage, shrinking_strategy(strategy, shrinking, teacher)), teacher)


def _limits(planned: StagedSearch, number: int) -> Limits | None:
    """The limits of a stage: while larger networks are trained than may be chosen in the end, there are none."""
    last = number + 1 == len(planned.stages)
    if planned.limits is None or last or planned.stages[number].stage.shrinking is None:
        return planned.limits
    return Limits(planned.limits.costs, {})


def _opened(planned: StagedSearch, number: int) -> dict[str, tuple[str, ...]]:
    """The sizes that a stage leaves open, by decision; decisions that it does not speak of are left out."""
    stage = planned.stages[number]
    if stage.stage.shrinking is None:
        return {}
    with torch.device("meta"):
        decisions = Supernet(stage.space.network(planned.chooser, planned.shape, planned.outputs)).decisions
    return stage.stage.shrinking.kept(decisions)


def check_stages(planned: StagedSearch) -> list[Mapping[str, Decision]]:
    """Finds before the first stage what the strategy of a later one cannot do. Takes no memory for weights.

    Args:
        planned: the search.

    Returns:
        The decisions of each stage, with all of their options.

    Raises:
        InputError: where the parts do not go together.
    """
    acts = planned.monitor.on_rise != "go_on"
    decided: list[Mapping[str, Decision]] = []
    if len(planned.stages) > 1 and acts:
        raise InputError(
            f"on_rise={planned.monitor.on_rise}: acts on a search in one stage, and this one has "
            f"{len(planned.stages)}; use go_on"
        )
    for number, stage in enumerate(planned.stages):
        with torch.device("meta"):
            decisions = Supernet(stage.space.network(planned.chooser, planned.shape, planned.outputs)).decisions
        if planned.limits:
            planned.limits.check(decisions)
        strategy = limited(planned.make_strategy, planned.limits)(stage.space.name, decisions, seed=planned.seed)
        strategy.finish()  # the settings of the discretiser
        _opened(planned, number)
        _check_stage(planned.stages, number, strategy)
        if unknown := set(planned.monitor.spared) - {*groups(decisions), "normal", "reduce"}:
            raise InputError(
                f"spared={list(planned.monitor.spared)}: no kind of cell is {unknown.pop()!r}; known: "
                f"{', '.join(groups(decisions))}"
            )
        wrapped = _wrapped(stage, strategy)
        if acts:
            planned.monitor.check(wrapped)
        decided.append(decisions)
    return decided


def size_in_words(stage: ResolvedStage, supernet: Supernet) -> str:
    """A stage's size in words, and where it is not what was asked for.

    Args:
        stage: the stage.
        supernet: its supernet.

    Returns:
        Such as "16 channels, 11 cells, 5 operations an edge, 25 epochs".
    """
    edges = [len(d.options) for d in supernet.decisions.values() if d.role == "operation"]
    numbers = [len(d.options) > 1 for d in supernet.decisions.values() if d.role == "number"]
    sizes = {f.name: getattr(stage.space, f.name) for f in fields(stage.space) if f.name in ("cells", "channels")}
    words = [quantity(size, name.removesuffix("s")) for name, size in sizes.items()]
    words += [quantity(max(edges), "operation an edge", "operations an edge")] if edges else []
    words += [f"{sum(numbers)} of {quantity(len(numbers), 'size open', 'sizes open')}"] if numbers else []
    words.append(quantity(stage.recipe.epochs, "epoch"))
    if stage.channel_divisor is not None:
        words.append(f"one channel in {stage.channel_divisor}")
        if stage.channel_divisor != stage.stage.channel_divisor:
            words[-1] += f" (not in {stage.stage.channel_divisor}: that does not divide all channels into two or more)"
    return ", ".join(words)


def _check_stage(stages: Sequence[ResolvedStage], number: int, strategy: Strategy) -> None:
    stage = stages[number].stage
    if stage.inherit_weights and not strategy.inherits:
        raise InputError(
            f"stages[{number}].inherit_weights=True: {type(strategy).__name__} learns nothing that a later stage can "
            "start with; use False"
        )
    if stage.keep is not None and not has_alphas(strategy):
        raise InputError(f"stages[{number}].keep={stage.keep}: this search ranks no operations; keep all of them")


def _wrapped(stage: ResolvedStage, strategy: Strategy) -> Strategy:
    wrapped: Strategy = strategy if stage.stage.wrapper is None else stage.stage.wrapper(strategy)
    return wrapped


def _chooser(chooser: Undecided, stage: ResolvedStage, kept: Mapping[str, Sequence[str]]) -> Undecided:
    """Returns a chooser that builds only the options that are left, with the stage's channels and dropout."""
    changes: dict[str, Any] = {}
    if kept:
        changes["kept"] = kept
    if stage.channel_divisor is not None:
        changes["channel_divisor"] = stage.channel_divisor
    if stage.recipe.skip_dropout and SKIP in chooser.factories:
        changes["factories"] = {**chooser.factories, SKIP: dropped(chooser.factories[SKIP])}
    try:
        return replace(chooser, **changes)
    except TypeError as error:  # a chooser of the user
        raise InputError(f"chooser: cannot do with fewer operations or channels ({error})") from None


def stage_run(planned: StagedSearch, number: int, run_of: Callable[[str], Run]) -> Run:
    """Where a stage runs; its checkpoint says which stage it is of, unless it is of a search without stages."""
    run, stage = run_of(stage_name(number, len(planned.stages))), planned.stages[number].stage
    if stage == Stage() and len(planned.stages) == 1:
        return replace(run, seed=planned.seed)
    return replace(run, seed=planned.stage_seed(number), fingerprint={**run.fingerprint, "stage": str(stage)})
