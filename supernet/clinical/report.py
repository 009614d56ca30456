"""The clinical report of a network: what it reached on test images, with all that was chosen chosen on validation.

It is plain data: a model's file holds it, and what is read from a file is checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, get_args

import numpy as np

from supernet.clinical.calibration import Calibration, brier, calibrate, calibration_error, probabilities
from supernet.clinical.intervals import Interval, wilson
from supernet.clinical.operating_points import ASKED, Aim, Counts, OperatingPoint, operating_point
from supernet.clinical.ranking import REPLICATES, bootstrap, delong, macro_auroc
from supernet.clinical.scores import Scores
from supernet.runtime.errors import InputError
from supernet.runtime.text import printable, quantity

VERSION = 1
_MOST = 10_000  # classes of a report that is read from a file
T = TypeVar("T")


@dataclass(frozen=True)
class Calibrated:
    """A figure of the probabilities before and after calibration; None where there are no images.

    Args:
        before: of the network's own probabilities.
        after: with the temperature, and the bias, that were fitted to the validation images.
    """

    before: float | None
    after: float | None


@dataclass(frozen=True)
class ClassReport:
    """What is said of one class against all others. What is not defined is None.

    Args:
        name: of the class.
        valid_images: validation images of which the answer is known.
        valid_positives: those of them that are of the class.
        test_images: test images of which the answer is known.
        test_positives: those of them that are of the class.
        auroc: the area under the ROC curve on the test images, with DeLong's interval.
        auroc_bootstrap: the same with the interval of a stratified bootstrap, to check the other.
        average_precision: on the test images, with the interval of the bootstrap.
        calibration_error: expected calibration error in 15 bins, on the test images.
        brier: the mean squared error of the probabilities, on the test images.
        points: thresholds that were fixed on the validation images, and what they reached.
    """

    name: str
    valid_images: int
    valid_positives: int
    test_images: int
    test_positives: int
    auroc: Interval | None
    auroc_bootstrap: Interval | None
    average_precision: Interval | None
    calibration_error: Calibrated
    brier: Calibrated
    points: tuple[OperatingPoint, ...]


@dataclass(frozen=True)
class ClinicalReport:
    """What a network reached.

    Args:
        classes: one report for each class; of two classes that exclude each other, for the second.
        several: whether an image may have several labels.
        valid_images: how many validation images there were.
        test_images: how many test images there were.
        accuracy: the share of test images whose most likely class is theirs, with Wilson's interval; None where an
            image may have several labels.
        macro_auroc: the mean of the classes' areas.
        macro_average_precision: the mean of the classes' average precisions.
        calibration: what was fitted to the validation images.
    """

    classes: tuple[ClassReport, ...]
    several: bool
    valid_images: int
    test_images: int
    accuracy: Interval | None
    macro_auroc: Interval | None
    macro_average_precision: float | None
    calibration: Calibration

    def macro(self, figure: Callable[[ClassReport], float | None]) -> float | None:
        """The mean of a figure over the classes for which it is defined.

        Args:
            figure: takes the report of a class and gives a number.

        Returns:
            The mean; None where no class has it.
        """
        known = [value for value in map(figure, self.classes) if value is not None]
        return sum(known) / len(known) if known else None

    def plain(self) -> dict[str, Any]:
        """The form that a file holds, which `from_plain` reads."""
        return {"version": VERSION, **asdict(self), "calibration": self.calibration.plain()}

    def to_json(self) -> str:
        """The same as text, one line after the other."""
        return json.dumps(self.plain(), indent=2, allow_nan=False) + "\n"

    @staticmethod
    def from_plain(content: Any, origin: str = "the clinical report") -> ClinicalReport:
        """Reads what `plain` has made.

        Args:
            content: the containers, as they were in a file.
            origin: how messages name it.

        Returns:
            The report.

        Raises:
            InputError: a part is missing or malformed, in one line.
        """
        try:
            if content["version"] != VERSION:
                raise InputError(f"{origin}: version {str(content['version'])[:40]}; this supernet reads {VERSION}")
            return _report(content)
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise InputError(f"{origin}: incomplete or damaged ({type(error).__name__}: {str(error)[:80]})") from None

    @staticmethod
    def from_json(text: str, origin: str = "the clinical report") -> ClinicalReport:
        """Reads what `to_json` has written; see `from_plain`."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(f"{origin}: not JSON") from None
        return ClinicalReport.from_plain(content, origin)


def report(
    valid: Scores,
    test: Scores,
    classes: Sequence[str],
    *,
    bias: bool = False,
    replicates: int = REPLICATES,
) -> ClinicalReport:
    """Judges a network as a reader of a medical paper would want it.

    The temperature and all thresholds are fitted to the validation images; the test images are only looked at.

    Args:
        valid: the logits and labels of the validation images.
        test: those of the test images.
        classes: the names of the classes, in the order of the logits.
        bias: whether calibration has a bias, too: see `calibrate`.
        replicates: of the bootstrap.

    Returns:
        The report.

    Raises:
        InputError: the parts do not fit each other, or there are no images.

    Example:
        >>> valid = Scores([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [2.0, 0.5]], [1, 0, 1, 0])
        >>> made = report(valid, valid, ("normal", "pneumonia"))
        >>> made.classes[0].name, made.macro_auroc.value
        ('pneumonia', 1.0)
        >>> ClinicalReport.from_json(made.to_json()) == made
        True
    """
    for name, scores in (("valid", valid), ("test", test)):
        if not len(scores):
            raise InputError(f"{name}: has no images; the clinical report needs validation and test images")
        if scores.logits.shape[1] != len(classes):
            raise InputError(
                f"{name}: has {quantity(scores.logits.shape[1], 'output')} for {quantity(len(classes), 'class')}"
            )
    if valid.several != test.several:
        raise InputError("valid and test: one has a label and the other several labels an image")
    calibration = calibrate(valid, bias=bias)
    calibrated = [each.with_logits(calibration.applied(each.logits)) for each in (valid, test)]
    of_classes = tuple(
        _class_report(number, str(classes[number]), (valid, test), calibrated, replicates) for number in test.asked
    )
    precisions = [c.average_precision.value for c in of_classes if c.average_precision is not None]
    # As the model answers: a bias moves the most likely class, a temperature does not.
    right = None if test.several else int((calibrated[1].logits.argmax(1) == test.labels).sum())
    return ClinicalReport(
        classes=of_classes,
        several=test.several,
        valid_images=len(valid),
        test_images=len(test),
        accuracy=None if right is None else wilson(right, len(test)),
        macro_auroc=macro_auroc(test, test.asked),
        macro_average_precision=float(np.mean(precisions)) if precisions else None,
        calibration=calibration,
    )


