"""What a model's file knows of its task: what the network ends in, and what its output says of a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from supernet.deployment.results import Result
from supernet.deployment.values import Boxes, Probabilities, check_probabilities, plain_number
from supernet.detection.decoding import decode
from supernet.detection.head import AnchorFree
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.heads import Outputs

_CANDIDATES = 1000  # boxes of a picture at least before those that overlap are left out
_MOST_OBJECTS = 300  # of a picture, where nobody asks for another number
_LARGEST = 1e6  # of a temperature or a bias: beyond it a probability is 0 or 1


@dataclass(frozen=True)
class Asked:
    """What a person asks of an answer.

    Args:
        conf: the least confidence of an object, or the least probability of each label, in [0, 1]; None: those of the
            model.
        iou: by how much two boxes of a class may overlap, as intersection over union, in [0, 1]; None: as the model
            says.
        max_det: objects of a picture at most; None: 300.
        classes: the numbers of the classes of the objects that are looked for; None: all.

    Raises:
        InputError: a value is out of its range.

    Example:
        >>> Asked(conf=0.5, max_det=20)
        Asked(conf=0.5, iou=None, max_det=20, classes=None)
    """

    conf: float | None = None
    iou: float | None = None
    max_det: int | None = None
    classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("conf", "iou", "max_det"):
            object.__setattr__(self, name, plain_number(getattr(self, name)))
        for name in ("conf", "iou"):
            share = getattr(self, name)
            if share is None:
                continue
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise InputError(f"{name}={str(share)[:40]}: needs a number from 0 to 1, such as 0.25")
        if self.max_det is not None and (type(self.max_det) is not int or self.max_det < 1):
            raise InputError(f"max_det={str(self.max_det)[:40]}: needs 1 object or more, such as 300")


class Answer(Protocol):
    """What a network's output says, a frozen dataclass. `ANSWERS` has those that a file can name."""

    name: ClassVar[str]
    uses: ClassVar[tuple[str, ...]]
    """The fields of `Asked` that have a meaning for it."""

    def settings(self) -> dict[str, Any]:
        """The plain settings that a file keeps, from which `answer_of` makes it again."""
        ...

    def outputs(self, classes: Sequence[str]) -> Outputs:
        """What a network for these classes ends in."""
        ...

    def values(self, output: Tensor) -> Tensor:
        """What leaves the model: probabilities (N, classes) of logits, or a detector's output as it is."""
        ...

    def logits(self, values: Tensor) -> Tensor:
        """Outputs of a network whose `values` these are: a task judges by them what is known by its values alone."""
        ...

    def check(self, values: Tensor, origin: str) -> None:
        """Raises InputError where values can be none of this answer, such as those of a network from anybody."""
        ...

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises InputError where the settings do not fit the classes."""
        ...

    def results(self, values: Tensor, pictures: Sequence[Any], names: Mapping[int, str], asked: Asked) -> list[Result]:
        """Says what the values mean.

        Args:
            values: of `values`, on the CPU, one row for each picture.
            pictures: they (`Picture`).
            names: of the classes by number.
            asked: what a person wants to see.

        Returns:
            One result for each picture.
        """
        ...


@dataclass(frozen=True)
class OneLabel:
    """Each picture is of one class: a softmax of the calibrated logits, logits / temperature + bias.

    Args:
        temperature: divides the logits (Guo et al. 2017).
        bias: is added to them, a number for each class; (): none.

    Raises:
        InputError: a setting is no sound number.

    Example:
        >>> OneLabel(temperature=2.0).values(torch.tensor([[0.0, 2.0]]))
        tensor([[0.2689, 0.7311]])
    """

    temperature: float = 1.0
    bias: tuple[float, ...] = ()

    name: ClassVar[str] = "one_label"
    uses: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "bias", tuple(self.bias))
        _check_temperatures((self.temperature,))
        _check_numbers("bias", self.bias, -_LARGEST, _LARGEST)

    def settings(self) -> dict[str, Any]:
        """As plain containers."""
        return {"temperature": self.temperature, "bias": list(self.bias)}

    def outputs(self, classes: Sequence[str]) -> Outputs:
        """A logit for each class."""
        return len(classes)

    def values(self, output: Tensor) -> Tensor:
        """Probabilities (N, classes) of logits (N, classes)."""
        return _calibrated(output, (self.temperature,), self.bias).softmax(1)

    def logits(self, values: Tensor) -> Tensor:
        """Logarithms of the probabilities."""
        return values.clamp_min(torch.finfo(torch.float32).tiny).log()

    def check(self, values: Tensor, origin: str) -> None:
        """Raises InputError where they are no probabilities that sum to 1."""
        check_probabilities(values, origin)

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises InputError where there are fewer than two classes, or the bias is of others."""
        if len(classes) < 2:
            raise InputError(f"classes={len(classes)}: one label of several needs 2 classes or more")
        _check_length("bias", self.bias, classes)

    def results(self, values: Tensor, pictures: Sequence[Any], names: Mapping[int, str], asked: Asked) -> list[Result]:
        """The probabilities of each picture."""
        own = dict(names)
        return [Result(own, Probabilities(v), picture=p) for v, p in zip(values, pictures, strict=True)]


