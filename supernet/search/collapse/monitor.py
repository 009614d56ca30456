"""The collapse monitor: finds signs that a search goes wrong, warns, and can stop the search or roll it back.

Searches by gradient can collapse: skip connections, which learn fastest, crowd out whatever has weights to learn (Zela
et al. 2020, "Understanding and Robustifying Differentiable Architecture Search"). The monitor only looks: it draws from
a stream of its own and leaves weights, statistics and gradients as they are, so a search with it ends where the search
without it ends, unless it is told to act (`on_rise`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from supernet.estimation.problem import SearchProblem
from supernet.runtime.checkpoint import Stateful
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.search.collapse.measurements import Measurements, measure
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Strategy
from supernet.space.architecture import Architecture
from supernet.training.epochs import Epochs

_MONITOR_STREAM = 0xD0C


class CollapseMonitor:
    """The monitor of one search: what it has seen, said and changed. All is in its state, so a search resumes bitwise.

    Args:
        settings: when it looks, and what follows.
        problem: its supernet is looked at.
        strategy: its architecture is looked at.
        recipe: of the search; the alphas do not change while it warms up.
        epochs: the loop, whose optimiser gets another weight decay where the search is rolled back.
        parts: what else has a state and is rolled back, by name.

    Raises:
        InputError: where the monitor is to act and cannot.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        problem: SearchProblem,
        strategy: Strategy,
        recipe: SearchRecipe,
        epochs: Epochs,
        parts: Mapping[str, Stateful],
    ) -> None:
        self._settings, self._problem, self._strategy, self._recipe = settings, problem, strategy, recipe
        self._optimizer, self._epochs = epochs.optimizer, recipe.epochs
        self._parts: dict[str, Stateful] = {**parts, "optimizer": epochs.optimizer, "epochs": epochs}
        self._not_before = max(settings.not_before, recipe.warm_up)  # alphas that have not moved say nothing
        self._decay = float(epochs.optimizer.param_groups[0]["weight_decay"])
        self._looks: list[tuple[int, int, float, str]] = []  # epoch, step, lambda_max, genotype
        self._told: list[str] = []
        self._snapshots: dict[int, dict[str, Any]] = {}
        self._measurements: Measurements | None = None
        self._stopped = ""
        settings.check(strategy)
        if settings.on_rise == "adapt" and not 0.0 < self._decay < settings.most:
            raise InputError(
                f"on_rise=adapt: multiplies the weight decay of the recipe; {self._decay:g} needs to lie above 0 and "
                f"below most={settings.most:g}"
            )

    def look(self, epoch: int, score: float) -> dict[str, float]:
        """The scalars of this epoch, counted from 0, at whose end the supernet's score was `score`; {} if none.

        To be called with the supernet in training mode, after a closed epoch.
        """
        self._measurements = None
        if not self._settings.looks_after(epoch, self._epochs):
            return {}
        device = self._problem.run.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(generator(self._problem.run.seed, _MONITOR_STREAM, epoch).initial_seed())
            self._measurements = measure(self._problem, self._strategy, score, self._recipe.batch_size, self._settings)
        adapting = {"collapse/weight_decay": self._decay} if self._settings.on_rise == "adapt" else {}
        return {**self._measurements.scalars(), **adapting}

    def conclude(self, epoch: int, step: int) -> bool:
        """Says what there is to say about the look after this epoch and acts on it; True: all parts were rolled back.

        Then the report is rolled back, too. To be called when the epoch's own report, at `step`, is complete.
        """
        found, settings = self._measurements, self._settings
        if found is None or found.lambda_max is None:  # without alphas nothing is learnt that could collapse
            return False
        if (epoch + 1) / self._epochs >= settings.since:
            for sign, words in signs(settings, found).items():
                self._tell_once(sign, words, step)
        self._looks.append((epoch, step, found.lambda_max, found.architecture.to_json()))
        self._keep_snapshot(epoch)
        multiple = risen([look[2] for look in self._looks], settings.window, settings.delta)
        at_the_end = epoch == self._epochs - 1  # too late for anything, as in the authors' code
        if at_the_end or multiple is None or not multiple > settings.rise:
            return False
        number = len(self._looks) - 1 - settings.reach
        return self._looks[number][0] >= self._not_before and self._act(number, multiple, step)

    def _act(self, number: int, multiple: float, step: int) -> bool:
        older, then, _, genotype = self._looks[number]
        what = f"lambda_max is {multiple:.2f} times what it was around epoch {older + 1}, as before a collapse"
        if self._settings.on_rise == "stop":
            self._stopped = genotype
            self._tell(f"{what}: the search stops, with the architecture of that epoch", step)
        elif self._adaptable:
            self._roll_back(number)
            self._problem.run.report.resume(then + 1)
            self._tell(f"{what}: back to that epoch, and on with a weight decay of {self._decay:g}", then)
            return True
        elif self._settings.on_rise == "adapt":
            self._tell_once("rise", f"{what}; the weight decay is the most already, so the search goes on", step)
        else:
            self._tell_once("rise", f"{what}; try on_rise=stop or adapt, or {_REMEDIES}", step)
        return False

    @property
    def _adaptable(self) -> bool:
        return self._settings.on_rise == "adapt" and self._decay < self._settings.most

    @property
    def stopped(self) -> Architecture | None:
        """The architecture with which the monitor has stopped the search, if it has."""
        return Architecture.from_json(self._stopped) if self._stopped else None

    def _keep_snapshot(self, epoch: int) -> None:
        """Keeps snapshots only of the epochs to which the search may still return."""
        settings = self._settings
        in_time = epoch >= self._not_before and epoch + settings.reach * settings.every < self._epochs - 1
        if self._adaptable and in_time:
            self._snapshots[epoch] = {name: copied(part.state_dict()) for name, part in self._parts.items()}
        recent = {look[0] for look in self._looks[-1 - settings.reach :]}
        self._snapshots = {e: snapshot for e, snapshot in self._snapshots.items() if e in recent}

    def _roll_back(self, number: int) -> None:
        epoch = self._looks[number][0]
        for name, part in self._parts.items():
            part.load_state_dict(copied(self._snapshots[epoch][name]))  # a part may go on with what it is given
        self._looks = self._looks[: number + 1]
        self._decay = min(self._decay * self._settings.factor, self._settings.most)
        for group in self._optimizer.param_groups:
            group["weight_decay"] = self._decay
        self._snapshots = {e: s for e, s in self._snapshots.items() if e <= epoch and self._adaptable}

    def _tell_once(self, sign: str, words: str, step: int) -> None:
        if sign not in self._told:
            self._told.append(sign)
            self._tell(words, step)

    def _tell(self, words: str, step: int) -> None:
        self._problem.run.report.line(f"monitor: {words}")
        self._problem.run.report.text("monitor", words, step)

    def state_dict(self) -> dict[str, Any]:
        return {
            "looks": [list(look) for look in self._looks],
            "told": list(self._told),
            "snapshots": dict(self._snapshots),
            "decay": self._decay,
            "stopped": self._stopped,
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        kinds = (int, int, float, str)
        looks = all([type(value) for value in look] == [*kinds] for look in state["looks"])
        snapshots = all(type(epoch) is int and type(kept) is dict for epoch, kept in state["snapshots"].items())
        texts = all(type(text) is str for text in (state["stopped"], *state["told"]))
        if not (looks and snapshots and texts and type(state["decay"]) is float):
            raise InputError("its part monitor is not what this run saves")
        if state["stopped"]:
            Architecture.from_json(state["stopped"])
        self._looks = [tuple(look) for look in state["looks"]]
        self._told, self._snapshots = list(state["told"]), dict(state["snapshots"])
        self._decay, self._stopped = state["decay"], state["stopped"]


_REMEDIES = "the method r_darts_l2, darts_minus or sdarts_rs, or a weight decay ten times as large"


def signs(settings: MonitorSettings, found: Measurements) -> dict[str, str]:
    """Finds the signs of a collapse in one look, except a rise of lambda_max, which takes several looks.

    Args:
        settings: what counts as a sign.
        found: what the look found.

    Returns:
        What the sign is and what to try, by its name: "skips/<kind>", "parametric/<kind>" or "gap".
    """
    said = {}
    for kind in (kind for kind in found.skips if kind not in settings.spared):
        if (skips := found.skips[kind]) > settings.many_skips:
            said[f"skips/{kind}"] = (
                f"{skips:.0%} of the kept edges of {kind} cells are skip connections, the mark of a collapse; try "
                f"{_REMEDIES}"
            )
        if (weights := found.parametric[kind]) < settings.few_parametric:
            said[f"parametric/{kind}"] = (
                f"{weights:.0%} of the kept edges of {kind} cells have weights to learn, so there is little left to "
                f"train; try {_REMEDIES}"
            )
    if found.score - found.alone > settings.large_gap * found.score:
        said["gap"] = (
            f"the supernet scores {found.score:.2f}, the architecture that it stands for {found.alone:.2f}: "
            "the alphas rank operations that work together only; try more epochs, a larger learning rate of the "
            "alphas, or the method gdas or drnas"
        )
    return said


def copied(state: Any) -> Any:
    """Copies a state of plain containers and tensors, so that nobody who goes on with the original changes the copy.

    Args:
        state: mappings, lists and tuples of tensors and of what cannot change, in any depth.

    Returns:
        The same state: new dicts, lists and tuples, and new tensors on the CPU.
    """
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    return type(state)(copied(value) for value in state) if isinstance(state, list | tuple) else state


def risen(values: Sequence[float], window: int, delta: int) -> float | None:
    """Divides the mean of the last values by an earlier mean: the criterion of RobustDARTS.

    The code of Zela et al. 2020 does the same. The older mean belongs to the value in its middle, which has the number
    len(values) - 1 - window // 2 - delta.

    Args:
        values: one for each look, the newest last.
        window: how many values each mean is of.
        delta: how many values ago the older mean was the newest.

    Returns:
        The multiple; None where there are too few values yet, or where the older mean is not positive.

    Example:
        >>> risen([1.0, 1.0, 1.0, 1.0, 3.0, 3.0], window=2, delta=2), risen([1.0, 3.0], window=2, delta=2)
        (3.0, None)
    """
    if len(values) <= window // 2 + delta:
        return None
    now, before = values[-window:], values[: len(values) - delta][-window:]
    older = sum(before) / len(before)
    return sum(now) / len(now) / older if older > 0 else None
