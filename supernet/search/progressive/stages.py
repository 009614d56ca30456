"""The stages of a search, and what changes from one to the next. Each stage is one call of `search`.

P-DARTS and progressive DrNAS begin with many operations in a small network and go on with fewer in a larger one. What
a stage says is relative to the space and the recipe, so that the same stages go with any space and any data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

from supernet.runtime.errors import InputError
from supernet.search.progressive.shrinking import Shrinking
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Strategy
from supernet.space.architecture import Decision, Weights
from supernet.space.heads import Outputs
from supernet.space.survey import divisor, survey
from supernet.training.schedules import Schedule


@dataclass(frozen=True)
class Stage:
    """What one stage of a search changes. Counts are rounded to whole numbers that can be.

    Whatever is a function of progress, such as a temperature, runs once in each stage. Each stage has new optimisers.

    Args:
        depth: multiplies the cells of the space.
        width: multiplies the channels of the space.
        length: multiplies the epochs of the recipe, and its epochs of warm-up.
        rate: multiplies the learning rate of the weights.
        warm_up: multiplies the epochs of warm-up once more.
        channel_divisor: operations see the first 1 / d of the channels, d being at most this and fitting the channels;
            None: what the chooser says.
        keep: the number of operations of each edge, those of the largest weight, that the next stage has; None: all.
        inherit_weights: weights and alphas of what is left come from the stage before; False: both start new.
        schedule: "whole" runs the learning rate once over all stages, "own" once in each.
        skip_dropout: as in `SearchRecipe`; 0: what the recipe says.
        wrapper: makes another strategy out of the stage's; None: none.
        shrinking: which sizes of nested weights are open, and what they learn from (once-for-all); None: all are.

    Raises:
        InputError: where a number is out of its range.

    Example:
        >>> first, second = Stage(length=0.5, keep=4), Stage(length=0.5, inherit_weights=True)
        >>> first.keep, second.keep
        (4, None)
    """

    depth: float = 1.0
    width: float = 1.0
    length: float = 1.0
    rate: float = 1.0
    warm_up: float = 1.0
    channel_divisor: int | None = None
    keep: int | None = None
    inherit_weights: bool = False
    schedule: Literal["own", "whole"] = "own"
    skip_dropout: float = 0.0
    wrapper: Callable[[Any], Strategy] | None = None
    shrinking: Shrinking | None = None

    def __post_init__(self) -> None:
        for name in ("depth", "width", "length", "rate"):
            if not 0.0 < (value := getattr(self, name)) < float("inf"):
                raise InputError(f"{name}={value}: multiplies what the search has; needs a number above 0")
        if not 0.0 <= self.warm_up < float("inf"):
            raise InputError(f"warm_up={self.warm_up}: multiplies the warm-up of the recipe; needs 0 or more")
        for name in ("channel_divisor", "keep"):
            if (whole := getattr(self, name)) is not None and whole < 1:
                raise InputError(f"{name}={whole}: needs 1 or more where it is given")
        if self.schedule not in ("own", "whole"):
            raise InputError(f"schedule={self.schedule}: use own or whole")
        if not 0.0 <= self.skip_dropout < 1.0:
            raise InputError(f"skip_dropout={self.skip_dropout}: needs to lie in [0, 1), such as 0.1")

    def __str__(self) -> str:
        """For a checkpoint to tell one stage from another."""
        plain = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if f.name not in ("wrapper", "shrinking")]
        shrinking = [] if self.shrinking is None else [f"shrinking=({self.shrinking})"]
        return ", ".join([*plain, f"wrapper={_words(self.wrapper)}", *shrinking])


def _words(wrapper: Callable[[Any], Strategy] | None) -> str:
    if wrapper is None:
        return "None"
    function, settings = (wrapper.func, wrapper.keywords) if isinstance(wrapper, partial) else (wrapper, {})
    return f"{getattr(function, '__qualname__', type(function).__name__)}({sorted(settings.items())})"


@dataclass(frozen=True)
class ResolvedStage:
    """A stage as it will run.

    Args:
        stage: what was asked for.
        space: in the size of this stage.
        recipe: in the length of this stage.
        channel_divisor: operations see the first 1 / `channel_divisor` of the channels; None: what the chooser says.
    """

    stage: Stage
    space: Any
    recipe: SearchRecipe
    channel_divisor: int | None


def resolve_stages(
    stages: Sequence[Stage], space: Any, recipe: SearchRecipe, shape: tuple[int, int, int], outputs: Outputs
) -> list[ResolvedStage]:
    """Computes the sizes and lengths of all stages of a search from this space and this recipe.

    Args:
        stages: what each of them changes; none: one stage that changes nothing.
        space: a frozen dataclass of settings, such as `Darts()`.
        recipe: of all stages together.
        shape: of an image: channels, height, width.
        outputs: how many classes, or the head that makes something else of the maps.

    Returns:
        The stages as they will run, one or more.

    Raises:
        InputError: where a stage asks for what the space or the stage before cannot give.

    Example:
        >>> from supernet.space.darts import Darts
        >>> stages = [Stage(length=0.5), Stage(length=0.5, depth=2.0)]
        >>> found = resolve_stages(stages, Darts(), SearchRecipe(epochs=50), (3, 32, 32), 10)
        >>> [(stage.recipe.epochs, stage.space.cells) for stage in found]
        [(25, 8), (25, 16)]
    """
    stages = stages or (Stage(),)
    _check_inheritance(stages)
    epochs = [max(1, _rounded(recipe.epochs * stage.length)) for stage in stages]
    made = []
    for number, (stage, length) in enumerate(zip(stages, epochs, strict=True)):
        size, most, schedule = _resized(stages, number, space, shape, outputs), stage.channel_divisor, recipe.schedule
        channels = None if most is None else divisor(most, survey(size, shape, outputs))
        if stage.schedule == "whole" or stage.rate != 1.0:
            start, whole = (sum(epochs[:number]), sum(epochs)) if stage.schedule == "whole" else (0, None)
            schedule = Part(schedule, stage.rate, start, whole)
        own = replace(
            recipe,
            epochs=length,
            warm_up=min(length - 1, _rounded(recipe.warm_up * stage.length * stage.warm_up)),
            schedule=schedule,
            skip_dropout=stage.skip_dropout or recipe.skip_dropout,
        )
        made.append(ResolvedStage(stage, size, own, channels))
    return made


def _check_inheritance(stages: Sequence[Stage]) -> None:
    for number, (before, stage) in enumerate(zip([None, *stages], stages, strict=False)):
        inherits = f"stages[{number}].inherit_weights=True"
        if stage.inherit_weights and before is None:
            raise InputError(f"{inherits}: there is no stage before the first to inherit weights from; use False")
        if stage.shrinking and stage.shrinking.distillation and before is None:
            raise InputError(
                f"stages[{number}].shrinking.distillation={stage.shrinking.distillation}: there is no stage before the "
                "first whose network could teach; use 0"
            )
        if stage.inherit_weights and before and before.wrapper is not None:
            raise InputError(f"{inherits}: what the wrapper of the stage before has decided would be lost; use False")
        if stage.inherit_weights and before and (before.depth, before.width) != (stage.depth, stage.width):
            raise InputError(f"{inherits}: needs depth and width of the stage before; or use False")
        if stage.inherit_weights and before and not _widens(before.channel_divisor, stage.channel_divisor):
            raise InputError(
                f"stages[{number}].channel_divisor={stage.channel_divisor} after {before.channel_divisor}, "
                "inherit_weights=True: needs to be as large or smaller, or none in both; or use inherit_weights=False"
            )


def _widens(before: int | None, now: int | None) -> bool:
    return before == now or (before is not None and now is not None and now < before)


def _rounded(value: float) -> int:
    return int(value + 0.5)


def _resized(stages: Sequence[Stage], number: int, space: Any, shape: tuple[int, int, int], outputs: Outputs) -> Any:
    """Returns the space in the stage's size, with enough cells to have all of its decisions."""
    stage = stages[number]
    for name, factor, setting in (("depth", stage.depth, "cells"), ("width", stage.width, "channels")):
        if factor != 1.0 and setting not in {f.name for f in fields(space)}:
            raise InputError(f"stages[{number}].{name}={factor}: space {space.name!r} has no {setting}; leave it at 1")
    size = space
    if stage.width != 1.0:
        size = replace(size, channels=max(1, _rounded(space.channels * stage.width)))
    if stage.depth == 1.0:
        return size
    asked, cells = set(survey(space, shape, outputs)), max(1, _rounded(space.cells * stage.depth))
    while not asked <= set(survey(replace(size, cells=cells), shape, outputs)):
        cells += 1
    return replace(size, cells=cells)


