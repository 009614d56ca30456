"""Restores the supernet and the strategy of a finished search, so that more can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.estimation.problem import SearchProblem
from supernet.runtime.run import Run
from supernet.search.loop import restore
from supernet.search.progressive.search import BuiltStage, StagedSearch, build_stage, stage_run
from supernet.search.strategy import Strategy
from supernet.space.architecture import Decision
from supernet.training.tasks import CLASSIFICATION, Task


@dataclass(frozen=True)
class Restored:
    """What a finished search has left in its last stage.

    Args:
        problem: the trained supernet, in training mode, with the data and the task; its run saves nothing.
        strategy: with what it has learnt.
        space: in the size of the stage.
    """

    problem: SearchProblem
    strategy: Strategy
    space: object

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """The decisions of the supernet, with the options that earlier stages have left."""
        return self.problem.supernet.decisions


def restore_stages(
    planned: StagedSearch,
    train: Source,
    valid: Source,
    augmentation: Augmentation,
    *,
    run_of: Callable[[str], Run],
    task: Task = CLASSIFICATION,
) -> Restored:
    """Restores the last stage of a search that `search_stages` has finished, given the same arguments; trains nothing.

    Earlier stages are restored, too, because they say which operations are left.

    Args:
        planned: what was built in each stage.
        train: the images that the supernets' weights learnt from.
        valid: the images that the architectures were judged by.
        augmentation: of training images.
        run_of: name of a stage -> where it ran, with its checkpoint.
        task: what was learnt and judged.

    Returns:
        The last stage.

    Raises:
        InputError: a checkpoint is not there, is of other settings, or its search is not finished.
    """
    before: BuiltStage | None = None
    kept: dict[str, tuple[str, ...]] = {}
    for number, stage in enumerate(planned.stages):
        built = build_stage(planned, number, kept, before)
        asked = SearchProblem(built.supernet, train, valid, augmentation, stage_run(planned, number, run_of), task)
        problem = restore(asked, built.strategy, stage.recipe, monitor=planned.monitor)
        before, kept = built, built.kept(stage.stage.keep)
    return Restored(problem, built.strategy, stage.space)
