"""The curves as one page: HTML that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from supernet.clinical import tables
from supernet.clinical.calibration import probabilities
from supernet.clinical.curves import Curve, Reliability, precision_recall, reliability, roc, thinned
from supernet.clinical.intervals import short
from supernet.clinical.report import ClassReport, ClinicalReport
from supernet.clinical.scores import Scores
from supernet.runtime.text import printable, quantity

NOTICE = "Figures of an experiment. Not a medical device, not for clinical use."
_SIDE, _LEFT, _TOP = 260, 44, 14  # of a plot, in pixels
_POINTS = 240  # of a curve
_COLOURS = ("#0b5cad", "#c2571a", "#4d8a3d", "#8a4fa8", "#6b6b6b", "#b08a00")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1080px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; border-top: 1px solid #ddd; padding-top: .8em; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; margin: .6em 0 1.2em; }
caption { text-align: left; font-weight: 600; padding-bottom: .3em; }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #e4e4e4; vertical-align: bottom; }
td { white-space: nowrap; } th:first-child, td:first-child { text-align: left; } th { font-weight: 600; color: #444; }
.plots { display: flex; flex-wrap: wrap; gap: 10px; } figure { margin: 0; width: 318px; }
figcaption { font-size: 13px; min-height: 3em; }
.notice { border-left: 4px solid #c2571a; padding: .3em .8em; background: #fdf3ec; }
svg text { font: 11px system-ui, sans-serif; fill: #444; }
"""


@dataclass(frozen=True)
class Judged:
    """A network on the page.

    Args:
        report: its clinical report.
        test: the logits and labels of the test images, of which the curves are made.
    """

    report: ClinicalReport
    test: Scores


def page(title: str, networks: Mapping[str, Judged], notes: Sequence[str] = ()) -> str:
    """Writes tables and curves: ROC and precision-recall of all networks, the reliability of the first.

    Args:
        title: of the page; like every other text from elsewhere it is shown as it is and does nothing.
        networks: by name; the first one is drawn with its operating points.
        notes: what a reader should know of the figures, a sentence each.

    Returns:
        The text of an HTML file.
    """
    name, first = next(iter(networks.items()))
    reports = {each: judged.report for each, judged in networks.items()}
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="notice">{NOTICE}</p>',
        *(f"<p>{_text(note)}</p>" for note in notes),
        _table(tables.networks(reports)),
        f"<p>Below: {_text(name)}.</p>" if len(networks) > 1 else "",
        _table(tables.classes(first.report)),
        _table(tables.points(first.report)),
    ]
    for number, of_class in zip(first.test.asked, first.report.classes, strict=True):
        body += [f"<h2>{_text(of_class.name)}</h2>", '<div class="plots">']
        body += [*_plots(number, of_class, networks), "</div>"]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _plots(number: int, of_class: ClassReport, networks: Mapping[str, Judged]) -> Iterator[str]:
    """The three figures of a class."""
    questions = {name: judged.test.question(number) for name, judged in networks.items()}
    areas = {
        name: next((c.auroc for c in judged.report.classes if c.name == of_class.name), None)
        for name, judged in networks.items()
    }
    names = [f"{name} {short(area.value) if area else tables.UNKNOWN}" for name, area in areas.items()]
    curves = [roc(q.log_odds, q.positive) for q in questions.values()]
    marks = _marks(of_class)
    yield _figure("ROC curve and area", "1 - specificity", "sensitivity", [*_lines(curves), *marks], names, True)
    curves = [precision_recall(q.log_odds, q.positive) for q in questions.values()]
    yield _figure("Precision and recall", "recall", "precision", _lines(curves), list(networks), False)
    first = next(iter(networks.values()))
    calibrated = first.test.with_logits(first.report.calibration.applied(first.test.logits))
    positive = first.test.question(number).positive
    drawn: list[str] = []
    labels: list[str] = []
    for scores, colour, label in ((first.test, _COLOURS[1], "before"), (calibrated, _COLOURS[0], "after")):
        drawn += _reliable(reliability(probabilities(scores, number), positive), colour)
        labels.append(f"{label} calibration")
    yield _figure("Reliability", "probability that was said", "share of the class", drawn, labels[::-1], True)


