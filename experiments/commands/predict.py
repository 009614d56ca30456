"""Says what is in pictures with a trained network: supernet-predict RUN_DIR|NAME image.png ..."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from supernet.deployment.loading import load
from supernet.deployment.predictor import Predictor
from supernet.deployment.results import Result, labelled
from supernet.runtime.errors import InputError
from supernet.runtime.text import printable

from ..console import Parser, command, say

_MOST_OBJECTS = 20  # rows of the table for a picture


@command("supernet-predict")
def main() -> None:
    """Runs the command `supernet-predict`."""
    given = _parser().parse_args()
    model = load(given.model)
    of_objects = {"iou": given.iou, "max_det": given.max_det, "classes": _classes(given.classes)}
    settings = {name: value for name, value in of_objects.items() if value is not None}
    if settings and not isinstance(model, Predictor):
        word = next(iter(settings)).replace("_", "-")
        raise InputError(
            f"--{word}: is for objects, and an exported model says how probable each class is; leave it out"
        )
    results = model(list(given.images), conf=given.conf, skip_unreadable=True, **settings)
    saved = _save(results, given.save)
    if given.json:
        print(json.dumps([_plain(result, given.top) for result in results], indent=2))
        return
    if results and results[0].boxes is not None:
        Console().print(_of_objects(results))
    else:
        Console().print(_of_classes(results, given.top))
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
        "--top", type=int, default=3, choices=range(1, 6), metavar="N", help="how many classes: 1 to 5 (default 3)"
    )
    parser.add_argument("--conf", type=float, metavar="SHARE", help="the least confidence (default: the model's own)")
    parser.add_argument(
        "--iou", type=float, metavar="SHARE", help="by how much two boxes may overlap (default: the model's own)"
    )
    parser.add_argument("--max-det", type=int, metavar="N", help="objects of a picture at most (default 300)")
    parser.add_argument("--classes", metavar="NAME,...", help="look for objects of these classes, by name or number")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write the pictures there with what was found")
    parser.add_argument("--json", action="store_true", help="print JSON, one object an image")
    return parser


def _classes(words: str | None) -> list[int | str] | None:
    return None if words is None else [int(word) if word.isdecimal() else word for word in words.split(",")]


def _plain(result: Result, top: int) -> dict[str, Any]:
    if result.boxes is not None:
        return {"path": result.path, "objects": result.summary()}
    return {"path": result.path, "classes": dict(labelled(result, top))}


def _of_classes(results: Sequence[Result], top: int) -> Table:
    table = Table("image", *(f"{n + 1}." for n in range(min(top, 5, len(results[0].names) if results else 0))))
    for result in results:
        # As Text: a name in square brackets is no markup.
        likely = (f"{printable(name)} {share:.1%}" for name, share in labelled(result, top))
        table.add_row(*map(Text, (printable(result.path), *likely)))
    return table


def _of_objects(results: Iterable[Result]) -> Table:
    table = Table("image", "class", "confidence", "left", "top", "right", "bottom")
    for result in results:
        assert result.boxes is not None
        rows, name = result.boxes.data.tolist(), printable(result.path)
        for left, top, right, bottom, sure, kind in rows[:_MOST_OBJECTS]:
            sides = (f"{side:.0f}" for side in (left, top, right, bottom))
            table.add_row(*map(Text, (name, printable(result.names[int(kind)]), f"{sure:.2f}", *sides)))
            name = ""
        if len(rows) > _MOST_OBJECTS:
            table.add_row("", f"and {len(rows) - _MOST_OBJECTS} more")
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
