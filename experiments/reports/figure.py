"""The picture of a report: each seed's result, mean and spread of each group, random cells as a band."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from supernet.runtime.text import printable, shortened

from ..records.markdown import is_share
from .runs import Group

_DOT, _MEAN, _RANDOM = "#0072B2", "#D55E00", "#7F7F7F"  # Okabe and Ito's, which the colour-blind can tell apart
_PERCENT = " in percent"
_Panel = tuple[str, str, list[tuple[str, str, list[float]]]]  # title, measure, (label, kind, values) of each group


def draw(made: Sequence[tuple[str, Sequence[Group]]]) -> Figure:
    """One panel below the other for each section and measure: test score, and regret in the table's first column."""
    panels = [panel for title, groups in made for panel in _panels(title, groups)]
    heights = [1.2 + 0.2 * sum(1 + len(_wrapped(*row)) for row in rows) for _, _, rows in panels] or [1.0]
    figure = Figure(figsize=(9.0, 0.3 + sum(heights)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(max(1, len(panels)), 1, height_ratios=heights)
    for place, (title, measure, rows) in enumerate(panels):
        _draw(figure.add_subplot(grid[place, 0]), title, measure, rows)
    return figure


def _panels(title: str, groups: Sequence[Group]) -> list[_Panel]:
    score = groups[0].members[0].score if groups else ""
    scale = 100 if is_share(score) else 1
    tests = [(g.label, g.kind, [scale * value for value in g.values("test")]) for g in groups]
    column = next((c for g in groups for c in g.members[0].table), "")
    regrets = [(g.label, g.kind, [r for n in g.members if (r := n.regret(column)) is not None]) for g in groups]
    made = []
    named = f"test {score}{_PERCENT if scale == 100 else ''}"
    for measure, rows in ((named, tests), (f"regret of {column} (0: the table's best)", regrets)):
        known = [row for row in rows if row[2]]
        if known:
            made.append((title, measure, known))
    return made


def _wrapped(label: str, _: str, values: list[float]) -> list[str]:
    words = " ".join(map(shortened, printable(label).split()))  # one that is wider than the picture leaves no plot
    return textwrap.wrap(f"{words} (n={len(values)})", 44, break_long_words=False)


def _draw(axes: Axes, title: str, measure: str, rows: list[tuple[str, str, list[float]]]) -> None:
    chance = [value for _, kind, values in rows if kind == "random" for value in values]
    if chance:
        mean = statistics.mean(chance)
        wide = statistics.stdev(chance) if len(chance) > 1 else 0.0
        axes.axvspan(mean - wide, mean + wide, color=_RANDOM, alpha=0.15, lw=0, zorder=0)
        axes.axvline(mean, color=_RANDOM, lw=1, ls="--", zorder=1)
    for place, (_, kind, values) in enumerate(rows):
        colour = _RANDOM if kind == "random" else _DOT
        axes.plot(values, [place - 0.13] * len(values), "o", color=colour, alpha=0.6, ms=6, mew=0, zorder=3)
        deviation = statistics.stdev(values) if len(values) > 1 else None
        mean = statistics.mean(values)
        axes.errorbar(mean, place + 0.15, xerr=deviation, fmt="|", ms=10, mew=2, color=_MEAN, capsize=3, zorder=2)
    axes.set_yticks(range(len(rows)), ["\n".join(_wrapped(*row)) for row in rows], fontsize=8, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)  # best first, at the top
    low, high = axes.get_xlim()
    if measure.startswith("test "):
        scale = 1.0 if measure.endswith(_PERCENT) else 0.01
        # A standard deviation may reach where no score can lie.
        axes.set_xlim(max(low, -scale), min(high, 101.0 * scale))
    else:
        axes.set_xlim(max(low, -0.02 * high), high)
    axes.set_xlabel(shortened(printable(measure)), parse_math=False)
    band = "; band: random cells, mean ± standard deviation" if chance else ""
    says = f"{shortened(printable(title))}\ndot: a run; bar: mean ± standard deviation{band}"
    axes.set_title(says, fontsize=8, loc="left", parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
