"""What scores are made of: a finished run with its trained supernet, or a space alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from supernet.estimation.benchmark_tables import Table
from supernet.estimation.limits import Limits
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Measured, Score
from supernet.estimation.space_costs import CostScore
from supernet.runtime.errors import InputError
from supernet.search.progressive.restoring import Restored
from supernet.space.architecture import Architecture, Decision
from supernet.space.genes import Candidates
from supernet.space.heads import Outputs
from supernet.space.operations import OPERATIONS, Operation
from supernet.space.survey import candidates_of

from ..instantiate import named
from ..job import Job


@dataclass(frozen=True)
class Material:
    """What a score can be made of.

    Args:
        space: of the networks that are counted and trained: the final ones.
        limits: what the networks that are tried may cost.
        shape: of an image: channels, height, width.
        outputs: how many classes, or the head of the networks.
        table: what is known of architectures; None: nothing.
        factories: what builds each operation, by name.
        job: the run's parts; None where there is no run.
        restored: its trained supernet; None where there is no run.
        shared: what several scores share, by a name.
    """

    space: Any
    limits: Limits
    shape: tuple[int, int, int]
    outputs: Outputs
    table: Score | None = None
    factories: Mapping[str, Operation] = field(default_factory=lambda: OPERATIONS)
    job: Job | None = None
    restored: Restored | None = None
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
        """The architectures that can be tried: those of the trained supernet, or of the space, within the limits."""
        if not self.limits.most:
            return candidates_of(self.space, decisions=self.decisions)
        self.limits.check(self.decisions)
        repair = partial(self.limits.repaired, decisions=self.decisions)
        return candidates_of(self.space, decisions=self.decisions, fits=self.limits.fits, repair=repair)

    @property
    def decisions(self) -> Mapping[str, Decision] | None:
        """Those of the trained supernet; None without a run."""
        return None if self.restored is None else self.restored.decisions

    def costs(self, *names: str) -> CostScore:
        """Counts what the networks cost."""
        return CostScore(self.space, self.shape, self.outputs, self.factories, names, self.limits.costs)

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
