"""Shows a genotype: supernet-show RUN_DIR|FILE|NAME prints its size and its cells, or the blocks of a mobile network.

--output FOLDER draws them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from supernet.deployment.bundle import NAME
from supernet.deployment.loading import load_network
from supernet.estimation.costs import macs, parameters
from supernet.genotypes.blocks import block_lines, blocks_of, save_blocks
from supernet.genotypes.drawing import cell_kinds, extent, save_drawings, state_name, to_dot
from supernet.genotypes.literature import NAMES
from supernet.genotypes.lookup import find_genotype
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, is_folder
from supernet.runtime.text import printable, quantity
from supernet.space import Space
from supernet.space.architecture import Architecture, edge_name
from supernet.space.choosers import Decided
from supernet.space.darts import Darts
from supernet.space.mobile import Mobile
from supernet.space.nasbench201 import NasBench201
from supernet.space.published_mobile import MOBILE

from ..console import Parser, command
from ..records.summary import SUMMARY


@command("supernet-show")
def main() -> None:
    """Runs the command `supernet-show`."""
    parser = Parser(
        prog="supernet-show",
        description="Parameters, multiply-adds and pictures of a genotype.",
        epilog=f"Published names: {', '.join(NAMES)}",
    )
    parser.add_argument(
        "genotype",
        help="a run directory; a genotype.json; a file with Genotype(...) in it, such as a log, or FILE:NAME for one "
        "of several; such a text itself; a published name; a cell of NAS-Bench-201",
    )
    parser.add_argument(
        "--channels", type=int, help="of the first cell (default 36; 48 with the imagenet stem; NAS-Bench-201: 16)"
    )
    parser.add_argument("--cells", type=int, help="default 20; 14 with the imagenet stem; NAS-Bench-201: 5")
    parser.add_argument("--classes", type=int, help="default 10; 1000 with the imagenet stem, and of mobile networks")
    parser.add_argument("--stem", choices=("cifar", "imagenet"), default="cifar", help="of cells (default cifar)")
    parser.add_argument("--width", type=float, help="of a mobile network: multiplies channels (default 1)")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="of a mobile network: default 224")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="draw genotype.svg, .png and .dot there (default: draw nothing)"
    )
    show(parser.parse_args())


def show(given: argparse.Namespace) -> None:
    """Prints and, with an output, draws."""
    architecture = find_genotype(given.genotype)
    run = Path(given.genotype) if is_folder(given.genotype) else None
    settings = (given.channels, given.cells, given.classes, given.width, given.image_size)
    sized = any(v is not None for v in settings) or given.stem == "imagenet"
    network: torch.nn.Module | None = None
    if run and is_file(run / NAME) and not sized:
        predictor = load_network(run / NAME)
        network, shape, what = predictor.network, predictor.shape, f"the trained network in {given.genotype}"
        costs = parameters(network), macs(network, shape)
    elif run and not sized and (recorded := _recorded(run)) is not None:
        shape, costs = recorded
        what = f"the cell that {given.genotype} found, its network not trained"
    else:
        network, shape, what = _build(given, architecture)
        costs = parameters(network), macs(network, shape)
    cells = [line for kind in cell_kinds(architecture) for line in _cell(architecture, kind)]
    print(printable(f"{_short(given.genotype)}: {what}, images of {' x '.join(map(str, shape))}"))
    print(f"  parameters  {costs[0]:,} (auxiliary head not counted)")
    print(f"  MACs        {costs[1]:,} (multiply-adds of convolutions and linear layers, one image)")
    blocks = [] if network is None else blocks_of(network)
    for line in [*cells, *block_lines(blocks)]:
        print(printable(line))
    if given.output is not None:
        _draw(architecture, network, given.output)
    elif cells or blocks:
        print(f"--output FOLDER draws this (svg, png{', dot' if cells else ''})")


def _draw(architecture: Architecture, network: torch.nn.Module | None, folder: Path) -> None:
    """Draws into a folder; over older drawings there only if they are of the same cells."""
    earlier = folder / "genotype.dot"
    try:
        mobile = network is not None and bool(blocks_of(network))
        if mobile and is_file(folder / "genotype.svg"):
            raise InputError(f"--output {folder}: has a drawing already; give another folder")
        if is_file(earlier) and earlier.read_text(encoding="utf-8", errors="replace") != to_dot(architecture):
            raise InputError(f"--output {folder}: has the drawing of another genotype; give another folder")
        drawn = save_blocks(network, folder) if mobile and network is not None else save_drawings(architecture, folder)
    except OSError as error:
        raise InputError(f"--output {folder}: cannot be written to ({error.strerror})") from None
    _say_drawn(drawn)


def _say_drawn(files: Sequence[Path]) -> None:
    for path in files:
        print(printable(f"drawn: {path}"))
    if not files:
        print("not drawn: no cells or blocks, or too many for a picture")


def _short(name: str) -> str:
    """Shortens the argument to one line for messages: a genotype pasted into the command is long."""
    line = " ".join(name.split())
    return line if len(line) <= 120 else f"{line[:117]}..."


def _recorded(run: Path) -> tuple[tuple[int, int, int], tuple[int, int]] | None:
    """The shape of the images and the found network's costs from the summary of a run that trained nothing."""
    try:
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
        found = summary["finalists"][0]
        channels, height, width = map(int, summary["images"])
        return (channels, height, width), (int(found["parameters"]), int(found["macs"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError):
        return None  # no run, or not a finished one: the genotype alone has to do


def _build(given: argparse.Namespace, architecture: Architecture) -> tuple[torch.nn.Module, tuple[int, int, int], str]:
    if architecture.space == Mobile.name:
        return _mobile(given, architecture)
    if given.width is not None or given.image_size is not None:
        raise InputError(f"--width, --image-size: {_short(given.genotype)} is a cell, which has --channels and --cells")
    if architecture.space not in _SIZED:
        raise InputError(
            f"{_short(given.genotype)}: of space {architecture.space!r}, whose sizes are not known here; known: "
            f"{', '.join(_SIZED)}; show the directory of a run, which holds the network"
        )
    large = given.stem == "imagenet"
    kinds = cell_kinds(architecture)
    if not kinds:
        raise InputError(f"{_short(given.genotype)}: describes no cell of space {architecture.space!r}")
    nodes = max(extent(architecture, kind)[1] - extent(architecture, kind)[0] + 1 for kind in kinds)
    space, what = _SIZED[architecture.space](given, nodes)
    classes, shape = given.classes or (1000 if large else 10), (3, 224, 224) if large else (3, 32, 32)
    network = space.network(Decided(architecture), shape, classes)
    return network, shape, f"{what}, {quantity(classes, 'class')}"


def _mobile(given: argparse.Namespace, architecture: Architecture) -> tuple[torch.nn.Module, tuple[int, int, int], str]:
    if given.genotype.lower() not in MOBILE:
        raise InputError(
            f"{_short(given.genotype)}: of space 'mobile', whose sizes are not in a genotype; known: "
            f"{', '.join(MOBILE)}; show the directory of a run, which holds the network"
        )
    if given.channels is not None or given.cells is not None or given.stem != "cifar":
        raise InputError("--channels, --cells, --stem: are of cells; a mobile network has --width and --image-size")
    known, side, classes = MOBILE[given.genotype.lower()], given.image_size or 224, given.classes or 1000
    width = 1.0 if given.width is None else given.width
    space = known.space(width=width, image_size=side)
    network = space.network(Decided(known.architecture(width=width)), (3, side, side), classes)
    return network, (3, side, side), f"width {width:g}, {quantity(classes, 'class')}"


def _darts(given: argparse.Namespace, nodes: int) -> tuple[Space, str]:
    large = given.stem == "imagenet"
    channels, cells = given.channels or (48 if large else 36), given.cells or (14 if large else 20)
    what = f"{quantity(cells, 'cell')}, {quantity(channels, 'channel')}, {given.stem} stem"
    return Darts(channels, cells, nodes, stem=given.stem), what


def _nasbench201(given: argparse.Namespace, nodes: int) -> tuple[Space, str]:
    if given.stem != "cifar":
        raise InputError(f"--stem {given.stem}: NAS-Bench-201 has no other stem than cifar")
    space = NasBench201(given.channels or 16, given.cells or 5, nodes=nodes)
    stages, cells = quantity(space.stages, "stage"), quantity(space.cells, "cell")
    return space, f"{stages} of {cells}, {quantity(space.channels, 'channel')}"


_SIZED: dict[str, Callable[[argparse.Namespace, int], tuple[Space, str]]] = {
    Darts.name: _darts,
    NasBench201.name: _nasbench201,
}
"""Space -> the settings with which a bare genotype of it is shown."""


def _cell(architecture: Architecture, kind: str) -> list[str]:
    """Lists what each node of a kind of cell adds up."""
    inputs, last = extent(architecture, kind)
    lines = [kind if kind == "cell" else f"{kind} cell"]
    for node in range(inputs, last + 1):
        name = f"{kind}/{node}"
        terms = [
            f"{operation}({state_name(int(source), inputs) if source.isdecimal() else source})"
            for source in architecture.get(name, ())
            for operation in architecture.get(edge_name(name, source), ("nothing",))
        ]
        lines.append(f"  {node - inputs} = {' + '.join(terms)}")
    return lines


if __name__ == "__main__":
    main()
