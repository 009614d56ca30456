"""Tables, precision-recall curves and pictures as one page: HTML that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from supernet.runtime.text import printable

_SIDE, _LEFT, _TOP = 260, 40, 14  # of a plot, in pixels
_COLOURS = ("#0b5cad", "#c2571a", "#4d8a3d", "#8a4fa8", "#6b6b6b", "#b08a00")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1100px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; border-top: 1px solid #ddd; padding-top: .8em; }
table { border-collapse: collapse; font-size: 13px; margin: .6em 0 1.2em; }
caption { text-align: left; font-weight: 600; padding-bottom: .3em; }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; color: #444; }
.plots { display: flex; flex-wrap: wrap; gap: 10px; } figure { margin: 0; } figcaption { font-size: 13px; }
img { max-width: 100%; }
svg text { font: 11px system-ui, sans-serif; fill: #444; stroke: #fff; stroke-width: 3px; paint-order: stroke; }
"""

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""A caption, the heads of the columns, and the rows."""


@dataclass(frozen=True)
class Curve:
    """The precision of a network on a class.

    Args:
        name: of the network.
        precision: (101,) at recalls from 0 to 1; NaN where the class has no truths.
        area: below the curve.
    """

    name: str
    precision: NDArray[np.floating]
    area: float


def page(
    title: str, tables: Sequence[Table], curves: Mapping[str, Sequence[Curve]], pictures: Mapping[str, str]
) -> str:
    """Writes the page. Texts from elsewhere are shown as they are and do nothing.

    Args:
        title: of the page.
        tables: one below the other.
        curves: of all networks, by the name of the class.
        pictures: JPEG files in base 64, by what is written above them.

    Returns:
        The text of an HTML file.
    """
    body = [f"<h1>{_text(title)}</h1>", *map(_table, tables), "<h2>Precision and recall, test, overlap .50</h2>"]
    body += ['<div class="plots">', *(_plot(name, each) for name, each in curves.items()), "</div>"]
    for says, picture in pictures.items():
        body += [f"<h2>{_text(says)}</h2>", f'<img alt="{_text(says)}" src="data:image/jpeg;base64,{picture}">']
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _text(text: object) -> str:
    return escape(printable(text))


def _table(table: Table) -> str:
    caption, head, rows = table
    heads = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{_text(caption)}</caption><tr>{heads}</tr>{lines}</table>"


def _plot(name: str, curves: Sequence[Curve]) -> str:
    """One class: a line for each network, with the area below it in the legend."""
    marks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _LEFT + tick * _SIDE, _TOP + (1 - tick) * _SIDE
        marks += [
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _SIDE}" y2="{y:.1f}" stroke="#e4e4e4"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>',
            f'<text x="{x:.1f}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{tick:g}</text>',
        ]
    known = [each for each in curves if not np.isnan(each.precision).any()]
    for place, curve in enumerate(known):
        colour = _COLOURS[place % len(_COLOURS)]
        points = " ".join(
            f"{_LEFT + recall * _SIDE:.1f},{_TOP + (1 - precision) * _SIDE:.1f}"
            for recall, precision in zip(np.linspace(0, 1, len(curve.precision)), curve.precision, strict=True)
        )
        marks.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _TOP + _SIDE - 10 - 15 * (len(known) - 1 - place)
        marks.append(
            f'<text x="{_LEFT + 8}" y="{y}" style="fill:{colour}">{_text(curve.name)}: AP50 {curve.area:.3f}</text>'
        )
    width, height = _LEFT + _SIDE + 12, _TOP + _SIDE + 22
    svg = f'<svg width="{width}" height="{height}" role="img" aria-label="{_text(name)}">{"".join(marks)}</svg>'
    there = "" if known else " (no objects to be found)"
    return f"<figure><figcaption>{_text(name)}{there}: precision over recall</figcaption>{svg}</figure>"
