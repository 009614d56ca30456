"""Scores on their way to other processes, and which of them are worth the way."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch

from supernet.estimation.benchmark_tables import Table, TableScore
from supernet.estimation.joined_scores import Joined
from supernet.estimation.problem import SearchProblem
from supernet.estimation.short_training import ShortTrainingScore
from supernet.estimation.space_costs import CostScore
from supernet.estimation.supernet_accuracy import RecalibratedScore, SupernetScore
from supernet.estimation.zero_cost.score import ZeroCostScore
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run

AnyScore = TypeVar("AnyScore")


def sent(score: AnyScore) -> AnyScore:
    """Prepares a score for other processes: it reports nothing there, hears no signal, and brings no batches along.

    Args:
        score: any. One of somebody else's is sent as it is.

    Returns:
        A score of the same values.

    Raises:
        InputError: its networks are on a GPU. Several processes would share its memory, and wait for one another.

    Example:
        >>> from supernet.estimation.benchmark_tables import micro
        >>> table = micro(["digits_valid"])
        >>> sent(table) is table
        True
    """
    made: object = score
    if isinstance(score, Joined):
        made = Joined(tuple(sent(each) for each in score.scores))
    elif isinstance(score, SupernetScore | RecalibratedScore):
        problem = score.problem
        fresh = SearchProblem(
            problem.supernet, problem.train, problem.valid, problem.augmentation, _alone(problem.run), problem.task
        )
        made = replace(score, problem=fresh)
    elif isinstance(score, ShortTrainingScore):
        made = replace(score, run=_alone(score.run))
    elif isinstance(score, ZeroCostScore):
        _check_device(score.batches[0].images.device)
    return made  # type: ignore[return-value]


def worth_a_worker(score: object) -> bool:
    """Says whether judging an architecture takes longer than sending it: looking up and counting do not.

    Args:
        score: any.

    Returns:
        Whether workers make it faster.

    Example:
        >>> from supernet.estimation.benchmark_tables import micro
        >>> worth_a_worker(micro(["digits_valid"])), worth_a_worker(lambda architecture: None)
        (False, True)
    """
    if isinstance(score, Joined):
        return any(worth_a_worker(each) for each in score.scores)
    return not isinstance(score, Table | TableScore | CostScore)


def _alone(run: Run) -> Run:
    _check_device(run.device)
    return replace(run, report=Silent(), checkpoint=None, interruption=Interruption())


def _check_device(device: torch.device) -> None:
    if device.type != "cpu":
        raise InputError(
            f"workers: the networks are on {device}, which is for one process alone; judge on device cpu, or leave the "
            "workers out"
        )
