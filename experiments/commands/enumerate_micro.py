"""Trains every network of a small space with several seeds and writes a table such as that behind table=micro.

python -m supernet.experiments.commands.enumerate_micro OUTPUT.csv [--space micro_mobile]

Hundreds of short trainings; it goes on where it was stopped. With --workers 8, eight processes train side by side, and
the figures are the same.

A row's training is exactly what `supernet experiment=micro space=SPACE genotype=GENOTYPE seed=S` does after the search.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module

from supernet.data.batches import Source
from supernet.estimation.costs import macs, parameters
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.reading import read_text
from supernet.runtime.run import Run
from supernet.runtime.text import quantity
from supernet.runtime.workers import LOKY, Failed, Workers
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided
from supernet.space.genes import Candidates
from supernet.space.nasbench201 import NasBench201
from supernet.space.survey import candidates_of, decisions_of
from supernet.space.texts import to_text
from supernet.training.evaluation import evaluate

from ..console import Parser
from ..job import Job, prepare
from ..records.environment import environment
from ..retraining import train_one
from ..schema import plain

Trained = tuple[float, float, float]  # validation and test accuracy, seconds
RUN_COLUMNS = ("arch", "seed", "valid", "test", "seconds")
_LARGEST = 16 << 20  # bytes of the single runs
_MOST = 2_000  # networks; the smallest takes a second to train


def main() -> None:
    """Runs the command: trains what is missing and writes the table."""
    parser = Parser(prog="python -m supernet.experiments.commands.enumerate_micro", description=__doc__)
    parser.add_argument("output", type=Path, help="the table; single runs go to OUTPUT.runs beside it")
    parser.add_argument("--space", default="micro", help="as in `supernet space=...`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="processes that train side by side")
    parser.add_argument("--backend", default=LOKY, help="where they are: loky (this machine), dask, ray")
    parser.add_argument("--scheduler", help="the address of dask's or ray's cluster")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which it stops, to go on another time")
    try:
        given = parser.parse_args()
        if given.seeds < 2:
            raise InputError(f"--seeds {given.seeds}: a spread needs two or more")
        workers = Workers(given.workers, given.backend, scheduler=given.scheduler)
        jobs = [job_of(seed, given.space) for seed in range(given.seeds)]
        runs = Path(f"{given.output}.runs")
        images = jobs[0].data.test.open()  # the same for all seeds
        if left := train_all(jobs, images, runs, given.seconds, workers, given.space):
            print(f"{quantity(left, 'training is left', 'trainings are left')}; the same command goes on")
            return
        lines = table_lines(jobs[0], len(images), runs, given.seeds, given.space)
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except (InputError, OSError) as error:
        print(f"enumerate_micro: {error}", file=sys.stderr)
        sys.exit(2)


def job_of(seed: int, space: str = "micro") -> Job:
    """The job `supernet experiment=micro space=SPACE seed=SEED` on one thread."""
    overrides = [
        "experiment=micro",
        f"space={space}",
        "table=none",
        f"seed={seed}",
        "runtime.threads=1",
        "runtime.device=cpu",
        "runtime.progress=false",
    ]
    with initialize_config_module("supernet.conf", version_base="1.3"):
        settings = plain(compose("config", overrides=overrides))
    with tempfile.TemporaryDirectory() as directory:
        return prepare(settings, Path(directory), Interruption())


def architectures(job: Job) -> list[Architecture]:
    """All architectures of the job's space, each once. Raises InputError where they are too many to train."""
    decisions = decisions_of(job.space, shape=job.data.shape, outputs=len(job.data.classes))
    candidates: Candidates = candidates_of(job.space, decisions=decisions)
    if candidates.count is None or candidates.count > _MOST:
        count = "an unknown number of" if candidates.count is None else f"{candidates.count:,}"
        raise InputError(f"--space: has {count} architectures; at most {_MOST:,} can be trained")
    return list(candidates.all())


def train_all(
    jobs: list[Job],
    images: Source,
    runs: Path,
    seconds: float = math.inf,
    workers: Workers | None = None,
    space: str = "micro",
) -> int:
    """Trains what `runs` has no line of yet, adds a line to it for each, and returns how many are left."""
    done = {(row["arch"], row["seed"]) for row in _rows(runs)}
    if not runs.exists():
        runs.write_text(",".join(RUN_COLUMNS) + "\n", encoding="utf-8")
    asked = [(job, architecture) for job in jobs for architecture in architectures(job)]
    left = [(job, architecture) for job, architecture in asked if (to_text(architecture), str(job.seed)) not in done]
    workers, started = workers or Workers(), time.monotonic()
    train: Callable[[tuple[Job, Architecture]], Trained] = partial(_trained_here, images)
    items: Sequence[Any] = left
    if workers.elsewhere:  # which make the jobs for themselves
        train, items = partial(_trained_there, space), [(job.seed, architecture) for job, architecture in left]
    with closing(workers.each(train, items)) as answers:
        for number, (job, architecture) in enumerate(left):
            if time.monotonic() - started > seconds:
                return len(left) - number
            answer = next(answers)
            if isinstance(answer, Failed):
                raise InputError(f"{to_text(architecture)}, seed {job.seed}: {answer.reason}; the same command goes on")
            with runs.open("a", encoding="utf-8") as file:
                valid, test, took = answer
                file.write(f"{to_text(architecture)},{job.seed},{valid:.6f},{test:.6f},{took:.2f}\n")
    return 0


