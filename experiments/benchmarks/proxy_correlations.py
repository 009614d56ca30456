"""How well zero-cost proxies order cells: rank correlations of what `proxies` has measured, as JSON and Markdown.

python -m experiments.benchmarks.proxy_correlations experiments/results/proxies.csv    # the tables on the screen
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from supernet.estimation.rank_statistics import precision, rho, tau, top_tau
from supernet.runtime.files import write_whole

TRUTH = {"cifar10_test_200": "CIFAR-10", "cifar100_test_200": "CIFAR-100", "imagenet16_120_test_200": "ImageNet16-120"}
FACTS = ("index", "arch", *TRUTH, "seconds", "grasp_seconds")
RESAMPLES, RESAMPLING_SEED = 1000, 1
SHARE = 0.1  # the best cells, of which the top-decile figures are
NEAR, AGREE = 0.03, 0.05  # ours to a published figure; the published figures to each other
PUBLISHED: dict[str, tuple[tuple[float, float, float] | None, tuple[float, float, float] | None]] = {
    "synflow": ((0.737, 0.763, 0.751), (0.73, 0.76, 0.75)),
    "snip": ((0.596, 0.637, 0.578), (0.58, 0.63, 0.57)),
    "plain": (None, (-0.26, -0.21, -0.22)),
    "grad_norm": ((0.594, 0.637, 0.578), (0.58, 0.63, 0.57)),
    "grasp": ((0.514, 0.547, 0.549), (0.51, 0.54, 0.55)),
    "fisher": ((0.360, 0.385, 0.327), (0.50, 0.54, 0.48)),
    "jacov": ((0.731, 0.704, 0.701), (0.75, 0.71, 0.71)),
    "naswot": (None, (0.77, 0.80, 0.77)),
    "zen": (None, (0.35, 0.35, 0.39)),
    "zico": ((0.74, 0.78, 0.79), None),
    "epe": (None, (0.70, 0.60, 0.33)),
    "l2_norm": (None, (0.68, 0.72, 0.69)),
    "params": (None, (0.72, 0.73, 0.69)),
    "macs_cifar10": (None, (0.69, 0.71, 0.67)),
}
"""Published Spearman correlations on the three data sets: of Abdelfattah et al. 2021 (their notebook, 15,625 cells,
test accuracy, absolute values; for zico the README of SiGeo), and of NAS-Bench-Suite-Zero (figure 2, 1,000 cells,
validation accuracy)."""


@dataclass(frozen=True)
class Correlations:
    """Rank correlations of one column with the truth. Values that are not finite count as the smallest of all.

    Args:
        n: cells.
        not_finite: how many of them have no finite value.
        rho: Spearman's rho with the test accuracy on CIFAR-10.
        interval: its 95 % bootstrap interval.
        tau: Kendall's tau-b.
        connected: Spearman's rho over the cells with a path from input to output alone.
        top: Spearman's rho within the tenth of the cells that is truly best.
        top_interval: its 95 % bootstrap interval.
        top_tau: Kendall's tau-b within it.
        precision: the share of the truly best tenth in the tenth that the column puts first.
        others: Spearman's rho with the test accuracies on the other data sets, by their columns.
        bar: whether rho is near a published figure where two agree or there is one; None where there is none, or two
            do not agree.
    """

    n: int
    not_finite: int
    rho: float
    interval: tuple[float, float]
    tau: float
    connected: float
    top: float
    top_interval: tuple[float, float]
    top_tau: float
    precision: float
    others: dict[str, float]
    bar: bool | None


def interval(firsts: np.ndarray, seconds: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95 % percentile interval of Spearman's rho over resampled cells."""
    stream = np.random.default_rng(RESAMPLING_SEED)
    draws = stream.integers(len(firsts), size=(resamples, len(firsts)))
    one, two = (rankdata(values[draws], axis=1) - (len(firsts) + 1) / 2 for values in (firsts, seconds))
    scale = np.sqrt((one**2).sum(1) * (two**2).sum(1))
    rhos = (one * two).sum(1)[scale > 0] / scale[scale > 0]
    low, high = np.quantile(rhos, [0.025, 0.975]).tolist() if len(rhos) else (math.nan, math.nan)
    return low, high


