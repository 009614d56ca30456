"""Successive halving, Hyperband and ASHA: many architectures with a small resource, few of them with more.

    explorer = Hyperband(candidates, ladder=Ladder(least=1, most=81))
    found = halving(explorer, ShortTrainingScore(..., recipe=Recipe(epochs=81)))

The budget (`Budget(units=...)`) is the sum over all architectures of what each of them was given: epochs that were
trained in all, where the resource is epochs. It is neither the epochs of one training (`Ladder.most`) nor a number of
architectures. `RungExplorer.plan` says what a run costs before it begins.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from supernet.estimation.scores import Score
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.runtime.text import quantity
from supernet.runtime.workers import Workers
from supernet.search.black_box.explorers import Explorer, RandomExplorer, check_counts
from supernet.search.black_box.exploring import Budget, Explored, explore
from supernet.search.black_box.rungs import AtRung, Bracket, Job, Ladder, ResourceScore, RungExplorer, kept, words
from supernet.space.architecture import Architecture
from supernet.space.genes import Candidates


class BracketExplorer(RungExplorer):
    """Runs brackets one after the other; a rung begins when the one below it is complete.

    Where the space has fewer architectures than a bracket begins with, it takes those that there are.

    Args:
        candidates: the architectures that can be tried.
        seed: of all draws.
        ladder: the resources of the rungs.
        source: makes the explorer that proposes new architectures.
        brackets: what is run, in this order.
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        seed: int = 0,
        ladder: Ladder | None = None,
        source: Callable[..., Explorer] = RandomExplorer,
        brackets: Sequence[Bracket],
    ) -> None:
        super().__init__(candidates, seed=seed, ladder=ladder, source=source)
        self.brackets = tuple(brackets)
        self._bracket, self._rung, self._asked = 0, 0, 0  # asked: how many of this rung's architectures
        self._members: list[Architecture] = []  # of this rung, in the order in which they were or will be asked for
        self._fitness: dict[Architecture, float] = {}  # of those of them that were told

    @property
    def evaluations(self) -> int:
        return sum(count for bracket in self.brackets for count, _ in bracket.rungs)

    def plan(self, continues: bool) -> str:
        units = sum(bracket.units(continues) for bracket in self.brackets)
        return f"{'; then '.join(words(self.brackets))}: {quantity(units, 'unit')} in all"

    def why(self) -> str | None:
        begun, planned = len(self.told), sum(bracket.architectures for bracket in self.brackets)
        if self._exhausted and begun:
            whole = quantity(planned, "architecture")
            return f"the space is exhausted after {begun:,} of {whole}; all their rungs are complete"
        return f"all rungs are complete, of {quantity(begun, 'architecture')}" if begun else None

    def next_job(self) -> tuple[Architecture, Job] | None:
        while self._bracket < len(self.brackets):
            bracket = self.brackets[self._bracket]
            missing = self._rung == 0 and len(self._members) == self._asked < bracket.architectures
            if missing and (drawn := self.new()) is not None:
                self._members.append(drawn)
            if self._asked < len(self._members):
                self._asked += 1
                had = bracket.resources[self._rung - 1] if self._rung else 0
                job = Job(self._bracket, self._rung, bracket.resources[self._rung], had)
                return self._members[self._asked - 1], job
            if self.open:
                return None
            self._climb(bracket)
        return None

    def ask_together(self, enough: int) -> list[Architecture]:
        """The rest of a rung; of the lowest, as many as the source gives before it wants to be told."""
        while not self.open and self._bracket < len(self.brackets) and self._asked == len(self._members):
            bracket = self.brackets[self._bracket]
            left = bracket.architectures - self._asked if self._rung == 0 else 0
            if left and (drawn := self.new_together(left)):
                self._members += drawn
                break
            self._climb(bracket)
        asked = super().ask_together(enough)
        while asked and self._asked < len(self._members) and (another := self.ask()) is not None:
            asked.append(another)
        return asked

    def climbed(self, architecture: Architecture, job: Job, fitness: float) -> None:
        self._fitness[architecture] = fitness

    def _climb(self, bracket: Bracket) -> None:
        """Begins the next rung with the best of this one, of equals those that were asked for first."""
        if self._members and self._rung + 1 < len(bracket.resources):
            ranked = sorted(self._members, key=lambda architecture: -self._fitness[architecture])
            self._members, self._rung = ranked[: kept(len(ranked), bracket.factor)], self._rung + 1
        else:
            self._members, self._rung, self._bracket = [], 0, self._bracket + 1
        self._fitness, self._asked = {}, 0

    def state_dict(self) -> dict[str, Any]:
        genes = self.candidates.genes
        members = [(genes(architecture), self._fitness.get(architecture)) for architecture in self._members]
        place = [self._bracket, self._rung, self._asked]
        begun = [bracket.architectures for bracket in self.brackets]
        return {**super().state_dict(), "brackets": begun, "place": place, "members": members}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        if (there := list(state["brackets"])) != (here := [bracket.architectures for bracket in self.brackets]):
            raise InputError(f"brackets: begin with {here} architectures, and it was begun with {there}")
        super().load_state_dict(state)
        self._bracket, self._rung, self._asked = state["place"]
        pairs = [(self.candidates.architecture(genes), fitness) for genes, fitness in state["members"]]
        self._members = [architecture for architecture, _ in pairs]
        self._fitness = {architecture: fitness for architecture, fitness in pairs if fitness is not None}


