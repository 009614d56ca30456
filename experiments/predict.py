"""What a trained network says of images: supernet-predict RUN_DIR image.png ..."""

from __future__ import annotations

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table

from supernet.runtime.errors import InputError
from supernet.training.bundle import load
from supernet.training.predictor import labelled


def main() -> None:
    """The console command."""
    parser = argparse.ArgumentParser(prog="supernet-predict", description="Class probabilities of images.")
    parser.add_argument("model", help="a run directory or its model.safetensors")
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument(
        "--top", type=int, default=3, choices=range(1, 6), metavar="N", help="how many classes: 1 to 5 (default 3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object an image")
    given = parser.parse_args()
    try:
        results = load(given.model)(list(given.images))
    except InputError as error:
        print(f"supernet-predict: {error}", file=sys.stderr)
        sys.exit(2)
    if given.json:
        print(json.dumps([{"path": r.path, "classes": dict(labelled(r, given.top))} for r in results], indent=2))
        return
    table = Table("image", *(f"{n + 1}." for n in range(min(given.top, 5, len(results[0].names)))))
    for result in results:
        table.add_row(str(result.path), *(f"{name} {share:.1%}" for name, share in labelled(result, given.top)))
    Console().print(table)


if __name__ == "__main__":
    main()
