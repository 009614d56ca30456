"""Makes a model of the zoo from finished runs: a file in half precision, its card, and its line in the index."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from supernet import zoo
from supernet.clinical import tables
from supernet.clinical.intervals import Interval, wilson
from supernet.clinical.report import ClinicalReport
from supernet.deployment.answers import Objects
from supernet.deployment.bundle import NAME
from supernet.deployment.loading import load_network
from supernet.deployment.predictor import Predictor
from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing, write_whole
from supernet.runtime.reading import is_file, is_folder
from supernet.runtime.seeding import generator
from supernet.runtime.text import quantity

from .. import detection_report
from ..records.summary import ENVIRONMENT, SUMMARY
from .about import MODELS

LARGEST, LARGEST_ZOO = 5_000_000, 15_000_000  # bytes of a file, and of all together
_INTERVAL = "95 % interval of this file"
_ROUNDED = 0.02  # of a probability, by half precision
_OWN_WORDS = re.compile(r"^(seed|hydra\.|runtime\.|name=|data\.(path|root|source)=|resume=|-)")  # of one run or machine


def make(name: str, runs: Sequence[Path], folder: Path) -> zoo.Entry:
    """Writes a model into a zoo.

    Args:
        name: of the model, one that `MODELS` describes.
        runs: finished runs that differ by their seeds alone. The first one's model becomes the file, whatever it has
            scored, and all of them make the figures.
        folder: of the zoo.

    Returns:
        Its entry in the index, which is written, too.

    Raises:
        InputError: the name is not described, a run is not finished or of other settings, or the file is too large.
    """
    if name not in MODELS:
        raise InputError(f"{name[:80]}: not described in experiments/zoo/about.py, which knows {', '.join(MODELS)}")
    summaries = [_read(run, SUMMARY) for run in runs]
    _check_alike(runs, summaries)
    model = load_network(runs[0] / NAME)
    _complete(model, runs[0])
    model.card = _card(name, model, summaries, _read(runs[0], ENVIRONMENT))
    model.provenance = {k: v for k, v in model.provenance.items() if not _is_path(v)}
    with TemporaryDirectory(prefix="supernet-") as place:
        path = Path(place, f"{name}.safetensors")
        model.save(path, half=True)
        raw = path.read_bytes()
        _check_rounding(model, load_network(path))
    known = {n: e for n, e in zoo.entries(folder).items() if n != name}
    if len(raw) > LARGEST or len(raw) + sum(e.bytes for e in known.values()) > LARGEST_ZOO:
        raise InputError(
            f"{name}: {quantity(len(raw), 'byte')}; a model of the zoo has {LARGEST:,} at most, and all "
            f"together {LARGEST_ZOO:,}"
        )
    entry = zoo.Entry(name, f"{name}.safetensors", hashlib.sha256(raw).hexdigest(), len(raw), model.card)
    with replacing(folder / entry.file) as file:
        file.write(raw)
    lines = {n: _line(e) for n, e in sorted({**known, name: entry}.items())}
    write_whole(folder / zoo.INDEX, json.dumps(lines, indent=2, ensure_ascii=False) + "\n")
    zoo.entries.cache_clear()
    return entry


def _complete(model: Predictor, run: Path) -> None:
    """Gives a detector the figures of its run, and the confidences that follow, where its file is from before that."""
    if isinstance(model.answer, Objects) and not model.report and is_file(run / detection_report.JSON):
        model.report = dict(_read(run, detection_report.JSON)["searched"])
        model.answer = detection_report.confident(model.answer, model.report, model.classes)


def _line(entry: zoo.Entry) -> dict[str, Any]:
    return {n: dict(v) if isinstance(v, Mapping) else v for n, v in asdict(entry).items() if n != "name"}


def _card(
    name: str, model: Predictor, summaries: Sequence[Mapping[str, Any]], made: Mapping[str, Any]
) -> dict[str, Any]:
    """What a person should know: what is written of the model, and what its runs know."""
    first, about = summaries[0], MODELS[name]
    words = [w for w in first.get("overrides", []) if not _OWN_WORDS.match(w) and w not in about.command.split()]
    found, report = first["finalists"][0], None
    if model.report and not isinstance(model.answer, Objects):
        report = ClinicalReport.from_plain(dict(model.report), f"{name}: its report")
    return {
        **asdict(about),
        "task": model.answer.name,
        "classes": list(model.classes),
        "images": list(model.shape),
        "command": " ".join([about.command, *map(shlex.quote, words), f"seed={first['seed']}"]),
        "commit": made.get("commit"),
        "seeds": [summary["seed"] for summary in summaries],
        "figures": _figures(summaries, report),
        "operating points": _points(report),
        "parameters": found["parameters"],
        "multiply-adds": found["macs"],
        "seconds": {"search": first.get("search_seconds"), "training": found.get("seconds")},
        "stored": "half precision; loaded and run in single precision",
        "not for clinical use": True,
    }


def _figures(summaries: Sequence[Mapping[str, Any]], report: ClinicalReport | None) -> dict[str, Any]:
    """For each score on the test images: every seed, mean and sample deviation, and random cells trained alike."""
    found = [_scores(summary, summary["finalists"][0]) for summary in summaries]
    others = [
        _scores(summary, finalist)
        for summary in summaries
        for finalist in summary["finalists"][1:]
        if finalist["name"].startswith("random")
    ]
    figures: dict[str, Any] = {}
    for score in found[0]:
        values = [each[score] for each in found if score in each]
        random = [each[score] for each in others if score in each]
        figures[score] = {
            "seeds": [round(value, 5) for value in values],
            "mean": round(statistics.fmean(values), 5),
            "deviation": round(statistics.stdev(values), 5) if len(values) > 1 else None,
            "random cells": _of_random(random),
        }
    for score, interval in _intervals(summaries[0], figures, report).items():
        figures[score][_INTERVAL] = [round(interval.low, 5), round(interval.high, 5)]
    return figures


def _intervals(
    summary: Mapping[str, Any], figures: Mapping[str, Any], report: ClinicalReport | None
) -> dict[str, Interval]:
    """The intervals of the first run's figures: Wilson's of an accuracy, DeLong's of a macro area."""
    images, found = summary.get("reading", {}).get("images", {}), dict[str, Interval | None]()
    tested = images.get("test", 0) if isinstance(images, Mapping) else 0
    if tested and "accuracy" in figures:
        found["accuracy"] = wilson(round(figures["accuracy"]["seeds"][0] * tested), tested)
    if report is not None and "auroc" in figures:
        found["auroc"] = report.macro_auroc
    return {score: interval for score, interval in found.items() if interval is not None}


