"""The picture of an exploration: how good the picks are, and how well each score ranks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from supernet.runtime.text import printable
from supernet.search.black_box.comparison import Sample

from .lines import Known, Line

# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = {
    "explorer": "#0072B2",
    "random": "#7F7F7F",
    "parameters": "#D55E00",
    "discretiser": "#009E73",
    "any": "#7F7F7F",
}
_ACROSS = 3  # panels beside each other
_MOST = 30_000  # dots of a panel


def draw(made: Sequence[Line], sample: Sample, known: Known | None) -> Figure:
    """Above a row for each combination with the truth of its picks (without a truth their score); below a panel for
    each score with a dot for each architecture of the sample."""
    shown = [line for line in made if _numbers(line, known)]
    scores = [s for s in sample.values if known is not None and len(sample.pairs(s)) > 1]
    rows = math.ceil(len(scores) / _ACROSS)
    top = 1.4 + 0.3 * len(shown)
    figure = Figure(figsize=(11.0, top + 3.3 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + rows, _ACROSS, height_ratios=[top, *[3.3] * rows])
    _picks(figure.add_subplot(grid[0, :]), shown, known)
    for place, score in enumerate(scores):
        axes = figure.add_subplot(grid[1 + place // _ACROSS, place % _ACROSS])
        assert known is not None
        _panel(axes, score, sample, [line for line in shown if line.score == score], known)
    return figure


def _numbers(line: Line, known: Known | None) -> list[float]:
    if known is None:
        return line.values(lambda p: p.value) if line.kind != "parameters" else []
    return line.values(lambda p: known.truth(p.architecture))


def _picks(axes: Axes, shown: Sequence[Line], known: Known | None) -> None:
    chance = next((_numbers(line, known) for line in shown if line.kind == "any"), [])
    if chance:
        mean, wide = statistics.mean(chance), statistics.pstdev(chance)
        axes.axvspan(mean - wide, mean + wide, color=_COLOURS["any"], alpha=0.13, lw=0)
        axes.axvline(mean, color=_COLOURS["any"], lw=1, ls="--")
    if known is not None and known.values:
        axes.axvline(known.values[-1], color="black", lw=1)
    rows = [line for line in shown if line.kind != "any"]
    for place, line in enumerate(rows):
        values, colour = _numbers(line, known), _COLOURS[line.kind]
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=max(0.05, 0.7 / len(values) ** 0.5), mew=0)
        deviation = statistics.stdev(values) if len(values) > 1 else None
        mean = statistics.mean(values)
        axes.errorbar(mean, place, xerr=deviation, fmt="D", ms=6, color=colour, mec="white", capsize=3)
    names = [f"{line.by}, {line.score}" if line.score else line.by for line in rows]
    axes.set_yticks(range(len(rows)), [printable(name) for name in names], fontsize=8, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    what = "score of the pick" if known is None else f"truth of the pick: {known.truth.value}"
    axes.set_xlabel(printable(what), parse_math=False, fontsize=9)
    says = ["What each explorer picked, by which score. Small dot: a seed; diamond: mean ± standard deviation"]
    if known is not None:
        says.append(
            f"black line: the best of {known.of}; band: an architecture drawn at random; further right is better"
        )
    axes.set_title("\n".join(says), fontsize=9, loc="left", parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _panel(axes: Axes, score: str, sample: Sample, shown: Sequence[Line], known: Known) -> None:
    """Truth against a score; what lies within the true top decile is darker."""
    pairs = [(v, t) for v, t in sample.pairs(score) if math.isfinite(v)][:_MOST]
    if pairs:
        last = sorted((t for _, t in pairs), reverse=True)[max(0, math.ceil(len(pairs) / 10) - 1)]
        for top, colour in ((False, "#BBBBBB"), (True, "#CC79A7")):
            some = [pair for pair in pairs if (pair[1] >= last) == top]
            axes.plot([v for v, _ in some], [t for _, t in some], "o", ms=3, mew=0, alpha=0.7, color=colour)
    for line in shown:
        chosen = {p.architecture: p for p in line.picks if p.value is not None and math.isfinite(p.value)}
        points = [(p.value, t) for p in [*chosen.values()][:20] if p.value and (t := known.truth(p.architecture))]
        axes.plot([x for x, _ in points], [y for _, y in points], "*", ms=10, mec="white", color=_COLOURS[line.kind])
    found = sample.agreement(score, resamples=0)
    axes.set_title(
        printable(f"{score}: tau {found.tau}, in the top decile {found.top_tau}"),
        fontsize=8,
        loc="left",
        parse_math=False,
    )
    axes.set_xlabel(f"{printable(score)} (star: picks)", fontsize=8, parse_math=False)
    axes.set_ylabel(printable(known.truth.value), fontsize=8, parse_math=False)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
