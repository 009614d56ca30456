"""Images that belong together, such as those of a patient: no split may come between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity


def numbered(names: Sequence[object]) -> Tensor:
    """Gives images of one name one number.

    Args:
        names: of N groups, such as the patients.

    Returns:
        (N,) int64, counted from 0 in the order of their first appearance.

    Example:
        >>> numbered(["p7", "p2", "p7"]).tolist()
        [0, 1, 0]
    """
    places: dict[object, int] = {}
    return torch.tensor([places.setdefault(name, len(places)) for name in names], dtype=torch.int64)


def joined(first: Tensor, second: Tensor) -> Tensor:
    """Joins two groupings: what belongs together in one of them, directly or through others, belongs together.

    Args:
        first: (N,) int64.
        second: (N,) int64.

    Returns:
        (N,) int64: the least place in each group.

    Example:
        >>> joined(torch.tensor([0, 0, 1, 2]), torch.tensor([5, 6, 6, 7])).tolist()
        [0, 0, 0, 3]
    """
    groupings = [each.unique(return_inverse=True)[1] for each in (first, second)]
    least = torch.arange(len(first))
    while True:
        before = least
        for grouping in groupings:
            whole = torch.full_like(least, len(least)).scatter_reduce(0, grouping, least, "amin")
            least = whole[grouping]
        if torch.equal(before, least):
            return least


def named_in(files: Sequence[str], pattern: str) -> list[str]:
    """Takes the names of groups out of the names of files.

    Args:
        files: paths below the folder of the data set, with slashes.
        pattern: a regular expression with one group in parentheses, which is the name, such as `(patient\\d+)_`.

    Returns:
        The name of the group of each file.

    Raises:
        InputError: it is no such expression, or a file does not fit it.

    Example:
        >>> named_in(["train/p1_a.png", "train/p1_b.png"], r"(p\\d+)_")
        ['p1', 'p1']
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"groups={pattern}: no regular expression ({error}); such as (patient[0-9]+)_") from None
    if expression.groups != 1:
        raise InputError(
            f"groups={pattern}: needs one group in parentheses, such as (patient[0-9]+)_, and has {expression.groups}"
        )
    found = [expression.search(file) for file in files]
    lost = [file for file, match in zip(files, found, strict=True) if match is None or match[1] is None]
    if lost:
        raise InputError(
            f"groups={pattern}: does not fit {len(lost):,} of {quantity(len(files), 'file')}, such as {lost[0]}; it "
            "must fit all"
        )
    return [match[1] for match in found if match is not None]


def group_notes(parts: Mapping[str, Iterable[object]], name: str) -> list[str]:
    """Lines on what groups there are, and on those that stand on both sides of a given split.

    Args:
        parts: the names of the groups of each image; "train" first.
        name: what the groups are called.

    Example:
        >>> print(*group_notes({"train": ["a", "a", "b"], "test": ["b", "c"]}, "patient"), sep=chr(10))
        patient: 2 groups of training images, each on one side of a split
        warning: 1 of them has images in test, too
    """
    train = {str(group) for group in parts["train"]}
    found = quantity(len(train), "group of training images", "groups of training images")
    notes = [f"{name}: {found}, each on one side of a split"]
    for part, groups in parts.items():
        both = train & {str(group) for group in groups} if part != "train" else set()
        if both:
            notes.append(f"warning: {quantity(len(both), 'of them has', 'of them have')} images in {part}, too")
    return notes
