"""Pictures of a genotype and of architecture weights, with matplotlib alone (no graphviz program, no pyplot)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = {
    "sep": "#0072B2",
    "dil": "#D55E00",
    "conv": "#CC79A7",
    "max": "#009E73",
    "avg": "#009E73",
    "skip": "#7F7F7F",
    "none": "#BBBBBB",
}
_OTHER = "#E69F00"
_LABEL_WIDTH, _LABEL_HEIGHT = 0.062, 0.17  # of a letter and of a line, in the units of the drawing


@dataclass(frozen=True)
class _Edge:
    source: int
    node: int
    operation: str


def draw_cell(architecture: Mapping[str, tuple[str, ...]], cell: str) -> Figure:
    """Draws one kind of cell ("normal", "reduce") of a genotype as a graph from left to right.

    The two inputs are the outputs of the cells before, c(k-2) and c(k-1); nodes count from 0, as in the papers.
    """
    figure = Figure(figsize=(11, 4.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    _draw(figure.add_subplot(), architecture, cell)
    return figure


def heat_map(edges: Sequence[str], options: Sequence[str], values: Tensor, title: str = "") -> Figure:
    """Draws weights (edges, options) in [0, 1] as annotated colours on a fixed scale; NaN stays blank."""
    figure = Figure(figsize=(1.6 + 0.9 * len(options), 1.5 + 0.34 * len(edges)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    numbers = values.detach().float().cpu().numpy()
    image = axes.imshow(np.ma.masked_invalid(numbers), vmin=0.0, vmax=1.0, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(options)), options, rotation=30, ha="right", fontsize=9)
    axes.set_yticks(range(len(edges)), edges, fontsize=9)
    axes.set_title(title)
    for (row, column), number in np.ndenumerate(numbers):
        if np.isfinite(number):
            colour = "white" if number < 0.6 else "black"
            axes.text(column, row, f"{number:.2f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    return figure


def cell_to_dot(architecture: Mapping[str, tuple[str, ...]], cell: str) -> str:
    """The same graph in the language of graphviz."""
    edges, outputs = list(_edges(architecture, cell)), _outputs(architecture, cell)
    lines = [f'  s{e.source} -> s{e.node} [label="{e.operation}", color="{_colour(e.operation)}"];' for e in edges]
    lines += [f"  s{node} -> out;" for node in outputs]
    names = {state: _name(state) for e in edges for state in (e.source, e.node)} | {n: _name(n) for n in outputs}
    heads = [f'  s{state} [label="{name}"];' for state, name in sorted(names.items())]
    return "\n".join([f"digraph {cell} {{", "  rankdir=LR;", *heads, '  out [label="c(k)"];', *lines, "}"]) + "\n"


def save_drawings(architecture: Mapping[str, tuple[str, ...]], directory: Path) -> list[Path]:
    """Writes genotype.svg, .png and .dot with all cells of the genotype; nothing where it has no cells."""
    cells = cell_kinds(architecture)
    if not cells:
        return []
    figure = Figure(figsize=(11, 4.2 * len(cells)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, cell in zip(figure.subplots(len(cells), squeeze=False)[:, 0], cells, strict=True):
        _draw(axes, architecture, cell)
    paths = [directory / f"genotype.{kind}" for kind in ("svg", "png", "dot")]
    figure.savefig(paths[0])
    figure.savefig(paths[1])
    paths[2].write_text("\n".join(cell_to_dot(architecture, cell) for cell in cells), encoding="utf-8")
    return paths


def cell_kinds(architecture: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The kinds of cell a genotype describes by nodes and edges ("normal", "reduce")."""
    edges = (re.fullmatch(r"([^/]+)/\d+/\d+", name) for name in architecture)
    return sorted({match[1] for match in edges if match})


def _edges(architecture: Mapping[str, tuple[str, ...]], cell: str) -> Iterator[_Edge]:
    for name, kept in sorted(architecture.items()):
        if match := re.fullmatch(rf"{re.escape(cell)}/(\d+)/(\d+)", name):
            for operation in kept:
                yield _Edge(int(match[2]), int(match[1]), operation)


def _outputs(architecture: Mapping[str, tuple[str, ...]], cell: str) -> list[int]:
    nodes = sorted({e.node for e in _edges(architecture, cell)})
    return [int(node) for node in architecture.get(f"{cell}/output", tuple(str(n) for n in nodes))]


def _name(state: int) -> str:
    return ("c(k-2)", "c(k-1)")[state] if state < 2 else str(state - 2)


def _colour(operation: str) -> str:
    return _COLOURS.get(operation.split("_")[0], _OTHER)


