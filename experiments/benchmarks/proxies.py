"""Measures the zero-cost proxies of NAS-Bench-201 cells that are drawn at random, and holds them beside the truth.

    python -m experiments.benchmarks.proxies cifar10.npz nasbench201.csv.gz                  # until all is measured
    python -m experiments.benchmarks.proxies cifar10.npz nasbench201.csv.gz --seconds 300    # a part; call it again

Every cell is a row of a CSV file, which is whole at every moment; the same call goes on where the last one ended, and
ends with code 75 where something is left. All proxies but grasp, which takes longer than the others together, come
first; then grasp, then NASWOT on twice as many images. At the end of each call the correlations are written as JSON,
over the rows that there are: cells are in the order in which they were drawn, so that the first n are a random sample,
too. `experiments.benchmarks.proxy_correlations` prints them as tables.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from experiments.benchmarks.proxy_correlations import summarise, write_summary
from experiments.benchmarks.setting import machine
from supernet.data.batches import Batch, training_batches
from supernet.data.npz_files import npz
from supernet.estimation.benchmark_tables import read_table
from supernet.estimation.zero_cost.activations import naswot, zen_terms
from supernet.estimation.zero_cost.gradients import fisher, zico
from supernet.estimation.zero_cost.probe import Probe
from supernet.estimation.zero_cost.score import PROXIES, ZeroCostScore
from supernet.runtime.files import write_whole
from supernet.runtime.seeding import random_states_kept
from supernet.space.nasbench201 import NasBench201, from_string

TRUTH = ("cifar10_test_200", "cifar100_test_200", "imagenet16_120_test_200")
BASELINES = ("params", "macs_cifar10")
SLOW, WIDE = "grasp", "naswot_128"
SHARED = (*(name for name in PROXIES if name != SLOW), "fisher_once", "zen_passes", "zico_absolute")
COLUMNS = ("index", "arch", *TRUTH, *BASELINES, *SHARED, "seconds", SLOW, f"{SLOW}_seconds", WIDE)
Row = dict[str, str]
Step = Callable[[str], Row]


@dataclass(frozen=True)
class Cells:
    """The networks of cells, and the batches that they are looked at with."""

    shared: ZeroCostScore
    slow: ZeroCostScore
    wide: Batch

    def measure_shared(self, arch: str) -> Row:
        """All proxies but the slow one, and variants that cost next to nothing."""
        began = time.perf_counter()
        probe = self.shared.probe(from_string(arch))
        values = {name: PROXIES[name].measure(probe) for name in self.shared.proxies if name != "zen"}
        terms = zen_terms(probe)
        values["zen"] = terms.distance + terms.remembered
        values["zen_passes"] = terms.distance + terms.passes
        values["fisher_once"] = fisher(probe, copied=False)
        values["zico_absolute"] = zico(probe, absolute=True)
        return {**_texts(values), "seconds": f"{time.perf_counter() - began:.3f}"}

    def measure_slow(self, arch: str) -> Row:
        """The proxy that needs the gradient's derivative."""
        began = time.perf_counter()
        value = PROXIES[SLOW].measure(self.slow.probe(from_string(arch)))
        return {**_texts({SLOW: value}), f"{SLOW}_seconds": f"{time.perf_counter() - began:.3f}"}

    def measure_wide(self, arch: str) -> Row:
        """NASWOT with twice the images, as its authors have it."""
        return _texts({WIDE: naswot(Probe(self.slow.probe(from_string(arch)).network, [self.wide]))})

    def steps(self, all_of_them: bool) -> dict[str, Step]:
        """What is measured after what, by a column that says whether it is done."""
        first: dict[str, Step] = {"seconds": self.measure_shared}
        later: dict[str, Step] = {f"{SLOW}_seconds": self.measure_slow, WIDE: self.measure_wide}
        return first | later if all_of_them else first


def _texts(values: dict[str, float]) -> Row:
    return {name: f"{value:.10g}" for name, value in values.items()}