def _class_report(
    number: int, name: str, raw: Sequence[Scores], calibrated: Sequence[Scores], replicates: int
) -> ClassReport:
    """The report of one class, from the scores of the validation images and those of the test images."""
    known = [each.question(number) for each in raw]
    after = [each.question(number) for each in calibrated]
    test = known[1]
    drawn = bootstrap(test.log_odds, test.positive, replicates=replicates)
    said = [probabilities(each, number) for each in (raw[1], calibrated[1])]
    return ClassReport(
        name=name,
        valid_images=len(known[0].positive),
        valid_positives=int(known[0].positive.sum()),
        test_images=len(test.positive),
        test_positives=int(test.positive.sum()),
        auroc=delong(test.log_odds, test.positive),
        auroc_bootstrap=None if drawn is None else drawn[0],
        average_precision=None if drawn is None else drawn[1],
        calibration_error=Calibrated(*(calibration_error(each, test.positive) for each in said)),
        brier=Calibrated(*(brier(each, test.positive) for each in said)),
        points=tuple(operating_point(after[0], after[1], aim, target) for aim, target in ASKED),
    )


# What comes from a file: each part is made anew of numbers that were checked.


def _report(content: Mapping[str, Any]) -> ClinicalReport:
    classes = content["classes"]
    if not isinstance(classes, list) or not 1 <= len(classes) <= _MOST:
        raise ValueError("classes")
    return ClinicalReport(
        classes=tuple(_class(each) for each in classes),
        several=_flag(content["several"]),
        valid_images=_whole(content["valid_images"]),
        test_images=_whole(content["test_images"]),
        accuracy=_optional(content["accuracy"], _interval),
        macro_auroc=_optional(content["macro_auroc"], _interval),
        macro_average_precision=_optional(content["macro_average_precision"], _finite),
        calibration=calibration_of(content["calibration"]),
    )


def calibration_of(content: Any) -> Calibration:
    """Reads what `Calibration.plain` has made.

    Args:
        content: the containers, as they were in a file.

    Returns:
        The calibration.

    Raises:
        ValueError: a temperature is not positive, or a number is not finite. KeyError and TypeError where parts are
            missing or of another kind.
    """
    given, bias = content["temperature"], content["bias"]
    several = isinstance(given, list)
    temperatures = tuple(map(_finite, given if several else [given]))
    if not isinstance(bias, list) or not temperatures or min(temperatures) <= 0:
        raise ValueError("calibration")
    if several and len(temperatures) != len(bias):
        raise ValueError("calibration: as many temperatures as biases")
    return Calibration(temperatures if several else temperatures[0], tuple(map(_finite, bias)))


def _class(content: Mapping[str, Any]) -> ClassReport:
    name, points = content["name"], content["points"]
    if not isinstance(name, str) or not isinstance(points, list):
        raise ValueError("name or points of a class")
    return ClassReport(
        name=printable(name),
        valid_images=_whole(content["valid_images"]),
        valid_positives=_whole(content["valid_positives"]),
        test_images=_whole(content["test_images"]),
        test_positives=_whole(content["test_positives"]),
        auroc=_optional(content["auroc"], _interval),
        auroc_bootstrap=_optional(content["auroc_bootstrap"], _interval),
        average_precision=_optional(content["average_precision"], _interval),
        calibration_error=_calibrated(content["calibration_error"]),
        brier=_calibrated(content["brier"]),
        points=tuple(_point(each) for each in points),
    )


def _point(content: Mapping[str, Any]) -> OperatingPoint:
    aim: Aim = content["aim"]
    if aim not in get_args(Aim):
        raise ValueError("aim")
    answers = (_optional(content[part], _counts) for part in ("valid", "test"))
    return OperatingPoint(aim, _finite(content["target"]), _optional(content["log_odds"], _finite), *answers)


def _counts(content: Mapping[str, Any]) -> Counts:
    names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    return Counts(*(_whole(content[name]) for name in names))


def _interval(content: Mapping[str, Any]) -> Interval:
    return Interval(*(_finite(content[name]) for name in ("value", "low", "high")))


def _calibrated(content: Mapping[str, Any]) -> Calibrated:
    return Calibrated(*(_optional(content[name], _finite) for name in ("before", "after")))


def _optional(value: Any, read: Callable[[Any], T]) -> T | None:
    return None if value is None else read(value)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]} is no number")
    return float(value)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]} is no whole number")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{str(value)[:40]} is neither true nor false")
    return value