@dataclass(frozen=True)
class SeveralLabels:
    """A picture can have several labels, or none: a sigmoid of each calibrated logit, logits / temperature + bias.

    Args:
        temperature: divides the logits: one number, or one for each label.
        bias: is added to them, a number for each label; (): none.
        thresholds: the probability from which a picture has the label, for each label in [0, 1], after the calibration;
            (): 0.5.

    Raises:
        InputError: a setting is no sound number.

    Example:
        >>> SeveralLabels().values(torch.tensor([[0.0, 2.0]]))
        tensor([[0.5000, 0.8808]])
    """

    temperature: float | tuple[float, ...] = 1.0
    bias: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()

    name: ClassVar[str] = "several_labels"
    uses: ClassVar[tuple[str, ...]] = ("conf",)

    def __post_init__(self) -> None:
        given = self.temperature
        object.__setattr__(self, "temperature", tuple(given) if isinstance(given, list | tuple) else given)
        for name in ("bias", "thresholds"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_temperatures(self._temperatures)
        _check_numbers("bias", self.bias, -_LARGEST, _LARGEST)
        _check_numbers("thresholds", self.thresholds, 0.0, 1.0)

    def settings(self) -> dict[str, Any]:
        """As plain containers."""
        one = self.temperature if isinstance(self.temperature, int | float) else list(self.temperature)
        return {"temperature": one, "bias": list(self.bias), "thresholds": list(self.thresholds)}

    def outputs(self, classes: Sequence[str]) -> Outputs:
        """A logit for each label."""
        return len(classes)

    def values(self, output: Tensor) -> Tensor:
        """Probabilities (N, labels) of logits (N, labels)."""
        return _calibrated(output, self._temperatures, self.bias).sigmoid()

    def logits(self, values: Tensor) -> Tensor:
        """Logarithms of the odds."""
        return values.logit(torch.finfo(torch.float32).eps)

    def check(self, values: Tensor, origin: str) -> None:
        """Raises InputError where they are no probabilities."""
        check_probabilities(values, origin, several=True)

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises InputError where a setting is of other labels."""
        for name in ("bias", "thresholds"):
            _check_length(name, getattr(self, name), classes)
        if isinstance(self.temperature, tuple):
            _check_length("temperature", self.temperature, classes)

    def results(self, values: Tensor, pictures: Sequence[Any], names: Mapping[int, str], asked: Asked) -> list[Result]:
        """The probabilities of each picture, with the thresholds of the model or the one that was asked for."""
        own, count = dict(names), values.shape[1]
        thresholds = (self.thresholds or (0.5,) * count) if asked.conf is None else (float(asked.conf),) * count
        return [Result(own, Probabilities(v, thresholds), picture=p) for v, p in zip(values, pictures, strict=True)]

    @property
    def _temperatures(self) -> tuple[float, ...]:
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)


@dataclass(frozen=True)
class Objects:
    """A picture shows objects, any number of them: boxes with classes and confidences.

    Args:
        head: what the network ends in; how many classes it has follows from their names.
        conf: the confidence from which on an object is shown where nobody asks for another one, in [0, 1]; one number,
            or one for each class, such as those with the best F1 on the validation images.
        iou: by how much two boxes of a class may overlap where nobody asks for something else, in [0, 1].

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> Objects(AnchorFree(classes=1, width=32)).outputs(("cell", "platelet")).classes
        2
    """

    head: AnchorFree = field(default_factory=lambda: AnchorFree(classes=1))
    conf: float | tuple[float, ...] = 0.25
    iou: float = 0.6

    name: ClassVar[str] = "objects"
    uses: ClassVar[tuple[str, ...]] = ("conf", "iou", "max_det", "classes")

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", replace(self.head, classes=1))
        given = self.conf
        object.__setattr__(self, "conf", tuple(given) if isinstance(given, list | tuple) else given)
        _check_numbers("conf", self.conf if isinstance(self.conf, tuple) else (self.conf,), 0.0, 1.0)
        _check_numbers("iou", (self.iou,), 0.0, 1.0)

    def settings(self) -> dict[str, Any]:
        """As plain containers; the number of classes is not among them."""
        own = {f.name: getattr(self.head, f.name) for f in fields(self.head) if f.name != "classes"}
        own |= {"conf": self.conf, "iou": self.iou}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}

    def outputs(self, classes: Sequence[str]) -> Outputs:
        """The head for so many classes."""
        return replace(self.head, classes=len(classes))

    def values(self, output: Tensor) -> Tensor:
        """The output as it is (N, places, classes + 8)."""
        return output

    def logits(self, values: Tensor) -> Tensor:
        """The output as it is."""
        return values

    def check(self, values: Tensor, origin: str) -> None:
        """Raises InputError where a value is not finite."""
        if not values.isfinite().all():
            raise InputError(f"{origin}: answers with infinite values or none (NaN); train it again")

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises InputError where there is no class."""
        if not classes:
            raise InputError("classes=0: a detector needs 1 class or more")
        if isinstance(self.conf, tuple):
            _check_length("conf", self.conf, classes)

    def results(self, values: Tensor, pictures: Sequence[Any], names: Mapping[int, str], asked: Asked) -> list[Result]:
        """The boxes of each picture, in its own pixels."""
        least = self.conf if asked.conf is None else asked.conf
        of_class = torch.tensor(least if isinstance(least, tuple) else [least] * len(names))
        count = _MOST_OBJECTS if asked.max_det is None else asked.max_det
        most = max(_CANDIDATES, 4 * count)
        found = decode(
            values,
            conf=float(of_class.min()),
            iou=self.iou if asked.iou is None else asked.iou,
            max_det=most,  # cut below, when each class has met its own confidence
            classes=asked.classes,
            most=most,
        )
        own, results = dict(names), []
        for one, picture in zip(found, pictures, strict=True):
            boxes = picture.placed.back(one.boxes)
            data = torch.cat((boxes, one.scores[:, None], one.classes[:, None].to(boxes.dtype)), 1)
            within = (data[:, 2] > data[:, 0]) & (data[:, 3] > data[:, 1])  # not beside the picture
            data = data[within & (one.scores >= of_class[one.classes])][:count]
            results.append(Result(own, boxes=Boxes(data, picture.shape), picture=picture))
        return results


ANSWERS: dict[str, type[Any]] = {kind.name: kind for kind in (OneLabel, SeveralLabels, Objects)}
"""The answers that a model's file can name."""


def plain_answer(answer: Answer) -> dict[str, Any]:
    """The form in which a file keeps an answer: its name and its settings."""
    return {"name": answer.name, "settings": answer.settings()}


def answer_of(plain: Mapping[str, Any]) -> Answer:
    """Reads what `plain_answer` has made. Nothing is imported or called by a name from a file.

    Args:
        plain: a name of `ANSWERS` and settings.

    Returns:
        The answer.

    Raises:
        InputError: the name or a setting is unknown, or a value is out of its range.
        TypeError, ValueError, KeyError: it has another form.

    Example:
        >>> answer_of(plain_answer(SeveralLabels(thresholds=(0.3, 0.6)))).thresholds
        (0.3, 0.6)
    """
    name, settings = str(plain["name"]), dict(plain["settings"])
    if name not in ANSWERS:
        raise InputError(f"task {name[:40]!r} is unknown; known: {', '.join(ANSWERS)}; a newer supernet may read it")
    kind = ANSWERS[name]
    known = {f.name for f in fields(kind)} - {"head"}
    if kind is Objects:
        own = {f.name for f in fields(AnchorFree)} - {"classes"}
        known |= own
        _check_names(name, settings, known)
        head = AnchorFree(classes=1, **{n: _whole(n, v) for n, v in settings.items() if n in own})
        return Objects(head, **{n: v for n, v in settings.items() if n in ("conf", "iou")})
    _check_names(name, settings, known)
    made: Answer = kind(**settings)
    return made


def _check_names(name: str, settings: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(settings) - known):
        raise InputError(f"setting {unknown[0][:40]!r} is unknown to task {name!r}")


def _whole(name: str, value: Any) -> Any:
    """A setting of a head from a file: a whole number, or some of them."""
    values = value if isinstance(value, list) else [value]
    if len(values) > 16 or any(type(v) is not int or not 0 <= v < 1 << 16 for v in values):
        raise InputError(f"task: {name}={str(value)[:40]}: needs whole numbers")
    return tuple(values) if isinstance(value, list) else value


def _calibrated(logits: Tensor, temperatures: tuple[float, ...], bias: tuple[float, ...]) -> Tensor:
    """logits / temperature + bias; the very logits where neither changes them."""
    logits = logits.float()
    if temperatures != (1.0,):
        logits = logits / logits.new_tensor(temperatures)
    return logits + logits.new_tensor(bias) if any(bias) else logits


def _check_temperatures(values: Sequence[Any]) -> None:
    if not values:
        raise InputError("temperature=(): needs a number, such as 1.0, or one for each label")
    _check_numbers("temperature", values, 1 / _LARGEST, _LARGEST)


def _check_numbers(name: str, values: Sequence[Any], low: float, high: float) -> None:
    for value in values:
        sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not sound or not low <= value <= high:
            raise InputError(f"{name}={str(value)[:40]}: needs a number from {low:g} to {high:g}")


def _check_length(name: str, values: Sequence[float], classes: Sequence[str]) -> None:
    if len(values) not in (0, len(classes)):
        raise InputError(
            f"{name}: {quantity(len(values), 'number')} for {quantity(len(classes), 'class')}; needs one for each"
        )


ONE_LABEL = OneLabel()
"""The answer of a model for which no other is given, and of all files of version 1."""