def draw(table: Path, count: int, seed: int) -> list[Row]:
    """Rows of cells that are drawn without replacement, with what the benchmark knows of them."""
    known = read_table(table, [*TRUTH, *BASELINES])
    cells = list(known.rows)
    drawn = random.Random(seed).sample(range(len(cells)), count)
    rows = []
    for index in drawn:
        facts = dict(zip(known.columns, known.rows[cells[index]], strict=True))
        rows.append({"index": str(index), "arch": cells[index], **{name: f"{facts[name]:.10g}" for name in facts}})
    return rows


def prepare(data: Path, batch: int, seed: int) -> Cells:
    """Two batches of augmented training images as the published code has them, and one of twice the size."""
    read = npz(data, crop_padding=4, flip=True)
    batches = training_batches(read.train, batch, read.augmentation, seed=seed)
    two = (next(batches), next(batches))
    wide = next(training_batches(read.train, 2 * batch, read.augmentation, seed=seed))
    names = tuple(name for name in PROXIES if name != SLOW)
    shared = ZeroCostScore(NasBench201(), read.shape, len(read.classes), two, names, seed)
    return Cells(shared, replace(shared, proxies=(SLOW,)), wide)


def read_rows(path: Path, settings: str, drawn: list[Row]) -> list[Row]:
    """The rows of an earlier call with the same settings, or those that were drawn."""
    if not path.exists():
        return drawn
    first, _, rest = path.read_text().partition("\n")
    if first != settings:
        sys.exit(f"{path}: was measured with other settings ({first}); choose another --output")
    done = {row["index"]: row for row in csv.DictReader(io.StringIO(rest))}
    return [{**row, **done.get(row["index"], {})} for row in drawn]


def write_rows(path: Path, settings: str, rows: list[Row]) -> None:
    """All rows that have a value of a proxy."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for row in rows if row.get("seconds"))
    write_whole(path, f"{settings}\n{text.getvalue()}")


def measure(rows: list[Row], steps: dict[str, Step], until: float, save: Callable[[], None]) -> bool:
    """Fills in what rows lack until the time is over. Returns whether all is there."""
    saved = time.monotonic()
    for column, step in steps.items():
        for number, row in enumerate(rows, 1):
            if row.get(column):
                continue
            if time.monotonic() > until:
                return False
            with random_states_kept():
                row |= step(row["arch"])
            if time.monotonic() - saved > 15:
                save()
                saved = time.monotonic()
                print(f"{column} of cell {number} of {len(rows)}", file=sys.stderr, flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="CIFAR-10 as an .npz file with MedMNIST's keys")
    parser.add_argument("table", type=Path, help="NAS-Bench-201 as a CSV file, with its test accuracies and parameters")
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64, help="images; NASWOT is measured on twice as many, too")
    parser.add_argument("--draw", type=int, default=0, help="the seed by which the cells are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the batches and the initial weights")
    parser.add_argument("--shared", action="store_true", help="leave out grasp and the wide NASWOT")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which the call ends")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/proxies"), help="without an ending")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    until = time.monotonic() + arguments.seconds
    chosen = {name: getattr(arguments, name) for name in ("cells", "draw", "batch", "seed")}
    chosen = {"data": arguments.data.stem, **chosen}
    settings = "# " + ", ".join(f"{name}={value}" for name, value in chosen.items())
    path = arguments.output.with_suffix(".csv")
    rows = read_rows(path, settings, draw(arguments.table, arguments.cells, arguments.draw))
    cells = prepare(arguments.data, arguments.batch, arguments.seed)
    steps = cells.steps(all_of_them=not arguments.shared)
    whole = measure(rows, steps, until, lambda: write_rows(path, settings, rows))
    write_rows(path, settings, rows)
    record = {"settings": chosen, "machine": machine(torch.device("cpu"))}
    write_summary(arguments.output, record, summarise(path))
    sys.exit(0 if whole else 75)


if __name__ == "__main__":
    main()
