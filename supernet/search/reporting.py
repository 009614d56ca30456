"""An epoch of a search: how far the search is, and what is reported when one ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from supernet.genotypes.drawing import draw_cell, heat_map
from supernet.runtime.autosave import check_progress
from supernet.runtime.run import Run
from supernet.search.statistics import entropy, groups, skip_count, table
from supernet.search.strategy import Strategy
from supernet.training.meters import Averages, Meter, memory_gb

if TYPE_CHECKING:
    from supernet.search.recipe import SearchRecipe


@dataclass
class SearchState:
    """How far a search is: steps taken, epochs closed, the running sums and the last closed epoch's averages.

    It has `epochs` of `per_epoch` steps.
    """

    meter: Meter
    per_epoch: int
    epochs: int
    step: int = 0
    epoch: int = 0
    train: Averages = field(default_factory=lambda: Averages(0.0, 0.0, 0))
    valid: Averages = field(default_factory=lambda: Averages(0.0, 0.0, 0))
    genotype: str = ""

    def end_epoch(self, valid: Averages) -> None:
        self.train, self.valid = self.meter.read(), valid
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        averages = {"train": asdict(self.train), "valid": asdict(self.valid)}
        counts = {"step": self.step, "epoch": self.epoch, "genotype": self.genotype}
        return {"meter": self.meter.state_dict(), **averages, **counts}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        check_progress(state["step"], state["epoch"], self.per_epoch, self.epochs)
        self.meter.load_state_dict(state["meter"])
        self.train, self.valid = Averages(**state["train"]), Averages(**state["valid"])
        self.step, self.epoch, self.genotype = state["step"], state["epoch"], state["genotype"]


def report_epoch(
    state: SearchState,
    strategy: Strategy,
    recipe: SearchRecipe,
    optimizer: torch.optim.Optimizer,
    seconds: float,
    run: Run,
    more: Mapping[str, float],
) -> None:
    """Scalars, those of `more` too, pictures and a line about the epoch that has just ended; empties the meter."""
    weights, architecture, decisions = strategy.expected(), strategy.finish(), strategy.decisions
    scalars = {
        "search/loss/train": state.train.loss,
        "search/loss/valid": state.valid.loss,
        "search/accuracy/train": state.train.accuracy,
        "search/accuracy/valid": state.valid.accuracy,
        "search/balanced_accuracy/valid": state.valid.balanced or 0.0,
        "lr/weights": optimizer.param_groups[0]["lr"],
        "sys/images_per_second": 2 * recipe.batch_size / seconds if seconds else 0.0,
        "sys/memory_gb": memory_gb(run.device),
        **strategy.measures(),
        **more,
    }
    changed = state.genotype != architecture.to_json()
    for kind in groups(decisions):
        edges, options, values = table(decisions, weights, kind)
        if not edges:
            continue
        scalars[f"alpha/entropy/{kind}"] = entropy(decisions, weights, kind)
        scalars[f"alpha/skip_count/{kind}"] = skip_count(architecture, decisions, kind)
        run.report.figure(f"alpha/{kind}", partial(heat_map, edges, options, values, kind), state.step)
        run.report.histogram(f"alpha_histogram/{kind}", values, state.step)  # one tag, one kind of data
        if changed and any(d.role == "inputs" for d in decisions.values()):
            run.report.figure(f"genotype/{kind}", partial(draw_cell, architecture, kind), state.step)
    if changed:
        run.report.text("genotype", f"```json\n{architecture.to_json()}```", state.step)
    run.report.scalars(scalars, state.step)
    left = (recipe.epochs - state.epoch) * (state.step // state.epoch) * seconds
    run.report.line(
        f"search {state.epoch:>3}/{recipe.epochs}  train loss {state.train.loss:.3f} "
        f"accuracy {state.train.accuracy:.3f}  valid {state.valid.accuracy:.3f}  {left:.0f} s left"
        + ("  new genotype" if changed else "")
    )
    state.genotype = architecture.to_json()
    state.meter.reset()
