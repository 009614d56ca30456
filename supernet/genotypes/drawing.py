"""Draws genotypes and architecture weights with Matplotlib (neither the graphviz program nor pyplot is needed)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor

from supernet.genotypes.edge_routing import HEIGHT, Box, Edge, Layout, Route, lay_out
from supernet.runtime.files import replacing, write_whole
from supernet.runtime.text import printable

if TYPE_CHECKING:  # Matplotlib is slow to import; only a drawing itself needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EDGE = re.compile(r"([^/]+)/([0-9]{1,6})/([0-9]{1,6})")
_MOST_NODES, _MOST_EDGES = 64, 200  # of a cell that is drawn: a larger picture cannot be looked at, or even written

# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = {
    "sep": "#0072B2",
    "dil": "#D55E00",
    "conv": "#CC79A7",
    "nor": "#0072B2",
    "max": "#009E73",
    "avg": "#009E73",
    "skip": "#7F7F7F",
    "none": "#BBBBBB",
}
_OTHER = "#E69F00"
_WAY_OUT = "#BBBBBB"


def draw_cell(architecture: Mapping[str, tuple[str, ...]], cell: str) -> Figure:
    """Draws one kind of cell of a genotype as a graph from left to right.

    Inputs are the outputs of the cells before, c(k-2) and c(k-1), or c(k-1) alone; nodes count from 0, as in the
    papers. Edges without an operation ("none") are left out. Where the genotype does not name the nodes that leave
    the cell, they are all nodes of a cell with two inputs (DARTS), and the last node of a cell with one
    (NAS-Bench-201).

    Args:
        architecture: the genotype.
        cell: the kind of cell, such as "normal" or "reduce".

    Returns:
        The figure, which `savefig` writes.

    Example:
        >>> from supernet import published
        >>> figure = draw_cell(published("darts_v2"), "normal")
        >>> [axes.texts[0].get_text() for axes in figure.axes]
        ['normal cell']
    """
    return _draw(architecture, [cell])


def heat_map(edges: Sequence[str], options: Sequence[str], values: Tensor, title: str = "") -> Figure:
    """Draws weights in [0, 1] as colours with their numbers.

    The scale runs from 0 to 1, 1/2, 1/4 and so on: the least of these that holds all weights. So eight undecided
    options show their differences, and the colours of pictures from one search can still be compared.

    Args:
        edges: the names of the rows.
        options: the names of the columns.
        values: (edges, options); NaN stays blank.
        title: the title of the picture.

    Returns:
        The figure, which `savefig` writes.
    """
    figure = _figure(1.8 + 0.62 * len(options), 1.5 + 0.3 * len(edges), layout="constrained")
    axes = figure.add_subplot()
    numbers = values.detach().float().cpu().numpy()
    largest = np.nanmax(numbers, initial=0.0)
    top = min(1.0, 2.0 ** math.ceil(math.log2(largest))) if largest > 0 else 1.0
    image = axes.imshow(np.ma.masked_invalid(numbers), vmin=0.0, vmax=top, cmap="viridis", aspect="auto")
    names = list(map(printable, options))
    axes.set_xticks(range(len(options)), names, rotation=30, ha="right", fontsize=9, parse_math=False)
    axes.set_yticks(range(len(edges)), list(map(printable, edges)), fontsize=9, parse_math=False)
    axes.set_title(printable(title), parse_math=False)
    for (row, column), number in np.ndenumerate(numbers):
        if np.isfinite(number):
            colour = "white" if number < 0.6 * top else "black"
            axes.text(column, row, f"{number:.2f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    return figure


def edge_names(decisions: Sequence[str]) -> list[str]:
    """Names edges as the picture of their cell does.

    Args:
        decisions: the names of decisions, such as "normal/3/0".

    Returns:
        The names in the same order. A name that is not an edge of a cell only loses its kind of cell.

    Example:
        >>> edge_names(["normal/2/0", "normal/3/0", "normal/3/2"])
        ['c(k-2) → 0', 'c(k-2) → 1', '0 → 1']
    """
    asked: dict[str, tuple[str, ...]] = dict.fromkeys(decisions, ())
    cells = cell_kinds(asked)
    names = []
    for decision in decisions:
        kind, _, rest = decision.partition("/")
        match = _EDGE.fullmatch(decision)
        if match and kind in cells:
            inputs, _ = extent(asked, kind)
            rest = f"{state_name(int(match[3]), inputs)} → {state_name(int(match[2]), inputs)}"
        elif match:
            rest = f"{match[3]} → {match[2]}"
        names.append(rest or decision)
    return names


def cell_to_dot(architecture: Mapping[str, tuple[str, ...]], cell: str) -> str:
    """Returns the graph that `draw_cell` draws in the language of graphviz, for people who want to lay it out anew.

    Args:
        architecture: the genotype.
        cell: the kind of cell, such as "normal" or "reduce".

    Example:
        >>> print(cell_to_dot({"cell/1/0": ("nor_conv_3x3",)}, "cell").splitlines()[5])
          s0 -> s1 [label="nor_conv_3x3", color="#0072B2"];
    """
    edges, outputs = _edges(architecture, cell), _outputs(architecture, cell)
    inputs, last = extent(architecture, cell)
    heads = [f'  s{state} [label="{state_name(state, inputs)}"];' for state in range(last + 1)]
    heads.append(f'  s{last + 1} [label="c(k)"];')
    lines = [f'  s{e.source} -> s{e.node} [label={_dot(e.operation)}, color="{_colour(e.operation)}"];' for e in edges]
    lines += [f'  s{node} -> s{last + 1} [color="{_WAY_OUT}"];' for node in outputs]
    return "\n".join([f"digraph {_dot(cell)} {{", "  rankdir=LR;", *heads, *lines, "}"]) + "\n"


def to_dot(architecture: Mapping[str, tuple[str, ...]]) -> str:
    """Returns all cells of a genotype in the language of graphviz, as genotype.dot has them.

    Args:
        architecture: the genotype; cells that `cell_kinds` does not list are left out.
    """
    return "\n".join(cell_to_dot(architecture, cell) for cell in cell_kinds(architecture))


def _dot(text: str) -> str:
    """A text as a string of graphviz's language; no character in it can end the string."""
    return '"' + printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def save_drawings(architecture: Mapping[str, tuple[str, ...]], directory: Path) -> list[Path]:
    """Writes genotype.svg, genotype.png and genotype.dot with all cells of a genotype.

    Args:
        architecture: the genotype.
        directory: where to write; it is made if it is not there.

    Returns:
        The files. There are none where the genotype has no cells, or hundreds of edges, which would take minutes to
        place and could not be told apart.
    """
    cells = cell_kinds(architecture)
    if not cells or max(len(_edges(architecture, cell)) for cell in cells) > _MOST_EDGES:
        return []
    figure = _draw(architecture, cells)
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {kind: directory / f"genotype.{kind}" for kind in ("svg", "png")}
    for kind, path in pictures.items():
        with replacing(path) as file:
            figure.savefig(file, format=kind)
    dot = directory / "genotype.dot"
    write_whole(dot, to_dot(architecture))
    return [*pictures.values(), dot]


