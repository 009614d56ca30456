"""What a model says of one picture as numbers: the boxes that it found, or the probability of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from supernet.runtime.errors import InputError

_OFF = 1e-3  # of a sum of probabilities from 1
_ROUNDED = 1e-6
_MOST = 5  # classes that `top5` names
Self = TypeVar("Self", bound="_Moved")


class _Moved:
    """What holds one tensor and gives copies of itself elsewhere."""

    data: Tensor

    def _with(self: Self, data: Any) -> Self:
        raise NotImplementedError

    def cpu(self: Self) -> Self:
        """The same on the processor."""
        return self._with(self.data.cpu() if isinstance(self.data, Tensor) else self.data)

    def cuda(self: Self) -> Self:
        """The same on a GPU."""
        return self.to("cuda")

    def to(self: Self, *arguments: Any, **settings: Any) -> Self:
        """The same on another device or of another type, as `torch.Tensor.to` takes them."""
        return self._with(torch.as_tensor(self.data).to(*arguments, **settings))

    def numpy(self: Self) -> Self:
        """The same with NumPy arrays in place of tensors."""
        return self._with(self.data.cpu().numpy() if isinstance(self.data, Tensor) else self.data)


@dataclass(frozen=True, eq=False)
class Boxes(_Moved):
    """The boxes that a detector found in a picture, the surest first.

    Args:
        data: (N, 6): x1, y1, x2, y2 in pixels of the picture as it was given, the confidence in [0, 1], the class.
        orig_shape: the (height, width) of that picture.

    Example:
        >>> boxes = Boxes(torch.tensor([[10.0, 20.0, 30.0, 60.0, 0.9, 1.0]]), orig_shape=(100, 200))
        >>> boxes.xywh, boxes.xyxyn
        (tensor([[20., 40., 20., 40.]]), tensor([[0.0500, 0.2000, 0.1500, 0.6000]]))
        >>> boxes.conf[0].item() > 0.8, int(boxes.cls[0]), len(boxes)
        (True, 1, 1)
    """

    data: Tensor
    orig_shape: tuple[int, int]

    id: ClassVar[None] = None
    """Nothing is tracked over pictures."""
    is_track: ClassVar[bool] = False

    @property
    def xyxy(self) -> Tensor:
        """(N, 4): left, top, right, bottom, in pixels."""
        return self.data[:, :4]

    @property
    def xywh(self) -> Tensor:
        """(N, 4): centre x, centre y, width, height, in pixels."""
        left, top, right, bottom = (self.data[:, i] for i in range(4))
        return _columns((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)

    @property
    def xyxyn(self) -> Tensor:
        """As `xyxy`, in shares of the picture's width and height."""
        return self._shares(self.xyxy)

    @property
    def xywhn(self) -> Tensor:
        """As `xywh`, in shares of the picture's width and height."""
        return self._shares(self.xywh)

    @property
    def conf(self) -> Tensor:
        """(N,): how sure the model is of each box, in [0, 1]."""
        return self.data[:, 4]

    @property
    def cls(self) -> Tensor:
        """(N,): the number of each box's class, as a float; `int()` makes it a key of `Result.names`."""
        return self.data[:, 5]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `data`."""
        return tuple(self.data.shape)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Boxes:
        """The boxes of a number, a slice, a mask or a list of numbers; one box has `xyxy` of shape (1, 4)."""
        return self._with(self.data[index].reshape(-1, self.data.shape[1]))

    def _with(self, data: Any) -> Boxes:
        return Boxes(data, self.orig_shape)

    def _shares(self, boxes: Tensor) -> Tensor:
        height, width = self.orig_shape
        return _columns(boxes[:, 0] / width, boxes[:, 1] / height, boxes[:, 2] / width, boxes[:, 3] / height)


@dataclass(frozen=True, eq=False)
class Probabilities(_Moved):
    """How probable each class is.

    Args:
        data: (classes,). They sum to 1, but where a picture can have several labels at once.
        thresholds: of each class, in [0, 1], where a picture can have several labels: from there on it has the label.

    Example:
        >>> probabilities = Probabilities(torch.tensor([0.25, 0.75]))
        >>> probabilities.top1, probabilities.top1conf.item(), probabilities.top5, probabilities.top5conf
        (1, 0.75, [1, 0], tensor([0.7500, 0.2500]))
        >>> several = Probabilities(torch.tensor([0.3, 0.6, 0.8]), thresholds=(0.2, 0.7, 0.5))
        >>> several.present, several.shown
        ([0, 2], [2, 0])
    """

    data: Tensor
    thresholds: tuple[float, ...] | None = None

    @property
    def top1(self) -> int:
        """The number of the most probable class."""
        return int(self.data.argmax())

    @property
    def top1conf(self) -> Tensor:
        """The probability of the most probable class, a tensor of one value; `.item()` makes it a number."""
        return self.data.max()

    @property
    def top5(self) -> list[int]:
        """The numbers of the five most probable classes, or of all if there are fewer, the most probable first."""
        return [int(i) for i in torch.as_tensor(self.data).topk(min(_MOST, len(self.data))).indices]

    @property
    def top5conf(self) -> Tensor:
        """The probabilities of `top5`, a tensor; `.tolist()` makes them numbers."""
        return self.data[self.top5]

    @property
    def present(self) -> list[int]:
        """The numbers of the labels that the picture has: all that reach their thresholds, or the one of `top1`."""
        if self.thresholds is None:
            return [self.top1]
        return [i for i, (share, least) in enumerate(zip(self.data, self.thresholds, strict=True)) if share >= least]

    @property
    def shown(self) -> list[int]:
        """The numbers of the classes that a person is shown, the most probable first.

        `top5`, or where a picture can have several labels all of `present`.
        """
        if self.thresholds is None:
            return self.top5
        return sorted(self.present, key=lambda number: -float(self.data[number]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `data`."""
        return tuple(self.data.shape)

    def __len__(self) -> int:
        return len(self.data)

    def _with(self, data: Any) -> Probabilities:
        return Probabilities(data, self.thresholds)