def _trained_here(images: Source, asked: tuple[Job, Architecture]) -> Trained:
    began = time.monotonic()
    valid, test = accuracies(*asked, images)
    return valid, test, time.monotonic() - began


def _trained_there(space: str, asked: tuple[int, Architecture]) -> Trained:
    seed, architecture = asked
    job = _job_of(seed, space)
    return _trained_here(job.data.test.open(), (job, architecture))


@cache
def _job_of(seed: int, space: str) -> Job:
    """A worker makes the job of a seed once."""
    return job_of(seed, space)


def accuracies(job: Job, architecture: Architecture, images: Source) -> tuple[float, float]:
    """Validation and test accuracy of the architecture's network, trained from scratch."""
    network, result = train_one(job, to_text(architecture), architecture, Run(seed=job.seed))
    assert result.valid is not None
    assert job.retrain_recipe is not None
    size, task = job.retrain_recipe.batch_size, job.task
    test = evaluate(network, images, job.data.augmentation, batch_size=size, device=torch.device("cpu"), task=task)
    return result.valid.score, test.score


def table_lines(job: Job, tested: int, runs: Path, seeds: int, space: str = "micro") -> Iterator[str]:
    """The lines of the table: what it is and how it was made, the columns, a row for each architecture."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in _rows(runs):
        if int(row["seed"]) < seeds:
            found[row["arch"]].append(row)
    everything = [row for rows in found.values() for row in rows]
    hours = sum(float(row["seconds"]) for row in everything) / 3600
    made = environment(torch.device("cpu"))
    yield f"# Every network of space={space}, trained from scratch on digits; accuracies in percent."
    if job.space.name != NasBench201.name:
        yield f"# space: {job.space.name}"
    asked = f"{space}.csv --space {space} --seeds {seeds}"
    yield f"# python -m supernet.experiments.commands.enumerate_micro {asked}"
    yield f"# commit {made['commit']}, torch {made['torch']}, {made['platform']}, one thread, {hours:.2f} hours"
    held = f"{job.settings['retrain_valid']:.0%} of them to validate (another part for each seed)"
    yield f"# {len(job.data.train)} images, {held}, {tested} to test"
    for score in ("valid", "test"):
        spread = [statistics.variance(100 * float(row[score]) for row in rows) for rows in found.values()]
        noise = math.sqrt(statistics.mean(spread))
        yield f"# digits_{score}: over seeds a standard deviation of {noise:.2f}, pooled over architectures"
    each = [f"digits_{score}_{seed}" for score in ("valid", "test") for seed in range(seeds)]
    yield ",".join(
        ["arch", "digits_valid", "digits_valid_std", "digits_test", "digits_test_std", *each, "params", "macs"]
    )
    for architecture in architectures(job):
        rows = sorted(found[to_text(architecture)], key=lambda row: int(row["seed"]))
        yield ",".join([to_text(architecture), *_figures(rows), *_costs(job, architecture)])


def _rows(runs: Path) -> list[dict[str, str]]:
    if not runs.exists():
        return []
    where = f"{runs}"
    reader = csv.DictReader(read_text(runs, where, _LARGEST).splitlines())
    rows = list(reader)
    if tuple(reader.fieldnames or ()) != RUN_COLUMNS or not all(_is_whole(row) for row in rows):
        raise InputError(f"{where}: damaged; each line needs {', '.join(RUN_COLUMNS)}; take the last line off, go on")
    return rows


def _is_whole(row: dict[str, str]) -> bool:
    """Whether a line has all its fields, as numbers: the last line of a run that was killed has not."""
    try:
        return row["seed"].isdecimal() and all(math.isfinite(float(row[name])) for name in RUN_COLUMNS[2:])
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _figures(rows: list[dict[str, str]]) -> list[str]:
    scores = [[100 * float(row[score]) for row in rows] for score in ("valid", "test")]
    summary = [f"{figure:.3f}" for score in scores for figure in (statistics.mean(score), statistics.stdev(score))]
    return [*summary, *(f"{figure:.3f}" for score in scores for figure in score)]


def _costs(job: Job, architecture: Architecture) -> list[str]:
    network = job.final.space.network(Decided(architecture), job.data.shape, len(job.data.classes))
    return [str(parameters(network)), str(macs(network, job.data.shape))]


if __name__ == "__main__":
    main()
