"""The picture of a front: all that was judged, and what is best at each cost."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from supernet.runtime.text import printable
from supernet.search.black_box.fronts import Front

from .units import scale
from .units import title as axis_title

_TRIED, _FRONT, _LIMIT = "#9E9E9E", "#0072B2", "#D55E00"  # Okabe and Ito's, which the colour-blind can tell apart
_MOST = 20_000  # dots
_WIDE = 20.0  # times the cheapest: costs that far apart have a logarithmic axis


def draw(front: Front, title: str, limit: float | None = None) -> Figure:
    """A grey dot for each architecture, the front as steps, and where there is a limit the best within it."""
    figure = Figure(figsize=(8.0, 5.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    unit, letters = scale(front.cost, max(point.cost for point in front.tried))
    tried = front.tried[:_MOST]
    dots: dict[str, Any] = {"ms": 4, "mew": 0, "alpha": 0.45, "color": _TRIED, "label": f"{len(front.tried):,} judged"}
    axes.plot([p.cost / unit for p in tried], [p.score for p in tried], "o", **dots)
    costs, scores = [p.cost / unit for p in front.points], [p.score for p in front.points]
    right = max(p.cost for p in front.tried) / unit
    axes.step([*costs, right], [*scores, scores[-1]], where="post", color=_FRONT, lw=1.5)
    axes.plot(costs, scores, "o", ms=6, color=_FRONT, mec="white", label=f"front: {len(costs)}")
    if limit is not None:
        axes.axvline(limit / unit, color=_LIMIT, lw=1, ls="--", label=f"limit {limit / unit:g} {letters}".strip())
        within = [p for p in front.points if p.cost <= limit]
        if within:
            axes.plot(within[-1].cost / unit, within[-1].score, "*", ms=15, color=_LIMIT, mec="white")
    if min(p.cost for p in front.tried) > 0.0 and right > _WIDE * min(p.cost for p in front.tried) / unit:
        axes.set_xscale("log")
    axes.set_xlabel(printable(axis_title(front.cost, letters)), parse_math=False)
    axes.set_ylabel(f"{printable(front.score)} by the supernet", parse_math=False)
    axes.set_title(printable(title), fontsize=9, loc="left", parse_math=False, wrap=True)
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
