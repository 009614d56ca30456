"""One way from pictures to results, whatever runs the network: read, compute, say what it means."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from supernet.deployment.answers import Answer, Asked
from supernet.deployment.pictures import Pictures
from supernet.deployment.results import Result, number_of
from supernet.deployment.values import plain_number
from supernet.detection.boxes import overlaps
from supernet.runtime.errors import InputError

_BESIDE_CLASSES = 8  # columns of a detector's output: the quality, four sides, three constants
_ONE_CLASS = "this model says one class of each image, however sure; see .probs.top1conf, and leave it out"
_NO_OBJECTS = "is for objects, and this model says how probable each class is; see .probs, and leave it out"
Explainer = Callable[[Result, int | None], Any]


def asked_of(
    names: Mapping[int, str],
    answer: Answer,
    *,
    conf: float | None,
    iou: float | None,
    max_det: int | None,
    classes: Sequence[int | str] | int | str | None,
) -> Asked:
    """Checks what a person asks for.

    Args:
        names: of the classes by number.
        answer: of the model.
        conf: as in `Asked`.
        iou: as in `Asked`.
        max_det: as in `Asked`.
        classes: names or numbers, or one of them.

    Returns:
        It, with the numbers of the classes.

    Raises:
        InputError: a value is out of its range, a class unknown, or the model has no use for a value.
    """
    for name, value in {"conf": conf, "iou": iou, "max_det": max_det, "classes": classes}.items():
        if value is not None and name not in answer.uses:
            raise InputError(f"{name}={str(value)[:60]}: {_ONE_CLASS if name == 'conf' else _NO_OBJECTS}")
    if classes is None:
        return Asked(conf, iou, max_det)
    one = plain_number(classes)
    given = [plain_number(each) for each in one] if isinstance(one, Iterable) and not isinstance(one, str) else [one]
    numbers = tuple(number_of(each, dict(names)) if isinstance(each, str) else each for each in given)
    for number in numbers:
        if type(number) is not int or number not in names:
            raise InputError(
                f"classes={str(given)[:60]}: there is no class {str(number)[:40]}; use 0 to {len(names) - 1}"
            )
    return Asked(conf, iou, max_det, numbers)


def answered(
    pictures: Pictures,
    source: Any,
    values: Callable[[Tensor], Tensor],
    answer: Answer,
    names: Mapping[int, str],
    asked: Asked,
    *,
    device: torch.device | str = "cpu",
    explainer: Explainer | None = None,
) -> Iterator[Result]:
    """Yields what a model says of each picture, batch by batch.

    Args:
        pictures: reads them.
        source: as `Predictor` takes it.
        values: from pixels (N, channels, height, width), floats in [0, 255], to what `Answer.values` gives, on the CPU.
        answer: what these values mean.
        names: of the classes by number.
        asked: what a person wants to see.
        device: where the network is.
        explainer: as in `Result`.

    Yields:
        One result for each picture, in their order.

    Raises:
        InputError: a picture is not understood, or the network's values can be none.
    """
    began = time.perf_counter()
    for seen, pixels in pictures.batches(source, device):
        read = time.perf_counter()
        found = values(pixels).clone()  # made in inference mode, it could not be changed by who gets it
        answer.check(found, "model")
        ran = time.perf_counter()
        results = answer.results(found, seen, names, asked)
        done = time.perf_counter()
        times = zip(("preprocess", "inference", "postprocess"), (read - began, ran - read, done - ran), strict=True)
        speed = {name: 1000 * seconds / len(seen) for name, seconds in times}
        yield from (replace(result, speed=speed, explainer=explainer) for result in results)
        began = time.perf_counter()


def bgr_of(channels: str) -> bool:
    """Whether arrays have blue first. Raises InputError where `channels` is neither "rgb" nor "bgr"."""
    if channels not in ("rgb", "bgr"):
        raise InputError(f"channels={str(channels)[:40]}: use rgb, or bgr for arrays that OpenCV has read")
    return channels == "bgr"


def scored(result: Result, target: int | None) -> tuple[Callable[[Tensor], Tensor], str]:
    """What is explained of a result.

    Args:
        result: of the picture.
        target: the number of a class, or of a detector the number of a box; None: the surest.

    Returns:
        From the network's output of that picture alone to the score, a scalar; and its label.

    Raises:
        InputError: there is no such class or box.
    """
    if result.boxes is None:
        assert result.probs is not None
        number = result.probs.top1 if target is None else target
        if type(number) is not int or number not in result.names:
            raise InputError(f"explain: there is no class {str(number)[:40]}; use 0 to {len(result.names) - 1}")
        return lambda output: output[0, number], result.names[number]
    at = 0 if target is None else target
    if type(at) is not int or not 0 <= at < len(result.boxes):
        raise InputError(
            f"explain: there is no box {str(at)[:40]}; this result has {len(result.boxes)}; a lower conf finds more"
        )
    assert result.picture is not None
    row = torch.as_tensor(result.boxes.data)[at].cpu()
    box, kind = result.picture.placed.forward(row[:4]), int(row[5])

    def of_box(output: Tensor) -> Tensor:
        count = output.shape[2] - _BESIDE_CLASSES
        sure = output[0, :, kind].sigmoid() * output[0, :, count].sigmoid()
        alike = overlaps(output[0, :, count + 1 : count + 5].detach().cpu(), box).to(output.device)
        place = (alike * sure.detach()).argmax()
        return output[0, place, kind] + output[0, place, count]

    return of_box, f"{result.names[kind]} {float(row[4]):.2f}"
