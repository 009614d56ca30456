"""Describes what was read: the classes, the images of each part, and what was left out, converted or held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from supernet.data.targets import Kind
from supernet.runtime.text import printable, quantity

_SHOWN = 8  # classes in a line
_CALLED: dict[Kind, tuple[str, str]] = {  # one of them, and what is counted
    "classes": ("class", "images"),
    "labels": ("label", "images"),
    "boxes": ("class", "boxes"),
}
_SAMPLED = 64  # images of each part whose pixels are in the fingerprint


@dataclass(frozen=True)
class Reading:
    """What a reader found in a data set, for people and for summary.json.

    Args:
        classes: the names of the classes.
        counts: for each of "train", "valid" and "test" that exists, the number of images of each class, of boxes where
            objects are boxed.
        shape: the (channels, height, width) of every image.
        held_out: whether the test images were drawn from the training images because the data have none.
        notes: what was left out, resized, converted or found twice, a short line each.
        images: for each of the parts, the number of images; without any they are the sums of the counts.
        kind: what is known of an image (`supernet.data.targets`).
    """

    classes: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    shape: tuple[int, int, int]
    held_out: bool = False
    notes: tuple[str, ...] = ()
    images: Mapping[str, int] = field(default_factory=dict)
    kind: Kind = "classes"

    def lines(self) -> list[str]:
        """Returns a few short printable lines: the images, the classes, and each note."""
        parts = self._images()
        shown = [f"{part} {parts[part]:,}" if part in parts else f"{part} -" for part in ("train", "valid", "test")]
        held = " (held out)" if self.held_out else ""
        size = " x ".join(map(str, self.shape))
        count, (called, what) = quantity(sum(parts.values()), "image"), _CALLED[self.kind]
        images = f"{count} of {size} (channels, height, width): {', '.join(shown)}{held}"
        classes = f"{quantity(len(self.classes), called)} ({what}): {self._classes()}"
        return [printable(line) for line in (images, classes, *self.notes)]

    def to_json(self) -> dict[str, Any]:
        """Returns the same as plain values, with the images of each part and class."""
        return {
            "images": self._images(),
            "held_out": self.held_out,
            "shape": list(self.shape),
            "classes": {
                name: {part: counts[label] for part, counts in self.counts.items()}
                for label, name in enumerate(self.classes)
            },
            "notes": list(self.notes),
        }

    def _images(self) -> dict[str, int]:
        return dict(self.images) or {part: sum(counts) for part, counts in self.counts.items()}

    def _classes(self) -> str:
        totals = [sum(counts) for counts in zip(*self.counts.values(), strict=True)]
        named = [f"{name} ({count:,})" for name, count in zip(self.classes, totals, strict=True)]
        if len(named) <= _SHOWN:
            return ", ".join(named)
        return f"{', '.join(named[: _SHOWN - 1])}, ... ({min(totals):,} to {max(totals):,})"


def sampled(count: int) -> Tensor:
    """Spreads at most 64 places evenly over the images of a part, so that a fingerprint need not read all of them.

    Args:
        count: how many images there are.

    Returns:
        The places in rising order, int64, (count,) or (64,) where there are more images.

    Example:
        >>> sampled(3)
        tensor([0, 1, 2])
        >>> places = sampled(6301)
        >>> len(places), places[:3]
        (64, tensor([  0, 100, 200]))
    """
    return torch.linspace(0, count - 1, min(count, _SAMPLED), dtype=torch.float64).round().long()


def hashed(parts: Iterable[str | bytes]) -> str:
    """Returns the SHA-256 of some parts, each with its length before it, so that other parts of one text differ, too.

    Args:
        parts: texts, taken as UTF-8 (names of files may hold other bytes), and bytes.

    Returns:
        The hash in 64 hexadecimal digits.

    Example:
        >>> len(hashed(["ab"])), hashed(["ab"]) == hashed(["a", "b"])
        (64, False)
    """
    whole = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.hexdigest()
