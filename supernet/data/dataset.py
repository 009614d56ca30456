"""The class `Data`, which holds a data set, and `assemble`, which makes one of images that a reader has read.

To add a data set, write a function that reads images into `Parts`, gives them to `assemble` and returns its `Data`.
An .npz file or a folder of images needs no new function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.data.groups import joined
from supernet.data.preparation import PLAIN, Preparation
from supernet.data.reading import Reading, hashed
from supernet.data.splits import split_with_copies, stratified_split, stratified_subset
from supernet.data.targets import Kind, counted, kind_of, most_named
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

_TEST_SHARE, _TEST_SEED = 0.2, 20_180_624  # the test images never depend on a run's seed
_FLAT = 1e-4  # the measured deviation of pixels that are all alike


class Sealed:
    """The test images. They can be taken out once, because results on them must not guide any choice.

    Args:
        source: the test images and their labels.

    Example:
        >>> import torch
        >>> from supernet.data.batches import Resident
        >>> test = Sealed(Resident(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1])))
        >>> len(test.open())
        2
        >>> test.open()
        Traceback (most recent call last):
        RuntimeError: the test images were used already; evaluate all candidates together, once, at the end
    """

    def __init__(self, source: Source) -> None:
        self._source: Source | None = source
        self._labels, self._digest = source.labels, source.digest()

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> Tensor:
        """The labels (N,) int64, without the images: class counts may be known at any time."""
        return self._labels

    @property
    def digest(self) -> str:
        """The hash by which these images are recognised."""
        return self._digest

    def open(self) -> Source:
        """Returns the images at the first call. Raises RuntimeError at every later one."""
        if self._source is None:
            raise RuntimeError("the test images were used already; evaluate all candidates together, once, at the end")
        source, self._source = self._source, None
        return source


@dataclass(frozen=True)
class Data:
    """A data set. `supernet.data` has a function for each kind of data that returns one.

    Args:
        name: the name of the data set.
        classes: the names of the classes; a label is a place in it.
        train: the images to learn from.
        valid: the images to choose by, or None where the data have no validation set of their own.
        test: the images to judge by, which can be taken out once.
        augmentation: how images are changed for training, and normalised always.
        held_out: whether the test images were drawn from the training images because the data have none.
        notes: what the reader left out or changed, a short line each.
        groups: (N,) int64 of the training images, one number for all that belong on one side of a split, such as those
            of a patient; None: each stands for itself.

    Example:
        >>> import supernet
        >>> data = supernet.data.digits()
        >>> data.shape, len(data.train), len(data.test)
        ((1, 8, 8), 1438, 359)
        >>> print(data.reading.lines()[0])
        1,797 images of 1 x 8 x 8 (channels, height, width): train 1,438, valid -, test 359 (held out)
    """

    name: str
    classes: tuple[str, ...]
    train: Source
    valid: Source | None
    test: Sealed
    augmentation: Augmentation
    held_out: bool = False
    notes: tuple[str, ...] = ()
    groups: Tensor | None = None

    @property
    def reading(self) -> Reading:
        """A description of what was read, for people and for summary.json."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        there = {part: source for part, source in parts.items() if source is not None}
        counts = {part: counted(source.labels, len(self.classes)) for part, source in there.items()}
        images = {part: len(source) for part, source in there.items()}
        return Reading(self.classes, counts, self.shape, self.held_out, self.notes, images, self.kind)

    @property
    def kind(self) -> Kind:
        """What is known of an image: one of the classes, several labels, or boxes of objects."""
        return kind_of(self.train.labels)

    @property
    def fingerprint(self) -> str:
        """A hash of the images and labels of all parts, by which other data of the same name are noticed."""
        return hashed((self.train.digest(), self.valid.digest() if self.valid else "", self.test.digest))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (channels, height, width) of every image as a network is given it."""
        return self.augmentation.output(self.train.shape)


@dataclass(frozen=True)
class Parts:
    """Images and labels as read, before anything is held out.

    Args:
        train: the training images.
        valid: the validation images, where the data have some.
        test: the test images, where the data have some; otherwise `assemble` holds a fifth of `train` out.
        classes: the names of the classes by label; without any, the labels' numbers are the names.
        copies: (N,) int64, one number for all training images with the same content, where that was looked for.
        notes: what the reader left out or changed, a short line each.
        groups: (N,) int64, one number for all training images that belong on one side of a split, such as those of a
            patient; None: each stands for itself.
    """

    train: Source
    valid: Source | None = None
    test: Source | None = None
    classes: tuple[str, ...] = field(default=())
    copies: Tensor | None = None
    notes: tuple[str, ...] = ()
    groups: Tensor | None = None


@dataclass(frozen=True)
class CommonSettings:
    """The settings that readers have in common. `assemble` applies them.

    Args:
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        train_limit: how many training images are used at most, with every class in proportion; None uses all.
        test_limit: how many test images are used at most, with every class in proportion; None uses all.
        preparation: how a picture becomes pixels.
        scale: the least and the largest share of an image's area that a random crop has; None crops nothing.
        rotation: the largest angle in degrees by which a training image is turned, to either side.
        zoom: the largest share by which a training image is enlarged; or made smaller by as large a factor.
        contrast: the largest share by which its contrast changes; its brightness by half of it.
    """

    crop_padding: int = 0
    flip: bool = False
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    preparation: Preparation = PLAIN
    scale: Sequence[float] | None = None
    rotation: float = 0.0
    zoom: float = 0.0
    contrast: float = 0.0


def assemble(name: str, parts: Parts, settings: CommonSettings) -> Data:
    """Makes a data set: checks what was read, holds out a test set where there is none, and measures the pixels.

    Args:
        name: the name of the data set, for people and for messages.
        parts: the images and labels.
        settings: what is done with them.

    Returns:
        The data set. Its test images are always the same: no seed of a run plays a part in their choice.

    Raises:
        InputError: labels, classes, shapes, a limit or the normalisation do not go together.
    """
    classes = _check(name, parts)
    train, test, groups = parts.train, parts.test, parts.groups
    if test is None:
        kept, held = _hold_out(name, parts, classes)
        train, test, groups = train.subset(kept), train.subset(held), _of(groups, kept)
    train, groups = _limited(train, "train_limit", settings.train_limit, parts.classes, groups)
    test, _ = _limited(test, "test_limit", settings.test_limit, parts.classes)
    mean, std = settings.mean, settings.std
    measured = _statistics(train) if mean is None or std is None else ((), ())
    means, deviations = tuple(measured[0] if mean is None else mean), tuple(measured[1] if std is None else std)
    if len(means) != train.shape[0]:
        raise InputError(
            f"mean={list(means)}: the images have {quantity(train.shape[0], 'channel')}; give one number for each"
        )
    flat = ("all pixels of the training images have one value",) if max(measured[1], default=1) <= _FLAT else ()
    scale = None if settings.scale is None else tuple(settings.scale)
    augmentation = Augmentation(
        means,
        deviations,
        settings.crop_padding,
        settings.flip,
        preparation=settings.preparation,
        scale=scale,
        rotation=settings.rotation,
        zoom=settings.zoom,
        contrast=settings.contrast,
    )
    held_out = parts.test is None
    notes = (*parts.notes, *flat, *_never_seen(train.labels, classes))
    return Data(name, classes, train, parts.valid, Sealed(test), augmentation, held_out, notes, groups)


def _of(groups: Tensor | None, places: Tensor) -> Tensor | None:
    return None if groups is None else groups[places]


def _limited(
    source: Source, name: str, limit: int | None, classes: Sequence[str], groups: Tensor | None = None
) -> tuple[Source, Tensor | None]:
    """A part of the images in which every class keeps its share, and their groups; all of them without a limit."""
    if limit is None:
        return source, groups
    try:
        places = stratified_subset(source.labels, limit, _TEST_SEED, classes)
        return source.subset(places), _of(groups, places)
    except InputError as error:
        raise InputError(f"{name}={limit}: {error}") from None


def _check(name: str, parts: Parts) -> tuple[str, ...]:
    """The names of the classes. Raises InputError where the labels or the shapes of the parts do not go together."""
    given = [s for s in (parts.train, parts.valid, parts.test) if s is not None]
    labels = [s.labels for s in given]
    if any(len(each) == 0 for each in labels):
        raise InputError(f"{name}: needs images in every part and labels from 0 on")
    kinds = {kind_of(each) for each in labels}
    if len(kinds) > 1:
        raise InputError(f"{name}: its parts have labels of different kinds: {' and '.join(sorted(kinds))}")
    if kinds == {"classes"} and min(int(each.min()) for each in labels) < 0:
        raise InputError(f"{name}: needs images in every part and labels from 0 on")
    if kinds == {"labels"} and not (parts.train.labels >= 0).any():
        raise InputError(f"{name}: all labels of the training images are unknown; needs some that are 0 or 1")
    count = _count_classes(name, parts.classes, labels)
    shapes = {s.shape for s in given}
    if len(shapes) > 1:
        raise InputError(f"{name}: images of different shapes in its parts: {sorted(shapes)}")
    if min(parts.train.shape) < 1:
        raise InputError(f"{name}: images of shape {parts.train.shape} hold no pixels")
    return parts.classes or tuple(str(label) for label in range(count))


def _never_seen(labels: Tensor, classes: Sequence[str]) -> list[str]:
    """A line on labels that no training image has, so that nothing can be learnt of them."""
    lost = [] if kind_of(labels) != "labels" else (~(labels == 1).any(0)).nonzero().flatten().tolist()
    shown = ", ".join(classes[place] for place in lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    return [f"warning: no training image has the label {shown}"] if lost else []


def _hold_out(name: str, parts: Parts, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """The places of the images to train on and to test by; those that belong together are on one side."""
    try:
        return held_out(parts.train.labels, classes, parts.copies, parts.groups)
    except InputError as error:
        raise InputError(f"{name}: a fifth is held out to test: {error}") from None


def held_out(
    labels: Tensor, classes: Sequence[str], copies: Tensor | None = None, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Divides the images of a set that has none to test by, as `assemble` does.

    A reader needs it that measures something on the images to train on before they are read.

    Args:
        labels: of N images, of any kind (`supernet.data.targets`).
        classes: their names.
        copies: as in `Parts`.
        groups: as in `Parts`.

    Returns:
        The places of the images to train on, and of those to test by, two sorted int64 tensors.

    Raises:
        InputError: a class has too few images for both.

    Example:
        >>> kept, held = held_out(torch.tensor([0, 1] * 5), ("no", "yes"))
        >>> len(kept), len(held)
        (8, 2)
    """
    key = (_TEST_SHARE, _TEST_SEED, classes)
    if copies is not None and groups is None and kind_of(labels) == "classes":
        held, kept = split_with_copies(labels, copies, *key)
    else:
        given = [each for each in (groups, copies) if each is not None]
        held, kept = stratified_split(labels, *key, joined(*given) if len(given) == 2 else next(iter(given), None))
    return kept, held


