"""Classifies images with a trained network: supernet-predict RUN_DIR image.png ..."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from supernet.deployment.loading import load
from supernet.deployment.results import labelled
from supernet.runtime.text import printable

from ..console import Parser, command


@command("supernet-predict")
def main() -> None:
    """Runs the command `supernet-predict`."""
    parser = Parser(prog="supernet-predict", description="Class probabilities of images.")
    parser.add_argument("model", help="a run directory, its model.safetensors, or a model.onnx")
    parser.add_argument("images", nargs="+", help="image files, and folders: all images in and below them")
    parser.add_argument(
        "--top", type=int, default=3, choices=range(1, 6), metavar="N", help="how many classes: 1 to 5 (default 3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object an image")
    given = parser.parse_args()
    results = load(given.model)(list(given.images))
    if given.json:
        print(json.dumps([{"path": r.path, "classes": dict(labelled(r, given.top))} for r in results], indent=2))
        return
    table = Table("image", *(f"{n + 1}." for n in range(min(given.top, 5, len(results[0].names)))))
    for result in results:
        # As Text: a name in square brackets is no markup.
        likely = (f"{printable(name)} {share:.1%}" for name, share in labelled(result, given.top))
        table.add_row(*map(Text, (printable(result.path), *likely)))
    Console().print(table)


if __name__ == "__main__":
    main()
