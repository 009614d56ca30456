"""Says what is in pictures with a trained network: supernet-predict RUN_DIR|NAME image.png ..."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from supernet.deployment.answers import Objects
from supernet.deployment.loading import load
from supernet.deployment.results import Result
from supernet.deployment.values import Probabilities
from supernet.runtime.errors import InputError
from supernet.runtime.text import printable

from ..console import Parser, command, say

_MOST_ROWS = 20  # of the table for a picture
_LIKELY = 3  # classes that are shown where nobody says how many


@command("supernet-predict")
def main() -> None:
    """Runs the command `supernet-predict`."""
    given = _parser().parse_args()
    model = load(given.model)
    if given.top is not None and isinstance(model.answer, Objects):
        raise InputError(f"--top {given.top}: is for classes, and this model finds objects; use --max-det {given.top}")
    results = model(
        list(given.images),
        conf=given.conf,
        iou=given.iou,
        max_det=given.max_det,
        classes=_classes(given.classes, model.names),
        skip_unreadable=True,
    )
    saved = _save(results, given.save)
    if given.json:
        print(json.dumps([_plain(result, given.top) for result in results], indent=2))
        return
    Console().print(_table(results, given.top))
    if saved:
        say(f"drawn: {len(saved)} in {given.save}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="supernet-predict", description="What is in pictures: classes with probabilities, or boxes.")
    parser.add_argument(
        "model",
        help="the name of a model that comes with supernet (supernet-zoo lists them), a run directory, its "
        "model.safetensors, or a model.onnx",
    )
    parser.add_argument(
        "images",
        nargs="+",
        help="image files, folders (all images in and below them), patterns, and addresses of http or https",
    )
    parser.add_argument(
        "--top",
        type=int,
        choices=range(1, 6),
        metavar="N",
        help="how many classes: 1 to 5 (default 3; of several labels all that reach their thresholds); objects have "
        "--max-det",
    )
    parser.add_argument(
        "--conf",
        type=float,
        metavar="SHARE",
        help="the least confidence of an object, or the least probability of each of several labels (default: the "
        "model's own); not for a model that says one class",
    )
    parser.add_argument(
        "--iou",
        type=float,
        metavar="SHARE",
        help="by how much two boxes may overlap, of objects (default: the model's own)",
    )
    parser.add_argument("--max-det", type=int, metavar="N", help="objects of a picture at most (default 300)")
    parser.add_argument("--classes", metavar="NAME,...", help="look for objects of these classes, by name, else number")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write the pictures there with what was found")
    parser.add_argument("--json", action="store_true", help="print JSON, one object an image")
    return parser


def _classes(words: str | None, names: Mapping[int, str]) -> list[int | str] | None:
    """What was typed as names and numbers; a class may be called 7."""
    if words is None:
        return None
    known = set(names.values())
    return [int(word) if word.isdecimal() and word not in known else word for word in words.split(",")]


def _plain(result: Result, top: int | None) -> dict[str, Any]:
    if result.probs is None:
        return {"path": result.path, "objects": result.summary()}
    probs, names = result.probs, _distinct(result.names)
    likely = {"classes": {names[number]: float(probs.data[number]) for number in probs.top5[: top or _LIKELY]}}
    if probs.thresholds is None:
        return {"path": result.path, **likely}
    shown = probs.shown[:top]
    about = {"path": result.path, "labels": [_label(result.names[n], n, probs) for n in shown]}
    return {**about, **likely}


def _label(name: str, number: int, probs: Probabilities) -> dict[str, Any]:
    assert probs.thresholds is not None
    least = probs.thresholds[number]
    return {"name": name, "class": number, "confidence": float(probs.data[number]), "threshold": least}


def _distinct(names: Mapping[int, str]) -> dict[int, str]:
    """The names of classes by number; those that several classes share have the number behind them."""
    counts = Counter(names.values())
    told = {number: name if counts[name] == 1 else f"{name} (class {number})" for number, name in names.items()}
    if len(set(told.values())) == len(told):
        return told
    return {number: f"{name} (class {number})" for number, name in names.items()}  # somebody had called one like that


def _table(results: Sequence[Result], top: int | None) -> Table:
    """What is said of all pictures; they come from one model."""
    if results and results[0].boxes is not None:
        return _of_objects(results)
    if results and results[0].probs is not None and results[0].probs.thresholds is not None:
        return _of_labels(results, top)
    return _of_classes(results, top or _LIKELY)


def _of_classes(results: Sequence[Result], top: int) -> Table:
    table = Table("image", *(f"{n + 1}." for n in range(min(top, len(results[0].names) if results else 0))))
    for result in results:
        assert result.probs is not None
        names = _distinct(result.names)
        likely = (f"{printable(names[n])} {float(result.probs.data[n]):.1%}" for n in result.probs.top5[:top])
        table.add_row(*map(Text, (printable(result.path), *likely)))  # as Text: a name in square brackets is no markup
    return table


def _of_labels(results: Iterable[Result], top: int | None) -> Table:
    """The labels that reach their thresholds; where none does, the likeliest one is named as such."""
    table = Table("image", "label", "probability", "threshold")
    for result in results:
        probs, names, image = result.probs, _distinct(result.names), printable(result.path)
        assert probs is not None
        assert probs.thresholds is not None
        present = probs.shown
        shown = present[: top or _MOST_ROWS]
        for number in shown or [probs.top1]:
            name = printable(names[number]) if shown else f"none (likeliest: {printable(names[number])})"
            shares = (f"{share:.1%}" for share in (float(probs.data[number]), probs.thresholds[number]))
            table.add_row(*map(Text, (image, name, *shares)))
            image = ""
        if len(present) > len(shown):
            table.add_row("", f"and {len(present) - len(shown)} more")
    return table


def _of_objects(results: Iterable[Result]) -> Table:
    table = Table("image", "class", "confidence", "left", "top", "right", "bottom")
    for result in results:
        assert result.boxes is not None
        rows, name = result.boxes.data.tolist(), printable(result.path)
        for left, top, right, bottom, sure, kind in rows[:_MOST_ROWS]:
            sides = (f"{side:.0f}" for side in (left, top, right, bottom))
            table.add_row(*map(Text, (name, printable(result.names[int(kind)]), f"{sure:.2f}", *sides)))
            name = ""
        if len(rows) > _MOST_ROWS:
            table.add_row("", f"and {len(rows) - _MOST_ROWS} more")
        if not rows:
            table.add_row(Text(name), "nothing found")
    return table


def _save(results: Sequence[Result], folder: Path | None) -> list[str]:
    """Writes the drawings into a folder, each under a name of its own; nothing that was there is replaced."""
    if folder is None:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--save {folder}: cannot be written to ({error.strerror})") from None
    written = []
    for result in results:
        assert result.picture is not None
        stem, number = Path(result.picture.file_name).stem, 1
        while (path := folder / f"{stem}{'' if number == 1 else f'_{number}'}.png").exists():
            number += 1
        written.append(result.save(path))
    return written


if __name__ == "__main__":
    main()
