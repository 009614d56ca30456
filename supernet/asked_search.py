"""A search as a call from Python asks for it: what is built, of which images it learns, within which limits, where."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from supernet.calls import Place, check_kinds
from supernet.data.batches import Source
from supernet.data.dataset import Data
from supernet.data.splits import search_halves
from supernet.estimation.latency.measuring import measured_as
from supernet.estimation.latency.table import LatencyTable
from supernet.estimation.limits import Limits
from supernet.estimation.scores import Score
from supernet.estimation.space_costs import GivenCost, SpaceCosts
from supernet.execution.engines import engine
from supernet.runtime.devices import find_device
from supernet.runtime.errors import InputError
from supernet.runtime.processes import ALONE
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search.loop import Searched
from supernet.search.measured_winner import MeasuredWinner
from supernet.search.measuring import MEASURED, Clock, lines_of, measured_search
from supernet.search.method import Method
from supernet.search.methods import darts
from supernet.search.progressive.search import StagedSearch, check_stages, search_stages
from supernet.search.recipe import SearchRecipe
from supernet.space import Space
from supernet.space.architecture import Architecture
from supernet.space.heads import Outputs
from supernet.space.operations import OPERATIONS, Operation
from supernet.training.lengths import batch_size_for
from supernet.training.loop import Recipe
from supernet.training.schedules import Cosine
from supernet.training.tasks import CLASSIFICATION, Task, implied

_LOG = logging.getLogger("supernet")


@dataclass(frozen=True)
class Costed:
    """What the final network may cost, as a call has asked for it.

    Args:
        limits: by the name of the cost; None: none.
        costs: a person's own, by name; None: none.
        final: the space in the size of the final network; None: in that of the search.
    """

    limits: Mapping[str, float] | None = None
    costs: Mapping[str, GivenCost] | None = None
    final: Space | None = None

    def of(self, space: Space, data: Data, outputs: Outputs, factories: Mapping[str, Operation]) -> Limits:
        """The limits on what a space can build, with its costs."""
        check_kinds(limits=self.limits, costs=self.costs, final=self.final)
        final = self.final or space
        known = SpaceCosts(final, data.shape, outputs, factories, dict(self.costs or {}))
        limits = Limits(known, dict(self.limits or {}))
        limits.check()
        return limits


@dataclass(frozen=True)
class AskedSearch:
    """A search as a call has asked for it: what is built, the halves of the images, the task, and where it runs."""

    planned: StagedSearch
    halves: tuple[Source, Source]
    task: Task
    place: Place

    @classmethod
    def of(
        cls,
        space: Space,
        data: Data,
        method: Method | None,
        epochs: int | None,
        recipe: SearchRecipe | None,
        task: Task | None,
        operations: Mapping[str, Operation] | None,
        seed: int,
        device: str,
        directory: str | Path | None,
        progress: bool,
        costed: Costed,
    ) -> AskedSearch:
        """Makes it of the arguments of `find`, and checks them."""
        check_kinds(space=space, data=data, method=method, epochs=epochs, seed=seed, device=device, directory=directory)
        method, (weights, architecture) = _fitted(method or darts(), epochs, recipe, data, seed)
        task = task or implied(data)
        outputs, factories = task.outputs(data.classes), {**OPERATIONS, **(operations or {})}
        method = replace(method, chooser=replace(method.chooser, factories=factories))
        limits = costed.of(space, data, outputs, factories)
        same = {"space": space, "method": replace(method, recipe=SearchRecipe())}  # its recipe is compared by itself
        if task != CLASSIFICATION:
            same |= {"task": task}
        if costed.limits is not None or costed.costs is not None:
            same |= {"limits": dict(limits.most), "final": costed.final or space}
        place = Place(directory, find_device(device), seed, progress, same, data)
        used_engine = engine("fused", place.device)
        planned = StagedSearch.of(method, space, data.shape, outputs, used_engine, seed, limits)
        check_stages(planned)
        return cls(planned, (weights, architecture), task, place)

    def architecture(self, data: Data, truth: Score | None) -> Architecture:
        """Runs the search. Under a limit on a table of this machine what it finds is measured, too."""
        clock = self._clock()
        with TemporaryDirectory() if clock and self.place.directory is None else nullcontext() as scratch:

            def run_of(name: str) -> Run:
                run = self.place.run(name)
                return run if scratch is None else replace(run, checkpoint=Path(scratch, f"{name}.pt"))

            found = search_stages(
                self.planned, *self.halves, data.augmentation, run_of=run_of, task=self.task, truth=truth
            )
            if clock is None:
                return found.architecture

            def quiet_run(name: str) -> Run:  # times differ between processes: the leader alone measures
                return replace(run_of(name), report=Silent(), processes=ALONE)

            alone, processes = replace(self, place=replace(self.place, processes=ALONE)), self.place.processes
            return processes.from_leader(lambda: alone._measured(found, clock, data, quiet_run))

    def _measured(self, found: Searched, clock: Clock, data: Data, run_of: Callable[[str], Run]) -> Architecture:
        """The found architecture, or the next one where that breaks its limit when it is measured."""
        measured = measured_search(
            self.planned, found, clock, *self.halves, data.augmentation, run_of=run_of, task=self.task
        )
        self._tell(measured)
        return measured.winner.architecture

    def _clock(self) -> Clock | None:
        """What measures the found network: the first table of this machine on which there is a limit."""
        limits, directory = self.planned.limits, self.place.directory
        assert limits is not None, "a call from Python knows the costs of its space"
        for name in limits.most:
            if isinstance(table := limits.costs.own.get(name), LatencyTable):
                with suppress(InputError):  # a table from elsewhere; who has read it was warned
                    return Clock(name, measured_as(table), None if directory is None else directory / MEASURED)
        return None

    def _tell(self, measured: MeasuredWinner) -> None:
        *lines, last = lines_of(measured)
        report = self.place.run("search").report
        for line in lines:
            report.line(line)
        if measured.winner.kept or self.place.progress:
            report.line(last)
        else:
            _LOG.warning(last)
        report.close()


def _fitted(
    method: Method, epochs: int | None, recipe: SearchRecipe | None, data: Data, seed: int
) -> tuple[Method, list[Source]]:
    """The method with the recipe that is asked for, and the halves of the training images that go with it."""
    refuse_both(epochs, recipe, SearchRecipe)
    if recipe is not None:
        method = method.with_recipe(recipe)
    elif epochs is not None:
        method = method.few_steps(epochs=epochs)
    places = search_halves(data.train.labels, method.recipe.share, seed, data.classes, data.groups)
    halves = [data.train.subset(half) for half in places]
    if epochs is not None:
        size = batch_size_for(len(halves[0]), method.recipe.least_steps)
        recipe = replace(method.recipe, batch_size=size)
        if data.kind == "boxes":  # large pictures, and a loss that wants small steps
            schedule = Cosine(0.02, 0.001, warm_up=epochs // 10)
            recipe = replace(recipe, batch_size=min(8, size), schedule=schedule, clip=10.0)
        method = method.with_recipe(recipe)
    return method, halves


def refuse_both(epochs: int | None, recipe: SearchRecipe | Recipe | None, kind: type[SearchRecipe | Recipe]) -> None:
    """Raises InputError where a recipe is of another kind, or says the epochs besides them."""
    if recipe is not None and not isinstance(recipe, kind):
        raise InputError(
            f"recipe={str(recipe)[:60]}: needs a {kind.__name__}, such as supernet.{kind.__name__}(epochs=8)"
        )
    if recipe is not None and epochs is not None:
        raise InputError(f"epochs={epochs}: the recipe says them, too (epochs={recipe.epochs}); give one of both")
