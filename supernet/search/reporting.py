"""Reports an epoch of a search when it ends, and keeps a history of all epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Score
from supernet.genotypes.drawing import draw_cell, heat_map
from supernet.search.statistics import entropy, groups, skip_count, weight_table
from supernet.search.strategy import Strategy
from supernet.training.epochs import Epochs
from supernet.training.meters import Averages, memory_gb


@dataclass
class SearchRecord:
    """What a search remembers of its epochs; it is a part of the checkpoint.

    Args:
        train: the averages of the last closed epoch on the half of the data that the weights learn from.
        valid: the averages of that epoch on the half that the architecture is judged by.
        genotype: the genotype that was reported last, as JSON; "" before the first report.

    Example:
        >>> record = SearchRecord()
        >>> record.close(Averages(loss=2.0, score=0.25, count=64), Averages(loss=2.5, score=0.125, count=64))
        >>> record.valid.score, record.genotype
        (0.125, '')
    """

    train: Averages = field(default_factory=lambda: Averages(0.0, 0.0, 0))
    valid: Averages = field(default_factory=lambda: Averages(0.0, 0.0, 0))
    genotype: str = ""

    def close(self, train: Averages, valid: Averages) -> None:
        """Remembers the averages of the epoch that has ended, on both halves of the data."""
        self.train, self.valid = train, valid

    def state_dict(self) -> dict[str, Any]:
        return {"train": asdict(self.train), "valid": asdict(self.valid), "genotype": self.genotype}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.train, self.valid = Averages(**state["train"]), Averages(**state["valid"])
        self.genotype = state["genotype"]


def report_epoch(
    record: SearchRecord,
    epochs: Epochs,
    strategy: Strategy,
    problem: SearchProblem,
    more: Mapping[str, float],
    truth: Score | None = None,
) -> None:
    """Sends scalars, pictures and a line about the epoch that has just ended, and remembers the genotype.

    Args:
        record: the epoch's averages, and the genotype that was reported before: a genotype is drawn where it is new.
        epochs: the loop, whose last epoch is closed.
        strategy: its weights, its architecture and its own measures are reported.
        problem: its task names the score, its run has the report.
        more: further scalars by tag.
        truth: knows of any architecture; what it knows of the current one is reported, too. None: nothing does.
    """
    weights, architecture, decisions = strategy.expected(), strategy.finish(), strategy.decisions
    run, task, step = problem.run, problem.task, epochs.step
    named = "" if task.score == task.running else f"{task.score} "
    scalars = {
        "search/loss/train": record.train.loss,
        "search/loss/valid": record.valid.loss,
        f"search/{task.running}/train": record.train.score,
        f"search/{task.score}/valid": record.valid.score,
        **{f"search/{name}/valid": value for name, value in record.valid.others.items()},
        "lr/weights": epochs.optimizer.param_groups[0]["lr"],
        "sys/images_per_second": 2 * epochs.images_per_second,  # both halves
        "sys/memory_gb": memory_gb(run.device),
        **strategy.measures(),
        **more,
    }
    if truth is not None:
        scalars |= {f"table/{name}": value for name, value in truth(architecture).values.items()}
    changed = record.genotype != architecture.to_json()
    for group in groups(decisions):
        edges, options, values = weight_table(decisions, weights, group)
        if not edges:
            continue
        scalars[f"alpha/entropy/{group}"] = entropy(decisions, weights, group)
        scalars[f"alpha/skip_count/{group}"] = skip_count(architecture, decisions, group)
        run.report.figure(f"alpha/{group}", partial(heat_map, edges, options, values, group), step)
        run.report.histogram(f"alpha_histogram/{group}", values, step)  # one tag, one kind of data
        if changed and any(d.role == "inputs" for d in decisions.values()):
            run.report.figure(f"genotype/{group}", partial(draw_cell, architecture, group), step)
    if changed:
        run.report.text("genotype", f"```json\n{architecture.to_json()}```", step)
    run.report.scalars(scalars, step)
    run.report.line(
        f"search {epochs.epoch:>3}/{epochs.epochs}  train loss {record.train.loss:.3f} "
        f"{task.running} {record.train.score:.3f}  valid {named}{record.valid.score:.3f}  "
        f"{epochs.seconds_left:.0f} s left" + ("  new genotype" if changed else "")
    )
    record.genotype = architecture.to_json()