class SuccessiveHalving(BracketExplorer):
    """Judges all architectures with the least resource, one of `factor` with `factor` times as much, and so on.

    Source: Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization"
    (AISTATS), in the form of Li et al. 2018, where the resources are given and the budget follows.

    Args:
        candidates: the architectures that can be tried.
        seed: of all draws.
        architectures: that begin, 1 or more.
        ladder: the resources of the rungs.
        source: makes the explorer that proposes new architectures.

    Raises:
        InputError: `architectures` is below 1.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> candidates = Candidates("mine", {"edge": Decision("edge", tuple("abcdefghi"))})
        >>> SuccessiveHalving(candidates, architectures=9, ladder=Ladder(most=9)).plan(continues=True)
        '9 at 1, 3 at 3, 1 at 9: 21 units in all'
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        seed: int = 0,
        architectures: int = 27,
        ladder: Ladder | None = None,
        source: Callable[..., Explorer] = RandomExplorer,
    ) -> None:
        check_counts(architectures=architectures)
        ladder = ladder or Ladder()
        bracket = Bracket(architectures, ladder.resources(ladder.top), ladder.factor)
        super().__init__(candidates, seed=seed, ladder=ladder, source=source, brackets=[bracket])


class Hyperband(BracketExplorer):
    """Runs successive halving with different trade-offs of how many architectures begin and how much each is given.

    Source: Li et al. 2018, algorithm 1.

    Args:
        candidates: the architectures that can be tried.
        seed: of all draws.
        passes: how often all brackets are run, with new architectures each time, 1 or more.
        ladder: the resources of the rungs.
        source: makes the explorer that proposes new architectures.

    Raises:
        InputError: `passes` is below 1.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> candidates = Candidates("mine", {"edge": Decision("edge", tuple("abcdefghi"))})
        >>> Hyperband(candidates, ladder=Ladder(most=9)).plan(continues=False)
        '9 at 1, 3 at 3, 1 at 9; then 5 at 3, 1 at 9; then 3 at 9: 78 units in all'
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        seed: int = 0,
        passes: int = 1,
        ladder: Ladder | None = None,
        source: Callable[..., Explorer] = RandomExplorer,
    ) -> None:
        check_counts(passes=passes)
        ladder = ladder or Ladder()
        super().__init__(candidates, seed=seed, ladder=ladder, source=source, brackets=ladder.brackets() * passes)


