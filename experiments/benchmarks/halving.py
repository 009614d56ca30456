"""What successive halving saves: 27 cells of the micro space, three rungs, against 27 full trainings of the same cells.

Each training is that behind table=micro, with seeds that the table was not made with; its truth is the table.

    python -m experiments.benchmarks.halving rungs.csv --seeds 10 11 12 13 14

Each evaluation is a row of the file; a run that was stopped goes on from there and from the states beside it.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.commands.enumerate_micro import job_of
from supernet.estimation.benchmark_tables import micro
from supernet.estimation.scores import Measured
from supernet.estimation.short_training import TRAINING_SPEED, ShortTrainingScore
from supernet.runtime.run import Run
from supernet.search.black_box.exploring import Explored
from supernet.search.black_box.halving import SuccessiveHalving, halving
from supernet.search.black_box.rungs import Ladder
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import to_string
from supernet.space.survey import candidates_of

ARCHITECTURES, LADDER = 27, Ladder(least=2, most=20, factor=3)
COLUMNS = ("seed", "schedule", "arch", "epochs", "accuracy", TRAINING_SPEED, "trained", "seconds")


@dataclass(frozen=True)
class Recorded:
    """A score whose evaluations are rows of a file, each made once.

    Args:
        score: judges what has no row yet.
        file: the rows.
        seed: of the score.
    """

    score: ShortTrainingScore
    file: Path
    seed: int

    @property
    def most(self) -> int:
        """The most epochs."""
        return self.score.most

    @property
    def continues(self) -> bool:
        """Whether more epochs cost the difference."""
        return self.score.continues

    def __call__(self, architecture: Architecture, epochs: int, /) -> Measured:
        """The values of the row, which is made where there is none."""
        key = {"seed": str(self.seed), "schedule": self.score.schedule, "arch": to_string(architecture)}
        key["epochs"] = str(epochs)
        for row in rows(self.file):
            if all(row[name] == value for name, value in key.items()):
                values = {name: float(row[name]) for name in ("accuracy", TRAINING_SPEED)}
                return Measured(values, {"epochs": float(row["trained"]), "seconds": float(row["seconds"])})
        measured = self.score(architecture, epochs)
        fresh = not self.file.exists()
        with self.file.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if fresh:
                writer.writeheader()
            cost = {"trained": measured.cost["epochs"], "seconds": f"{measured.cost['seconds']:.3f}"}
            writer.writerow({**key, **measured.values, **cost})
        return measured


def rows(file: Path) -> list[dict[str, str]]:
    """All rows so far."""
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines())) if file.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = [line for seed in given.seeds for line in compared(given.output, seed)]
    print("| picked by | test accuracy of the pick | regret | epochs | seconds |\n| --- | --- | --- | --- | --- |")
    for way in dict.fromkeys(way for way, *_ in found):
        columns = zip(*(numbers for name, *numbers in found if name == way), strict=True)
        cells = (f"{statistics.mean(c):.2f} ± {statistics.stdev(c) if len(c) > 1 else 0.0:.2f}" for c in columns)
        print(f"| {way} | {' | '.join(cells)} |")


def compared(file: Path, seed: int) -> Iterator[tuple[str, float, float, float, float]]:
    """Each way of picking among the cells of a seed: its name, the pick's truth and regret, epochs and seconds."""
    once, each = (Recorded(score_of(file, seed, schedule), file, seed) for schedule in ("once", "each_rung"))
    table = micro(["digits_test", "params"])
    best = max(table(cell).values["digits_test"] for cell in table)

    def line(way: str, cell: Architecture, epochs: float, seconds: float) -> tuple[str, float, float, float, float]:
        truth = table(cell).values["digits_test"]
        return way, truth, best - truth, epochs, seconds

    def spent(found: Explored) -> tuple[float, float]:
        return sum(e.cost["epochs"] for e in found.evaluations), sum(e.cost["seconds"] for e in found.evaluations)

    found = halving(explorer_of(seed), once)
    by_speed = halving(explorer_of(seed), once, objectives=(TRAINING_SPEED,))
    again = halving(explorer_of(seed), each)
    cells = [e.architecture for e in found.evaluations if e.values["rung"] == 0]
    full = {cell: once(cell, LADDER.most) for cell in cells}
    yield line("halving, one schedule over 20 epochs", found.best, *spent(found))
    yield line("halving by training speed", by_speed.best, *spent(by_speed))
    yield line("halving, annealed in each rung", again.best, *spent(again))
    names = {to_string(cell) for cell in cells}
    paid = [r for r in rows(file) if (r["seed"], r["schedule"]) == (str(seed), "once") and r["arch"] in names]
    whole = sum(float(r["seconds"]) for r in paid)
    picked = max(cells, key=lambda cell: full[cell].values["accuracy"])
    yield line("all 27 trained for 20 epochs", picked, sum(float(r["trained"]) for r in paid), whole)
    yield line("most parameters of the 27", max(cells, key=lambda cell: table(cell).values["params"]), 0.0, 0.0)
    truths = [table(cell).values["digits_test"] for cell in cells]
    yield "one of the 27 by chance", statistics.mean(truths), best - statistics.mean(truths), 0.0, 0.0
    yield "the best of the 27 by the table", max(truths), best - max(truths), 0.0, 0.0


def explorer_of(seed: int) -> SuccessiveHalving:
    """Successive halving of the seed's cells."""
    space = job_of(seed).space
    return SuccessiveHalving(candidates_of(space), seed=seed, architectures=ARCHITECTURES, ladder=LADDER)


def score_of(file: Path, seed: int, schedule: str) -> ShortTrainingScore:
    """The training behind table=micro, which can rest at each rung."""
    job = job_of(seed)
    assert job.retrain_recipe is not None
    assert job.divided.retrain is not None
    train, valid = (job.data.train.subset(part) for part in job.divided.retrain)
    states = Path(f"{file}.states") / f"{seed}-{schedule}"
    return ShortTrainingScore(
        job.final,
        train,
        valid,
        job.data.augmentation,
        job.retrain_recipe,
        Run(seed=seed),
        job.task,
        schedule="once" if schedule == "once" else "each_rung",
        states=states,
    )


if __name__ == "__main__":
    main()