def plain_number(value: Any) -> Any:
    """Makes a number of NumPy or PyTorch one of Python, as it stands in arrays and tensors that people pass on.

    Args:
        value: anything.

    Returns:
        The number; what is none, as it is.

    Example:
        >>> plain_number(np.int64(3)), plain_number(torch.tensor(0.5)), plain_number("3")
        (3, 0.5, '3')
    """
    single = isinstance(value, np.generic) or (isinstance(value, Tensor | np.ndarray) and value.ndim == 0)
    return value.item() if single else value


def check_probabilities(answers: Tensor, origin: str, *, several: bool = False) -> None:
    """Refuses answers that are no probabilities, such as those of a file with weights of anybody.

    Args:
        answers: (N, classes).
        origin: of what, for the message.
        several: whether an image can have several labels, so that the sum is free.

    Raises:
        InputError: one is not finite or outside [0, 1], or those of an image do not sum to 1.

    Example:
        >>> check_probabilities(torch.tensor([[0.25, 0.75]]), "model.onnx")
    """
    if not answers.numel():
        return
    reason = ""
    if not answers.isfinite().all():
        reason = "infinite values or none (NaN)"
    elif not ((answers >= -_ROUNDED) & (answers <= 1 + _ROUNDED)).all():
        reason = f"values from {float(answers.min()):.3g} to {float(answers.max()):.3g}"
    elif not several and float(off := (answers.double().sum(1) - 1).abs().max()) > _OFF:
        reason = f"values whose sum is {float(off):.3g} off 1"
    if reason:
        raise InputError(f"{origin}: answers with {reason}, which are no probabilities; train it, or export it, again")


def _columns(*columns: Any) -> Any:
    """(N,) each, side by side, as tensors or as arrays."""
    return torch.stack(columns, -1) if isinstance(columns[0], Tensor) else np.stack(columns, -1)