def _lines(curves: Sequence[Curve | None]) -> list[str]:
    """The lines of the networks; the first is drawn last, above the others, and thicker."""
    drawn = [
        _line(thinned(curve, _POINTS), _COLOURS[n % len(_COLOURS)], 2.2 if n == 0 else 1.1)
        for n, curve in enumerate(curves)
        if curve is not None
    ]
    return drawn[::-1]


def _line(curve: Curve, colour: str, width: float) -> str:
    path = " ".join(f"{_x(x)},{_y(y)}" for x, y in zip(curve.across, curve.up, strict=True))
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _marks(of_class: ClassReport) -> list[str]:
    """What the thresholds that were fixed on validation images reached on test images."""
    drawn = []
    for point in of_class.points:
        shares = (None, None) if point.test is None else (point.test.sensitivity, point.test.specificity)
        if shares[0] is None or shares[1] is None or point.aim == "probability":
            continue
        said = f"fixed on validation for {point.target:.0%} {point.aim}: on test sensitivity {shares[0]}, "
        circle = f'cx="{_x(1 - shares[1].value)}" cy="{_y(shares[0].value)}" r="4.5"'
        fill = _COLOURS[0] if point.aim == "specificity" else "#fff"
        title = f"<title>{said}specificity {shares[1]}</title>"
        drawn.append(f'<circle {circle} fill="{fill}" stroke="{_COLOURS[0]}" stroke-width="2">{title}</circle>')
    return drawn


def _reliable(binned: Reliability, colour: str) -> Iterator[str]:
    """Circles as large as their bins have images, joined by a line."""
    yield _line(Curve(binned.said, binned.true), colour, 1.1)
    most = max(binned.images.tolist(), default=1)
    for said, true, images in zip(binned.said, binned.true, binned.images.tolist(), strict=True):
        radius = 2.0 + 5.0 * (images / most) ** 0.5
        title = f"<title>{quantity(images, 'image')}: said {short(said)}, true {short(true)}</title>"
        place = f'cx="{_x(said)}" cy="{_y(true)}" r="{radius:.1f}"'
        yield f'<circle {place} fill="{colour}" fill-opacity=".6">{title}</circle>'


def _figure(title: str, across: str, up: str, drawn: Sequence[str], names: Sequence[str], diagonal: bool) -> str:
    """A square plot from 0 to 1 with its axes, below a title and a legend."""
    width, height = _LEFT + _SIDE + 14, _TOP + _SIDE + 40
    parts = [f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#999"/>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        if 0 < tick < 1:
            grid = f'stroke="#e6e6e6" d="M{_x(tick)},{_y(0)}V{_y(1)}M{_x(0)},{_y(tick)}H{_x(1)}"'
            parts.append(f'<path {grid} fill="none"/>')
        parts.append(f'<text x="{_x(tick)}" y="{_y(0) + 15}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{_LEFT - 6}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    if diagonal:
        parts.append(f'<path d="M{_x(0)},{_y(0)}L{_x(1)},{_y(1)}" stroke="#bbb" stroke-dasharray="4 3"/>')
    parts += drawn
    parts.append(f'<text x="{_x(0.5)}" y="{height - 8}" text-anchor="middle">{_text(across)}</text>')
    middle = f"{12},{_y(0.5)}"
    parts.append(f'<text transform="translate({middle}) rotate(-90)" text-anchor="middle">{_text(up)}</text>')
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    inside = "\n".join(parts)
    caption = f"<figcaption><b>{_text(title)}</b><br/>{_legend(names)}</figcaption>"
    return f'<figure>{caption}<svg {size} role="img">{inside}</svg></figure>'


def _legend(names: Sequence[str]) -> str:
    """Names in the colours of their lines, above the plot, where they cover nothing."""
    coloured = (
        f'<span style="color:{_COLOURS[number % len(_COLOURS)]}">{_text(name)}</span>'
        for number, name in enumerate(names)
    )
    return " · ".join(coloured)


def _table(table: tables.Table) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.head)
    rows = "\n".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    caption = f"<caption>{_text(table.title)}</caption>"
    return f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>'


def _text(text: str) -> str:
    return escape(printable(text))


def _x(share: float) -> float:
    return round(_LEFT + _SIDE * float(share), 1)


def _y(share: float) -> float:
    return round(_TOP + _SIDE * (1 - float(share)), 1)
