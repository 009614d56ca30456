"""Finds networks within a limit on multiply-adds, and trains them beside random ones and a scaled MobileNetV3.

    python -m experiments.benchmarks.edge digits edge.csv
    python -m experiments.benchmarks.edge cifar edge.csv --images cifar10_16.npz
    python -m experiments.benchmarks.edge report edge.csv

On the digits every network of the micro mobile space has been trained, so its table says how good what is found is.
CIFAR-10 is reduced to 16 x 16 pixels. Each line of the file is a search or a training; a run that was stopped goes on.
Supernets lie in FILE.supernets beside it.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

import supernet
from experiments.commands.enumerate_micro import accuracies, job_of
from supernet.data.dataset import Data
from supernet.estimation.costs import macs, parameters
from supernet.estimation.rank_statistics import rho
from supernet.explorers import SposEvolution
from supernet.runtime.text import quantity
from supernet.scores import RecalibratedScore
from supernet.search.recipe import SearchRecipe
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided
from supernet.space.inverted_residual import rounded
from supernet.space.mobile import Mobile
from supernet.space.survey import candidates_of
from supernet.space.texts import from_text, to_text
from supernet.training.loop import Recipe
from supernet.training.schedules import Cosine

COLUMNS = ("part", "limit", "what", "seed", "network", "macs", "parameters", "value", "seconds")
DIGITS_LIMITS = (35_000, 50_000)  # multiply-adds; a quarter and half of the networks keep them
DIGITS_EPOCHS, DIGITS_SEEDS = 60, range(5)
CIFAR_LIMIT, CIFAR_SEEDS, CIFAR_RANDOM = 1_340_000, range(3), 3
NEAR = 0.9  # random networks use this share of the limit or more, so that they are not smaller than what is found

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Task:
    """One line of the file, and how it is made: a network, its value, both by the part's own measure."""

    part: str
    limit: int
    what: str
    seed: int
    make: Callable[[], tuple[str, float, float, float]]

    @property
    def key(self) -> tuple[str, ...]:
        """By what the line is known."""
        return self.part, str(self.limit), self.what, str(self.seed)


