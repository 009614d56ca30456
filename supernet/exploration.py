"""Trying architectures of a space one after the other, without a command line: `supernet.explore` and `restore`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from supernet.asked_search import AskedSearch, Costed
from supernet.calls import check_kinds, described, folder_of, make_folder
from supernet.data.dataset import Data
from supernet.data.reading import hashed
from supernet.estimation.forms import Form
from supernet.estimation.limits import Limits
from supernet.estimation.scores import Score
from supernet.estimation.space_costs import GivenCost, SpaceCosts
from supernet.runtime.checkpoint import COSTS
from supernet.runtime.errors import InputError
from supernet.runtime.files import locked
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import ConsoleReport, Report, RunReport, Silent
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.runtime.workers import Workers
from supernet.search.black_box.explorers import Explorer, RandomExplorer
from supernet.search.black_box.exploring import Budget, Explored
from supernet.search.black_box.exploring import explore as explore_by
from supernet.search.method import Method
from supernet.search.progressive.restoring import Restored, restore_stages
from supernet.search.recipe import SearchRecipe
from supernet.space import Space
from supernet.space.architecture import Decision, random_architecture
from supernet.space.operations import Operation
from supernet.space.survey import candidates_of, decisions_of
from supernet.training.tasks import Task

_NAME = "explore"
_COSTS, _COMPARED = 0xC057, 8  # a random stream, and architectures whose costs are compared


def explore(
    space: Space,
    score: Score,
    *,
    explorer: Callable[..., Explorer] = RandomExplorer,
    evaluations: int | None = None,
    seconds: float | None = None,
    simulated_seconds: float | None = None,
    objectives: Sequence[str] = (),
    limits: Mapping[str, float] | None = None,
    costs: Mapping[str, GivenCost] | None = None,
    data: Data | None = None,
    truth: Score | None = None,
    seed: int = 0,
    directory: str | Path | None = None,
    progress: bool = False,
    workers: Workers | None = None,
) -> Explored:
    """Looks for the best architecture of a space by a score, within a budget. No architecture is judged twice.

    Args:
        space: what can be built, such as `NasBench201()`.
        score: architecture -> what it is worth, one of `supernet.scores` or a function of your own.
        explorer: (candidates, *, seed) -> who proposes, one of `supernet.explorers`.
        evaluations: how many architectures are judged at most.
        seconds: how long that may take.
        simulated_seconds: how long the trainings behind a table's rows may have taken.
        objectives: names of the score's values that are to be large, or small with a minus in front; (): the first.
        limits: the most that the network of an architecture may cost, such as {"macs": 50e6}, as `find` takes them.
        costs: costs of your own by name, such as {"latency": table}: what `supernet.read_latencies` gives, a form, or
            a function from an architecture to a number.
        data: the images for which networks are built, whose size those limits need; None: 10 classes of 3 x 32 x 32.
        truth: what is known of architectures, such as a table; it is reported and decides nothing.
        seed: of all that is drawn, in [0, 2**32).
        directory: a folder for TensorBoard, explore.csv and a checkpoint: the same call goes on from there. None:
            nothing is kept.
        progress: whether a bar is shown on a terminal.
        workers: `supernet.Workers(count=8)`: eight processes judge what the explorer proposes together. What is found
            is the same with any number of them. None: this process.

    Returns:
        The best architecture (`best`), all evaluations in their order, the Pareto front, and why it ended.

    Raises:
        InputError: where settings do not go together, no architecture keeps the limits, or the folder holds something
            else.

    Example:
        >>> import supernet
        >>> table = supernet.tables.micro(["digits_valid"])
        >>> found = supernet.explore(supernet.spaces.micro(), table, evaluations=200)
        >>> found.best == table.best("digits_valid"), len(found.evaluations)
        (True, 60)
    """
    check_kinds(space=space, score=score, explorer=explorer, evaluations=evaluations, limits=limits, costs=costs)
    check_kinds(workers=workers)
    check_kinds(seed=seed, directory=directory, **({} if data is None else {"data": data}))
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: needs to lie between 0 and {2**32 - 1}")
    budget = Budget(evaluations, seconds, simulated_seconds)
    shape, classes = ((3, 32, 32), 10) if data is None else (data.shape, len(data.classes))
    kept = Limits(SpaceCosts(space, shape, classes, own=dict(costs or {})), dict(limits or {}))
    kept.check()
    decisions = decisions_of(space, shape=shape, outputs=classes)
    repair = partial(kept.repaired, decisions=decisions) if kept else None
    candidates = candidates_of(space, decisions=decisions, fits=kept.fits if kept else None, repair=repair)
    folder, console = folder_of(directory), Console(quiet=not progress)
    said = {"space": space, "explorer": explorer, "limits": dict(limits or {}), "objectives": tuple(objectives)}
    same = {name: described(value) for name, value in said.items()}
    if folder is not None and kept:
        same[COSTS] = costs_in_short(kept.costs, list(kept.most), decisions)
    run, rows = kept_run(folder, console, seed, same, progress)
    with keeping(folder, run):
        made = explorer(candidates, seed=seed)
        if not isinstance(made, Explorer):
            raise InputError(
                f"explorer: makes a {type(made).__name__}; needs one such as supernet.explorers.LocalSearch"
            )
        where: Mapping[str, Any] = {"run": run, "name": _NAME, "rows": rows, "workers": workers}
        return explore_by(made, score, budget, objectives=objectives, truth=truth, **where)


def restore(
    directory: str | Path,
    space: Space,
    data: Data,
    *,
    method: Method | None = None,
    epochs: int | None = None,
    recipe: SearchRecipe | None = None,
    task: Task | None = None,
    operations: Mapping[str, Operation] | None = None,
    limits: Mapping[str, float] | None = None,
    costs: Mapping[str, GivenCost] | None = None,
    final: Space | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Restored:
    """Restores the supernet that `find` has trained in a folder, to ask it more; trains nothing.

    Args:
        directory: the folder that `find` was given.
        space: as `find` was given it, like all that follows.
        data: the images.
        method: how it was searched.
        epochs: of a short search.
        recipe: of a longer one.
        task: what was learnt and judged; None: what the data imply.
        operations: operations of your own by name.
        limits: what the final network might cost.
        costs: of your own by name.
        final: the space in the size of the final network.
        seed: of the search.
        device: where the supernet is to be.

    Returns:
        The supernet with its data (`problem`), for `supernet.scores.SupernetScore` and `RecalibratedScore`, and the
        strategy with what it has learnt.

    Raises:
        InputError: the folder has no finished search of these settings.

    Example:
        >>> import tempfile
        >>> import supernet
        >>> space, data = supernet.NasBench201(channels=4, cells=1, stages=1, nodes=2), supernet.data.digits()
        >>> search = {"method": supernet.methods.spos(candidates=2), "epochs": 1}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = supernet.find(space, data, directory=folder, **search)
        ...     problem = supernet.restore(folder, space, data, **search).problem
        >>> score = supernet.scores.SupernetScore(problem, batch_size=64)
        >>> len(supernet.explore(space, score, evaluations=3).evaluations)
        3
    """
    costed = Costed(limits, costs, final)
    asked = AskedSearch.of(
        space, data, method, epochs, recipe, task, operations, seed, device, directory, False, costed
    )
    return restore_stages(
        asked.planned, *asked.halves, data.augmentation, run_of=asked.place.quiet_run, task=asked.task
    )


@contextmanager
def keeping(folder: Path | None, run: Run) -> Iterator[None]:
    """Within it a call from Python runs that keeps something, or nothing where there is no folder.

    Args:
        folder: is made, and nobody else may use it meanwhile.
        run: its report is closed at the end.

    Raises:
        KeyboardInterrupt: after saving, where Ctrl-C or SIGTERM asked for a stop.
        InputError: the folder cannot be made, or another process has it.
    """
    with ExitStack() as stack:
        if folder is not None:
            make_folder(folder)
            stack.enter_context(locked(folder))
            stack.enter_context(run.interruption)
        stack.callback(run.report.close)
        try:
            yield
        except Interrupted as error:
            raise KeyboardInterrupt(
                f"{error}; all is saved in {folder}, and the same call goes on from there"
            ) from None


def costs_in_short(costs: SpaceCosts, names: Sequence[str], decisions: Mapping[str, Decision]) -> str:
    """What tells costs from others: a hash of what some architectures cost, or of a function that a person gave.

    Args:
        costs: of the space.
        names: of those that count.
        decisions: of the space, or of a supernet of it.

    Returns:
        Some letters.
    """
    drawn = [
        random_architecture(costs.recorded.space, decisions, generator(number, _COSTS)) for number in range(_COMPARED)
    ]
    said = [f"{costs.shape} {costs.outputs}"]
    for name in names:
        cost = costs[name]  # a function may measure anew each time
        said += [f"{name} {costs.of(name, one)!r}" for one in drawn] if isinstance(cost, Form) else [described(cost)]
    return hashed(said)[:16]


def kept_run(
    folder: Path | None, console: Console, seed: int, said: Mapping[str, str], progress: bool, name: str = _NAME
) -> tuple[Run, Path | None]:
    """Where a call from Python reports and saves.

    Args:
        folder: for all that is kept; None: nothing is.
        console: where lines and a bar are shown.
        seed: of all that is drawn.
        said: what a checkpoint has to share with the call.
        progress: whether a bar is shown.
        name: of what runs.

    Returns:
        The run, and the CSV file of its evaluations.
    """
    if folder is None:
        report: Report = ConsoleReport(console) if progress else Silent()
        return Run(seed=seed, report=report), None
    run = Run(
        seed=seed,
        report=RunReport(folder, name, console),
        checkpoint=folder / "checkpoints" / f"{name}.pt",
        fingerprint={**said, "seed": seed},
        interruption=Interruption(),
    )
    return run, folder / f"{name}.csv"