class Asha(RungExplorer):
    """Asynchronous successive halving: whenever an architecture is among the best of its rung it goes on to the next.

    No rung waits for another: `ask` promotes an architecture that is in the top 1 / `factor` of those told in its rung
    so far, from the highest rung down, and where there is none it takes a new one. So early promotions may be of
    architectures that later ones of the rung are better than. What is asked depends on the order of the answers alone.

    Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar 2020, "A System for Massively
    Parallel Hyperparameter Tuning" (MLSys), algorithm 2. Paused architectures are promoted; the variant that stops
    architectures which are not good enough when they arrive, and never takes them up again, is another one.

    Args:
        candidates: the architectures that can be tried.
        seed: of all draws.
        architectures: how many are begun at most; None: as many as the budget allows.
        ladder: the resources of the rungs.
        skipped: how many of the lowest rungs are left out (the paper's early-stopping rate s), 0 or more.
        together: how many evaluations are asked for before the first of them is told: the paper's workers, 1 or more.
        source: makes the explorer that proposes new architectures.

    Raises:
        InputError: `architectures` is below 1, or `skipped` does not leave a rung.

    Example:
        >>> from supernet.space.architecture import Decision
        >>> candidates = Candidates("mine", {"edge": Decision("edge", tuple("abcdefghi"))})
        >>> explorer = Asha(candidates, ladder=Ladder(most=9))
        >>> for fitness in (0.1, 0.3, 0.2):
        ...     explorer.tell(explorer.ask(), (fitness,))
        >>> explorer.open[explorer.ask()]  # the best of three
        Job(bracket=0, rung=1, resource=3, had=1)
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        seed: int = 0,
        architectures: int | None = None,
        ladder: Ladder | None = None,
        skipped: int = 0,
        together: int = 1,
        source: Callable[..., Explorer] = RandomExplorer,
    ) -> None:
        super().__init__(candidates, seed=seed, ladder=ladder, source=source)
        check_counts(together=together)
        if architectures is not None:
            check_counts(architectures=architectures)
        if not 0 <= skipped <= self.ladder.top:
            raise InputError(
                f"skipped={skipped}: the ladder has {quantity(self.ladder.top + 1, 'rung')}; leave out 0 to "
                f"{self.ladder.top}"
            )
        self._most, self._together = architectures, together
        self._begun: list[Architecture] = []
        self._numbers: dict[Architecture, int] = {}  # their places in it
        self._resources = self.ladder.resources(self.ladder.top)[skipped:]
        self._told: list[list[tuple[float, int]]] = [[] for _ in self._resources]  # (-fitness, number), best first
        self._promoted: list[set[int]] = [set() for _ in self._resources]

    def plan(self, continues: bool) -> str:
        begun = "new architectures" if self._most is None else quantity(self._most, "architecture")
        costs = "the difference" if continues else "its resource again"
        rungs = ", ".join(map(str, self._resources))
        ends = "; the budget ends it" if self._most is None else ""
        return f"{begun} on rungs at {rungs}: a rung costs {costs}, in units{ends}"

    def why(self) -> str | None:
        if not self.told:
            return None
        ends = "the space is exhausted" if self._exhausted else "all architectures are begun"
        return f"{ends} after {len(self.told):,}, and nothing is left to promote"

    def next_job(self) -> tuple[Architecture, Job] | None:
        for rung in reversed(range(len(self._resources) - 1)):
            best = self._told[rung][: len(self._told[rung]) // self.ladder.factor]
            for _, number in best:
                if number not in self._promoted[rung]:
                    self._promoted[rung].add(number)
                    return self._begun[number], Job(0, rung + 1, self._resources[rung + 1], self._resources[rung])
        if self._most is not None and len(self._begun) >= self._most:
            return None
        drawn = self.new()
        if drawn is None:
            return None
        self._numbers[drawn] = len(self._begun)
        self._begun.append(drawn)
        return drawn, Job(0, 0, self._resources[0], 0)

    def ask_together(self, enough: int) -> list[Architecture]:
        asked = super().ask_together(enough)
        while asked and len(self.open) < self._together and (another := self.ask()) is not None:
            asked.append(another)
        return asked

    def climbed(self, architecture: Architecture, job: Job, fitness: float) -> None:
        insort(self._told[job.rung], (-fitness, self._numbers[architecture]))

    def state_dict(self) -> dict[str, Any]:
        begun = [self.candidates.genes(architecture) for architecture in self._begun]
        promoted = [sorted(rung) for rung in self._promoted]
        rungs = {"resources": list(self._resources), "begun": begun, "rungs": self._told, "promoted": promoted}
        return {**super().state_dict(), **rungs}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        if (there := list(state["resources"])) != (here := list(self._resources)):
            raise InputError(f"skipped: the rungs are {here}, and it was begun with {there}")
        super().load_state_dict(state)
        self._begun = [self.candidates.architecture(genes) for genes in state["begun"]]
        self._numbers = {architecture: number for number, architecture in enumerate(self._begun)}
        self._told = [[(negative, number) for negative, number in rung] for rung in state["rungs"]]
        self._promoted = [set(rung) for rung in state["promoted"]]


def halving(
    explorer: RungExplorer,
    score: ResourceScore,
    budget: Budget | None = None,
    *,
    objectives: Sequence[str] = (),
    run: Run | None = None,
    name: str = "halving",
    truth: Score | None = None,
    rows: Path | None = None,
    workers: Workers | None = None,
) -> Explored:
    """Judges architectures rung by rung until the explorer has nothing left or the budget is spent (`explore`).

    Each evaluation is a row with its bracket, rung and resource, and none is made twice: an architecture, or one that
    computes the same, begins once, and meets each rung once. An exploration that was stopped goes on from the
    checkpoint.

    Args:
        explorer: `SuccessiveHalving`, `Hyperband` or `Asha`.
        score: judges with a resource, such as a `ShortTrainingScore`, whose resource is epochs.
        budget: what may be spent, such as `Budget(units=400)`: 400 epochs over all architectures together. None: until
            the explorer ends by itself, which `Asha` does where its `architectures` or the space are at their end.
        objectives: the value that is to be large; (): the first that the score gives.
        run: where the exploration reports and saves; None: nowhere.
        name: of the exploration, in its tags and its lines.
        truth: what is known of architectures, reported for each beside its score.
        rows: a CSV file with a row for each evaluation; None: none is written.
        workers: who judges; None: this process.

    Returns:
        The best architecture of the highest rung that was reached, all evaluations, and why it ended.

    Raises:
        InputError: the rungs go higher than the score can, or as in `explore`.
        Interrupted: after saving, where the run was asked to stop.

    Example:
        >>> from supernet.estimation.scores import Measured
        >>> from supernet.search.black_box.rungs import LookedUp
        >>> from supernet.space.architecture import Decision
        >>> candidates = Candidates("mine", {"edge": Decision("edge", tuple("abcdefghi"))})
        >>> score = LookedUp(lambda cell, epochs: Measured({"accuracy": "abcdefghi".index(*cell["edge"]) * epochs}))
        >>> found = halving(SuccessiveHalving(candidates, architectures=9, ladder=Ladder(most=9)), score)
        >>> found.best["edge"], len(found.evaluations), found.ended
        (('i',), 13, 'all rungs are complete, of 9 architectures')
    """
    if score.most is not None and explorer.ladder.most > score.most:
        raise InputError(
            f"most={explorer.ladder.most}: the score gives {score.most} at most; lower it, or train under a longer "
            "schedule"
        )
    if len(objectives) > 1:
        raise InputError(f"objectives={list(objectives)}: the best of a rung are found by one value")
    if run is not None:
        run.report.line(f"{name}: {explorer.plan(score.continues)}")
    whole = Budget(evaluations=_ENDLESS if explorer.evaluations is None else explorer.evaluations + 1)
    common: Mapping[str, Any] = {"objectives": objectives, "run": run, "name": name, "truth": truth, "rows": rows}
    judged: Mapping[str, Any] = {"repeats": True, "workers": workers}
    return explore(explorer, AtRung(explorer, score), budget or whole, **common, **judged)


_ENDLESS = 10**12  # evaluations. The explorer ends before, so one more than there are is no limit, either.
