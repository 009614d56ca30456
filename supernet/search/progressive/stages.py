"""Searches in several legs, each a plain `search()`: what changes from one leg to the next.

P-DARTS and progressive DrNAS begin with many operations in a small network and go on with fewer in a larger one. What
a stage says is relative to the job's settings, so that one list of stages goes with any space and any data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from supernet.runtime.errors import InputError
from supernet.search.recipe import SearchRecipe
from supernet.space.architecture import Decision, Weights
from supernet.space.survey import divisor, survey
from supernet.training.schedules import Schedule


@dataclass(frozen=True)
class Stage:
    """What one leg of a search changes in the job's settings.

    `depth`, `width`, `length` and `rate` multiply the space's cells and channels, the recipe's epochs (and its epochs
    of warm-up, these by `warm_up`, too) and the weights' learning rate; counts are rounded to whole numbers that can
    be. Whatever is a function of progress, such as a temperature, runs once in each leg. `channel_divisor`: operations
    see one channel in at most so many (None: what the chooser says). `keep`: so many operations of each edge go on to
    the next leg, those of the largest weight (None: all). `inherit_weights`: weights and alphas of what is left come
    from the leg before; otherwise both start afresh, as the optimisers always do. `schedule`: "whole" runs the learning
    rate once over all legs, "own" once in each. `skip_dropout`: as in `SearchRecipe`, where it is above 0. `wrapper`
    makes another strategy out of the leg's.
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
    wrapper: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("depth", "width", "length", "rate"):
            if not 0.0 < (value := getattr(self, name)) < float("inf"):
                raise InputError(f"stages.{name}={value}: multiplies the job's setting; needs a number above 0")
        if not 0.0 <= self.warm_up < float("inf"):
            raise InputError(f"stages.warm_up={self.warm_up}: multiplies search.warm_up; needs 0 or more")
        for name in ("channel_divisor", "keep"):
            if (whole := getattr(self, name)) is not None and whole < 1:
                raise InputError(f"stages.{name}={whole}: needs 1 or more, or null")
        if self.schedule not in ("own", "whole"):
            raise InputError(f"stages.schedule={self.schedule}: use own or whole")
        if not 0.0 <= self.skip_dropout < 1.0:
            raise InputError(f"stages.skip_dropout={self.skip_dropout}: needs to lie in [0, 1), such as 0.1")

    def __str__(self) -> str:
        """For a checkpoint to tell one stage from another."""
        plain = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if f.name != "wrapper"]
        return ", ".join([*plain, f"wrapper={_words(self.wrapper)}"])


def _words(wrapper: Callable[[Any], Any] | None) -> str:
    function = getattr(wrapper, "func", wrapper)  # what a yaml names is a partial of it
    settings = sorted(getattr(wrapper, "keywords", {}).items())
    return f"{getattr(function, '__qualname__', type(function).__name__)}({settings})" if wrapper else "None"


@dataclass(frozen=True)
class ResolvedStage:
    """One leg as it will run; `channel_divisor`: the divisor of channels, None where the chooser's own counts."""

    stage: Stage
    space: Any
    recipe: SearchRecipe
    channel_divisor: int | None


def legs(
    stages: Sequence[Stage], space: Any, recipe: SearchRecipe, shape: tuple[int, int, int], classes: int
) -> list[ResolvedStage]:
    """The legs of a search with these stages (none: one leg, as the settings are). Raises InputError.

    `space` is a space's dataclass; images have `shape` (channels, height, width).
    """
    stages = stages or (Stage(),)
    _check_inheritance(stages)
    epochs = [max(1, _rounded(recipe.epochs * stage.length)) for stage in stages]
    made = []
    for number, stage in enumerate(stages):
        size = _resized(space, stage, shape, classes)
        channels = (
            None if stage.channel_divisor is None else divisor(stage.channel_divisor, survey(size, shape, classes))
        )
        made.append(ResolvedStage(stage, size, _recipe(recipe, stage, epochs, number), channels))
    return made


def _check_inheritance(stages: Sequence[Stage]) -> None:
    for before, stage in zip([None, *stages], stages, strict=False):
        if stage.inherit_weights and before is None:
            raise InputError(
                "stages.inherit_weights=true: there is no leg before the first to inherit weights from; use false"
            )
        if stage.inherit_weights and before and before.wrapper is not None:
            raise InputError(
                "stages.inherit_weights=true: what the wrapper of the leg before has decided would be lost; use false"
            )
        if stage.inherit_weights and before and (before.depth, before.width) != (stage.depth, stage.width):
            raise InputError(
                "stages.inherit_weights=true: needs depth and width of the leg before; or use inherit_weights=false"
            )
        if stage.inherit_weights and before and not _widens(before.channel_divisor, stage.channel_divisor):
            raise InputError(
                f"stages.channel_divisor={stage.channel_divisor} after {before.channel_divisor}, inherit_weights=true: "
                "needs to be as large or smaller, or null in both; or use inherit_weights=false"
            )


def _widens(before: int | None, now: int | None) -> bool:
    return before == now or (before is not None and now is not None and now < before)


def _rounded(value: float) -> int:
    return int(value + 0.5)


def _recipe(recipe: SearchRecipe, stage: Stage, epochs: Sequence[int], number: int) -> SearchRecipe:
    schedule = recipe.schedule
    if stage.schedule == "whole" or stage.rate != 1.0:
        start, whole = (sum(epochs[:number]), sum(epochs)) if stage.schedule == "whole" else (0, None)
        schedule = Part(schedule, stage.rate, start, whole)
    length = epochs[number]
    warm_up = min(length - 1, _rounded(recipe.warm_up * stage.length * stage.warm_up))
    dropout = stage.skip_dropout or recipe.skip_dropout
    return replace(recipe, epochs=length, warm_up=warm_up, schedule=schedule, skip_dropout=dropout)


def _resized(space: Any, stage: Stage, shape: tuple[int, int, int], classes: int) -> Any:
    """The space in the stage's size, but with no fewer cells than it takes to ask all of its questions."""
    for name, factor, setting in (("depth", stage.depth, "cells"), ("width", stage.width, "channels")):
        if factor != 1.0 and setting not in {f.name for f in fields(space)}:
            raise InputError(f"stages.{name}={factor}: space {space.name!r} has no {setting}; leave it at 1")
    size = space
    if stage.width != 1.0:
        size = replace(size, channels=max(1, _rounded(space.channels * stage.width)))
    if stage.depth == 1.0:
        return size
    asked, cells = set(survey(space, shape, classes)), max(1, _rounded(space.cells * stage.depth))
    while not asked <= set(survey(replace(size, cells=cells), shape, classes)):
        cells += 1
    return replace(size, cells=cells)


def pruned(decisions: Mapping[str, Decision], weights: Weights, keep: int | None) -> dict[str, tuple[str, ...]]:
    """For each operation decision the `keep` options of the largest weight, in their old order (None: all).

    Of equals the first stays. Where "none" cannot be an answer, it does not stay alone: P-DARTS (Chen et al. 2019)
    drops it like any other operation until the last stage.
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
    """`rate` times the stretch of `schedule` that begins at its epoch `start`, of `whole` epochs (None: as asked)."""

    schedule: Schedule
    rate: float = 1.0
    start: int = 0
    whole: int | None = None

    def __call__(self, epoch: float, epochs: int) -> float:
        return self.rate * self.schedule(self.start + epoch, epochs if self.whole is None else self.whole)
