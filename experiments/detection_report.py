"""The report of a run that learnt to find objects: three files named detection, and pictures in TensorBoard.

All networks are judged on the validation and the test images in the same way. The confidence with the best F1 on the
validation images is the one above which objects are drawn.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from supernet.data.batches import Source, evaluation_batches
from supernet.data.targets import CLASS, CORNERS, IGNORED
from supernet.deployment.answers import Answer, Objects
from supernet.deployment.drawing import Drawn, draw_boxes
from supernet.detection.average_precision import RANGES, AveragePrecision
from supernet.detection.decoding import Detections, decode
from supernet.execution.modes import evaluating
from supernet.runtime.errors import InputError
from supernet.runtime.files import write_whole
from supernet.runtime.text import printable
from supernet.training.tasks.detection import Detection

from .clinical_report import validation
from .detection_page import Curve, Table, page
from .job import Job
from .records.markdown import escaped, markdown_table, number
from .records.summary import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JSON, MARKDOWN, PAGE = "detection.json", "detection.md", "detection.html"
_PICTURES = 6  # of each part that are drawn
_UNKNOWN = 0.25  # the confidence of a class whose best one is not known
_LEAST = 0.05  # the least confidence with which anything is drawn
_OVERLAP = 0.6
_SHOWN_HEIGHT = 192  # pixels at least of a picture that is drawn

Judged = Mapping[str, Mapping[str, AveragePrecision]]
"""The figures of each network on each part."""


def write_report(job: Job, networks: Mapping[str, nn.Module], test: Source) -> None:
    """Judges all networks on the validation and the test images and writes what came out. Nothing for other tasks.

    Args:
        job: the run.
        networks: by name, the searched one first.
        test: the test images, which were opened once for this and for the scores.
    """
    if not isinstance(job.task, Detection):
        return
    valid = validation(job)
    parts = {"test": test} if valid is None else {"validation": valid.to(job.device), "test": test}
    judged = {
        name: {part: _judged(job, job.task, network, source) for part, source in parts.items()}
        for name, network in networks.items()
    }
    first = next(iter(networks))
    confidences = _confidences(judged[first]["validation" if valid is not None else "test"])
    pictures = {part: _pictures(job, networks[first], source, confidences) for part, source in parts.items()}
    _show(job, pictures)
    classes = job.data.classes
    write_json(
        job.directory / JSON,
        {name: {part: plain(figures, classes) for part, figures in own.items()} for name, own in judged.items()},
    )
    write_whole(job.directory / MARKDOWN, "\n".join(_markdown(job.data.name, judged, classes)) + "\n")
    write_whole(job.directory / PAGE, _page(job, judged, pictures))


def kept(job: Job, name: str) -> dict[str, Any]:
    """The figures of a network that the run has written, by part; nothing for other tasks."""
    if not isinstance(job.task, Detection) or not (job.directory / JSON).exists():
        return {}
    try:
        read: dict[str, Any] = json.loads((job.directory / JSON).read_text(encoding="utf-8"))[name]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{job.directory / JSON}: is not what this run wrote; remove it and test.json") from None
    return read


def confident(answer: Answer, figures: Mapping[str, Any], classes: Sequence[str]) -> Answer:
    """A detector's answer that shows objects from the confidence on that had the best F1 on the validation images.

    Args:
        answer: of the task.
        figures: those of the network, as `kept` gives them.
        classes: the names.

    Returns:
        The answer; the same one where it is of another task, or there were no validation images.
    """
    if not isinstance(answer, Objects) or "validation" not in figures:
        return answer
    own = figures["validation"]["classes"]
    best = (own[name]["confidence"] for name in classes)
    return replace(answer, conf=tuple(_UNKNOWN if c is None else max(float(c), _LEAST) for c in best))


def plain(judged: AveragePrecision, classes: Sequence[str]) -> dict[str, Any]:
    """The figures of one network on one part as plain values, for JSON; null where nothing was there to be found.

    Args:
        judged: the figures.
        classes: the names.

    Returns:
        The means over the classes, and for each class its own figures.
    """
    means = {"map50_95": judged.map50_95, "map50": judged.map50, "map75": judged.map75}
    means |= {name: judged.of_range(name) for name in list(RANGES)[1:]}
    means |= {f"recall_{most}": judged.recall_of(most=most) for most in (1, 10, 100)}
    own = {
        name: {
            "truths": int(judged.truths[place]),
            "ap50_95": _known(judged.of_classes[place][0]),
            "ap50": _known(judged.of_classes[place][1]),
            **dict(zip(("precision", "recall", "confidence"), map(_known, judged.best[place]), strict=True)),
        }
        for place, name in enumerate(classes)
    }
    return {**{name: _known(value) for name, value in means.items()}, "classes": own}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _batches(job: Job, source: Source) -> Any:
    assert job.retrain_recipe is not None
    return evaluation_batches(source, job.retrain_recipe.batch_size, job.data.augmentation, job.device)


def _judged(job: Job, task: Detection, network: nn.Module, source: Source) -> AveragePrecision:
    with evaluating(network), torch.inference_mode():
        return task.judged([task.tally(network(task.inputs(batch)), batch) for batch in _batches(job, source)])


def _confidences(judged: AveragePrecision) -> list[float]:
    """For each class the confidence with the best F1; a quarter where it is not known."""
    return [_UNKNOWN if math.isnan(best) else max(float(best), _LEAST) for best in judged.best[:, 2]]


def _pictures(job: Job, network: nn.Module, source: Source, confidences: Sequence[float]) -> np.ndarray:
    """A sheet of evenly spread images: what is there on the left, what was found on the right of each."""
    places = torch.linspace(0, len(source) - 1, min(len(source), _PICTURES)).round().long().unique()
    shown = source.subset(places)
    height, width = shown.shape[1:]
    found: list[Detections] = []
    with evaluating(network), torch.inference_mode():
        for batch in _batches(job, shown):
            output = network(job.task.inputs(batch))
            found += decode(output, conf=min(confidences), iou=_OVERLAP, size=(height, width))
    images, times = shown.raw(torch.arange(len(shown))).cpu(), max(1, round(_SHOWN_HEIGHT / height))
    pairs = []
    for image, truth, each in zip(images, shown.labels, found, strict=True):
        pixels = image.expand(3, -1, -1).permute(1, 2, 0).repeat_interleave(times, 0).repeat_interleave(times, 1)
        kept = each.to("cpu")[each.scores.cpu() >= torch.tensor(confidences)[each.classes.cpu()]]
        sides = _there(truth, job.data.classes, times), _found(kept, job.data.classes, times)
        pairs.append(np.concatenate([draw_boxes(pixels.numpy(), boxes) for boxes in sides], 1))
    return _sheet(pairs)


def _there(truth: Tensor, classes: Sequence[str], times: int) -> list[Drawn]:
    rows = truth[truth[:, CLASS] >= 0]
    names = [classes[int(row[CLASS])] + " (ignored)" * bool(row[IGNORED]) for row in rows]
    return [_drawn(row[CORNERS], name, int(row[CLASS]), times) for row, name in zip(rows, names, strict=True)]


def _found(found: Detections, classes: Sequence[str], times: int) -> list[Drawn]:
    rows = zip(found.boxes, found.scores.tolist(), found.classes.tolist(), strict=True)
    return [_drawn(box, f"{classes[number]} {score:.2f}", number, times) for box, score, number in rows]


def _drawn(box: Tensor, label: str, number: int, times: int) -> Drawn:
    x1, y1, x2, y2 = (box * times).tolist()
    return Drawn((x1, y1, x2, y2), printable(label), number)


def _sheet(pairs: Sequence[np.ndarray]) -> np.ndarray:
    """Two pairs in a row, with white between them."""
    height, width, _ = pairs[0].shape
    rows = -(-len(pairs) // 2)
    sheet = np.full((rows * (height + 8), 2 * width + 8, 3), 255, np.uint8)
    for place, pair in enumerate(pairs):
        top, left = place // 2 * (height + 8), place % 2 * (width + 8)
        sheet[top : top + height, left : left + width] = pair
    return sheet


def _show(job: Job, pictures: Mapping[str, np.ndarray]) -> None:
    """Sends the sheets to TensorBoard, as images of the retraining."""
    assert job.retrain_recipe is not None
    report = job.run("retrain").report
    for part, sheet in pictures.items():
        report.figure(f"detection/{part} (there, found)", partial(_figure, sheet), job.retrain_recipe.epochs)
    report.close()


def _figure(sheet: np.ndarray) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(sheet.shape[1] / 100, sheet.shape[0] / 100), dpi=100)
    figure.figimage(sheet)
    return figure


def _markdown(name: str, judged: Judged, classes: Sequence[str]) -> list[str]:
    lines = [f"# Detection: {escaped(name)}", ""]
    lines += [
        "mAP is the mean over classes and overlaps from .50 to .95 (COCO), mAP50 and mAP75 that of one overlap; small,",
        "medium and large are objects of less than 32 x 32, less than 96 x 96, and more pixels of the original.",
    ]
    for part in next(iter(judged.values())):
        rows = [[name, *_means(own[part])] for name, own in judged.items()]
        lines += ["", f"## {part.capitalize()}", "", *markdown_table(("network", *_MEANS), rows)]
        for network, own in judged.items():
            made = _rows(own[part], classes)
            lines += ["", f"### {escaped(network.capitalize())}", "", *markdown_table(_CLASS_HEAD, made)]
    lines += [
        "",
        "Precision, recall and confidence are those with the best F1 of the part itself, at an overlap of .50.",
    ]
    return lines


_MEANS = ("mAP", "mAP50", "mAP75", "small", "medium", "large", "recall (100)")
_CLASS_HEAD = ("class", "objects", "AP", "AP50", "precision", "recall", "confidence")


def _means(judged: AveragePrecision) -> list[str]:
    sizes = [judged.of_range(name) for name in list(RANGES)[1:]]
    figures = [judged.map50_95, judged.map50, judged.map75, *sizes, judged.recall_of(most=100)]
    return [number(_known(value), 3) for value in figures]


def _rows(judged: AveragePrecision, classes: Sequence[str]) -> list[list[str]]:
    return [
        [
            name,
            f"{int(judged.truths[place]):,}",
            *(number(_known(value), 3) for value in (*judged.of_classes[place], *judged.best[place])),
        ]
        for place, name in enumerate(classes)
    ]


def _page(job: Job, judged: Judged, pictures: Mapping[str, np.ndarray]) -> str:
    """The page: tables, curves of the test images, and the sheets."""
    classes = job.data.classes
    tables: list[Table] = []
    for part in pictures:
        rows = [[name, *_means(own[part])] for name, own in judged.items()]
        tables.append((f"{part.capitalize()}, all classes", ("network", *_MEANS), rows))
    first = next(iter(judged))
    tables.append((f"Test, {first}", _CLASS_HEAD, _rows(judged[first]["test"], classes)))
    curves = {
        each: [Curve(name, own["test"].curves[place], own["test"].of_classes[place][1]) for name, own in judged.items()]
        for place, each in enumerate(classes)
    }
    sheets = {f"{part.capitalize()}: there (left), found (right)": _encoded(sheet) for part, sheet in pictures.items()}
    return page(f"{job.data.name}, seed {job.seed}: detection", tables, curves, sheets)


def _encoded(sheet: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "JPEG", quality=85)
    return base64.b64encode(file.getvalue()).decode()