def _count_classes(name: str, classes: Sequence[str], labels: Sequence[Tensor]) -> int:
    """How many classes the labels of all parts have; a class of images must have training images (the first part)."""
    count, least = max(most_named(each) for each in labels), 2 if kind_of(labels[0]) == "classes" else 1
    if count < least or (classes and len(classes) < count):
        wanted = f"{len(classes)} named" if classes else f"at least {least} expected"
        raise InputError(f"{name}: {quantity(count, 'class')} by the labels, {wanted}")
    present = set(labels[0].unique().tolist())  # a label or an object that never occurs in training costs nothing
    if kind_of(labels[0]) == "classes" and len(present) < max(count, len(classes)):
        first = next(label for label in range(count + 1) if label not in present)
        named = f" ({classes[first]})" if first < len(classes) else ""
        raise InputError(f"{name}: no training images of class {first}{named}; labels count from 0 without gaps")
    if len(set(classes)) != len(classes):
        raise InputError(f"{name}: two classes have one name among {', '.join(classes)}")
    return count


def _statistics(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel for pixels in [0, 1], over at most some 5,000 images."""
    indices = torch.arange(0, len(source), max(1, len(source) // 5000))
    total, squares = torch.zeros(2, source.shape[0], dtype=torch.float64)
    pixels = 0
    for part in indices.split(500):
        values = source.raw(part).double().div_(255)
        total += values.sum(dim=(0, 2, 3))
        squares += values.square().sum(dim=(0, 2, 3))
        pixels += values[:, 0].numel()
    mean = total / pixels
    deviation = (squares / pixels - mean**2).clamp_min(1e-8).sqrt()
    return tuple(round(v, 6) for v in mean.tolist()), tuple(round(v, 6) for v in deviation.tolist())
