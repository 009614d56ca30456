"""Places the parts of a cell's drawing, in inches, so that curves and labels do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Places in inches, (..., 2)."""

HEIGHT = 4.0
_MIDDLE = 1.95
_LETTER, _LINE = 0.074, 0.16  # what a letter and a line of a label take
_STEPS = 40  # points of a curve
_BENDS = np.linspace(-0.48, 0.48, 13)  # of a curve, in parts of its length; 0: a straight line
_STOPS = np.arange(8, 33, 4)  # points of a curve where its label may stand
# Heights of the nodes above the middle; the pattern whose curves and labels are least in the way is drawn.
_PATTERNS = (
    (0.9, -0.9, 0.35, -0.35, 0.9),
    (-0.9, 0.9, -0.35, 0.35, -0.9),
    (0.5, -0.5, 1.1, -1.1, 0.2),
    (-0.5, 0.5, -1.1, 1.1, -0.2),
    (0.0, 0.9, -0.9, 0.3, -0.3),
    (0.0, -0.9, 0.9, -0.3, 0.3),
)


@dataclass(frozen=True)
class Edge:
    """An edge of a cell.

    Args:
        source: the state that it reads.
        node: the node that it leads to.
        operation: the name of its operation; "" where a node enters the cell's output.
    """

    source: int
    node: int
    operation: str


@dataclass(frozen=True)
class Box:
    """A rectangle, in inches.

    Args:
        x: its middle, from the left.
        y: its middle, from the bottom.
        width: its width.
        height: its height.
    """

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Route:
    """The curve of an edge in the drawing, and the place of its label.

    Args:
        edge: the edge.
        curve: (points, 2) from the middle of its source to the middle of its node.
        label: the box of its label; None where it has no operation.
    """

    edge: Edge
    curve: Points
    label: Box | None


@dataclass(frozen=True)
class Layout:
    """A whole picture.

    Args:
        width: its width in inches.
        states: the boxes of the states by number; the last one is the output.
        routes: the ways of all edges.
    """

    width: float
    states: dict[int, Box]
    routes: list[Route]


def lay_out(edges: Sequence[Edge], outputs: Sequence[int], inputs: int, last: int) -> Layout:
    """Places the inputs at the left, the nodes in the middle and the output at the right.

    Args:
        edges: the edges of the cell.
        outputs: the nodes that enter the output.
        inputs: how many inputs there are, one or two.
        last: the number of the last node.

    Returns:
        Of several layouts the one whose curves and labels are least in each other's way.
    """
    ways = [*edges, *(Edge(node, last + 1, "") for node in outputs)]
    ways.sort(key=lambda way: (not way.operation, way.node - way.source))
    candidates = [_routed(_states(inputs, last, pattern), ways) for pattern in _PATTERNS]
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _states(inputs: int, last: int, pattern: Sequence[float]) -> dict[int, Box]:
    heights = (0.0,) if inputs == 1 else (1.1, -1.1)
    states = {number: Box(0.6, _MIDDLE + height, 0.78, 0.34) for number, height in enumerate(heights)}
    for number, node in enumerate(range(inputs, last + 1)):
        states[node] = Box(2.5 + 1.8 * number, _MIDDLE + pattern[number % len(pattern)], 0.36, 0.34)
    states[last + 1] = Box(2.6 + 1.8 * (last + 1 - inputs), _MIDDLE, 0.7, 0.34)
    return states


def _routed(states: dict[int, Box], ways: Sequence[Edge]) -> tuple[float, Layout]:
    """Routes each edge around the others, twice; returns the total cost of the second time and the layout."""
    routes: dict[int, Route] = {}
    for _ in range(2):  # the second time each edge also knows the routes of those that come after it
        total = 0.0
        for number, way in enumerate(ways):
            cost, routes[number] = _best(states, way, [r for n, r in routes.items() if n != number])
            total += cost
    width = max(box.x + box.width / 2 for box in states.values()) + 0.25
    return total, Layout(width, states, [routes[number] for number in range(len(ways))])


def _best(states: dict[int, Box], way: Edge, others: Sequence[Route]) -> tuple[float, Route]:
    """Tries all bends of a curve and all places of its label, and returns the lowest cost and its route."""
    curves = _curves(states[way.source], states[way.node])
    nodes = _table([box for state, box in states.items() if state not in (way.source, way.node)])
    labels = _table([route.label for route in others if route.label])
    drawn = np.concatenate([np.zeros((0, 2)), *(route.curve[2:-2:2] for route in others)])
    inner = curves[:, 4:-4:2]  # without the ends, where edges of one node meet anyway; every second point is enough
    # Cost of each bend: points on other nodes, points on other labels, points near other curves, points outside the
    # picture, and the bend itself. The numbers are penalties that were chosen by eye.
    cost = 4.0 * _inside(curves, nodes, 0.08).sum((1, 2)) + 2.0 * _inside(inner, labels, 0.02).sum((1, 2))
    right, up = (inner[:, :, None, axis] - drawn[:, axis] for axis in (0, 1))
    cost += 0.8 * (right * right + up * up < 0.01).any(2).sum(1)
    cost += 5.0 * (np.abs(curves[..., 1] - _MIDDLE) > 1.65).sum(1) + 3.0 * np.abs(_BENDS)
    if not way.operation:
        best = int(cost.argmin())
        return float(cost[best]), Route(way, curves[best], None)
    # Cost of each place of the label: on a node or on another label, on a curve, and far from the curve's middle.
    size = np.array([_LETTER * len(way.operation), _LINE])
    middles = curves[:, _STOPS]
    everything = np.concatenate([_table(list(states.values())), labels])
    clash = 60.0 * _inside(middles, everything, size / 2 + 0.04).sum(2)
    right, up = (np.abs(drawn[:, axis] - middles[:, :, None, axis]) < size[axis] / 2 + 0.02 for axis in (0, 1))
    clash = clash + 1.5 * (right & up).sum(2) + 0.03 * np.abs(_STOPS - _STEPS / 2)
    whole = cost[:, None] + clash
    bend, stop = np.unravel_index(int(whole.argmin()), whole.shape)
    x, y = middles[bend, stop]
    return float(whole[bend, stop]), Route(way, curves[bend], Box(float(x), float(y), *map(float, size)))


def _curves(start: Box, end: Box) -> Points:
    """Quadratic Bezier curves between two middles, one for each bend: (bends, points, 2)."""
    a, b = np.array([start.x, start.y]), np.array([end.x, end.y])
    across = np.array([a[1] - b[1], b[0] - a[0]])
    # The control point: the middle of the two ends, moved at a right angle to their line by `bend` times its length.
    middles = (a + b) / 2 + _BENDS[:, None, None] * across
    t = np.linspace(0, 1, _STEPS)[:, None]
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * middles + t**2 * b


def _table(boxes: Sequence[Box]) -> Points:
    return np.array([(b.x, b.y, b.width, b.height) for b in boxes]).reshape(-1, 4)


def _inside(points: Points, boxes: Points, margin: float | Points) -> NDArray[np.bool_]:
    """Whether each point (..., 2) lies in each of the boxes (n, 4) widened by a margin on every side: (..., n)."""
    within = np.abs(points[..., None, :] - boxes[:, :2]) < boxes[:, 2:] / 2 + margin
    return np.logical_and(within[..., 0], within[..., 1])