def correlate(
    name: str, values: np.ndarray, truths: dict[str, np.ndarray], connected: np.ndarray, resamples: int = RESAMPLES
) -> Correlations:
    """All correlations of one column, of which every cell has a value."""
    known = np.where(np.isfinite(values), values, -np.inf)
    accuracy, *_ = truths.values()
    best = accuracy >= np.sort(accuracy)[-math.ceil(SHARE * len(accuracy))]
    overall = _or_nan(rho(known, accuracy))
    return Correlations(
        n=len(values),
        not_finite=int((~np.isfinite(values)).sum()),
        rho=overall,
        interval=interval(known, accuracy, resamples),
        tau=_or_nan(tau(known, accuracy)),
        connected=_or_nan(rho(known[connected], accuracy[connected])),
        top=_or_nan(rho(known[best], accuracy[best])),
        top_interval=interval(known[best], accuracy[best], resamples),
        top_tau=_or_nan(top_tau(known, accuracy)),
        precision=_or_nan(precision(known, accuracy)),
        others={column: _or_nan(rho(known, other)) for column, other in list(truths.items())[1:]},
        bar=_meets(name, overall),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _meets(name: str, overall: float) -> bool | None:
    figures = [three[0] for three in PUBLISHED.get(name, ()) if three is not None]
    if not figures or max(figures) - min(figures) > AGREE:
        return None
    return any(abs(overall - figure) <= NEAR for figure in figures)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a line of settings in front."""
    return list(csv.DictReader(io.StringIO(path.read_text().partition("\n")[2])))


def summarise(path: Path, resamples: int = RESAMPLES) -> dict[str, Correlations]:
    """The correlations of every column of proxies and baselines, each over the rows that have a value there."""
    rows = read(path)
    found = {}
    for name in (name for name in rows[0] if name not in FACTS) if rows else ():
        those = [row for row in rows if row[name]]
        if len(those) < 10:
            continue
        truths = {column: _numbers(those, column) for column in TRUTH}
        connected = np.isfinite(_numbers(those, "synflow"))
        found[name] = correlate(name, _numbers(those, name), truths, connected, resamples)
    return found


def _numbers(rows: Sequence[dict[str, str]], column: str) -> np.ndarray:
    return np.array([float(row[column]) for row in rows])


def tables(found: dict[str, Correlations]) -> list[str]:
    """Markdown: the correlations on CIFAR-10 beside the published ones, and those with the other data sets' truth."""
    head = ["proxy", "n", "not finite", "Spearman, 95 %", "published", "bar", "Kendall", "connected cells"]
    lines = _table([*head, "in the top decile: Spearman, 95 %", "Kendall", "precision"])
    for name, c in sorted(found.items(), key=lambda item: -item[1].rho):
        bar = {True: "met", False: "missed", None: "-"}[c.bar]
        overall, top = f"{c.rho:.3f} ({_range(c.interval)})", f"{c.top:.2f} ({_range(c.top_interval)})"
        cells = [name, f"{c.n:,}", f"{c.not_finite}", overall, _published(name, 0), bar, f"{c.tau:.3f}"]
        lines.append(_row([*cells, f"{c.connected:.3f}", top, f"{c.top_tau:.2f}", f"{c.precision:.2f}"]))
    lines += ["", *_table(["proxy", "CIFAR-100", "published", "ImageNet16-120", "published"])]
    for name, c in sorted(found.items(), key=lambda item: -item[1].rho):
        cells = []
        for place, other in enumerate(c.others.values(), 1):
            cells += [f"{other:.3f}", _published(name, place)]
        lines.append(_row([name, *cells]))
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(head: Sequence[str]) -> list[str]:
    return [_row(head), _row(["---"] * len(head))]


def _published(name: str, place: int) -> str:
    """Both published figures of a proxy on one of the data sets."""
    return " / ".join("-" if three is None else f"{three[place]:.2f}" for three in PUBLISHED.get(name, (None, None)))


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def write_summary(output: Path, record: dict[str, Any], found: dict[str, Correlations]) -> None:
    """The record with all correlations, as JSON beside the rows."""
    text = json.dumps({**record, "correlations": {name: asdict(c) for name, c in found.items()}}, indent=1)
    write_whole(output.with_suffix(".json"), text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="the CSV file that experiments.benchmarks.proxies has written")
    print("\n".join(tables(summarise(parser.parse_args().rows))))


if __name__ == "__main__":
    main()