def _points(report: ClinicalReport | None) -> list[dict[str, str]]:
    """Thresholds that were fixed on validation images, and what they reached on the test images."""
    if report is None:
        return []
    table = tables.points(report)
    return [dict(zip(table.head, row, strict=True)) for row in table.rows]


def _of_random(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    spread = round(statistics.stdev(values), 5) if len(values) > 1 else None
    return {"count": len(values), "mean": round(statistics.fmean(values), 5), "deviation": spread}


def _scores(summary: Mapping[str, Any], finalist: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a network on the test images by name, the first the one that its task is judged by."""
    named = {summary.get("score", "accuracy"): finalist.get("test_score"), **finalist.get("test_others", {})}
    return {name: float(value) for name, value in named.items() if isinstance(value, int | float)}


def _read(run: Path, name: str) -> dict[str, Any]:
    if not is_folder(run):
        raise InputError(f"{run}: no such run; give the directory of a finished one")
    try:
        read = json.loads((run / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{run}: has no {name} that can be read; give the directory of a finished run") from None
    if not isinstance(read, dict):
        raise InputError(f"{run}: its {name} is not what a run wrote")
    return read


def _check_alike(runs: Sequence[Path], summaries: Sequence[Mapping[str, Any]]) -> None:
    """Raises InputError where runs differ by more than their seeds, or one is there twice."""
    for run, summary in zip(runs, summaries, strict=True):
        if not summary.get("finalists") or not _scores(summary, summary["finalists"][0]):
            raise InputError(f"{run}: nothing was tested in it; give a run that trained and tested its network")
        for key in ("settings", "training", "data"):
            if summary.get(key) != summaries[0].get(key):
                raise InputError(f"{run}: of other {key} than {runs[0]}; give runs that differ by the seed alone")
    seeds = [summary.get("seed") for summary in summaries]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds {', '.join(map(str, seeds))}: one is there twice; give each run once")


def _check_rounding(model: Predictor, rounded: Predictor) -> None:
    """Raises InputError where half precision changes what a classifier says."""
    if isinstance(model.answer, Objects):
        return
    images = torch.randint(0, 256, (64, *model.shape), generator=generator(0, 0x200)).float()
    difference = float((model.probabilities(images) - rounded.probabilities(images)).abs().max())
    if not difference <= _ROUNDED:
        raise InputError(f"half precision changes a probability by {difference:.2g}; this model cannot be in the zoo")


def _is_path(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)