def rows(file: Path) -> list[dict[str, str]]:
    """The lines that are there."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(line for line in opened if not line.startswith("#")))


def run(tasks: Iterator[Task], file: Path, seconds: float) -> None:
    """Does what has no line yet, until the time is over."""
    began = time.monotonic()
    for task in tasks:
        if task.key in {tuple(row[name] for name in COLUMNS[:4]) for row in rows(file)}:
            continue
        if time.monotonic() - began > seconds:
            print("the time is over; the same command goes on")
            return
        started = time.monotonic()
        network, cost, count, value = task.make()
        fresh = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened, lineterminator="\n")
            if fresh:
                writer.writerow(COLUMNS)
            made = (network, f"{cost:.0f}", f"{count:.0f}", f"{value:.4f}", f"{time.monotonic() - started:.1f}")
            writer.writerow([*task.key, *made])
        print(*task.key, *made, flush=True)


def sizes(space: Mobile, architecture: Architecture, shape: Shape) -> tuple[int, int]:
    """Multiply-adds and parameters of the network for ten classes."""
    with torch.device("meta"):
        network = space.network(Decided(architecture), shape, 10)
        return macs(network, shape), parameters(network)


# The digits


def digits(folder: Path) -> Iterator[Task]:
    """Searches of the micro mobile space, judged by its table, and trainings of MobileNetV3 in these sizes."""
    data, space = supernet.data.digits(), supernet.spaces.micro_mobile()
    table = supernet.tables.micro_mobile(["digits_test", "macs", "params"])
    one_path, mixtures = supernet.methods.spos(candidates=1), supernet.methods.darts()

    def looked_up(found: Architecture) -> tuple[str, float, float, float]:
        values = table(found).values
        return to_text(found), values["macs"], values["params"], values["digits_test"]

    def asked(seed: int) -> RecalibratedScore:
        search: dict[str, Any] = {"method": one_path, "epochs": DIGITS_EPOCHS, "seed": seed, "device": "cpu"}
        where = folder / f"digits_{seed}"
        if not (where / "genotype.json").exists():
            supernet.find(space, data, directory=where, **search)
        return RecalibratedScore(supernet.restore(where, space, data, **search).problem, 64)

    def ranked(seed: int) -> tuple[str, float, float, float]:
        score = asked(seed)
        judged = np.array([next(iter(score(one).values.values())) for one in table])
        return "", 0, 0, rho(judged, np.array([table(one).values["digits_test"] for one in table])) or 0.0

    def evolved(limit: int, seed: int) -> tuple[str, float, float, float]:
        explorer = partial(SposEvolution, population=10, parents=5, mutants=5, crossovers=5)
        limits: dict[str, float] = {"macs": limit}
        found = supernet.explore(
            space, asked(seed), explorer=explorer, evaluations=30, limits=limits, data=data, seed=seed
        )
        return looked_up(found.best)

    def by_gradients(limit: int, seed: int) -> tuple[str, float, float, float]:
        search: dict[str, Any] = {"method": mixtures, "epochs": DIGITS_EPOCHS, "limits": {"macs": limit}}
        return looked_up(supernet.find(space, data, seed=seed, device="cpu", **search))

    for seed in DIGITS_SEEDS:
        yield Task("digits", 0, "rank", seed, partial(ranked, seed))
        for limit in DIGITS_LIMITS:
            yield Task("digits", limit, "evolution", seed, partial(evolved, limit, seed))
            yield Task("digits", limit, "darts", seed, partial(by_gradients, limit, seed))
    for limit in DIGITS_LIMITS:
        for seed in range(3):
            yield Task("digits", limit, "mobilenet_v3", seed, partial(narrow_v3_trained, data, limit, seed))


def narrow_v3(data: Data, limit: float) -> Mobile:
    """MobileNetV3-Small with the most channels that keep a limit, in ones: in eights the narrowest has far too many."""
    published = supernet.spaces.mobilenet_v3("small", image_size=32)  # of 8 pixels one is left

    def scaled(width: float) -> Mobile:
        def channels(count: int) -> int:
            return max(1, round(count * width))

        stages = [replace(stage, channels=(channels(stage.channels[0]),)) for stage in published.stages]
        head, hidden = (max(8, rounded(count * width)) for count in (published.head, published.hidden))
        style = replace(published.style, norm_momentum=0.1)  # as the others; its own 0.01 is for longer trainings
        stem = channels(published.stem)
        return published.resized(stages=tuple(stages), stem=stem, head=head, hidden=hidden, style=style)

    genotype = supernet.published("mobilenet_v3_small")
    fitting = [w for w in (n / 50 for n in range(1, 26)) if sizes(scaled(w), genotype, data.shape)[0] <= limit]
    if not fitting:
        raise SystemExit(f"mobilenet_v3: has more than {limit} multiply-adds with one channel a stage")
    return scaled(fitting[-1])


def narrow_v3_trained(data: Data, limit: float, seed: int) -> tuple[str, float, float, float]:
    """Trained as every network of the table was."""
    space, genotype, job = narrow_v3(data, limit), supernet.published("mobilenet_v3_small"), job_of(seed)
    fitting = replace(job, final=replace(job.final, space=space))
    test = accuracies(fitting, genotype, job.data.test.open())[1]
    widths = "-".join(str(stage.channels[0]) for stage in space.stages)
    return f"channels {widths}", *sizes(space, genotype, data.shape), 100 * test


# CIFAR-10

RECIPE = Recipe(
    epochs=8, batch_size=128, schedule=Cosine(0.1), drop_path=0.0, cutout=0, auxiliary_weight=0.0, label_smoothing=0.1
)
SEARCH = SearchRecipe(epochs=40, batch_size=128, share=0.8, schedule=Cosine(0.1, 0.0), weight_decay=1e-4)
SPACE = partial(supernet.spaces.mobilenet_v3, "small", kernels=(3, 5), image_size=32)  # of 16 pixels 2 are left


def cifar(folder: Path, images: Path, file: Path) -> Iterator[Task]:
    """One search, and trainings of what it found, of random networks and of a scaled MobileNetV3."""
    read = partial(supernet.data.npz, images, train_limit=10_000, crop_padding=2, flip=True)
    data, space, limits = read(), SPACE(width=0.5), {"macs": CIFAR_LIMIT}

    def searched(seed: int) -> tuple[str, float, float, float]:
        search: dict[str, Any] = {
            "method": supernet.methods.spos(candidates=1),
            "recipe": SEARCH,
            "seed": seed,
            "device": "cpu",
        }
        where = folder / f"cifar_{seed}"
        if not (where / "genotype.json").exists():
            supernet.find(space, data, directory=where, **search)
        score = RecalibratedScore(supernet.restore(where, space, data, **search).problem, 128, batches=4)
        explorer = partial(SposEvolution, population=20, parents=5, mutants=10, crossovers=10)
        found = supernet.explore(
            space, score, explorer=explorer, evaluations=160, limits=limits, data=data, seed=seed, directory=where
        )
        return (
            to_text(found.best),
            *sizes(space, found.best, data.shape),
            100 * max(one.values["accuracy"] for one in found.evaluations),
        )

    def trained(space: Mobile, architecture: Architecture, seed: int) -> tuple[str, float, float, float]:
        own = read()  # the test images can be opened once
        model = supernet.train(architecture, space, own, recipe=RECIPE, held_out=0.0, seed=seed, device="cpu")
        test = supernet.judge(model, own, batch_size=500).score
        return to_text(architecture), *sizes(space, architecture, data.shape), 100 * test

    yield Task("cifar", CIFAR_LIMIT, "search", 0, partial(searched, 0))
    (row,) = [row for row in rows(file) if (row["part"], row["what"], row["seed"]) == ("cifar", "search", "0")]
    found = from_text(row["network"], space.name)
    genotype = supernet.published("mobilenet_v3_small")
    widths = (n / 50 for n in range(10, 31))
    scaled = SPACE(width=max(w for w in widths if sizes(SPACE(width=w), genotype, data.shape)[0] <= CIFAR_LIMIT))
    drawn = near_the_limit(space, data.shape, CIFAR_LIMIT)
    asked = {"found": (space, found), "mobilenet_v3": (scaled, genotype)}
    asked |= {f"random {number}": (space, one) for number, one in enumerate(drawn)}
    order = [(seed, what) for seed in CIFAR_SEEDS for what in asked]
    for seed, what in sorted(order, key=lambda task: task[0] > 0 and task[1].startswith("random")):
        own, architecture = asked[what]
        yield Task("cifar", CIFAR_LIMIT, what, seed, partial(trained, own, architecture, seed))


def near_the_limit(space: Mobile, shape: Shape, limit: int) -> list[Architecture]:
    """Random networks that use most of the limit, drawn evenly among those."""
    candidates, rng = candidates_of(space), Random(0)
    found: list[Architecture] = []
    for _ in range(10_000):
        drawn = candidates.random(rng)
        if NEAR * limit <= sizes(space, drawn, shape)[0] <= limit and drawn not in found:
            found.append(drawn)
        if len(found) == CIFAR_RANDOM:
            return found
    raise SystemExit(f"random networks: {len(found)} of 10,000 lie within {NEAR:.0%} and 100 % of the limit")


# The report


def report(file: Path) -> Iterator[str]:
    """What the file says, as Markdown."""
    made = rows(file)
    table = supernet.tables.micro_mobile(["digits_test", "macs"])
    for limit in DIGITS_LIMITS:
        known = [table(one).values for one in table]
        tests = sorted(row["digits_test"] for row in known if row["macs"] <= limit)
        near = [row["digits_test"] for row in known if NEAR * limit <= row["macs"] <= limit]
        yield f"\nDigits, at most {limit:,} multiply-adds: {quantity(len(tests), 'network')}, best {tests[-1]:.2f}\n"
        yield "| | test | s.d. | regret | better than |\n|-|-|-|-|-|"
        for what in ("evolution", "darts", "mobilenet_v3"):
            yield _line(what, _values(made, "digits", limit, what), tests)
        yield _line(f"random, {len(tests)}", tests, tests)
        yield _line(f"random of {NEAR:.0%} of the limit or more, {len(near)}", near, tests)
    if ranks := _values(made, "digits", 0, "rank"):
        seeds = quantity(len(ranks), "seed")
        yield f"\nSpearman of the supernet's accuracies with the table: {_spread(ranks)}, {seeds}"
    yield "\n| CIFAR-10 at 16 x 16 | multiply-adds | parameters | test | s.d. |\n|-|-|-|-|-|"
    names = dict.fromkeys(row["what"] for row in made if row["part"] == "cifar" and row["what"] != "search")
    for what in names:
        own = [row for row in made if row["part"] == "cifar" and row["what"] == what]
        values = [float(row["value"]) for row in own]
        yield f"| {what} | {own[0]['macs']} | {own[0]['parameters']} | {_spread(values)} | {len(values)} |"


def _values(made: list[dict[str, str]], part: str, limit: int, what: str) -> list[float]:
    key = {"part": part, "limit": str(limit), "what": what}
    return [float(row["value"]) for row in made if all(row[name] == value for name, value in key.items())]


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else math.nan:.2f}"


def _line(what: str, values: list[float], tests: list[float]) -> str:
    if not values:
        return f"| {what} | | | | |"
    better = statistics.mean(sum(test < value for test in tests) / len(tests) for value in values)
    mean, spread = _spread(values).split(" ± ")
    return f"| {what} | {mean} | {spread} | {tests[-1] - statistics.mean(values):.2f} | {better:.0%} |"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.edge", description=__doc__)
    parser.add_argument("part", choices=["digits", "cifar", "report"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--images", type=Path, help="of CIFAR-10 at 16 x 16 pixels, as supernet.data.npz reads them")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which it stops, to go on another time")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(f"{given.file}.supernets")
    if given.part == "report":
        print("\n".join(report(given.file)))
    elif given.part == "digits":
        run(digits(folder), given.file, given.seconds)
    elif given.images is None:
        parser.error("cifar: needs --images")
    else:
        run(cifar(folder, given.images, given.file), given.file, given.seconds)


if __name__ == "__main__":
    main()
