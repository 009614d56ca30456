"""What a genotype is: supernet-show RUN_DIR|genotype.json|NAME prints its size and draws its cells."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from supernet.runtime.errors import InputError
from supernet.scoring.costs import macs, parameters
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided
from supernet.space.darts import Darts
from supernet.space.drawing import cell_kinds, save_drawings
from supernet.space.published import PUBLISHED
from supernet.training.bundle import NAME, load

from .genotypes import find_genotype


def main() -> None:
    """The console command."""
    parser = argparse.ArgumentParser(
        prog="supernet-show",
        description="Parameters, multiply-adds and pictures of a genotype.",
        epilog=f"Published names: {', '.join(PUBLISHED)}",
    )
    parser.add_argument(
        "genotype", help="a run directory, a genotype.json, a Genotype(...) text file or a published name"
    )
    parser.add_argument("--channels", type=int, help="of the first cell (default 36; 48 with the imagenet stem)")
    parser.add_argument("--cells", type=int, help="default 20; 14 with the imagenet stem")
    parser.add_argument("--classes", type=int, help="default 10; 1000 with the imagenet stem")
    parser.add_argument("--stem", choices=("cifar", "imagenet"), default="cifar")
    parser.add_argument("--output", type=Path, default=Path(), help="directory for genotype.svg, .png and .dot")
    given = parser.parse_args()
    try:
        show(given)
    except InputError as error:
        print(f"supernet-show: {error}", file=sys.stderr)
        sys.exit(2)


def show(given: argparse.Namespace) -> None:
    """Prints and draws."""
    architecture = find_genotype(given.genotype)
    model = Path(given.genotype) / NAME
    sized = any(v is not None for v in (given.channels, given.cells, given.classes)) or given.stem == "imagenet"
    if model.is_file() and not sized:
        predictor = load(model)
        network, shape, what = predictor.network, predictor.shape, f"the trained network in {given.genotype}"
    else:
        network, shape, what = _build(given, architecture)
    print(f"{given.genotype}: {what}, images of {' x '.join(map(str, shape))}")
    print(f"  parameters  {parameters(network):,} (auxiliary head not counted)")
    print(f"  MACs        {macs(network, shape):,} (multiply-adds of convolutions and linear layers, one image)")
    for kind in cell_kinds(architecture):
        print(f"{kind} cell")
        print("\n".join(_nodes(architecture, kind)))
    try:
        given.output.mkdir(parents=True, exist_ok=True)
        drawn = save_drawings(architecture, given.output)
    except OSError as error:
        raise InputError(f"--output {given.output}: cannot be written to ({error.strerror})") from None
    for path in drawn:
        print(f"drawn: {path}")


def _build(given: argparse.Namespace, architecture: Architecture) -> tuple[torch.nn.Module, tuple[int, int, int], str]:
    large = given.stem == "imagenet"
    channels = given.channels or (48 if large else 36)
    cells, classes = given.cells or (14 if large else 20), given.classes or (1000 if large else 10)
    nodes = len({name for name in architecture if name.count("/") == 1 and not name.endswith("output")}) // 2
    shape = (3, 224, 224) if large else (3, 32, 32)
    with torch.device("meta"):
        network = Darts(channels, cells, nodes, stem=given.stem).network(Decided(architecture), shape, classes)
    return network, shape, f"{cells} cells, {channels} channels, {classes} classes, {given.stem} stem"


def _nodes(architecture: Architecture, kind: str) -> list[str]:
    names = ("c(k-2)", "c(k-1)")
    lines = []
    for name in sorted(n for n in architecture if n.startswith(f"{kind}/") and n.count("/") == 1 and "output" not in n):
        node = int(name.split("/")[1])
        terms = [
            f"{operation}({names[int(s)] if int(s) < 2 else int(s) - 2})"
            for s in architecture[name]
            for operation in architecture[f"{name}/{s}"]
        ]
        lines.append(f"  {node - 2} = {' + '.join(terms)}")
    return lines


if __name__ == "__main__":
    main()