def _draw(axes: Axes, architecture: Mapping[str, tuple[str, ...]], cell: str) -> None:
    edges, outputs = list(_edges(architecture, cell)), _outputs(architecture, cell)
    last = max((e.node for e in edges), default=1)
    places = _places(last)
    axes.set_title(f"{cell} cell")
    axes.set_xlim(-0.8, places[last + 1][0] + 0.8)
    axes.set_ylim(-2.3, 2.3)
    axes.axis("off")
    boxes = [(x, y, 0.3 if 2 <= state <= last else 0.8, 0.3) for state, (x, y) in places.items()]
    for number, node in enumerate(outputs):
        curve = _curve(places[node], places[last + 1], 0.12 * (number - len(outputs) / 2))
        axes.plot(*curve.T, color="#CCCCCC", linewidth=1.2, zorder=1)
    seen: dict[tuple[int, int], int] = {}
    for edge in sorted(edges, key=lambda e: e.source - e.node):
        twin = seen.get((edge.source, edge.node), 0)
        seen[edge.source, edge.node] = twin + 1
        curve, place = _route(places, edge, twin, boxes)
        boxes.append((*place, _LABEL_WIDTH * len(edge.operation), _LABEL_HEIGHT))
        colour = _colour(edge.operation)
        axes.plot(*curve.T, color=colour, linewidth=1.8, zorder=2)
        tip, before = curve[int(0.93 * len(curve))], curve[int(0.88 * len(curve))]
        axes.annotate("", tip, before, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8}, zorder=2)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.92}
        axes.text(*place, edge.operation, color=colour, fontsize=8.5, ha="center", va="center", bbox=box, zorder=4)
    for state, (x, y) in places.items():
        name = "c(k)" if state == last + 1 else _name(state)
        _node(axes, x, y, name, inner=2 <= state <= last)


def _places(last: int) -> dict[int, tuple[float, float]]:
    """Where each state stands: inputs at the left, nodes in a zigzag, the output at the right."""
    places = {0: (0.0, 1.1), 1: (0.0, -1.1)}
    zigzag = (0.95, -0.95, 0.35, -0.35)
    places |= {node: (1.75 * (node - 1) + 0.35, zigzag[(node - 2) % 4]) for node in range(2, last + 1)}
    places[last + 1] = (1.75 * last + 0.35, 0.0)
    return places


def _node(axes: Axes, x: float, y: float, name: str, inner: bool) -> None:
    width = 0.36 if inner else 0.78
    box = FancyBboxPatch(
        (x - width / 2, y - 0.17),
        width,
        0.34,
        boxstyle="round,pad=0.03",
        facecolor="#DCEBF7" if inner else "#FFF3D6",
        edgecolor="#444444",
        zorder=5,
    )
    axes.add_patch(box)
    axes.text(x, y, name, ha="center", va="center", fontsize=10, zorder=6)


def _curve(start: tuple[float, float], end: tuple[float, float], bend: float) -> np.ndarray:
    """60 points (60, 2) of a quadratic curve; `bend` moves its middle to the left, in parts of its length."""
    a, b = np.array(start), np.array(end)
    across = np.array([-(b - a)[1], (b - a)[0]])
    middle = (a + b) / 2 + 2 * bend * across
    t = np.linspace(0, 1, 60)[:, None]
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * middle + t**2 * b


def _route(
    places: Mapping[int, tuple[float, float]],
    edge: _Edge,
    twin: int,
    boxes: list[tuple[float, float, float, float]],
) -> tuple[np.ndarray, tuple[float, float]]:
    """The curve of an edge and the place of its label that cross the least of what is drawn already."""
    others = [box for state, box in zip(places, boxes, strict=False) if state not in (edge.source, edge.node)]
    width = _LABEL_WIDTH * len(edge.operation)
    best, best_cost = None, float("inf")
    for bend in (0.0, 0.1, -0.1, 0.2, -0.2, 0.3, -0.3, 0.4, -0.4):
        curve = _curve(places[edge.source], places[edge.node], bend + 0.16 * twin)
        through = sum(_inside(point, box) for point in curve[::3] for box in others)
        outside = sum(abs(point[1]) > 2.15 for point in curve)
        for t in (0.5, 0.42, 0.58, 0.34, 0.66, 0.27, 0.73):
            x, y = curve[int(t * 59)]
            overlap = sum(_overlap((x, y, width, _LABEL_HEIGHT), box) for box in boxes)
            cost = 40 * overlap + 3 * through + 5 * outside + abs(bend) + abs(t - 0.5)
            if cost < best_cost:
                best, best_cost = (curve, (float(x), float(y))), cost
    assert best is not None
    return best


def _inside(point: np.ndarray, box: tuple[float, float, float, float]) -> bool:
    x, y, width, height = box
    return bool(abs(point[0] - x) < width / 2 + 0.05 and abs(point[1] - y) < height / 2 + 0.05)


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """How far two boxes (middle, width, height) lie over each other, 0 where they do not."""
    across = (one[2] + other[2]) / 2 + 0.06 - abs(one[0] - other[0])
    down = (one[3] + other[3]) / 2 + 0.06 - abs(one[1] - other[1])
    return max(0.0, across) * max(0.0, down) * 10 + (1.0 if across > 0 and down > 0 else 0.0)
