"""What is known of each image, in one tensor for a whole set: a class, several labels, or the boxes of objects.

- (N,) int64: the class of each image, from 0 on.
- (N, labels) int64: 1 where a label applies, 0 where it does not, -1 where that is unknown.
- (N, most, 7) float32: the boxes of each image, with the columns of `BOX`. Rows that fill up have class -1 and zeros.

The first side counts images, so that parts, batches and hashes are made alike whatever is known of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from supernet.runtime.errors import InputError

Kind = Literal["classes", "labels", "boxes"]

BOX = ("class", "x1", "y1", "x2", "y2", "ignored", "area")
"""The columns of a box: its class, its corners in pixels of the prepared image, 1 where it is a crowd or too difficult
to be asked for, and its area in pixels of the original image."""

CLASS, CORNERS, IGNORED, AREA = 0, slice(1, 5), 5, 6


def kind_of(labels: Tensor) -> Kind:
    """Tells by shape and type what labels say of images.

    Args:
        labels: of N images.

    Returns:
        "classes", "labels" or "boxes", in the forms that stand at the top of this file.

    Raises:
        InputError: they are of no such form.

    Example:
        >>> kind_of(torch.tensor([0, 2, 1])), kind_of(torch.tensor([[1, 0], [0, -1]])), kind_of(torch.zeros(2, 0, 7))
        ('classes', 'labels', 'boxes')
    """
    if labels.dtype == torch.int64 and labels.dim() == 1:
        return "classes"
    if labels.dtype == torch.int64 and labels.dim() == 2:
        return "labels"
    if labels.dtype == torch.float32 and labels.dim() == 3 and labels.shape[2] == len(BOX):
        return "boxes"
    shape = f"{str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
    raise InputError(
        f"labels: must be int64 of shape (N,) or (N, labels), or float32 of shape (N, most, {len(BOX)}), not {shape}"
    )


def presence(labels: Tensor, classes: int) -> Tensor:
    """Tells which classes each image shows, however its labels say so.

    Args:
        labels: of any kind, N images.
        classes: how many there are.

    Returns:
        (N, classes) bool: its class; the labels that are known to apply; the classes of its boxes.

    Example:
        >>> presence(torch.tensor([1, 0]), 2).tolist()
        [[False, True], [True, False]]
        >>> presence(torch.tensor([[1, -1]]), 2).tolist()
        [[True, False]]
    """
    kind = kind_of(labels)
    if kind == "labels":
        return labels == 1
    named = labels[:, None] if kind == "classes" else labels[..., CLASS].long()
    return (named[..., None] == torch.arange(classes)).any(1)


def counted(labels: Tensor, classes: int) -> tuple[int, ...]:
    """Counts what each class has: images, or boxes where objects are boxed.

    Args:
        labels: of any kind.
        classes: how many there are.

    Returns:
        The number of each class.

    Example:
        >>> counted(torch.tensor([0, 2, 2]), classes=4)
        (1, 0, 2, 0)
    """
    if kind_of(labels) == "boxes":
        labels = labels[..., CLASS].flatten().long()
        labels = labels[labels >= 0]
    elif labels.dim() == 2:
        return tuple((labels == 1).sum(0).tolist())
    return tuple(torch.bincount(labels, minlength=classes).tolist())


def most_named(labels: Tensor) -> int:
    """Counts the classes that there are at least.

    Args:
        labels: of any kind.

    Returns:
        One more than the largest number of a class that they name; their columns where there are several labels.
    """
    kind = kind_of(labels)
    if kind == "labels":
        return labels.shape[1]
    named = labels if kind == "classes" else labels[..., CLASS]
    return int(named.max()) + 1 if named.numel() else 0


def class_names(given: Sequence[object] | None) -> tuple[str, ...]:
    """Reads names of classes that a person gave, perhaps in YAML, where no is a false and 1.50 a number.

    Args:
        given: names; a whole number is a name, too. None: none.

    Returns:
        The names.

    Raises:
        InputError: what somebody has written as a name cannot be told any more.

    Example:
        >>> class_names(["no", 7])
        ('no', '7')
    """
    if isinstance(given, str):
        raise InputError(f"classes={given[:60]}: needs a list of names, such as [{given[:60]}]")
    for name in given or ():
        if isinstance(name, bool) or not isinstance(name, str | Integral):
            shown = str(name)[:60]
            raise InputError(f"classes: {shown} is no name; YAML takes words such as no and on for others: use quotes")
    return tuple(str(name) for name in given or ())


def padded(boxes: Sequence[Tensor]) -> Tensor:
    """Puts the boxes of N images into one tensor.

    Args:
        boxes: of each image, (count, 7) float32 with the columns of `BOX`.

    Returns:
        (N, most, 7) float32; rows that fill up have class -1 and zeros.

    Example:
        >>> one = torch.tensor([[2.0, 0, 0, 4, 4, 0, 16]])
        >>> padded([one, one[:0]])[:, :, 0].tolist()
        [[2.0], [-1.0]]
    """
    most = max((len(each) for each in boxes), default=0)
    whole = torch.zeros(len(boxes), most, len(BOX))
    whole[..., CLASS] = -1
    for row, each in zip(whole, boxes, strict=True):
        row[: len(each)] = each
    return whole


def check_labels(labels: Tensor) -> None:
    """Refuses labels that no task could take.

    Raises:
        InputError: they are of no kind (`kind_of`), a label is neither -1, 0 nor 1 where there are several, or a box is
            not finite.
    """
    kind = kind_of(labels)
    if kind == "labels" and labels.numel() and not ((labels >= -1) & (labels <= 1)).all():
        raise InputError(
            f"labels: several of an image are 1, 0 or -1 (unknown), and these go from {int(labels.min())} to "
            f"{int(labels.max())}"
        )
    if kind == "boxes" and not labels.isfinite().all():
        raise InputError("labels: a box has infinite corners or none (NaN); correct or remove it")
