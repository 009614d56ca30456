"""The clinical report of a run: clinical.json, clinical.md and clinical.html, for the networks that were tested.

The answers of all networks are kept in answers.npz when the test images are opened, which happens once. So an
interrupted run, and a person with a question of their own, can still make figures of them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from supernet.clinical import tables
from supernet.clinical.logistic import sigmoid
from supernet.clinical.page import NOTICE, Judged, page
from supernet.clinical.ranking import difference
from supernet.clinical.report import ClassReport, ClinicalReport, report
from supernet.clinical.scores import Scores
from supernet.data.batches import Source
from supernet.deployment.answers import Answer, OneLabel, SeveralLabels
from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing, write_whole
from supernet.runtime.text import printable
from supernet.training.answering import answers

from .console import complain
from .job import Job
from .records.markdown import escaped, markdown_table
from .records.summary import write_json

_ROUNDING = 1e-5  # of a small probability in single precision, as a share of it
_DEPENDENT = (
    "Intervals take test images as independent, and several images can be of one patient or group: then the intervals "
    "are too narrow."
)
ANSWERS, JSON, MARKDOWN, PAGE = "answers.npz", "clinical.json", "clinical.md", "clinical.html"


def wanted(job: Job) -> bool:
    """Whether the run gets a report: where the setting says so, else where each image is asked yes or no.

    Boxes of objects have none: no image is then right or wrong.
    """
    asked, kind = job.settings.get("clinical"), job.data.kind
    if asked is None:
        return kind == "labels" or (kind == "classes" and len(job.data.classes) == 2)
    return bool(asked) and kind != "boxes"


def check(job: Job) -> None:
    """Tells, before anything runs, of a report that was asked for and cannot be made.

    Raises:
        InputError: it was asked for by name, and the images have boxes of objects.
    """
    if job.settings.get("clinical") and job.data.kind == "boxes":
        raise InputError(
            f"clinical=true: {job.data.name} has boxes of objects, of which no clinical report is made; leave it out: "
            "the figures of a detector are in detection.md"
        )
    if wanted(job) and job.retrain_recipe is not None and validation(job) is None:
        complain(
            "no clinical report: its thresholds need validation images, and there are none; retrain_valid=0.1 holds "
            "out a tenth of the training images"
        )


def validation(job: Job) -> Source | None:
    """The images by which thresholds and temperature are chosen: those of the data, or those that were held out."""
    if job.data.valid is not None or job.divided.retrain is None:
        return job.data.valid
    return job.data.train.subset(job.divided.retrain[1])


def keep_answers(job: Job, networks: Mapping[str, nn.Module], test: Source) -> None:
    """Writes what all networks say of the validation and the test images. Nothing where no report is wanted."""
    valid = validation(job)
    if not wanted(job) or valid is None:
        return
    assert job.retrain_recipe is not None
    kept: dict[str, NDArray[np.generic]] = {}
    for part, source in (("valid", valid.to(job.device)), ("test", test)):
        for name, network in networks.items():
            scores = answers(
                network,
                source,
                job.data.augmentation,
                batch_size=job.retrain_recipe.batch_size,
                device=job.device,
                task=job.task,
            )
            kept[f"{part}/labels"] = scores.labels
            kept[f"{part}/{name}"] = scores.logits.astype(np.float32)  # as the networks gave them
    with replacing(job.directory / ANSWERS) as file:
        np.savez(file, **kept)  # type: ignore[arg-type]


def write_reports(job: Job, names: Collection[str]) -> dict[str, ClinicalReport]:
    """Makes the reports of the networks of these names, the first the searched one, and writes them beside the run.

    Returns them by name; empty where none is wanted, or where no images are held out to choose thresholds by.
    """
    path = job.directory / ANSWERS
    if not wanted(job) or not path.exists():
        return {}
    kept = _read(path, names)
    bias = getattr(job.task, "imbalance", None) is not None or bool(getattr(job.retrain_recipe, "balanced", False))
    reports = {name: report(*kept[name], job.data.classes, bias=bias) for name in names}
    write_json(job.directory / JSON, {name: each.plain() for name, each in reports.items()})
    tests, notes = {name: scores[1] for name, scores in kept.items()}, _notes(job.data.groups)
    write_whole(job.directory / MARKDOWN, "\n".join(_markdown(job.data.name, reports, tests, notes)) + "\n")
    judged = {name: Judged(each, tests[name]) for name, each in reports.items()}
    write_whole(job.directory / PAGE, page(f"{job.data.name}, seed {job.seed}", judged, notes))
    return reports


def show(console: Console, reports: Mapping[str, ClinicalReport]) -> None:
    """Prints one row for each network."""
    table = tables.brief(reports)
    shown = Table(title="Clinical figures of the test images", caption=f"{table.title}\n{NOTICE}")
    for number, column in enumerate(table.head):
        shown.add_column(Text(column), justify="right" if number else "left")
    for row in table.rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    console.print(shown)


def calibrated(answer: Answer, report: ClinicalReport | None) -> Answer:
    """Returns what a model answers with the probabilities of a report; the same where there is none.

    Where an image may have several labels, it has those whose probability reaches the threshold that was fixed for a
    specificity on the validation images, or 0.5 where there is none: rare labels hardly ever reach one half.
    """
    if report is None or not isinstance(answer, OneLabel | SeveralLabels):
        return answer
    found = report.calibration
    if isinstance(answer, SeveralLabels):
        thresholds = tuple(map(_threshold, report.classes))
        return replace(answer, temperature=found.temperature, bias=found.bias, thresholds=thresholds)
    assert isinstance(found.temperature, float)  # one, where classes exclude each other
    return replace(answer, temperature=found.temperature, bias=found.bias)


def _threshold(of_class: ClassReport) -> float:
    """The probability from which on an image is said to have the label.

    It lies a little below that of the validation image that has fixed it, because a model computes in single precision.
    """
    found = [p.log_odds for p in of_class.points if p.aim == "specificity" and p.log_odds is not None]
    return float(sigmoid(found[0])) * (1 - _ROUNDING) if found else 0.5


def _notes(groups: Tensor | None) -> list[str]:
    """What a reader should know of the intervals where images belong together; it is known of training images alone."""
    if groups is None or len(groups.unique()) == len(groups):
        return []
    return [_DEPENDENT]


def _markdown(
    name: str, reports: Mapping[str, ClinicalReport], tests: Mapping[str, Scores], notes: Sequence[str]
) -> list[str]:
    first, *others = reports
    parts = [tables.networks(reports), tables.classes(reports[first]), tables.points(reports[first])]
    lines = [f"# Clinical report: {escaped(name)}", "", NOTICE, *(line for note in notes for line in ("", note))]
    for part in parts:
        lines += ["", f"## {part.title}", "", *markdown_table(part.head, part.rows)]
    if others:
        rows = [(other, _gain(tests[first], tests[other])) for other in others]
        head = (f"{first} less", "difference of the areas (95 % interval)")
        lines += ["", "## Paired comparison of areas on the same test images", "", *markdown_table(head, rows)]
    return lines


def _gain(first: Scores, other: Scores) -> str:
    gain = difference(first, other, first.asked)
    return tables.UNKNOWN if gain is None else str(gain)


def _read(path: Path, names: Collection[str]) -> dict[str, tuple[Scores, Scores]]:
    """The validation and test scores of each network."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            labels = {part: kept[f"{part}/labels"] for part in ("valid", "test")}
            read = {name: [Scores(kept[f"{part}/{name}"], labels[part]) for part in labels] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise InputError(
            f"{path}: is not what this run wrote ({type(error).__name__}); remove it and test.json, and the trained "
            "networks are tested again"
        ) from None
    return {name: (valid, test) for name, (valid, test) in read.items()}