def cell_kinds(architecture: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Lists the kinds of cell of a genotype that can be drawn: with one or two inputs, and edges from lower states.

    Args:
        architecture: the genotype.

    Returns:
        Their names, sorted.

    Example:
        >>> from supernet import published
        >>> cell_kinds(published("darts_v2"))
        ['normal', 'reduce']
    """
    sound: dict[str, bool] = {}
    for name in architecture:
        if match := _EDGE.fullmatch(name):
            kind, node, source = match[1], int(match[2]), int(match[3])
            sound[kind] = sound.get(kind, True) and source < node
    return sorted(kind for kind, good in sound.items() if good and _is_drawn(*extent(architecture, kind)))


def _is_drawn(inputs: int, last: int) -> bool:
    return inputs in (1, 2) and last < inputs + _MOST_NODES


def extent(architecture: Mapping[str, tuple[str, ...]], cell: str) -> tuple[int, int]:
    """Returns how many inputs a cell has and the number of its last node; nodes are numbered after the inputs.

    Args:
        architecture: the genotype.
        cell: the kind of cell; for one without edges the answer is (2, 1).
    """
    nodes = [node for _, node, _ in _matches(architecture, cell)]
    return min(nodes, default=2), max(nodes, default=1)


def state_name(state: int, inputs: int) -> str:
    """Names a state of a cell: c(k-2) and c(k-1) for two inputs, c(k-1) for one, then the nodes from 0.

    Args:
        state: its number, from 0; inputs come first.
        inputs: how many inputs the cell has.

    Example:
        >>> [state_name(state, inputs=2) for state in range(4)]
        ['c(k-2)', 'c(k-1)', '0', '1']
    """
    return f"c(k-{inputs - state})" if state < inputs else str(state - inputs)


def _draw(architecture: Mapping[str, tuple[str, ...]], cells: Sequence[str]) -> Figure:
    """The cells one below the other, in a figure whose axes count in inches."""
    layouts = [
        lay_out(_edges(architecture, cell), _outputs(architecture, cell), *extent(architecture, cell)) for cell in cells
    ]
    width = max(layout.width for layout in layouts)
    figure = _figure(width, HEIGHT * len(cells))
    share = 1 / len(cells)
    for number, (cell, layout) in enumerate(zip(cells, layouts, strict=True), start=1):
        axes = figure.add_axes((0, 1 - number * share, layout.width / width, share))
        _paint(axes, layout, cell if cell == "cell" else f"{cell} cell", extent(architecture, cell)[0])
    return figure


def _figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of this size in inches, outside pyplot's list of figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _matches(architecture: Mapping[str, tuple[str, ...]], cell: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """The source, the node and the operations of each edge that the genotype names."""
    matches = ((_EDGE.fullmatch(name), kept) for name, kept in architecture.items())
    return [(int(m[3]), int(m[2]), kept) for m, kept in matches if m and m[1] == cell]


def _edges(architecture: Mapping[str, tuple[str, ...]], cell: str) -> list[Edge]:
    if cell not in cell_kinds(architecture):
        return []
    edges = [Edge(s, n, printable(o)) for s, n, kept in _matches(architecture, cell) for o in kept if o != "none"]
    return sorted(edges, key=lambda e: (e.node, e.source, e.operation))


def _outputs(architecture: Mapping[str, tuple[str, ...]], cell: str) -> list[int]:
    if cell not in cell_kinds(architecture):
        return []
    inputs, last = extent(architecture, cell)
    nodes = sorted({node for _, node, _ in _matches(architecture, cell)})
    usual = [last] if inputs == 1 else nodes
    named = architecture.get(f"{cell}/output", tuple(str(n) for n in usual))
    return [node for node in nodes if str(node) in named]


def _colour(operation: str) -> str:
    return _COLOURS.get(operation.split("_")[0], _OTHER)


def _paint(axes: Axes, layout: Layout, title: str, inputs: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.set(xlim=(0, layout.width), ylim=(0, HEIGHT))
    axes.axis("off")
    axes.text(0.2, HEIGHT - 0.2, printable(title), fontsize=12, va="center", parse_math=False)
    for route in layout.routes:
        _paint_route(axes, route, layout.states[route.edge.node])
    last = max(layout.states) - 1
    for state, box in layout.states.items():
        patch = FancyBboxPatch(
            (box.x - box.width / 2, box.y - box.height / 2),
            box.width,
            box.height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor="#DCEBF7" if inputs <= state <= last else "#FFF3D6",
            edgecolor="#444444",
            zorder=5,
        )
        axes.add_patch(patch)
        axes.text(
            box.x,
            box.y,
            "c(k)" if state > last else state_name(state, inputs),
            ha="center",
            va="center",
            fontsize=10,
            zorder=6,
        )


def _paint_route(axes: Axes, route: Route, target: Box) -> None:
    """The curve with its arrow head at the rim of the target, and the label on it."""
    operation = route.edge.operation
    colour, width = (_colour(operation), 1.8) if operation else (_WAY_OUT, 1.2)
    at, fine = np.arange(len(route.curve)), np.linspace(0, len(route.curve) - 1, 400)
    curve = np.stack([np.interp(fine, at, route.curve[:, axis]) for axis in (0, 1)], axis=1)
    right, up = np.abs(curve - (target.x, target.y)).T
    tip = int(np.argmax((right < target.width / 2 + 0.02) & (up < target.height / 2 + 0.02)))
    before = int(np.argmax(np.linalg.norm(curve - curve[tip], axis=1) < 0.12))
    # The line ends where the head begins, or it would show beside the head's point.
    axes.plot(*curve[: before + 1].T, color=colour, linewidth=width, zorder=2 if operation else 1)
    style = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
    axes.annotate("", curve[tip], curve[before], arrowprops=style, zorder=3)
    if route.label:
        box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
        place = (route.label.x, route.label.y)
        text = axes.text(*place, operation, color=colour, fontsize=8.5, ha="center", va="center", bbox=box, zorder=4)
        text.set_parse_math(False)  # dollar signs in a name are no formula
