"""What a genotype is: supernet-show RUN_DIR|genotype.json|NAME prints its size and draws its cells."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from supernet.runtime.errors import InputError
from supernet.scoring.costs import macs, parameters
from supernet.space import Space
from supernet.space.architecture import Architecture, edge_name
from supernet.space.choosers import Decided
from supernet.space.darts import Darts
from supernet.space.drawing import cell_kinds, extent, save_drawings, state_name
from supernet.space.nasbench201 import NasBench201
from supernet.space.published import PUBLISHED
from supernet.training.bundle import NAME, load

from .genotypes import find_genotype
from .resume import SUMMARY


def main() -> None:
    """The console command."""
    parser = argparse.ArgumentParser(
        prog="supernet-show",
        description="Parameters, multiply-adds and pictures of a genotype.",
        epilog=f"Published names: {', '.join(PUBLISHED)}",
    )
    parser.add_argument(
        "genotype",
        help="a run directory, a genotype.json, a Genotype(...) text file, a published name or a NAS-Bench-201 string",
    )
    parser.add_argument(
        "--channels", type=int, help="of the first cell (default 36; 48 with the imagenet stem; NAS-Bench-201: 16)"
    )
    parser.add_argument("--cells", type=int, help="default 20; 14 with the imagenet stem; NAS-Bench-201: 5")
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
        shape, what = predictor.shape, f"the trained network in {given.genotype}"
        costs = parameters(predictor.network), macs(predictor.network, shape)
    elif not sized and (recorded := _recorded(Path(given.genotype))) is not None:
        shape, costs = recorded
        what = f"the cell that {given.genotype} found, its network not trained"
    else:
        network, shape, what = _build(given, architecture)
        costs = parameters(network), macs(network, shape)
    print(f"{given.genotype}: {what}, images of {' x '.join(map(str, shape))}")
    print(f"  parameters  {costs[0]:,} (auxiliary head not counted)")
    print(f"  MACs        {costs[1]:,} (multiply-adds of convolutions and linear layers, one image)")
    for kind in cell_kinds(architecture):
        print(kind if kind == "cell" else f"{kind} cell")
        print("\n".join(_nodes(architecture, kind)))
    try:
        given.output.mkdir(parents=True, exist_ok=True)
        drawn = save_drawings(architecture, given.output)
    except OSError as error:
        raise InputError(f"--output {given.output}: cannot be written to ({error.strerror})") from None
    for path in drawn:
        print(f"drawn: {path}")


def _recorded(run: Path) -> tuple[tuple[int, int, int], tuple[int, int]] | None:
    """The shape of the images and the found network's costs from the summary of a run that trained nothing."""
    try:
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
        found = summary["finalists"][0]
        channels, height, width = map(int, summary["images"])
        return (channels, height, width), (int(found["parameters"]), int(found["macs"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None  # no run, or not a finished one: the genotype alone has to do


def _build(given: argparse.Namespace, architecture: Architecture) -> tuple[torch.nn.Module, tuple[int, int, int], str]:
    if architecture.space not in _SIZED:
        raise InputError(
            f"{given.genotype}: of space {architecture.space!r}, whose sizes are not known here; known: "
            f"{', '.join(_SIZED)}; show the directory of a run, which holds the network"
        )
    large = given.stem == "imagenet"
    nodes = max(extent(architecture, kind)[1] - extent(architecture, kind)[0] + 1 for kind in cell_kinds(architecture))
    space, what = _SIZED[architecture.space](given, nodes)
    classes, shape = given.classes or (1000 if large else 10), (3, 224, 224) if large else (3, 32, 32)
    network = space.network(Decided(architecture), shape, classes)
    return network, shape, f"{what}, {classes} classes"


def _darts(given: argparse.Namespace, nodes: int) -> tuple[Space, str]:
    large = given.stem == "imagenet"
    channels, cells = given.channels or (48 if large else 36), given.cells or (14 if large else 20)
    return Darts(channels, cells, nodes, stem=given.stem), f"{cells} cells, {channels} channels, {given.stem} stem"


def _nasbench201(given: argparse.Namespace, nodes: int) -> tuple[Space, str]:
    if given.stem != "cifar":
        raise InputError(f"--stem {given.stem}: NAS-Bench-201 has no other stem than cifar")
    space = NasBench201(given.channels or 16, given.cells or 5, nodes=nodes)
    return space, f"{space.stages} stages of {space.cells} cells, {space.channels} channels"


_SIZED: dict[str, Callable[[argparse.Namespace, int], tuple[Space, str]]] = {
    Darts.name: _darts,
    NasBench201.name: _nasbench201,
}
"""Space -> the settings with which a bare genotype of it is shown."""


def _nodes(architecture: Architecture, kind: str) -> list[str]:
    inputs, last = extent(architecture, kind)
    lines = []
    for node in range(inputs, last + 1):
        name = f"{kind}/{node}"
        terms = [
            f"{operation}({state_name(int(source), inputs)})"
            for source in architecture.get(name, ())
            for operation in architecture[edge_name(name, source)]
        ]
        lines.append(f"  {node - inputs} = {' + '.join(terms)}")
    return lines


if __name__ == "__main__":
    main()