def pruned(decisions: Mapping[str, Decision], weights: Weights, keep: int | None) -> dict[str, tuple[str, ...]]:
    """Says which operations of each edge go on to the next stage: those of the largest weight.

    Of equals the first stays. Where "none" cannot be an answer, it does not stay alone: P-DARTS (Chen et al. 2019)
    drops it like any other operation until the last stage.

    Args:
        decisions: of the supernet, by name.
        weights: of each decision, (options,).
        keep: how many operations stay; None: all.

    Returns:
        For each decision about an operation the options that stay, in their old order.

    Example:
        >>> import torch
        >>> edge = Decision("edge", ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"))
        >>> pruned({"edge": edge}, {"edge": torch.tensor([0.4, 0.1, 0.2, 0.3])}, keep=2)
        {'edge': ('none', 'sep_conv_3x3')}
        >>> pruned({"edge": edge}, {"edge": torch.tensor([0.4, 0.1, 0.2, 0.3])}, keep=1)
        {'edge': ('sep_conv_3x3',)}
    """

    def strongest(decision: Decision) -> tuple[str, ...]:
        value = dict(zip(decision.options, weights[decision.name].tolist(), strict=True))
        ranking = sorted(decision.options, key=lambda option: -value[option])  # stable
        kept = ranking[:keep]
        if not set(kept) & set(decision.answers):
            kept[-1] = next(option for option in ranking if option in decision.answers)
        return tuple(option for option in decision.options if option in kept)

    return {name: strongest(d) for name, d in decisions.items() if d.role == "operation"}


@dataclass(frozen=True)
class Part:
    """The part of a schedule that one stage sees.

    Args:
        schedule: the whole schedule.
        rate: multiplies it.
        start: the epoch of the schedule at which the part begins.
        whole: the epochs of the whole schedule; None: as many as the stage has.

    Example:
        >>> from supernet.training.schedules import Linear
        >>> second_half = Part(Linear(0.1), start=25, whole=50)
        >>> second_half(0, 25)
        0.05
    """

    schedule: Schedule
    rate: float = 1.0
    start: int = 0
    whole: int | None = None

    def __call__(self, epoch: float, epochs: int) -> float:
        return self.rate * self.schedule(self.start + epoch, epochs if self.whole is None else self.whole)
