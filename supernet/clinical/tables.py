"""The clinical report as tables of text, for a terminal, a page, or Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from supernet.clinical.intervals import Interval, short
from supernet.clinical.operating_points import OperatingPoint
from supernet.clinical.report import Calibrated, ClassReport, ClinicalReport

UNKNOWN = "-"


@dataclass(frozen=True)
class Table:
    """Rows of text under a head.

    Args:
        title: what it shows, in one sentence without a point.
        head: the names of the columns.
        rows: each has as many cells as the head.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def networks(reports: Mapping[str, ClinicalReport]) -> Table:
    """One row for each network, with the means over its classes.

    A threshold that was fixed for one thing seldom keeps it on new images. So what it reached of both stands there.

    Args:
        reports: by the networks' names.

    Returns:
        The table.
    """
    first = next(iter(reports.values()))
    macro = "" if len(first.classes) == 1 else "macro "
    head = (
        "network",
        f"{macro}AUROC (95 % interval)",
        f"{macro}average precision",
        "threshold for 95 % specificity: sensitivity",
        "specificity",
        "threshold for 95 % sensitivity: sensitivity",
        "specificity",
        *(() if first.several else ("accuracy",)),
        "calibration error before",
        "after",
    )
    rows = tuple(_of_network(name, report) for name, report in reports.items())
    return Table("On the test images, with thresholds and temperature of the validation images", head, rows)


def _of_network(name: str, report: ClinicalReport) -> tuple[str, ...]:
    one = report.classes[0] if len(report.classes) == 1 else None
    errors = (report.macro(lambda c: c.calibration_error.before), report.macro(lambda c: c.calibration_error.after))
    return (
        name,
        _interval(report.macro_auroc),
        _interval(one.average_precision) if one else _number(report.macro_average_precision),
        *_reached(report, 0),
        *_reached(report, 1),
        *(() if report.several else (_interval(report.accuracy),)),
        *map(_number, errors),
    )


def brief(reports: Mapping[str, ClinicalReport]) -> Table:
    """What a terminal has room for: the area, what both thresholds reached, the error after calibration.

    Args:
        reports: by the networks' names.

    Returns:
        The table.
    """
    whole = networks(reports)
    head = ("network", whole.head[1].split(" (")[0], "sens.*", "spec.*", "sens.**", "spec.**", "ECE")
    rows = tuple((*row[:2], *row[3:7], row[-1]) for row in whole.rows)
    return Table("thresholds fixed on validation for *95 % specificity, **95 % sensitivity", head, rows)


def classes(report: ClinicalReport) -> Table:
    """One row for each class: areas, calibration.

    Args:
        report: of a network.

    Returns:
        The table.
    """
    head = (
        "class",
        "test images",
        "of the class",
        "AUROC (DeLong)",
        "AUROC (bootstrap)",
        "average precision (bootstrap)",
        "calibration error before",
        "after",
        "Brier before",
        "after",
    )
    rows = tuple(
        (
            each.name,
            f"{each.test_images:,}",
            f"{each.test_positives:,}",
            _interval(each.auroc),
            _interval(each.auroc_bootstrap),
            _interval(each.average_precision),
            *_pair(each.calibration_error),
            *_pair(each.brier),
        )
        for each in report.classes
    )
    return Table("Each class against all others, on the test images, with 95 % intervals", head, rows)


def points(report: ClinicalReport) -> Table:
    """One row for each class and threshold: what it was fixed for, and what it then reached.

    Args:
        report: of a network.

    Returns:
        The table.
    """
    head = (
        "class",
        "fixed on validation for",
        "threshold",
        "on validation: sensitivity",
        "specificity",
        "on test: sensitivity (95 % interval)",
        "specificity (95 % interval)",
        "PPV",
        "NPV",
    )
    rows = tuple((each.name, *_of_point(point)) for each in report.classes for point in each.points)
    return Table("Operating points", head, rows)


def _of_point(point: OperatingPoint) -> tuple[str, ...]:
    aim = f"{point.aim} {point.target:.0%}" if point.aim != "probability" else "nothing (probability one half)"
    if point.valid is None or point.test is None:
        return (aim, *(UNKNOWN,) * 7)
    valid, test = point.valid, point.test
    return (
        aim,
        _number(point.probability),
        _value(valid.sensitivity),
        _value(valid.specificity),
        _interval(test.sensitivity),
        _interval(test.specificity),
        _value(test.positive_predictive_value),
        _value(test.negative_predictive_value),
    )


def _reached(report: ClinicalReport, number: int) -> tuple[str, str]:
    """Sensitivity and specificity on the test images with a threshold, the means over the classes."""

    def value(of: ClassReport, name: str) -> float | None:
        test = of.points[number].test
        share = None if test is None else getattr(test, name)
        return None if share is None else float(share.value)

    return _number(report.macro(lambda c: value(c, "sensitivity"))), _number(
        report.macro(lambda c: value(c, "specificity"))
    )


def _interval(interval: Interval | None) -> str:
    return UNKNOWN if interval is None else str(interval)


def _value(interval: Interval | None) -> str:
    return UNKNOWN if interval is None else short(interval.value)


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else short(value)


def _pair(figure: Calibrated) -> tuple[str, str]:
    return _number(figure.before), _number(figure.after)
