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
        "sensitivity at 95 % specificity",
        "specificity at 95 % sensitivity",
        *(() if first.several else ("accuracy",)),
        "calibration error before",
        "after",
    )
    return Table("Test images; thresholds and temperature fixed on the validation images", head, _of_networks(reports))


def _of_networks(reports: Mapping[str, ClinicalReport]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for name, report in reports.items():
        one = report.classes[0] if len(report.classes) == 1 else None
        specific, sensitive = ((_reached(one, n) if one else _mean_reached(report, n)) for n in (0, 1))
        precision = _interval(one.average_precision) if one else _number(report.macro_average_precision)
        accuracy = () if report.several else (_interval(report.accuracy),)
        errors = _pair(
            Calibrated(
                report.macro(lambda c: c.calibration_error.before), report.macro(lambda c: c.calibration_error.after)
            )
        )
        rows.append((name, _interval(report.macro_auroc), precision, specific, sensitive, *accuracy, *errors))
    return tuple(rows)


def brief(reports: Mapping[str, ClinicalReport]) -> Table:
    """What a terminal has room for: the area, sensitivity, specificity, and the calibration error after calibration.

    Args:
        reports: by the networks' names.

    Returns:
        The table.
    """
    whole = networks(reports)
    head = ("network", whole.head[1].split(" (")[0], "sensitivity*", "specificity**", "ECE")
    rows = ((name, area, of.split(" ")[0], to.split(" ")[0], row[-1]) for name, area, _, of, to, *row in whole.rows)
    return Table("*at 95 % specificity, **at 95 % sensitivity, fixed on the validation images", head, tuple(rows))


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


def _reached(of: ClassReport, number: int) -> str:
    """What a threshold that was fixed for the one of sensitivity and specificity reached of the other."""
    test = of.points[number].test
    return UNKNOWN if test is None else _interval(test.sensitivity if number == 0 else test.specificity)


def _mean_reached(report: ClinicalReport, number: int) -> str:
    def value(of: ClassReport) -> float | None:
        test = of.points[number].test
        share = None if test is None else (test.sensitivity if number == 0 else test.specificity)
        return None if share is None else share.value

    return _number(report.macro(value))


def _interval(interval: Interval | None) -> str:
    return UNKNOWN if interval is None else str(interval)


def _value(interval: Interval | None) -> str:
    return UNKNOWN if interval is None else short(interval.value)


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else short(value)


def _pair(figure: Calibrated) -> tuple[str, str]:
    return _number(figure.before), _number(figure.after)
