"""What scores are made of: a finished run with its trained supernet, or a space alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from supernet.estimation.benchmark_tables import Table
from supernet.estimation.costs import CostScore, parameters
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Measured, Score
from supernet.runtime.errors import InputError
from supernet.search.progressive.restoring import Restored
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided
from supernet.space.genes import Candidates
from supernet.space.operations import OPERATIONS, Operation
from supernet.space.survey import candidates_of

from ..instantiate import named
from ..job import Job


@dataclass(frozen=True)
class Material:
    """What a score can be made of.

    Args:
        space: of the networks that are counted and trained: the final ones.
        shape: of an image: channels, height, width.
        classes: how many.
        table: what is known of architectures; None: nothing.
        factories: what builds each operation, by name.
        job: the run's parts; None where there is no run.
        restored: its trained supernet; None where there is no run.
        limits: the largest "parameters" and "macs" of an architecture that is tried.
        shared: what several scores share, by a name.
    """

    space: Any
    shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    table: Score | None = None
    factories: Mapping[str, Operation] = field(default_factory=lambda: OPERATIONS)
    job: Job | None = None
    restored: Restored | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    shared: dict[str, Score] = field(default_factory=dict)

    def problem(self, what: str) -> SearchProblem:
        """The problem with the trained supernet. Raises InputError where there is no run; `what` needs it."""
        return self._of_a_run(what).problem

    def job_for(self, what: str) -> Job:
        """The parts of the run. Raises InputError where there is none; `what` needs it."""
        self._of_a_run(what)
        assert self.job is not None
        return self.job

    def _of_a_run(self, what: str) -> Restored:
        if self.restored is None:
            raise InputError(f"{what}: needs a finished run with its checkpoint: supernet-explore RUN {what}")
        return self.restored

    @cached_property
    def candidates(self) -> Candidates:
        """The architectures that can be tried: those of the trained supernet, or of the space."""
        for name, value in self.limits.items():
            if not value > 0:
                raise InputError(f"limits.{name}={value}: needs a number above 0")
        decisions = None if self.restored is None else self.restored.decisions
        fits = self.costs.fits(self.limits) if "macs" in self.limits else self._small if self.limits else None
        return candidates_of(self.space, decisions=decisions, fits=fits)

    @cached_property
    def costs(self) -> CostScore:
        """Counts parameters and multiply-adds."""
        return CostScore(self.space, self.shape, self.classes, self.factories)

    @cached_property
    def size(self) -> Callable[[Architecture], Measured]:
        """Counts parameters alone, which is many times as fast; each architecture once."""
        known: dict[Architecture, Measured] = {}

        def count(architecture: Architecture) -> Measured:
            if architecture not in known:
                with torch.device("meta"):
                    network = self.space.network(Decided(architecture, self.factories), self.shape, self.classes)
                known[architecture] = Measured({"parameters": float(parameters(network))})
            return known[architecture]

        return count

    def _small(self, architecture: Architecture) -> bool:
        return self.size(architecture).values["parameters"] <= self.limits["parameters"]

    def known_table(self, what: str) -> Table:
        """The table. Raises InputError where there is none, or none with columns."""
        if not isinstance(self.table, Table):
            raise InputError(f"{what}: needs a table, such as table=micro, or table=nasbench201 table.path=FILE")
        return self.table

    def column(self, asked: str | None, word: str, what: str) -> str:
        """A column of the table: the one asked for, else the first with `word` in its name, else the first."""
        columns = self.known_table(what).columns
        if asked is None:
            return next((c for c in columns if word in c), columns[0])
        if asked not in columns:
            raise InputError(f"{what}={asked}: no column of the table that is read; those are {', '.join(columns)}")
        return asked

    def look_up(self, architecture: Architecture) -> Measured:
        """The table's row. Raises InputError where it lacks the architecture."""
        assert self.table is not None
        with named({"table": None}, way_out="; table=none does without it"):
            return self.table(architecture)
