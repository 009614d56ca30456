"""Whether our average precision is faster than the reference library's: synthetic pictures, both in one run, in turns.

The pictures are like those of COCO: some 7 truths of 80 classes each, of which one in a hundred is a crowd, and up to
100 detections, half of which lie near a truth. Reading files and printing are not timed. All twelve figures of the
summary are compared, too.

    python -m experiments.benchmarks.detection_map                                     # a minute
    python -m experiments.benchmarks.detection_map --images 500 --classes 3 --truths 20
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.benchmarks.setting import machine, write
from supernet.detection.average_precision import average_precision
from supernet.detection.decoding import Detections
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator

_STREAM = 0xDE7A
_SIDE = 640.0


def pictures(count: int, classes: int, truths: int, found: int, seed: int) -> tuple[list[Detections], list[Tensor]]:
    """Draws detections and truths.

    Args:
        count: of the pictures.
        classes: how many there are.
        truths: of a picture in the mean; from none to twice as many.
        found: detections of a picture in the mean; from none to twice as many.
        seed: of the draw.

    Returns:
        The detections and the truths (M, 7) of each picture.
    """
    draw = generator(seed, _STREAM)
    detections, there = [], []
    for _ in range(count):
        own = int(torch.randint(2 * truths + 1, (), generator=draw))
        corner = torch.rand(own, 2, generator=draw) * _SIDE * 0.8
        size = torch.rand(own, 2, generator=draw) ** 2 * _SIDE * 0.4 + 4
        kind = torch.randint(classes, (own, 1), generator=draw).float()
        crowd = (torch.rand(own, 1, generator=draw) < 0.01).float()
        rows = torch.cat((kind, corner, corner + size, crowd, size.prod(1, keepdim=True)), 1)
        there.append(rows)
        detections.append(_near(rows, int(torch.randint(2 * found + 1, (), generator=draw)), classes, draw))
    return detections, there


def _near(rows: Tensor, count: int, classes: int, draw: torch.Generator) -> Detections:
    """Detections, half of them copies of truths whose sides are moved by a tenth; the surer, the less they are."""
    corner = torch.rand(count, 2, generator=draw) * _SIDE * 0.8
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=draw) * _SIDE * 0.2 + 4), 1)
    kinds = torch.randint(classes, (count,), generator=draw)
    scores = torch.rand(count, generator=draw)
    if len(rows):
        source = rows[torch.randint(len(rows), (count // 2,), generator=draw)]
        sides = (source[:, 3:5] - source[:, 1:3]).repeat(1, 2)
        moved = torch.randn(len(source), 4, generator=draw) * (1 - scores[: count // 2, None]) * 0.15
        boxes[: count // 2] = source[:, 1:5] + sides * moved
        boxes[: count // 2, 2:] = torch.maximum(boxes[: count // 2, 2:], boxes[: count // 2, :2] + 1)
        kinds[: count // 2] = source[:, 0].long()
    return Detections(boxes, scores, kinds)


def reference(detections: list[Detections], truths: list[Tensor], classes: int) -> Any:
    """Makes what pycocotools needs, and a function that judges by it: what is timed.

    Returns:
        The function, which gives the twelve figures.

    Raises:
        InputError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise InputError("pycocotools is not there; pip install pycocotools") from None
    annotations: list[dict[str, Any]] = []
    for image, rows in enumerate(truths):
        for kind, left, top, right, bottom, crowd, area in rows.double().tolist():
            box = {"bbox": [left, top, right - left, bottom - top], "area": area, "iscrowd": int(crowd)}
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": int(kind), **box})
    found = []
    for image, each in enumerate(detections):
        boxes = each.boxes.double()
        sides = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2], each.scores.double()[:, None]), 1)
        numbers = torch.full((len(each), 1), float(image), dtype=torch.float64)
        found.append(torch.cat((numbers, sides, each.classes.double()[:, None]), 1))
    known = COCO()
    known.dataset = {
        "images": [{"id": image} for image in range(len(truths))],
        "annotations": annotations,
        "categories": [{"id": kind} for kind in range(classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        known.createIndex()
        results = known.loadRes(torch.cat(found).numpy())

    def judge() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            judged = COCOeval(known, results, "bbox")
            judged.evaluate()
            judged.accumulate()
            judged.summarize()
        return [float(figure) for figure in judged.stats]

    return judge


def compared(images: int, classes: int, truths: int, found: int, repeats: int, seed: int) -> dict[str, Any]:
    """Times both in turns.

    Returns:
        The seconds of each, their ratio (of the medians), the figures, and by how much these differ at most.
    """
    detections, there = pictures(images, classes, truths, found, seed)
    judge = reference(detections, there, classes)
    seconds: dict[str, list[float]] = {"ours": [], "pycocotools": []}
    for _ in range(repeats):
        began = time.perf_counter()
        ours = average_precision(detections, there, classes).summary()
        seconds["ours"].append(time.perf_counter() - began)
        began = time.perf_counter()
        theirs = judge()
        seconds["pycocotools"].append(time.perf_counter() - began)
    ratio = float(np.median(seconds["pycocotools"]) / np.median(seconds["ours"]))
    difference = float(np.abs(np.nan_to_num(ours, nan=-1.0) - np.array(theirs)).max())
    return {"seconds": seconds, "ratio": ratio, "figures": ours, "largest_difference": difference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--truths", type=int, default=7, help="of a picture, in the mean")
    parser.add_argument("--found", type=int, default=50, help="detections of a picture, in the mean")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/detection_map.json"))
    arguments = parser.parse_args()
    settings = {name: value for name, value in vars(arguments).items() if name != "output"}
    record = {"setting": settings, "machine": machine(torch.device("cpu")), **compared(**settings)}
    write(arguments.output, record)
    ours, theirs = (np.median(record["seconds"][name]) for name in ("ours", "pycocotools"))
    print(f"ours {ours:.2f} s, pycocotools {theirs:.2f} s: {record['ratio']:.1f} times as fast")
    print(f"mAP {record['figures'][0]:.4f}; all twelve figures agree to {record['largest_difference']:.1e}")


if __name__ == "__main__":
    main()
